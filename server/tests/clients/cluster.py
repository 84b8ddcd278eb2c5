#!/usr/bin/env python3
"""Three nodes lose a minority, or all at once, in every way: every acknowledged record is there, once and in order.

Usage: cluster.py [--rounds N] [--minutes M] [--faults NAME,...] [--partitions P] [--seed S] [--drop-one] JANGBU

Two idempotent producers write all the time with acks=all, librdkafka's and kafka-python's, each to a topic of its own
with three replicas. Each round does one fault to a node that leads something, waits until writing goes on without it,
brings it back, and waits until all replicas are in sync. In the end both topics are read with both libraries and compared
record by record; then all nodes stop, every store is checked with `jangbu inspect verify`, and the three copies of each
partition must be the same.

Faults: kill (kill -9), hang (SIGSTOP for some seconds), stop (SIGTERM), all (kill -9 of all three at once, restart in any order).

--drop-one takes one record away from what was read: the check must then fail, which shows that it can.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

from confluent_kafka.admin import AdminClient, NewTopic
from kafka import KafkaProducer

from crash import Writer, compare, read_kafka_python, read_librdkafka, report

FAULTS = ["kill", "hang", "stop", "all"]
# A node that hangs answers nothing: how long a client waits for it is the client's, and librdkafka's default is a minute.
PATIENCE = {"request.timeout.ms": 3000, "socket.timeout.ms": 4000}


class Failed(Exception):
    """Something is not as promised."""


def free_addresses(count):
    """Different free ports below the range of outgoing connections: nobody else gets one while its node is down."""
    low = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    found = set()
    while len(found) < count:
        port = random.randrange(max(1024, low - 12000), low)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                found.add(f"127.0.0.1:{port}")
            except OSError:
                pass
    return list(found)


class Node:
    """One `jangbu serve` of the cluster, always on the same ports and data."""

    def __init__(self, binary, number, home, addresses):
        self.binary, self.number, self.home = binary, number, home
        self.kafka, self.http, self.peer = addresses
        self.data, self.process = home / f"node{number}", None

    def start(self, cluster):
        command = [self.binary, "serve", "--node", str(self.number), "--data", str(self.data)]
        command += ["--listen", self.kafka, "--http", self.http, "--cluster", cluster]
        with open(self.home / f"node{self.number}.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)

    def send(self, number):
        self.process.send_signal(number)

    def kill(self):
        self.send(signal.SIGKILL)
        self.process.wait()

    def ready(self):
        try:
            with urllib.request.urlopen(f"http://{self.http}/readyz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False


class Cluster:
    """The nodes, and what they say of themselves over the Kafka protocol."""

    def __init__(self, binary, home):
        free = free_addresses(9)
        self.nodes = [Node(binary, n, home, free[3 * n - 3 : 3 * n]) for n in (1, 2, 3)]
        self.list = ",".join(f"{n.number}@{n.peer}" for n in self.nodes)
        self.bootstrap = ",".join(n.kafka for n in self.nodes)

    def start(self, nodes=None):
        nodes = list(nodes or self.nodes)
        random.shuffle(nodes)
        for node in nodes:
            node.start(self.list)
            time.sleep(random.choice([0, 0.2]))

    def admin(self):
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def wait_ready(self, seconds=60):
        wait_for(lambda: all(n.ready() for n in self.nodes), seconds, "/readyz of all nodes")

    def partitions(self, topic):
        return self.admin().list_topics(topic, timeout=5).topics[topic].partitions.values()

    def wait_in_sync(self, topics, seconds=60):
        def in_sync():
            try:
                found = [p for t in topics for p in self.partitions(t)]
            except Exception:  # nobody answers yet
                return False
            return all(p.leader > 0 and len(p.isrs) == len(p.replicas) for p in found)

        wait_for(in_sync, seconds, "all replicas in sync")

    def leader_of_some(self, topics):
        """A node that leads a partition; one of them at random."""
        leaders = [p.leader for t in topics for p in self.partitions(t) if p.leader > 0]
        return self.nodes[random.choice(leaders) - 1] if leaders else random.choice(self.nodes)

    def stop(self):
        for node in self.nodes:
            if node.process and node.process.poll() is None:
                node.send(signal.SIGCONT)
                node.send(signal.SIGTERM)
        for node in self.nodes:
            if node.process:
                node.process.wait(30)


class PythonWriter(threading.Thread):
    """What crash.Writer does, with kafka-python."""

    def __init__(self, bootstrap, topic, partitions):
        super().__init__(daemon=True)
        self.acked = [[] for _ in range(partitions)]
        self.failed, self.stopping = [], threading.Event()
        self.topic, self.next, self.lock = topic, [0] * partitions, threading.Lock()
        self.producer = KafkaProducer(
            bootstrap_servers=bootstrap.split(","), enable_idempotence=True, acks="all", linger_ms=2,
            delivery_timeout_ms=300000, request_timeout_ms=3000, max_block_ms=300000, reconnect_backoff_max_ms=200)

    def run(self):
        padding = b"." * 200
        while not self.stopping.is_set():
            for p in range(len(self.next)):
                number = self.next[p]
                self.next[p] += 1
                sent = self.producer.send(self.topic, b"%012d" % number + padding, partition=p)
                sent.add_callback(lambda m, n=number: self.acked[m.partition].append((m.offset, n)))
                sent.add_errback(lambda e: self.failed.append(str(e)))
            time.sleep(0.002)
        self.producer.flush(timeout=120)
        if self.count() + len(self.failed) != sum(self.next):
            self.failed.append(f"{sum(self.next) - self.count()} records were never answered")

    def count(self):
        return sum(map(len, self.acked))


def wait_for(condition, seconds, what):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise Failed(f"{what}: not within {seconds} s")
        time.sleep(0.05)


def goes_on(writers, seconds=60):
    """Both writers get some more acknowledgements; the seconds until the first that began afterwards."""
    goals = [w.count() + 500 for w in writers]
    began = time.monotonic()
    wait_for(lambda: all(w.count() >= g for w, g in zip(writers, goals)), seconds, "writing goes on")
    return time.monotonic() - began


def fault(name, cluster, topics, writers):
    """One fault; returns the seconds until writing went on."""
    if name == "all":
        for node in cluster.nodes:
            node.send(signal.SIGKILL)
        for node in cluster.nodes:
            node.process.wait()
        cluster.start()
        return goes_on(writers)
    node = cluster.leader_of_some(topics)
    if name == "hang":
        node.send(signal.SIGSTOP)
        took = goes_on(writers)
        time.sleep(random.choice([0, 2]))
        node.send(signal.SIGCONT)
        return took
    if name == "stop":
        node.send(signal.SIGTERM)
        took = goes_on(writers)
        code = node.process.wait(30)
        if code:
            raise Failed(f"node {node.number} ended with {code} after SIGTERM")
    else:
        node.kill()
        took = goes_on(writers)
    node.start(cluster.list)
    return took


def rounds(cluster, topics, writers, options):
    """The faults one after the other; why it went wrong, if it did."""
    kinds, done, stop = options.faults.split(","), 0, time.monotonic() + 60 * options.minutes
    while done < options.rounds or time.monotonic() < stop:
        kind = kinds[done % len(kinds)]
        try:
            goes_on(writers)
            took = fault(kind, cluster, topics, writers)
            cluster.wait_in_sync(topics)
        except Failed as why:
            return f"{kind}: {why}"
        print(f"# {kind}: 500 more acknowledgements each after {took:.2f} s", flush=True)
        done += 1
    return None


def check_what_is_there(cluster, topics, writers, options):
    bad = False
    for topic, writer, kind in zip(topics, writers, ["librdkafka", "kafka-python"]):
        for name, read in [("librdkafka", read_librdkafka), ("kafka-python", read_kafka_python)]:
            try:
                found = read(cluster.bootstrap.split(",")[0], topic, options.partitions)
                if options.drop_one:
                    found[0].pop(len(found[0]) // 2)
                why = compare(writer.acked, found)
            except Exception as error:  # any failure to read is the result
                why = f"{type(error).__name__}: {error}"
            bad |= report(f"written-with-{kind}-is-there-once-in-order-for-{name}", why)
    return bad


def batches(node, topic, partition):
    """What a stopped node holds of a partition: every batch with its place, without the log's other entries."""
    command = [node.binary, "inspect", "dump", str(node.data), "--topic", topic, "--partition", str(partition), "--json"]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [entry for entry in map(json.loads, out.splitlines()) if entry["kind"] == "batch"]


