"""Three nodes, a group of two members, and the node that coordinates it killed with -9 again and again.

Members commit after each record and note what was acknowledged. In the end:
- every record that was produced was read, and none was passed over behind a commit;
- for each partition the committed offset is what was acknowledged last, or a commit after it that was not answered.

Usage: coordinator.py JANGBU [ROUNDS [classic|consumer]], the group protocol. One line, `ok groups-...` or `FAIL groups-...: why`; the exit code says the same.
"""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from ports import free_ports

TOPIC, GROUP, PARTITIONS = "work", "workers", 6
# What the members follow, and how they are heard: the coordinator says that in the consumer protocol.
PROTOCOLS = {
    "classic": {"session.timeout.ms": 10000, "heartbeat.interval.ms": 1000},
    "consumer": {"group.protocol": "consumer"},
}
# Errors of a commit after which nothing is known of it, or that say that it is not there.
PASSING = {
    KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError._TIMED_OUT, KafkaError._WAIT_COORD, KafkaError.REQUEST_TIMED_OUT, KafkaError._TRANSPORT,
    KafkaError.NOT_COORDINATOR, KafkaError.COORDINATOR_NOT_AVAILABLE, KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.STALE_MEMBER_EPOCH, KafkaError.FENCED_MEMBER_EPOCH, KafkaError._ASSIGNMENT_LOST, KafkaError._NO_OFFSET, KafkaError._STATE, KafkaError._ALL_BROKERS_DOWN,
}


class Nodes:
    def __init__(self, binary, home):
        self.binary, self.home, self.running = binary, home, {}
        ports = free_ports(9)
        self.kafka, self.http, peers = ports[:3], ports[3:6], ports[6:]
        self.list = ",".join(f"{n + 1}@127.0.0.1:{port}" for n, port in enumerate(peers))
        self.bootstrap = ",".join(f"127.0.0.1:{port}" for port in self.kafka)

    def start(self, node):
        command = [self.binary, "serve", "--data", str(self.home / str(node)), "--node", str(node), "--cluster", self.list]
        command += ["--listen", f"127.0.0.1:{self.kafka[node - 1]}", "--http", f"127.0.0.1:{self.http[node - 1]}"]
        with open(self.home / f"node{node}.log", "ab") as log:
            self.running[node] = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)

    def kill(self, node):
        process = self.running.pop(node)
        process.kill()
        process.wait()

    def stop(self):
        for process in self.running.values():
            process.kill()


class Member(threading.Thread):
    """Reads, commits after each record, and notes what was acknowledged."""

    def __init__(self, bootstrap, seen, protocol):
        super().__init__(daemon=True)
        self.protocol = PROTOCOLS[protocol]
        self.bootstrap, self.seen, self.ended, self.failure = bootstrap, seen, threading.Event(), None

    def run(self):
        consumer = Consumer({
            "bootstrap.servers": self.bootstrap, "group.id": GROUP, "auto.offset.reset": "earliest",
            "enable.auto.commit": False, "log_level": 0, **self.protocol,
        })
        consumer.subscribe([TOPIC])
        try:
            while not self.ended.is_set():
                self.step(consumer)
        except Exception as error:  # told by the main thread
            self.failure = error
        consumer.close()

    def step(self, consumer):
        message = consumer.poll(0.2)
        if message is None:
            return
        if message.error():
            if message.error().fatal():
                raise KafkaException(message.error())
            return
        self.seen.read(message)
        self.seen.asked(message)
        try:
            consumer.commit(message=message, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in PASSING:
                raise
            return
        self.seen.acknowledged(message)


class Seen:
    """What members have read and committed."""

    def __init__(self):
        self.lock, self.values = threading.Lock(), set()
        self.sure, self.maybe, self.commits, self.failure = {}, {}, 0, None

    def read(self, message):
        with self.lock:
            self.values.add((message.partition(), message.offset()))
            # Whoever begins to read a partition begins where the last acknowledged commit says, or behind one not answered.
            before = self.sure.get(message.partition(), 0)
            gone = [o for o in range(before) if (message.partition(), o) not in self.values]
            if gone:
                self.failure = f"partition {message.partition()}: {gone[:5]} were passed over"

    def asked(self, message):
        with self.lock:
            self.maybe[message.partition()] = max(self.maybe.get(message.partition(), 0), message.offset() + 1)

    def acknowledged(self, message):
        with self.lock:
            self.commits += 1
            self.sure[message.partition()] = message.offset() + 1


def until(what, condition, seconds=90):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"timed out: {what}")
        time.sleep(0.05)


