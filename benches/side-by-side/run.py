#!/usr/bin/env python3
"""One node of each: the same loads against several brokers, interleaved A/B/A/B; prints medians, ranges and ratios.

Usage: run.py [--jangbu BINARY] [--rounds 5] [--loads PATTERN] [--scale 1.0] [--out raw.jsonl] [--data DIR] [--sides ...]

Sides: `kafka` (4.3.0 with its defaults: an acknowledged record is in memory only), `kafka-fsync` (the same with
log.flush.interval.messages=1: fsync before the acknowledgement, as jangbu does), `nats` (JetStream, which syncs every two
minutes), `nats-always` (sync_interval: always) and `jangbu` when a binary is given. NATS takes part where its protocol has the
same. Every load gets a topic of its own, which is deleted afterwards. See README.md.
"""

import statistics
import subprocess
import time

from harness import DEFAULT_BATCH, Bench, Load, arguments, everyone, main, measure, shell  # noqa: F401
from sides import CLIENTS, HERE, Jangbu, Kafka, Nats, Side, free_port  # noqa: F401

MIB = 1 << 20
PAUSE_S, IDLE_S = 60, 30  # until a node is at rest, and how long it is watched then
PEAK = 100_000  # records at least, to say what a broker does at most
STEP = 2000  # Kafka's controller refuses a topic of 10,000 partitions at once, and takes them in pieces


def size_of(size):
    return "1 KiB" if size == 1024 else f"{size} B"


class Node(Bench):
    def create(self, side, topic, partitions, *settings):
        step = [f"step={STEP}"] if partitions > STEP else []
        super().create(side, topic, partitions, *settings, *step)

    def produce_consume(self, side, size, partitions, count, batch=DEFAULT_BATCH):
        count = max(int(count * side.share), 2 * partitions)
        topic, gigabytes = self.warm_topic(side, partitions), size * count / 1e9
        label = f"{size_of(size)}, {partitions} part."
        if batch != DEFAULT_BATCH:
            label += f", {batch >> 10} KiB batches"
        self.measure(f"produce {label}", side, gigabytes,
                     lambda: self.call("produce", side, topic, partitions, size, count, batch))
        self.measure(f"consume {label}", side, gigabytes,
                     lambda: self.call("consume", side, topic, partitions, count + self.warm(partitions)))
        self.call("delete", side, topic)

    def latency(self, side, partitions, rate, seconds):
        topic = self.warm_topic(side, partitions)
        self.measure(f"latency {rate}/s, {partitions} part.", side, None,
                     lambda: self.call("latency", side, topic, partitions, 1024, rate * seconds, rate))
        self.call("delete", side, topic)

    def end_to_end(self, side, partitions, count, seconds):
        """The most that is produced and read at the same time, then shares of it at a fixed rate."""
        def once(what, count, rate):
            topic, got = self.warm_topic(side, partitions), []

            def action():
                got.append(self.call("endtoend", side, topic, partitions, 1024, count, rate))
                return dict(got[0])

            self.measure(f"end to end, {partitions} part., {what}", side, None, action)
            self.call("delete", side, topic)
            return got[0]["records_per_s"]

        peak = once("peak", count, 0)
        for percent in (10, 50, 80):
            rate = max(1, int(peak * percent / 100))
            once(f"{percent} % of the peak", rate * seconds, rate)

    def catch_up(self, side, partitions, count, seconds, rate=2000):
        """Cold data is read again and again while something else is written at a fixed rate."""
        cold, hot, speeds = self.warm_topic(side, partitions), self.warm_topic(side, partitions), []
        self.call("produce", side, cold, partitions, 1024, count, DEFAULT_BATCH)

        def action():
            writer = self.start_client("latency", side, hot, partitions, 1024, rate * seconds, rate)
            while writer.poll() is None:
                side.cool()
                speeds.append(self.call("consume", side, cold, partitions, count)["mb_per_s"])
            values = self.answer(writer)
            return {**values, "cold_mb_per_s": statistics.median(speeds)}

        self.measure(f"{rate}/s while cold data is read, {partitions} part.", side, None, action)
        self.call("delete", side, cold)
        self.call("delete", side, hot)

    def java(self, side, tool, *arguments_):
        """What one of Kafka's own tools prints."""
        if not hasattr(self, "jars"):
            self.jars = shell("kafka_jars >&2; echo $KAFKA_JARS")
        command = ["java", "-Xmx512m", "-cp", f"{self.jars}/*", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
                   f"org.apache.kafka.tools.{tool}", "--bootstrap-server", side.address, *map(str, arguments_)]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              text=True, timeout=900).stdout

    def perf_test(self, side, partitions, count):
        """kafka-producer-perf-test and kafka-consumer-perf-test as they are, with what they have to be told."""
        topic = self.warm_topic(side, partitions)

        def produce():
            said = self.java(side, "ProducerPerformance", "--topic", topic, "--num-records", count, "--record-size", 1024,
                             "--throughput", -1, "--command-property", "acks=all", "linger.ms=5", "batch.size=131072")
            return rated(produced_per_s(said) * 1024 / 1e6)

        def consume():
            said = self.java(side, "ConsumerPerformance", "--topic", topic, "--num-records", count)
            return rated(consumed_mb_per_s(said))

        gigabytes = count * 1024 / 1e9
        self.measure(f"perf-test produce 1 KiB, {partitions} part.", side, gigabytes, produce)
        self.measure(f"perf-test consume 1 KiB, {partitions} part.", side, gigabytes, consume)
        self.call("delete", side, topic)

    def idle(self, side, partitions):
        """A node that has nothing to do, after every partition was written to."""
        topic = self.warm_topic(side, partitions)
        time.sleep(self.seconds(PAUSE_S))
        before, seconds = side.cpu(), self.seconds(IDLE_S)
        time.sleep(seconds)
        share = (side.cpu() - before) / seconds
        self.record(f"idle, {partitions} part.", side, {"broker_cpu_share": share, "rss_mb": side.rss_mb()})
        self.call("delete", side, topic)

    def restart(self, side, partitions, count):
        """kill -9 and start again, with a topic of many partitions full of data."""
        topic = f"restart-{partitions}"
        if not getattr(side, "filled", False):
            self.create(side, topic, partitions)
            self.call("produce", side, topic, partitions, 1024, count, DEFAULT_BATCH)
            side.filled = True
        else:
            self.call("produce", side, topic, partitions, 1024, partitions * 10, DEFAULT_BATCH)
        side.kill()
        since = time.time()
        side.start()
        values = self.call("ready", side, topic, partitions, since)
        self.record(f"restart, {partitions} part.", side, {**values, "rss_mb": side.rss_mb()})

    def loads(self):
        scaled = self.scaled
        for size, partitions, count, rounds in (
            (1024, 1, 1_000_000, 99), (1024, 10, 1_000_000, 99), (1024, 100, 1_000_000, 99), (1024, 1000, 150_000, 99),
            (1024, 10_000, 100_000, 2), (100, 1, 4_000_000, 99), (100, 100, 4_000_000, 99), (100, 1000, 600_000, 99),
        ):
            name = f"produce-{'1k' if size == 1024 else '100b'}-{partitions}"
            fits = [everyone] if partitions in (1, 100) else []
            yield Load(name, lambda s, a=(size, partitions, count): self.produce_consume(s, *a[:2], scaled(a[2])), rounds, *fits)
        yield Load("produce-1k-1-small", lambda s: self.produce_consume(s, 1024, 1, scaled(600_000), 128 << 10))
        for partitions in (1, 100):
            yield Load(f"perf-{partitions}", lambda s, n=partitions: self.perf_test(s, n, scaled(500_000)))
            yield Load(f"latency-{partitions}", lambda s, n=partitions: self.latency(s, n, 2000, self.seconds(8)),
                       fits=everyone)
        yield Load("end-to-end-100", lambda s: self.end_to_end(s, 100, max(PEAK, scaled(1_000_000)), self.seconds(8)))
        yield Load("catch-up-100", lambda s: self.catch_up(s, 100, scaled(2_000_000), self.seconds(10)))
        yield Load("idle-1000", lambda s: self.idle(s, 1000), 2)
        yield Load("restart-1000", lambda s: self.restart(s, 1000, scaled(500_000)), 3)


