#!/usr/bin/env python3
"""Runs the same loads against several brokers, interleaved A/B/A/B, and prints medians, ranges and ratios.

Usage: run.py [--jangbu BINARY] [--rounds 5] [--loads PATTERN] [--scale 1.0] [--out raw.jsonl] [--data DIR]

Sides: `kafka` (4.3.0 with its defaults: an acknowledged record is in memory only), `kafka-fsync` (the same with
log.flush.interval.messages=1: fsync before the acknowledgement, as jangbu does) and `jangbu` when a binary is given.
All sides run at the same time and idle while another is measured. Every load gets a topic of its own, which is
deleted afterwards. See README.md.
"""

import argparse
import json
import os
import random
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CLIENTS = os.path.join(HERE, "../../server/tests/clients")
sys.path.insert(0, CLIENTS)
from ports import free_port  # noqa: E402
TICKS = os.sysconf("SC_CLK_TCK")
DEFAULT_BATCH = 1_000_000  # librdkafka's own batch.size


def shell(script):
    """Output of a bash script that has the client suites' env.sh."""
    source = f'source "{CLIENTS}/env.sh"; {script}'
    return subprocess.run(["bash", "-c", source], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


class Side:
    """A broker: how it starts, stops, and what it has used."""

    def __init__(self, name, directory):
        self.name, self.directory, self.pid, self.address = name, directory, None, None

    def cpu(self):
        with open(f"/proc/{self.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def end(self):
        """Kills it if it runs."""
        if self.pid and os.path.exists(f"/proc/{self.pid}"):
            self.kill()

    def rss_mb(self):
        with open(f"/proc/{self.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) / 1000


class Kafka(Side):
    def __init__(self, name, directory, *settings):
        super().__init__(name, directory)
        self.settings, self.started = settings, False

    def control(self, verb, *more):
        script = os.path.join(CLIENTS, "reference/kafka.sh")
        command = [script, verb, self.directory, *more]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def start(self):
        self.address = self.control("restart") if self.started else self.control("start", *self.settings)
        self.started = True
        with open(os.path.join(self.directory, "pid")) as f:
            self.pid = int(f.read())

    def ended(self):
        return not os.path.exists(f"/proc/{self.pid}")

    def kill(self):
        self.control("kill")


class Jangbu(Side):
    extra = []  # more options of `jangbu serve`

    def __init__(self, name, directory, binary):
        super().__init__(name, directory)
        self.port, self.binary, self.process = free_port(), binary, None

    def start(self):
        os.makedirs(self.directory, exist_ok=True)
        self.address = f"127.0.0.1:{self.port}"
        data = os.path.join(self.directory, "data")
        command = [self.binary, "serve", "--data", data, "--listen", self.address]
        command += self.extra if "--http" in self.extra else [*self.extra, "--http", "127.0.0.1:0"]
        with open(os.path.join(self.directory, "server.log"), "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.pid = self.process.pid
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if self.process.poll() is not None:
                    sys.exit(f"{self.binary} ended with {self.process.returncode}: see {log.name}")
                time.sleep(0.01)

    def ended(self):
        return self.process.poll() is not None

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Bench:
    replicas = 1  # of the topics

    def __init__(self, options, work):
        self.options, self.load, self.results = options, os.path.join(work, "load"), []
        shell("need gcc gcc libc6-dev; [ -e /usr/include/librdkafka/rdkafka.h ] || packages librdkafka-dev")
        build = ["gcc", "-O2", "-o", self.load, os.path.join(HERE, "load.c"), "-lrdkafka", "-lpthread"]
        subprocess.run(build, check=True)
        self.jars = shell("kafka_jars >&2; echo $KAFKA_JARS")

    def call(self, verb, side, *arguments):
        command = [self.load, verb, side.address, *map(str, arguments)]
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=900)
        if out.returncode:
            raise RuntimeError(f"load {' '.join(command[1:])} ended with {out.returncode}: {out.stdout}")
        return json.loads(out.stdout)  # {} for what is only done, not measured

    def record(self, load, side, values):
        values["load_avg"] = os.getloadavg()[0]
        row = {"load": load, "side": side.name, **values}
        self.results.append(row)
        if self.options.out:
            with open(self.options.out, "a") as f:
                f.write(json.dumps(row) + "\n")
        numbers = "  ".join(f"{k}={v:g}" for k, v in values.items())
        print(f"  {load:<24} {side.name:<12} {numbers}", flush=True)

    def measure(self, load, side, gigabytes, action):
        """Runs action; adds what the broker used meanwhile."""
        os.sync()  # what another side has left in the page cache is not written at this one's expense
        before = side.cpu()
        values = action()
        if gigabytes:
            values["broker_cpu_s_per_gb"] = (side.cpu() - before) / gigabytes
            if "client_cpu_s" in values:
                values["client_cpu_s_per_gb"] = values.pop("client_cpu_s") / gigabytes
        else:
            values["broker_cpu_share"] = (side.cpu() - before) / values["seconds"]
        values["rss_mb"] = side.rss_mb()
        for unused in ("seconds", "records"):
            values.pop(unused, None)
        self.record(load, side, values)

    def warm_topic(self, side, partitions):
        """A new topic that has been written to: the first write to a partition is not what is measured."""
        topic = f"bench-{random.randrange(1 << 40)}"
        self.create(side, topic, partitions)
        self.call("produce", side, topic, partitions, 100, max(20_000, 20 * partitions), DEFAULT_BATCH)
        return topic

    def create(self, side, topic, partitions):
        self.call("create", side, topic, partitions, self.replicas)

    def produce_consume(self, side, size, partitions, count, batch=DEFAULT_BATCH):
        topic, gigabytes = self.warm_topic(side, partitions), size * count / 1e9
        label = f"{'1 KiB' if size == 1024 else f'{size} B'}, {partitions} part."
        if batch != DEFAULT_BATCH:
            label += f", {batch >> 10} KiB batches"
        self.measure(f"produce {label}", side, gigabytes,
                     lambda: self.call("produce", side, topic, partitions, size, count, batch))
        self.measure(f"consume {label}", side, gigabytes,
                     lambda: self.call("consume", side, topic, partitions, count))
        self.call("delete", side, topic)

    def latency(self, side, partitions, rate, seconds):
        topic = self.warm_topic(side, partitions)
        self.measure(f"latency {rate}/s, {partitions} part.", side, None,
                     lambda: self.call("latency", side, topic, partitions, 1024, rate * seconds, rate))
        self.call("delete", side, topic)

    def perf_test(self, side, partitions, count):
        """Kafka's own kafka-producer-perf-test, its defaults but for acks."""
        topic = self.warm_topic(side, partitions)

        def action():
            command = ["java", "-Xmx512m", "-cp", f"{self.jars}/*",
                       "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
                       "org.apache.kafka.tools.ProducerPerformance", "--topic", topic, "--num-records",
                       str(count), "--record-size", "1024", "--throughput", "-1", "--bootstrap-server",
                       side.address, "--command-property", "acks=all", "linger.ms=5", "batch.size=131072"]
            out = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                 text=True, timeout=900).stdout
            last = [line for line in out.splitlines() if "records sent" in line and "99th" in line][-1]
            rate = float(re.search(r"([\d.]+) records/sec", last).group(1))
            return {"records_per_s": rate, "mb_per_s": rate * 1024 / 1e6}

        self.measure(f"perf-test 1 KiB, {partitions} part.", side, count * 1024 / 1e9, action)
        self.call("delete", side, topic)

    def restart(self, side, partitions, count):
        """kill -9 and start again, with a topic of many partitions full of data."""
        topic = f"restart-{partitions}"
        if not getattr(side, "filled", False):
            self.call("create", side, topic, partitions, self.replicas)
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
        def scaled(count):
            return max(1000, int(count * self.options.scale))

        yield "produce-1k-1", lambda s: self.produce_consume(s, 1024, 1, scaled(1_000_000))
        yield "produce-1k-1-small", lambda s: self.produce_consume(s, 1024, 1, scaled(600_000), 128 << 10)
        yield "produce-1k-100", lambda s: self.produce_consume(s, 1024, 100, scaled(1_000_000))
        yield "produce-1k-1000", lambda s: self.produce_consume(s, 1024, 1000, scaled(150_000))
        yield "produce-100b-1", lambda s: self.produce_consume(s, 100, 1, scaled(4_000_000))
        yield "perf-1", lambda s: self.perf_test(s, 1, scaled(500_000))
        yield "perf-100", lambda s: self.perf_test(s, 100, scaled(500_000))
        yield "latency-1", lambda s: self.latency(s, 1, 2000, 8)
        yield "latency-100", lambda s: self.latency(s, 100, 2000, 8)

    def warm_up(self, sides):
        """One pass that is not counted: a JVM needs it, and no broker is hurt by it."""
        for side in sides:
            topic = self.warm_topic(side, 10)
            self.call("produce", side, topic, 10, 1024, 300_000, DEFAULT_BATCH)
            self.call("consume", side, topic, 10, 300_000)
            self.call("delete", side, topic)

    def rounds(self, sides):
        chosen = [(n, a) for n, a in self.loads() if re.search(self.options.loads, n)]
        for number in range(self.options.rounds):
            print(f"round {number + 1} of {self.options.rounds}", flush=True)
            order = sides if number % 2 == 0 else sides[::-1]
            for _, action in chosen:
                for side in order:
                    action(side)
        if re.search(self.options.loads, "restart"):
            for number in range(min(3, self.options.rounds)):
                print(f"restart {number + 1}", flush=True)
                for side in sides:
                    self.restart(side, 1000, max(1000, int(500_000 * self.options.scale)))


def fsync_ms(directory, size, count=200):
    """Median time of writing and fdatasyncing `size` bytes."""
    times = []
    with tempfile.NamedTemporaryFile(dir=directory) as f:
        for _ in range(count):
            start = time.perf_counter()
            os.write(f.fileno(), b"x" * size)
            os.fdatasync(f.fileno())
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times), sorted(times)[int(count * 0.99)]


def format_range(values):
    return f"{statistics.median(values):.4g} ({min(values):.4g}-{max(values):.4g})"


def table(results, sides):
    """Markdown: one row per load and figure; the ratio is jangbu (or the last side) over each other side."""
    names = [s.name for s in sides]
    print("\n| load | figure | " + " | ".join(names), end="")
    print("".join(f" | {names[-1]} / {n}" for n in names[:-1]) + " |")
    print("|" + "---|" * (2 + len(names) + len(names) - 1))
    keys = dict.fromkeys((r["load"], k) for r in results for k in r if k not in ("load", "side"))
    for load, figure in sorted(keys, key=lambda k: [r["load"] for r in results].index(k[0])):
        found = {n: [r[figure] for r in results
                     if r["load"] == load and r["side"] == n and figure in r] for n in names}
        if not all(found.values()):
            continue
        row = [load, figure] + [format_range(found[n]) for n in names]
        last = statistics.median(found[names[-1]])
        for n in names[:-1]:
            other = statistics.median(found[n])
            row.append(f"{last / other:.2f}" if other else "-")
        print("| " + " | ".join(row) + " |")


def machine(directory):
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "?")
    print(f"{os.cpu_count()} CPUs ({model}); all sides and the client share them")
    for size in (4096, 65536, 1 << 20):
        median, worst = fsync_ms(directory, size)
        print(f"write + fdatasync of {size // 1024} KiB: median {median:.3f} ms, p99 {worst:.3f} ms")


