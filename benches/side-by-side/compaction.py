#!/usr/bin/env python3
"""Compacted topics, Kafka and jangbu, interleaved: producing to them, cleaning them, latency meanwhile, and asking for keys.

Usage: compaction.py --jangbu BINARY [--rounds 5] [--loads PATTERN] [--scale 1.0] [--out raw.jsonl] [--data DIR] [--sides ...]

`kafka` has its defaults but for log.cleaner.backoff.ms=1000 and segments of 100 MB, as it never cleans the segment that is
written to. The client is load.c, with 100,000 keys. See README.md.
"""

import os
import re
import threading
import time
import urllib.request

from run import DEFAULT_BATCH, Bench, Jangbu, Kafka, Load, free_port, main

KEYS = 100_000
RECORD = 1024
COMPACT = ["config=cleanup.policy=compact", "config=min.cleanable.dirty.ratio=0.01"]
# Rows that are in their key index as they are: the value is small.
SMALL = 100


class KeyedJangbu(Jangbu):
    """With a port for HTTP that is known."""

    def __init__(self, *arguments_):
        super().__init__(*arguments_)
        self.http = f"127.0.0.1:{free_port()}"
        self.extra = ["--http", self.http]

    def metric(self, name):
        with urllib.request.urlopen(f"http://{self.http}/metrics", timeout=10) as page:
            found = re.search(rf"^{name} (\S+)$", page.read().decode(), re.M)
        return float(found.group(1))

    def is_clean(self, live_bytes):
        left = self.metric("jangbu_compaction_dirty_bytes") + self.metric("jangbu_compaction_settled_bytes")
        return left <= 1.5 * live_bytes


class KeyedKafka(Kafka):
    def __init__(self, name, directory):
        super().__init__(name, directory, "log.cleaner.backoff.ms=1000", "log.segment.bytes=100000000")

    def is_clean(self, live_bytes):
        """The segment that is written to does not count: Kafka does not clean it."""
        data, total = os.path.join(self.directory, "data"), 0
        for folder in os.listdir(data):
            if folder.startswith("clean-") and not folder.endswith("-delete"):
                logs = sorted(name for name in os.listdir(os.path.join(data, folder)) if name.endswith(".log"))
                total += sum(os.path.getsize(os.path.join(data, folder, name)) for name in logs[:-1])
        return total <= 1.5 * live_bytes


class Compaction(Bench):
    def topic(self, side, name, settings):
        self.call("create", side, name, 1, 1, *settings)
        return name

    def produce(self, side, kind, count):
        settings = COMPACT if kind == "compacted" else []
        topic = self.topic(side, f"{kind}-{time.time_ns()}", settings)
        self.measure(f"produce, {kind}", side, RECORD * count / 1e9, lambda: self.call(
            "produce", side, topic, 1, RECORD, count, DEFAULT_BATCH, f"keys={KEYS}"))
        self.call("delete", side, topic)

    def clean(self, side, count):
        """Updates as fast as they go, then until no more than 1.5 times the live bytes are left."""
        topic = self.topic(side, f"clean-{time.time_ns()}", COMPACT)
        cpu, peak, done = side.cpu(), [side.rss_mb()], threading.Event()

        def watch():
            while not done.wait(0.5):
                peak[0] = max(peak[0], side.rss_mb())

        watcher = threading.Thread(target=watch)
        watcher.start()
        self.call("produce", side, topic, 1, RECORD, count, DEFAULT_BATCH, f"keys={KEYS}")
        produced = time.time()
        while not side.is_clean(KEYS * RECORD) and time.time() - produced < 1800:
            time.sleep(0.5)
        done.set()
        watcher.join()
        values = {"clean_after_s": time.time() - produced, "peak_rss_mb": peak[0], "cpu_s": side.cpu() - cpu}
        self.record(f"{count:,} updates, cleaned", side, values)
        self.call("delete", side, topic)

    def latency(self, side, seconds, cleaning):
        """20 MB/s to one topic, while another one is being cleaned or not."""
        other = self.topic(side, f"clean-{time.time_ns()}", COMPACT) if cleaning else None
        if other:
            self.call("produce", side, other, 1, RECORD, self.scaled(2_000_000), DEFAULT_BATCH, f"keys={KEYS}")
        topic = self.topic(side, f"latency-{time.time_ns()}", [])
        rate = 20_000_000 // RECORD
        what = "while another topic is cleaned" if cleaning else "alone"
        self.measure(f"20 MB/s, {what}", side, None, lambda: self.call(
            "latency", side, topic, 1, RECORD, rate * seconds, rate))
        for name in filter(None, [topic, other]):
            self.call("delete", side, name)

    def gets(self, side, count, threads):
        topic = getattr(side, "table", None)
        if not topic:
            side.table = topic = self.topic(side, "table", COMPACT)
            keys = int(10_000_000 * self.options.scale)
            self.call("produce", side, topic, 1, SMALL, keys, DEFAULT_BATCH, f"keys={keys}")
            side.keys = keys
        address, side.address = side.address, side.http
        try:
            self.measure(f"gets of {side.keys:,} keys, {threads} at a time", side, None, lambda: self.call(
                "gets", side, topic, side.keys, count, threads))
        finally:
            side.address = address

    def loads(self):
        scaled, seconds = self.scaled, self.seconds(10)
        yield Load("produce-plain", lambda s: self.produce(s, "plain", scaled(1_000_000)))
        yield Load("produce-compacted", lambda s: self.produce(s, "compacted", scaled(1_000_000)))
        yield Load("latency-alone", lambda s: self.latency(s, seconds, False))
        yield Load("latency-cleaning", lambda s: self.latency(s, seconds, True))
        yield Load("clean", lambda s: self.clean(s, scaled(10_000_000)), 2)
        for threads in (1, 8):
            yield Load(f"gets-{threads}", lambda s, t=threads: self.gets(s, scaled(200_000), t), 3, lambda s: hasattr(s, "http"))


SIDES = {
    "kafka": lambda d, _: KeyedKafka("kafka", d),
    "jangbu": lambda d, binary: KeyedJangbu("jangbu", d, binary),
}

if __name__ == "__main__":
    main(__doc__, Compaction, SIDES)
