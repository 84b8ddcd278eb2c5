"""Three nodes of Apache Kafka, so that what is asked of jangbu can be asked of Kafka first. They run on loopback."""

import os
import pathlib
import signal
import socket
import subprocess

from cluster.nodes import Cluster
from ports import free_ports

SCRIPT = pathlib.Path(__file__).parent.parent / "reference" / "kafka.sh"


class ReferenceNode:
    """One broker that is a controller too."""

    def __init__(self, number, home, port):
        self.number, self.home, self.kafka, self.begun = number, home / f"kafka{number}", f"127.0.0.1:{port}", False

    def start(self, quorum):
        env = {**os.environ, "KAFKA_NODE": str(self.number), "KAFKA_QUORUM": quorum, "KAFKA_REPLICAS": "3",
               "KAFKA_PORT": self.kafka.split(":")[1], "KAFKA_HEAP": "400m"}
        verb, self.begun = "restart" if self.begun else "start", True
        subprocess.Popen([SCRIPT, verb, self.home], env=env, stdout=subprocess.DEVNULL)

    def pid(self):
        try:
            return int((self.home / "pid").read_text())
        except (OSError, ValueError):
            return None

    def runs(self):
        return self.pid() is not None and os.path.exists(f"/proc/{self.pid()}")

    def send(self, number):
        os.kill(self.pid(), number)

    def kill(self):
        subprocess.run([SCRIPT, "kill", self.home], check=True)

    def readiness(self):
        """A node that takes connections is taken to be ready: whoever needs more waits for it."""
        host, port = self.kafka.split(":")
        try:
            socket.create_connection((host, int(port)), 1).close()
            return True, "it listens"
        except OSError as error:
            return False, str(error)


class Reference(Cluster):
    """What a Cluster is, of Kafka's nodes; their network is not cut and their disks are not filled."""

    def __init__(self, home):
        ports = free_ports(6)
        self.nodes = [ReferenceNode(n, home, port) for n, port in zip((1, 2, 3), ports)]
        self.list = ",".join(f"{n}@127.0.0.1:{port}" for n, port in zip((1, 2, 3), ports[3:]))
        self.bootstrap, self.extra = ",".join(n.kafka for n in self.nodes), None

    def stop(self):
        """Nobody looks at what they leave; the last of them would wait for minutes for a majority to tell that it goes."""
        self.remove()

    def remove(self):
        for node in self.nodes:
            if node.runs():
                node.send(signal.SIGKILL)
