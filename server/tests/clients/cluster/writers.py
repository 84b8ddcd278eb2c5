"""Two producers that write all the time, and whether they get on."""

import threading
import time

from kafka import KafkaProducer
from kafka.net.manager import KafkaConnectionManager

from cluster.failed import wait_for

# A node that hangs answers nothing: how long a client waits for it is the client's. librdkafka's default is a minute, and
# kafka-python waits ten seconds for a new connection to answer, which it opens to ask the same node who leads.
# Its producer has no setting for that.
KafkaConnectionManager.DEFAULT_CONFIG.update(socket_connection_setup_timeout_ms=2000, socket_connection_setup_timeout_max_ms=4000)
PATIENCE = {"request.timeout.ms": 3000, "socket.timeout.ms": 4000}
# Seconds between two records of a partition, so that the nodes and what makes their faults share two cores.
PAUSE = 0.002
# Acknowledgements of one partition that say that writing goes on: more than may have been under way before.
SOME = 80


class PythonWriter(threading.Thread):
    """What crash.Writer does, with kafka-python."""

    def __init__(self, bootstrap, topic, partitions):
        super().__init__(daemon=True)
        self.acked = [[] for _ in range(partitions)]
        self.failed, self.stopping = [], threading.Event()
        self.topic, self.next = topic, [0] * partitions
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
            time.sleep(PAUSE)
        self.producer.flush(timeout=120)
        if self.count() + len(self.failed) != sum(self.next):
            self.failed.append(f"{sum(self.next) - self.count()} records were never answered")

    def count(self):
        return sum(map(len, self.acked))


def counts(writers):
    """The acknowledgements of each partition of each writer."""
    return {(writer.topic, p): len(acked) for writer in writers for p, acked in enumerate(writer.acked)}


def ends(writer):
    """The end of each partition as far as acknowledged records say."""
    return [acked[-1][0] + 1 if acked else 0 for acked in writer.acked]


def goes_on(writers, seconds=60):
    """Every partition gets some more acknowledgements; the seconds until all had them."""
    began, goals = time.monotonic(), {partition: count + SOME for partition, count in counts(writers).items()}

    def behind():
        return [partition for partition, count in counts(writers).items() if count < goals[partition]]

    wait_for(lambda: not behind(), seconds,
             lambda: "writing goes on in " + ", ".join(f"{topic}-{p}" for topic, p in behind()))
    return time.monotonic() - began


class Gaps(threading.Thread):
    """Looks all the time how long each partition goes without an acknowledgement: the longest time, and where."""

    def __init__(self, writers):
        super().__init__(daemon=True)
        self.writers, self.stopping = writers, threading.Event()
        self.lock, self.longest, self.seen = threading.Lock(), (0, ""), {}
        self.reset()

    def reset(self):
        """Forgets what was."""
        now = time.monotonic()
        with self.lock:
            self.longest = (0, "")
            self.seen = {partition: (count, now) for partition, count in counts(self.writers).items()}

    def run(self):
        while not self.stopping.is_set():
            time.sleep(0.01)
            now = time.monotonic()
            with self.lock:
                for partition, count in counts(self.writers).items():
                    before, since = self.seen[partition]
                    self.longest = max(self.longest, (now - since, "{}-{}".format(*partition)))
                    if count != before:
                        self.seen[partition] = (count, now)