def check_stores(cluster, topics, options):
    """Each store by itself, and that the copies of each partition are the same. All nodes have stopped."""
    bad = False
    for node in cluster.nodes:
        done = subprocess.run([node.binary, "inspect", "verify", str(node.data)], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        bad |= report(f"store-of-node-{node.number}-is-sound", done.stdout[-500:] if done.returncode else None)
    different = []
    for topic in topics:
        for p in range(options.partitions):
            first, *others = [batches(node, topic, p) for node in cluster.nodes]
            different += [f"{topic}-{p}" for other in others if other != first]
    return bad | report("all-copies-are-the-same", ", ".join(different))


def check(options):
    home = pathlib.Path(tempfile.mkdtemp(prefix="cluster-"))
    cluster = Cluster(options.jangbu, home)
    bad = False
    try:
        cluster.start()
        cluster.wait_ready()
        topics = [f"by-librdkafka-{os.getpid()}", f"by-kafka-python-{os.getpid()}"]
        wanted = [NewTopic(t, options.partitions, 3) for t in topics]
        admin = cluster.admin()
        for created in admin.create_topics(wanted).values():
            created.result(60)
        cluster.wait_in_sync(topics)
        report("three-nodes-form-a-cluster", None)
        writers = [Writer(cluster.bootstrap, topics[0], options.partitions, PATIENCE),
                   PythonWriter(cluster.bootstrap, topics[1], options.partitions)]
        for writer in writers:
            writer.start()
        bad |= report(f"writing-goes-on-through-{options.faults}", rounds(cluster, topics, writers, options))
        for writer in writers:
            writer.stopping.set()
        for writer in writers:
            writer.join()
        bad |= report("no-delivery-failed", "; ".join(f for w in writers for f in w.failed[:3]))
        bad |= check_what_is_there(cluster, topics, writers, options)
        cluster.stop()
        bad |= check_stores(cluster, topics, options)
        print(f"# {sum(w.count() for w in writers)} acknowledged records")
    except Failed as why:
        bad |= report("cluster", str(why))
    finally:
        for node in cluster.nodes:
            if node.process and node.process.poll() is None:
                node.kill()
        if bad and options.keep:
            print(f"# kept: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    return bad


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("jangbu")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=0, help="go on at least this long")
    parser.add_argument("--faults", default=",".join(FAULTS))
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--drop-one", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep data and logs when a check fails")
    options = parser.parse_args()
    options.seed = random.randrange(1 << 30) if options.seed is None else options.seed
    random.seed(options.seed)
    print(f"# seed {options.seed}", flush=True)
    return options


if __name__ == "__main__":
    sys.exit(1 if check(arguments()) else 0)