def coordinator(bootstrap):
    """The node that coordinates the group; it may move while this asks. An old client would wait to connect again."""
    end = time.monotonic() + 60
    while True:
        admin = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
        try:
            return admin.describe_consumer_groups([GROUP], request_timeout=10)[GROUP].result(15).coordinator.id
        except KafkaException:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def run(binary, rounds, protocol, home):
    nodes = Nodes(binary, home)
    try:
        for node in (1, 2, 3):
            nodes.start(node)
        admin = AdminClient({"bootstrap.servers": nodes.bootstrap, "log_level": 0})
        until("three nodes", lambda: len(admin.list_topics(timeout=30).brokers) == 3)
        admin.create_topics([NewTopic(TOPIC, PARTITIONS, 3)])[TOPIC].result(60)
        seen, produced, stop = Seen(), [], threading.Event()
        producer = Producer({"bootstrap.servers": nodes.bootstrap, "enable.idempotence": True, "linger.ms": 5,
            "log_level": 0})

        def delivered(error, message):
            if error is None:
                produced.append((message.partition(), message.offset()))

        def produce():
            number = 0
            while not stop.is_set():
                producer.produce(TOPIC, b"%d" % number, partition=number % PARTITIONS, on_delivery=delivered)
                producer.poll(0.01)
                number += 1

        writer = threading.Thread(target=produce, daemon=True)
        writer.start()
        members = [Member(nodes.bootstrap, seen, protocol) for _ in range(2)]
        for member in members:
            member.start()
        until("members read and commit", lambda: seen.commits > 50)
        slowest = 0.0
        for _ in range(rounds):
            victim = coordinator(nodes.bootstrap)
            nodes.kill(victim)
            killed, before = time.monotonic(), seen.commits
            until("commits go on", lambda: seen.commits > before + 3)
            slowest = max(slowest, time.monotonic() - killed)
            nodes.start(victim)
            until("the node is back", lambda: len(admin.list_topics(timeout=30).brokers) == 3)
            before = seen.commits
            until("commits go on", lambda: seen.commits > before + 50)
        stop.set()
        writer.join()
        producer.flush(60)
        until("everything is read", lambda: set(produced) <= seen.values)
        time.sleep(1)
        for member in members:
            member.ended.set()
        for member in members:
            member.join()
            if member.failure:
                raise member.failure
        if seen.failure:
            raise AssertionError(seen.failure)
        reader = Consumer({"bootstrap.servers": nodes.bootstrap, "group.id": GROUP})
        for at in reader.committed([TopicPartition(TOPIC, p) for p in range(PARTITIONS)], 30):
            low, high = seen.sure.get(at.partition, 0), seen.maybe.get(at.partition, 0)
            if not low <= max(at.offset, 0) <= high:
                raise AssertionError(f"partition {at.partition}: {at.offset} is committed, {low} to {high} was")
        reader.close()
        print(f"# {len(produced)} records, {seen.commits} commits, {rounds} kills, commits again after at most {slowest:.1f} s")
    finally:
        nodes.stop()


if __name__ == "__main__":
    home = pathlib.Path(tempfile.mkdtemp(prefix="jangbu-groups-"))
    protocol = sys.argv[3] if len(sys.argv) > 3 else "classic"
    try:
        run(str(pathlib.Path(sys.argv[1]).resolve()), int(sys.argv[2]) if len(sys.argv) > 2 else 5, protocol, home)
        print(f"ok groups-survive-their-coordinators-{protocol}")
        shutil.rmtree(home)
    except Exception as error:
        print(f"FAIL groups-survive-their-coordinators-{protocol}: {type(error).__name__}: {error} (nodes' logs: {home})".replace("\n", " "))
        sys.exit(1)
