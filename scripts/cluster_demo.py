"""Streams a CSV file into three nodes, kills the one that leads on the way, checks every row, and brings it back.

Usage: cluster_demo.py JANGBU FLIGHTS.csv

What is checked: as in demo.py, while one node is dead; afterwards the third copy catches up. Exits non-zero when anything
is off. Ends its own processes only.
"""

import json
import subprocess
import sys
import time

from demo import PARTITIONS, TOPIC, compare, play, read_back, read_input, stream
from demo_node import HOME, READY_SECONDS, Node, Off, free_port, get, step, tail


class Member(Node):
    """One of three nodes."""

    def __init__(self, binary, number):
        super().__init__(binary)
        self.number, self.peer = number, f"127.0.0.1:{free_port()}"

    def spawn(self, cluster):
        command = [self.binary, "serve", "--node", str(self.number), "--cluster", cluster]
        command += ["--data", str(HOME / f"node{self.number}"), "--listen", self.kafka, "--http", self.http]
        with open(HOME / f"node{self.number}.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)

    def is_ready(self):
        try:
            get(self.http, "/readyz")
            return True
        except OSError:
            if self.process.poll() is not None:
                raise Off(f"node {self.number} ended:\n" + tail(HOME / f"node{self.number}.log"))
            return False


class Trio:
    """Three nodes that a client sees as one."""

    def __init__(self, binary):
        self.binary, self.members = binary, [Member(binary, n) for n in (1, 2, 3)]
        self.cluster = ",".join(f"{m.number}@{m.peer}" for m in self.members)
        self.kafka = ",".join(m.kafka for m in self.members)
        self.killed = None

    def start(self):
        began = time.monotonic()
        for member in self.members:
            member.spawn(self.cluster)
        wait_for(lambda: all(m.is_ready() for m in self.members), "three nodes that are ready")
        return time.monotonic() - began

    def records(self):
        return sum(m.records() for m in self.members if m is not self.killed)

    def describe(self):
        """The topic's partitions, as any node tells it that is there."""
        command = [self.binary, "topic", "describe", TOPIC, "--brokers", self.kafka, "--json"]
        out = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=30)
        return json.loads(out.stdout.splitlines()[-1])["partitions"]

    def cleanup(self):
        for member in self.members:
            member.cleanup()


def wait_for(condition, what):
    end = time.monotonic() + READY_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise Off(f"{what}: not within {READY_SECONDS} s; see {HOME}/node*.log")
        time.sleep(0.01)


def kill_a_leader(trio, taken, total):
    """Kills the node that leads partition 0 and waits until every partition has another leader. It stays dead."""
    leader = trio.describe()[0]["leader"]
    trio.killed = trio.members[leader - 1]
    led = sum(p["leader"] == leader for p in trio.describe())
    trio.killed.kill()
    began = time.monotonic()
    print(f"kill -9 of node {leader}, which leads {led} of {PARTITIONS} partitions, after {taken:,} of {total:,} rows")
    wait_for(lambda: all(p["leader"] not in (None, leader) for p in trio.describe()), "new leaders")
    print(f"all partitions are led by the others after {(time.monotonic() - began) * 1000:.0f} ms; node {leader} stays dead")


def run(trio, path):
    header, by_key, total = read_input(path)
    step(f"Three nodes on {trio.kafka}, and a topic with {PARTITIONS} partitions of three replicas")
    print(f"ready after {trio.start() * 1000:.0f} ms; their logs are {HOME}/node*.log")
    create = [trio.binary, "topic", "create", TOPIC, "--partitions", str(PARTITIONS), "--replication-factor", "3"]
    if subprocess.run([*create, "--brokers", trio.kafka], timeout=60).returncode != 0:
        raise Off("the topic was not created")
    step(f"Stream {total:,} rows, and kill a leader with -9 on the way")
    stream(trio, path, total, kill_a_leader)
    step("Read everything back with kcat, with one node dead, and compare with the file")
    compare(header, by_key, total, read_back(trio))
    step("Start the dead node again")
    began = time.monotonic()
    trio.killed.spawn(trio.cluster)
    trio.killed = None
    wait_for(lambda: all(len(p["in_sync"]) == 3 for p in trio.describe()), "three replicas in sync")
    print(f"all replicas are in sync after {(time.monotonic() - began) * 1000:.0f} ms")
    for member in trio.members:
        print(f"node {member.number} stopped with SIGTERM in {member.stop() * 1000:.0f} ms")


def main():
    if not play(Trio, run):
        return 1
    print(f"The data lies in ./{HOME}/node1, node2 and node3. docs/operations.md tells how to run a cluster.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
