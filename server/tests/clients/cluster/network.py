"""A network that nobody else sees: a bridge, where the clients are, and a namespace with one interface for each node.

The program enters namespaces of its own before it does anything else, and the nodes' are held open by children that die
with it. So no name and no address of the machine is used, and nothing is left behind however the program ends.

A cut drops packets where they arrive. Whoever sent them hears nothing of it, as with a real one, and each direction can be
cut by itself. Clients reach every node at any time.
"""

import ctypes
import os
import subprocess
import time

from cluster.failed import Failed

NEW_MOUNTS, NEW_NETWORK = 0x00020000, 0x40000000
CLIENTS = "10.99.0.254"
# What every child is started with: it dies with this program.
WITH_ME = ["setpriv", "--pdeathsig", "KILL"]


def run(*command, given=None):
    done = subprocess.run(command, input=given, capture_output=True, text=True)
    if done.returncode:
        raise Failed(f"`{' '.join(command)}`: {done.stderr.strip() or done.returncode}")


def enter_own_namespaces():
    """From now on this program and its children see a network of their own, and mounts of their own. Needs root."""
    if ctypes.CDLL(None, use_errno=True).unshare(NEW_MOUNTS | NEW_NETWORK):
        raise Failed(f"no namespaces: {os.strerror(ctypes.get_errno())}; this check needs root")
    run("mount", "--make-rprivate", "/")


class Place:
    """The namespace of one node."""

    def __init__(self, number):
        self.number, self.address = number, f"10.99.0.{number}"
        self.holder = subprocess.Popen([*WITH_ME, "unshare", "--net", "sleep", "infinity"])
        self.wait_for_namespace()
        # Long before anything happens its namespace is there, and stays while the child lives.
        self.enter = [*WITH_ME, "nsenter", f"--net=/proc/{self.holder.pid}/ns/net"]
        run("ip", "link", "add", f"node{number}", "type", "veth", "peer", "name", "eth0", "netns", str(self.holder.pid))
        run("ip", "link", "set", f"node{number}", "master", "nodes", "up")
        self.run("ip", "link", "set", "lo", "up")
        self.run("ip", "addr", "add", f"{self.address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")
        self.run("nft", "-f", "-", given="table ip cuts {\n chain in {\n type filter hook input priority 0;\n }\n}\n")

    def wait_for_namespace(self):
        mine, theirs = "/proc/self/ns/net", f"/proc/{self.holder.pid}/ns/net"
        end = time.monotonic() + 10
        while self.holder.poll() is None and time.monotonic() < end:
            if os.readlink(mine) != os.readlink(theirs):
                return
            time.sleep(0.005)
        raise Failed("a node got no network namespace")

    def run(self, *command, given=None):
        run(*self.enter, *command, given=given)

    def drop_from(self, others):
        """From now on nothing arrives here that these send; whatever else did not arrive does so again."""
        rules = "".join(f"add rule ip cuts in ip saddr {other.address} drop\n" for other in others)
        self.run("nft", "-f", "-", given=f"flush chain ip cuts in\n{rules}")


class Network:
    """The bridge and the nodes' places on it."""

    def __init__(self):
        run("ip", "link", "set", "lo", "up")
        run("ip", "link", "add", "nodes", "type", "bridge")
        run("ip", "addr", "add", f"{CLIENTS}/24", "dev", "nodes")
        run("ip", "link", "set", "nodes", "up")
        self.places = {}

    def place(self, number):
        """The place of a node, made when it is asked for first."""
        if number not in self.places:
            self.places[number] = Place(number)
        return self.places[number]

    def cut(self, pairs):
        """Drops what goes from the first to the second of each pair of nodes, and nothing else."""
        for number, place in self.places.items():
            place.drop_from([self.places[a] for a, b in pairs if b == number])

    def heal(self):
        self.cut([])

    def remove(self):
        for place in self.places.values():
            place.holder.kill()
            place.holder.wait()


def both_ways(one, others):
    """The pairs that keep a node from all these."""
    return [pair for other in others for pair in [(one, other), (other, one)]]
