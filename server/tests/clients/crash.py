#!/usr/bin/env python3
"""kill -9 in the middle of writing: every acknowledged record is there, once and in order, by two readers.

Usage: crash.py [--kills N] [--minutes M] [--partitions P] [--config NAME=VALUE] [--drop-one] [--port PORT] -- COMMAND...

COMMAND starts the node in the foreground, e.g. `jangbu serve --data D --listen 127.0.0.1:PORT`; {port} in it is
replaced by a port that stays the same over all starts, so that clients come back by themselves. Producers are
librdkafka's (idempotent, acks=all), one thread; the readers are librdkafka's and kafka-python's.

Before each kill a config of the topic is changed; it must be there afterwards. --config sets one for the whole run.

--drop-one takes one record away from what was read: the check must then fail, which shows that it can.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from kafka import KafkaConsumer
from kafka import TopicPartition as PyPartition

from ports import free_port


class StartFailed(Exception):
    """The node did not come up."""


class Node:
    """The server under test; always on the same port and data."""

    def __init__(self, command, port):
        self.command = [part.replace("{port}", str(port)) for part in command]
        self.address, self.port, self.process = f"127.0.0.1:{port}", port, None

    def start(self):
        start = time.monotonic()
        self.process = subprocess.Popen(self.command, stdout=subprocess.DEVNULL)
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return time.monotonic() - start
            except OSError:
                if self.process.poll() is not None:
                    raise StartFailed(f"the node ended with {self.process.returncode}")
                if time.monotonic() - start > 120:
                    raise StartFailed("the node does not listen after 120 s")
                time.sleep(0.02)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Writer(threading.Thread):
    """Sends numbered records to every partition until told to stop; remembers what was acknowledged."""

    def __init__(self, address, topic, partitions, settings=(), pause=0):
        super().__init__(daemon=True)
        self.pause = pause
        self.acked = [[] for _ in range(partitions)]
        self.failed, self.stopping = [], threading.Event()
        self.topic, self.next = topic, [0] * partitions
        self.producer = Producer(
            {
                "bootstrap.servers": address,
                "enable.idempotence": True,
                "acks": "all",
                "linger.ms": 2,
                "message.timeout.ms": 300000,
                "reconnect.backoff.max.ms": 200,
                "queue.buffering.max.messages": 5000,
                "log_level": 0,
                **dict(settings),
            }
        )

    def delivered(self, error, message):
        if error:
            self.failed.append(str(error))
        else:
            self.acked[message.partition()].append((message.offset(), int(message.value()[:12])))

    def run(self):
        padding = b"." * 200
        while not self.stopping.is_set():
            for p in range(len(self.next)):
                value = b"%012d" % self.next[p] + padding
                try:
                    self.producer.produce(
                        self.topic, value, b"%d" % p, p, on_delivery=self.delivered
                    )
                    self.next[p] += 1
                except BufferError:
                    self.producer.poll(0.05)
            self.producer.poll(0)
            time.sleep(self.pause)
        left = self.producer.flush(120)
        if left:
            self.failed.append(f"{left} records were never answered")

    def count(self):
        return sum(map(len, self.acked))


def read_librdkafka(address, topic, partitions):
    consumer = Consumer(
        {
            "bootstrap.servers": address,
            "group.id": "none",
            "enable.partition.eof": True,
            # With it, closing waits for a coordinator.
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(topic, p, 0) for p in range(partitions)])
    found, ended, quiet = [[] for _ in range(partitions)], set(), time.monotonic()
    while len(ended) < partitions:
        batch = consumer.consume(10000, 0.1)
        if batch:
            quiet = time.monotonic()
        elif time.monotonic() - quiet > 30:
            raise AssertionError("nothing came for 30 s")
        for m in batch:
            if m.error():
                ended.add(m.partition())
            else:
                found[m.partition()].append((m.offset(), int(m.value()[:12])))
    consumer.close()
    return found


def read_kafka_python(address, topic, partitions):
    consumer = KafkaConsumer(bootstrap_servers=address, enable_auto_commit=False)
    assigned = [PyPartition(topic, p) for p in range(partitions)]
    consumer.assign(assigned)
    consumer.seek_to_beginning(*assigned)
    ends = consumer.end_offsets(assigned)
    found, deadline = [[] for _ in range(partitions)], time.monotonic() + 300
    while any(len(found[p.partition]) < ends[p] for p in assigned):
        if time.monotonic() > deadline:
            raise AssertionError("not all records came within 300 s")
        for records in consumer.poll(1000, max_records=20000).values():
            for r in records:
                found[r.partition].append((r.offset, int(r.value[:12])))
    consumer.close()
    return found


def compare(acked, found):
    """Acknowledged records are at their offsets, once; every log is 0, 1, 2, ... without a gap."""
    for p, (want, got) in enumerate(zip(acked, found)):
        at = dict(got)
        missing = [w for w in want if at.get(w[0]) != w[1]]
        if missing:
            return f"partition {p}: {len(missing)} acknowledged records are not there: {missing[:3]}"
        if [offset for offset, _ in got] != list(range(len(got))):
            return f"partition {p}: the offsets have a gap or go back"
        if [value for _, value in got] != list(range(len(got))):
            return f"partition {p}: records are doubled, lost or out of order"
    return None


def report(name, why):
    print(f"FAIL {name}: {why}" if why else f"ok {name}", flush=True)
    return bool(why)


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=0, help="go on at least this long")
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--config", default="segment.ms=604800000", help="of the topic")
    parser.add_argument("--drop-one", action="store_true")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    options.command = [c for c in options.command if c != "--"]
    if not options.command:
        parser.error("the command that starts the node is missing")
    return options


class Settings:
    """Changes a config of the topic and looks whether it is what was answered last."""

    def __init__(self, admin, topic):
        self.admin, self.topic, self.value = admin, topic, None

    def change(self):
        self.value = str(random.randrange(1 << 20, 1 << 30))
        entry = ConfigEntry("segment.bytes", self.value, incremental_operation=AlterConfigOpType.SET)
        change = ConfigResource(ConfigResource.Type.TOPIC, self.topic, incremental_configs=[entry])
        self.admin.incremental_alter_configs([change])[change].result(60)

    def survived(self):
        resource = ConfigResource(ConfigResource.Type.TOPIC, self.topic)
        found = self.admin.describe_configs([resource])[resource].result(60)["segment.bytes"].value
        return None if found == self.value else f"segment.bytes is {found}, it was set to {self.value}"


def kill_while_writing(node, writer, settings, kills, minutes):
    """Kills the node after some more acknowledgements each time, at no fixed moment."""
    times, stop = [], time.monotonic() + 60 * minutes
    while len(times) < kills or time.monotonic() < stop:
        goal, end = writer.count() + random.randrange(2000, 20000), time.monotonic() + 120
        while writer.count() < goal:
            if time.monotonic() > end:
                return times, f"only {writer.count()} of {goal} acknowledged within 120 s"
            time.sleep(0.01)
        settings.change()
        node.kill()
        times.append(node.start())
        why = settings.survived()
        if why:
            return times, why
    return times, None


def check_what_is_there(address, topic, writer, options, check="acknowledged-is-there-once-in-order-"):
    """Reads everything with two clients; true if acknowledged records are not there."""
    bad = False
    for name, read in [("librdkafka", read_librdkafka), ("kafka-python", read_kafka_python)]:
        try:
            found = read(address, topic, options.partitions)
            if options.drop_one:
                found[0].pop(len(found[0]) // 2)
            why = compare(writer.acked, found)
        except Exception as error:  # any failure to read is the result
            why = f"{type(error).__name__}: {error}"
        bad |= report(check + name, why)
    return bad


def check(node, options):
    times = [node.start()]
    topic = f"crash-{os.getpid()}-{random.randrange(1 << 30)}"
    admin = AdminClient({"bootstrap.servers": node.address})
    config = dict([options.config.split("=", 1)])
    admin.create_topics([NewTopic(topic, options.partitions, 1, config=config)])[topic].result(60)
    writer = Writer(node.address, topic, options.partitions)
    writer.start()
    settings = Settings(admin, topic)
    times, why = kill_while_writing(node, writer, settings, options.kills, options.minutes)
    bad = report(f"writing-and-configs-go-on-after-{len(times)}-kills", why)
    writer.stopping.set()
    writer.join()
    bad |= report("no-delivery-failed", "; ".join(writer.failed[:3]))
    node.kill()
    times.append(node.start())
    bad |= check_what_is_there(node.address, topic, writer, options)
    restarts = ", ".join(f"{t:.2f}" for t in times)
    print(f"# {writer.count()} acknowledged records; restarts until listening: {restarts} s")
    return bad


def main():
    options = arguments()
    node = Node(options.command, options.port or free_port())
    try:
        sys.exit(1 if check(node, options) else 0)
    except StartFailed as why:
        sys.exit(report("node-starts", str(why)))
    finally:
        if node.process and node.process.poll() is None:
            node.kill()


if __name__ == "__main__":
    main()
