"""The nodes, and what they say of themselves over the Kafka protocol."""

import pathlib
import random
import shutil
import signal
import subprocess
import time
import urllib.error
import urllib.request

from confluent_kafka.admin import AdminClient

from cluster.failed import Failed, wait_for
from cluster.network import Network
from disk import Disk

# Seconds after which a dead broker's replicas are rebuilt, on a fourth node if there is one. Longer than a fault lasts.
HEAL_AFTER = 20


class Node:
    """One `jangbu serve` of the cluster, always at the same place and on the same data."""

    def __init__(self, binary, number, home, place, data):
        self.binary, self.number, self.place, self.data = binary, number, place, pathlib.Path(data)
        self.kafka, self.http, self.peer = (f"{place.address}:{port}" for port in (9092, 9600, 9093))
        self.log, self.process = home / f"node{number}.log", None
        # Where it asks for its id, when it has joined the others.
        self.joins = None

    def start(self, cluster):
        """Starts it with the nodes that `--cluster` lists."""
        command = [*self.place.enter, self.binary, "serve", "--data", str(self.data), "--heal-after", f"{HEAL_AFTER}s"]
        command += ["--listen", self.kafka, "--http", self.http]
        command += ["--join", self.joins, "--peer-listen", self.peer] if self.joins else [
            "--node", str(self.number), "--cluster", cluster]
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
    """Three nodes, and a fourth while a case needs it. The last one's data lie on a file system of their own, which can be
    filled up."""

    def __init__(self, binary, home):
        self.network, self.disk, self.home, self.extra = Network(), Disk("cluster-disk-"), home, None
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

    def join(self):
        """A fourth node joins the three; the controller gives it its id."""
        number = len(self.nodes) + 1
        node = Node(self.nodes[0].binary, number, self.home, self.network.place(number), self.home / f"node{number}")
        node.joins, self.extra = self.nodes[0].peer, node
        node.start(self.list)
        wait_for(lambda: node.readiness()[0], 60, lambda: f"a node joins ({node.readiness()[1]})")
        host = node.place.address
        wait_for(lambda: any(b.host == host for b in self.brokers()), 60, "a node that has joined is known")
        node.number = next(b.id for b in self.brokers() if b.host == host)
        return node

    def forget(self, node):
        """It has been removed, and never comes back."""
        self.extra = None
        shutil.rmtree(node.data)

    def living(self):
        """All nodes that run."""
        return [node for node in [*self.nodes, self.extra] if node and node.runs()]

    def brokers(self):
        return self.admin().list_topics(timeout=5).brokers.values()

    def others(self, node):
        return [other for other in self.nodes if other is not node]

    def admin(self):
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def wait_ready(self, seconds=60):
        nodes = [node for node in [*self.nodes, self.extra] if node]
        wait_for(lambda: all(n.readiness()[0] for n in nodes), seconds,
                 lambda: f"/readyz of all nodes ({[n.readiness()[1] for n in nodes]})")

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
        nodes = self.living()
        for node in nodes:
            node.send(signal.SIGCONT)
            node.send(signal.SIGTERM)
        for node in nodes:
            node.ended_well()

    def remove(self):
        """What is left of it, however it went."""
        for node in self.living():
            node.kill()
        self.network.remove()
        self.disk.remove()