def arguments(doc, sides, **jangbu):
    """The command line of a harness that `doc` describes; `sides` are measured unless others are asked for."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--jangbu", **jangbu)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loads", default=".", help="regular expression over the loads' names")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of records")
    parser.add_argument("--sides", default=sides)
    parser.add_argument("--out", help="appends every single result as a line of JSON")
    parser.add_argument("--data", help="where the brokers keep their data (default: a temporary folder)")
    return parser.parse_args()


def measure(kind, options, work, sides):
    """Starts the sides, runs the loads of a kind of bench, prints the table, and leaves nothing behind."""
    machine(work)
    bench = kind(options, work)
    try:
        for side in sides:
            side.start()
        bench.warm_up(sides)
        bench.rounds(sides)
    finally:
        for side in sides:
            side.end()
        if bench.results:
            table(bench.results, sides)
        shutil.rmtree(work, ignore_errors=True)


def main():
    about = "the jangbu binary; without it Kafka is measured alone"
    options = arguments(__doc__, "kafka,kafka-fsync,jangbu", help=about)
    work = tempfile.mkdtemp(dir=options.data, prefix="side-by-side-")
    makers = {
        "kafka": lambda d: Kafka("kafka", d),
        "kafka-fsync": lambda d: Kafka("kafka-fsync", d, "log.flush.interval.messages=1"),
        "jangbu": lambda d: Jangbu("jangbu", d, os.path.abspath(options.jangbu)),
    }
    chosen = [n for n in options.sides.split(",") if n != "jangbu" or options.jangbu]
    measure(Bench, options, work, [makers[n](os.path.join(work, n)) for n in chosen])


if __name__ == "__main__":
    main()
