"""The nodes, and what they say of themselves over the Kafka protocol."""

import pathlib
import random
import signal
import subprocess
import time
import urllib.error
import urllib.request

from confluent_kafka.admin import AdminClient

from cluster.failed import Failed, wait_for
from cluster.network import Network
from disk import Disk


class Node:
    """One `jangbu serve` of the cluster, always at the same place and on the same data."""

    def __init__(self, binary, number, home, place, data):
        self.binary, self.number, self.place, self.data = binary, number, place, pathlib.Path(data)
        self.kafka, self.http, self.peer = (f"{place.address}:{port}" for port in (9092, 9600, 9093))
        self.log, self.process = home / f"node{number}.log", None

    def start(self, cluster):
        """Starts it with the nodes that `--cluster` lists."""
        command = [*self.place.enter, self.binary, "serve", "--data", str(self.data), "--node", str(self.number)]
        command += ["--listen", self.kafka, "--http", self.http, "--cluster", cluster]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)

    def send(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.send(signal.SIGKILL)
        self.process.wait()

    def terminate(self):
        """Stops it as an operator does; it must end well."""
        self.send(signal.SIGTERM)
        self.ended_well()

    def ended_well(self):
        code = self.process.wait(30)
        if code:
            raise Failed(f"node {self.number} ended with {code} after SIGTERM")

    def runs(self):
        return self.process is not None and self.process.poll() is None

    def readiness(self):
        """What /readyz says: whether the node is ready, and in words what it waits for."""
        try:
            with urllib.request.urlopen(f"http://{self.http}/readyz", timeout=2) as answer:
                return answer.status == 200, answer.read().decode()
        except urllib.error.HTTPError as error:
            return False, error.read().decode()
        except OSError as error:
            return False, str(error)

    def logged(self, since=0):
        """What it has logged, from a position on."""
        with open(self.log, errors="replace") as log:
            log.seek(since)
            return log.read()

    def log_end(self):
        return self.log.stat().st_size


class Cluster:
    """Three nodes. The last one's data lie on a file system of their own, which can be filled up."""

    def __init__(self, binary, home):
        self.network, self.disk = Network(), Disk("cluster-disk-")
        self.disk.mount()
        data = {1: home / "node1", 2: home / "node2", 3: f"{self.disk.root}/node3"}
        self.nodes = [Node(binary, n, home, self.network.place(n), data[n]) for n in (1, 2, 3)]
        self.list = ",".join(f"{n.number}@{n.peer}" for n in self.nodes)
        self.bootstrap = ",".join(n.kafka for n in self.nodes)
        self.on_disk = self.nodes[2]

    def start(self, nodes=None):
        nodes = list(nodes or self.nodes)
        random.shuffle(nodes)
        for node in nodes:
            node.start(self.list)
            time.sleep(random.choice([0, 0.2]))

    def others(self, node):
        return [other for other in self.nodes if other is not node]

    def admin(self):
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def wait_ready(self, seconds=60):
        wait_for(lambda: all(n.readiness()[0] for n in self.nodes), seconds,
                 lambda: f"/readyz of all nodes ({[n.readiness()[1] for n in self.nodes]})")

    def partitions(self, topic):
        return self.admin().list_topics(topic, timeout=5).topics[topic].partitions.values()

    def out_of_sync(self, topics):
        """The partitions that lack a leader or a replica in sync, in words."""
        try:
            found = [(t, p) for t in topics for p in self.partitions(t)]
        except Exception as error:  # nobody answers yet
            return [str(error)]
        return [f"{t}-{p.id}: leader {p.leader}, in sync {p.isrs} of {p.replicas}" for t, p in found
                if p.leader <= 0 or len(p.isrs) != len(p.replicas)]

    def wait_in_sync(self, topics, seconds=60):
        wait_for(lambda: not self.out_of_sync(topics), seconds,
                 lambda: f"all replicas in sync ({'; '.join(self.out_of_sync(topics)[:3])})")

    def led(self, topics):
        """How many partitions each node leads."""
        leaders = [p.leader for t in topics for p in self.partitions(t)]
        return {node: leaders.count(node.number) for node in self.nodes}

    def leader_of_some(self, topics):
        """A node that leads a partition, one of them at random."""
        return random.choice([node for node, count in self.led(topics).items() if count] or self.nodes)

    def leader_of_fewest(self, topics):
        """A node that is hardly more than a follower."""
        led = self.led(topics)
        return min(self.nodes, key=lambda node: led[node])

    def stop(self):
        self.network.heal()
        for node in self.nodes:
            if node.runs():
                node.send(signal.SIGCONT)
                node.send(signal.SIGTERM)
        for node in self.nodes:
            node.ended_well()

    def remove(self):
        """What is left of it, however it went."""
        for node in self.nodes:
            if node.runs():
                node.kill()
        self.network.remove()
        self.disk.remove()
