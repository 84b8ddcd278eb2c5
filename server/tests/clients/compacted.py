"""What is written to a compacted topic, what is read of it, and whether that may be: for compaction.py and powercut_compacted.py."""

import collections
import random
import re
import threading
import time
import urllib.request

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource, NewTopic
from kafka import KafkaConsumer
from kafka import TopicPartition as PyPartition

TOPIC, PARTITIONS, KEYS = "state", 3, 300
CONFIG = {"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "500"}


def create(admin):
    """The topic, on a node that cleans without waiting long."""
    admin.create_topics([NewTopic(TOPIC, PARTITIONS, 1, config=CONFIG)])[TOPIC].result(60)
    backoff = ConfigEntry("log.cleaner.backoff.ms", "100", incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.BROKER, "1", incremental_configs=[backoff])
    admin.incremental_alter_configs([resource])[resource].result(60)


class Updates(threading.Thread):
    """Overwrites and deletes keys until told to stop.

    `acked` is what stands at each offset; `pending` has, for each key, the values that were sent and are not answered yet. No more
    than `queued` records wait for an answer.
    """

    def __init__(self, address, queued=5000):
        super().__init__(daemon=True)
        self.acked = [{} for _ in range(PARTITIONS)]
        self.pending = collections.defaultdict(collections.Counter)
        self.failed, self.stopping, self.sent = [], threading.Event(), 0
        self.paused, self.resting = threading.Event(), threading.Event()
        self.producer = Producer({
            "bootstrap.servers": address, "enable.idempotence": True, "acks": "all", "linger.ms": 2,
            "message.timeout.ms": 300000, "reconnect.backoff.max.ms": 200, "queue.buffering.max.messages": queued,
            "compression.type": "gzip", "log_level": 0})

    def delivered(self, error, message):
        key, value = message.key(), message.value()
        if error:
            self.failed.append(str(error))
            return
        self.acked[message.partition()][message.offset()] = (key, value)
        self.pending[key] -= collections.Counter([value])

    def send(self, key, value):
        key_bytes = b"key-%d" % key
        while True:
            self.rest()
            try:
                self.producer.produce(TOPIC, value, key_bytes, key % PARTITIONS, on_delivery=self.delivered)
            except BufferError:
                self.producer.poll(0.05)
                continue
            self.pending[key_bytes][value] += 1
            self.sent += 1
            return

    def rest(self):
        """While it is paused, nothing is sent and no answer is taken note of."""
        if self.paused.is_set():
            self.producer.poll(0)
            self.resting.set()
            while self.paused.is_set():
                time.sleep(0.01)
            self.resting.clear()

    def pause(self):
        """Everything that was answered until now has been taken note of when it returns."""
        self.paused.set()
        self.resting.wait()

    def resume(self):
        self.paused.clear()

    def run(self):
        while not self.stopping.is_set():
            # Some keys are written often, some hardly ever.
            key = int(random.paretovariate(0.6)) % KEYS
            deleted = key % 7 == 0 and random.random() < 0.3
            self.send(key, None if deleted else b"%012d" % self.sent + b"." * random.choice([20, 400]))
            if self.sent % 500 == 0:
                self.producer.poll(0)
                time.sleep(0.01)
        for key in range(KEYS):
            self.send(key, None if key % 7 == 0 else b"the end of %d" % key)
        left = self.producer.flush(120)
        if left:
            self.failed.append(f"{left} records were never answered")


def read(address, starts):
    """What librdkafka reads from these offsets to the ends: (offset, key, value) by partition."""
    consumer = Consumer({"bootstrap.servers": address, "group.id": "none", "enable.partition.eof": True,
                         "enable.auto.commit": False, "log_level": 0})
    consumer.assign([TopicPartition(TOPIC, p, start) for p, start in enumerate(starts)])
    found, ended, quiet = [[] for _ in starts], set(), time.monotonic()
    while len(ended) < len(starts):
        batch = consumer.consume(10000, 0.1)
        quiet = time.monotonic() if batch else quiet
        if time.monotonic() - quiet > 60:
            raise AssertionError("nothing came for 60 s")
        for m in batch:
            if m.error():
                ended.add(m.partition())
            else:
                found[m.partition()].append((m.offset(), m.key(), m.value()))
    consumer.close()
    return found


def read_kafka_python(address):
    consumer = KafkaConsumer(bootstrap_servers=address, enable_auto_commit=False)
    assigned = [PyPartition(TOPIC, p) for p in range(PARTITIONS)]
    consumer.assign(assigned)
    consumer.seek_to_beginning(*assigned)
    ends = consumer.end_offsets(assigned)
    found, deadline = [[] for _ in assigned], time.monotonic() + 120
    while any(consumer.position(p) < ends[p] for p in assigned):
        if time.monotonic() > deadline:
            raise AssertionError("the ends were not reached within 120 s")
        for records in consumer.poll(500, max_records=20000).values():
            for r in records:
                found[r.partition].append((r.offset, r.key, r.value))
    consumer.close()
    return found


def untrue(acked, found):
    """What was read is what was acknowledged at that offset."""
    for p, (want, got) in enumerate(zip(acked, found)):
        for offset, key, value in got:
            if offset in want and want[offset] != (key, value):
                return f"partition {p}, offset {offset}: {key} {value and value[:20]}, not {want[offset]}"
    return None


def unordered(starts, found):
    for p, (start, got) in enumerate(zip(starts, found)):
        offsets = [offset for offset, _, _ in got]
        if offsets != sorted(set(offsets)) or (offsets and offsets[0] < start):
            return f"partition {p}: the offsets go back or repeat"
    return None


def stale(acked, found):
    """The last value of every key was read, and no deleted key has one."""
    for p, (want, got) in enumerate(zip(acked, found)):
        last = {key: value for _, (key, value) in sorted(want.items())}
        read_last = {key: value for _, key, value in got}
        for key, value in last.items():
            if read_last.get(key) != value:
                return f"partition {p}: {key} is {read_last.get(key)}, was last written {value}"
    return None


def undone(acked, pending, found):
    """No key is behind its last acknowledged update; it may be ahead by what was sent and is not answered yet."""
    for p, (want, got) in enumerate(zip(acked, found)):
        last = {key: (offset, value) for offset, (key, value) in sorted(want.items())}
        read_last = {key: (offset, value) for offset, key, value in got}
        for key, (offset, value) in last.items():
            at, what = read_last.get(key, (None, None))
            gone = at is None and (value is None or pending[key][None] > 0)
            same = at == offset and what == value
            ahead = at is not None and at > offset and pending[key][what] > 0
            if not (gone or same or ahead):
                return f"partition {p}: {key} is {what} of offset {at}, was last written {value} at {offset}"
    return None


def metric(http, name):
    with urllib.request.urlopen(f"http://127.0.0.1:{http}/metrics", timeout=10) as page:
        return float(re.search(rf"^{name} (\S+)$", page.read().decode(), re.M).group(1))


def wait_for(what, holds, seconds=120):
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: not within {seconds} s")
        time.sleep(0.1)


def cleans(http, records):
    """Waits until so many records were taken away since the start of the node."""
    def holds():
        try:
            return metric(http, "jangbu_compaction_removed_records_total") >= records
        except OSError:
            return False
    wait_for("cleaning", holds)