def rated(mb_per_s):
    return {"mb_per_s": mb_per_s, "records_per_s": mb_per_s * 1e6 / 1024}


def produced_per_s(said):
    """Records a second, of the last line of kafka-producer-perf-test that counts all."""
    last = [line for line in said.splitlines() if "records sent" in line and "99th" in line][-1:]
    if not last:
        raise ValueError(f"kafka-producer-perf-test said no rate: {said[-300:]}")
    return float(last[0].split(" records/sec")[0].split()[-1])


def consumed_mb_per_s(said):
    """Of the line of figures under kafka-consumer-perf-test's heading: its time of fetching, without that of joining a group."""
    lines = [line.split(", ") for line in said.splitlines() if ", " in line]
    for names, values in zip(lines, lines[1:]):
        row = dict(zip(names, values))
        if "fetch.MB.sec" in row:
            return float(row["fetch.MB.sec"]) * MIB / 1e6
    raise ValueError(f"kafka-consumer-perf-test said no rate: {said[-300:]}")


SIDES = {
    "kafka": lambda d, _: Kafka("kafka", d),
    "kafka-fsync": lambda d, _: Kafka("kafka-fsync", d, "log.flush.interval.messages=1"),
    "nats": lambda d, _: Nats("nats", d),
    "nats-always": lambda d, _: Nats("nats-always", d, "always"),
    "jangbu": lambda d, binary: Jangbu("jangbu", d, binary),
}

if __name__ == "__main__":
    main(__doc__, Node, SIDES, optional=True)
