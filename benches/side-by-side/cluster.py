#!/usr/bin/env python3
"""Three Kafka nodes and three jangbu nodes on one machine: the same loads, interleaved; medians, ranges and ratios.

Usage: cluster.py --jangbu BINARY [--rounds 5] [--loads PATTERN] [--scale 1.0] [--out raw.jsonl] [--data DIR] [--sides ...]

Three replicas everywhere. `kafka`: min.insync.replicas=2 and otherwise its defaults, so an acknowledged record is in the
memory of two nodes. `jangbu`: its defaults, so it is on the disk of two nodes. The client is load.c. See README.md.
"""

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from run import CLIENTS, DEFAULT_BATCH, IDLE_S, Jangbu, Kafka, Load, Node, Side, main
from ports import free_ports

NODES = (1, 2, 3)


class ClusterSide(Side):
    """Three brokers measured as one."""

    def __init__(self, name, nodes):
        super().__init__(name, None)
        self.nodes = nodes

    def start(self):
        with ThreadPoolExecutor() as pool:  # none is ready before a majority runs
            list(pool.map(lambda node: node.start(), self.nodes))
        self.address = ",".join(node.address for node in self.nodes)
        self.pid = self.nodes[0].pid

    def cpu(self):
        return sum(node.cpu() for node in self.nodes)

    def rss_mb(self):
        return max(node.rss_mb() for node in self.nodes)

    def end(self):
        for node in self.nodes:
            node.end()

    def revive(self):
        for node in self.nodes:
            node.revive()


class KafkaNode(Kafka):
    def __init__(self, name, directory, number, quorum):
        os.makedirs(os.path.dirname(directory), exist_ok=True)
        super().__init__(name, directory, "min.insync.replicas=2", "default.replication.factor=3")
        self.number, self.quorum = number, quorum

    def control(self, verb, *more):
        command = [os.path.join(CLIENTS, "reference/kafka.sh"), verb, self.directory, *more]
        env = {**os.environ, "KAFKA_NODE": str(self.number), "KAFKA_QUORUM": self.quorum, "KAFKA_REPLICAS": "3"}
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env).stdout.strip()


class JangbuNode(Jangbu):
    def __init__(self, name, directory, binary, number, cluster):
        super().__init__(name, directory, binary)
        self.extra = ["--node", str(number), "--cluster", cluster]
        self.number = number


def listeners():
    """NODE@ADDRESS,... with free ports, all different."""
    return ",".join(f"{n}@127.0.0.1:{port}" for n, port in zip(NODES, free_ports(len(NODES))))


def kafka_cluster(directory):
    quorum = listeners()
    return ClusterSide("kafka", [KafkaNode(f"kafka-{n}", f"{directory}/{n}", n, quorum) for n in NODES])


def jangbu_cluster(directory, binary):
    cluster = listeners()
    return ClusterSide("jangbu", [JangbuNode(f"jangbu-{n}", f"{directory}/{n}", binary, n, cluster) for n in NODES])


class Cluster(Node):
    replicas = 3

    def create(self, side, topic, partitions, *settings):
        """A node that has just started takes a moment to be known to the others."""
        deadline = time.monotonic() + 30
        while True:
            try:
                return super().create(side, topic, partitions, *settings)
            except RuntimeError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)

    def leader(self, side, topic):
        """The node that leads partition 0."""
        number = self.call("leader", side, topic)["leader"]
        return next(node for node in side.nodes if node.number == number)

    def gap(self, side, fault, rate=200, seconds=12):
        """The longest time without an acknowledgement while the leader of the only partition goes away."""
        topic = self.warm_topic(side, 1)
        node = self.leader(side, topic)
        # A time of its own: nothing else tells a client that an open connection is of no use.
        own = [1000] if fault == "hang" else []
        load = self.start_client("latency", side, topic, 1, 1024, rate * seconds, rate, *own)
        time.sleep(4)
        os.kill(node.pid, {"kill": signal.SIGKILL, "stop": signal.SIGTERM, "hang": signal.SIGSTOP}[fault])
        if fault == "hang":
            time.sleep(seconds - 4)
            os.kill(node.pid, signal.SIGCONT)
        values = self.answer(load)
        if fault != "hang":
            while os.path.exists(f"/proc/{node.pid}") and not node.ended():
                time.sleep(0.05)
            node.start()
            time.sleep(5)
        self.record(f"leader gone by {fault}, 200/s", side, {"longest_gap_s": values["longest_gap_ms"] / 1e3})
        self.call("delete", side, topic)

    def idle(self, side, partitions):
        """CPU of one node while nothing happens, and its memory after every partition was written to."""
        topic = self.warm_topic(side, partitions)
        time.sleep(self.seconds(90))
        share = self.share_at_rest(side)
        self.record(f"idle, {partitions} part.", side, {"cpu_share_of_a_node": share, "rss_mb": side.rss_mb()})
        self.call("delete", side, topic)

    def share_at_rest(self, side):
        before, seconds = side.cpu(), self.seconds(IDLE_S)
        time.sleep(seconds)
        return (side.cpu() - before) / seconds / len(side.nodes)

    def many(self, side, partitions):
        """Partitions made, left alone, then written one record each."""
        topic, begun, values = f"many-{partitions}", time.monotonic(), {}
        self.create(side, topic, partitions)  # and waits for the leaders
        values["create_s"] = time.monotonic() - begun
        time.sleep(self.seconds(60))
        values["rss_created_mb"] = side.rss_mb()
        values["idle_cpu_share_of_a_node"] = self.share_at_rest(side)
        before, begun = side.cpu(), time.monotonic()
        self.call("produce", side, topic, partitions, 100, partitions, DEFAULT_BATCH)
        values["write_s"], values["write_cpu_s"] = time.monotonic() - begun, side.cpu() - before
        values["rss_written_mb"] = side.rss_mb()
        self.record(f"{partitions} part. made, idle, written", side, values)
        self.call("delete", side, topic)

    def loads(self):
        for partitions, count in ((1, 400_000), (100, 400_000), (1000, 60_000)):
            yield Load(f"produce-1k-{partitions}",
                       lambda s, a=(partitions, count): self.produce_consume(s, 1024, a[0], self.scaled(a[1])))
        yield Load("latency-100", lambda s: self.latency(s, 100, 1000, self.seconds(8)))
        for fault in ("kill", "stop", "hang"):
            yield Load(f"gap-{fault}", lambda s, fault=fault: self.gap(s, fault))
        yield Load("idle-1100", lambda s: self.idle(s, 1100), 2)
        yield Load("many-10000", lambda s: self.many(s, 10_000), 1)


SIDES = {"kafka": lambda d, _: kafka_cluster(d), "jangbu": jangbu_cluster}

if __name__ == "__main__":
    main(__doc__, Cluster, SIDES)
