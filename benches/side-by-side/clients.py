#!/usr/bin/env python3
"""The client crate beside librdkafka: the same loads on the same broker, in turns; rates and processor time of the client.

Usage: clients.py --jangbu BINARY [--client BINARY] [--broker jangbu|kafka] [--rounds 5] [--loads PATTERN] [--scale 1.0]
                  [--out raw.jsonl] [--data DIR]

The programs are load.c on Debian's librdkafka and client/benches/load.rs, which is built unless --client names it. Loads:
produce and consume, 100 B and 1 KiB, none, lz4 and zstd, and produce-100b-none-one, in which every record is handed over
by itself instead of a thousand at a time (librdkafka's program always does). Both read the same topic, written by
librdkafka. About 8 minutes with the defaults. See README.md.

    benches/side-by-side/clients.py --jangbu target/release/jangbu --out clients.jsonl
"""

import argparse
import json
import os
import re
import subprocess
import tempfile

from run import DEFAULT_BATCH, HERE, Bench, Jangbu, Kafka, measure

PARTITIONS = 4
BYTES = 500_000_000  # of a load at scale 1
SIZES = {"100b": 100, "1k": 1024}
CODECS = ["none", "lz4", "zstd"]
# What is printed of a load; the rest is in --out.
FIGURES = ["records_per_s", "client_cpu_s_per_gb", "load_avg"]


def built():
    """The crate's load program."""
    command = ["cargo", "build", "--release", "--locked", "-p", "jangbu-client", "--bench", "load", "--message-format=json"]
    out = subprocess.run(command, check=True, cwd=os.path.join(HERE, "../.."), stdout=subprocess.PIPE, text=True).stdout
    messages = (json.loads(line) for line in out.splitlines())
    return next(m["executable"] for m in messages if m.get("executable") and m["target"]["name"] == "load")


class Client:
    """A client of the one broker: to the bench it is a side."""

    def __init__(self, name, broker):
        self.name, self.broker, self.program = name, broker, None

    def __getattr__(self, name):  # address, pid, cpu ...
        return getattr(self.broker, name)

    def start(self):
        pass

    def end(self):
        pass


class Clients(Bench):
    def __init__(self, options, work):
        super().__init__(options, work)
        self.programs = {"librdkafka": self.load, "jangbu-client": options.client or built()}

    def call(self, verb, side, *arguments):
        """Topics are made and deleted by one and the same program."""
        program = self.programs[side.name] if verb in ("produce", "consume") else self.programs["librdkafka"]
        command = [program, verb, side.address, *map(str, arguments)]
        out = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=900)
        if out.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with {out.returncode}: {out.stdout}")
        return json.loads(out.stdout)

    def record(self, load, side, values):
        super().record(load, side, values)
        row = self.results[-1]
        self.results[-1] = {key: row[key] for key in ("load", "side", *FIGURES) if key in row}

    def produce(self, name, side, size, count, codec, one_by_one):
        topic = self.warm_topic(side, PARTITIONS)
        more = [f"codec={codec}"]
        if one_by_one and side.name == "jangbu-client":
            more.append("one-by-one")
        action = lambda: self.call("produce", side, topic, PARTITIONS, size, count, DEFAULT_BATCH, *more)  # noqa: E731
        self.measure(f"produce-{name}", side, size * count / 1e9, action)
        return topic

    def consume(self, name, side, size, count, topic):
        action = lambda: self.call("consume", side, topic, PARTITIONS, count)  # noqa: E731
        self.measure(f"consume-{name}", side, size * count / 1e9, action)

    def warm_up(self, sides):
        for side in sides:
            topic = self.warm_topic(side, PARTITIONS)
            self.call("consume", side, topic, PARTITIONS, 20_000)
            self.call("delete", side, topic)

    def rounds(self, sides):
        combos = [(f"{label}-{codec}", SIZES[label], codec, False) for label in SIZES for codec in CODECS]
        combos.append(("100b-none-one", 100, "none", True))
        for number in range(self.options.rounds):
            print(f"round {number + 1} of {self.options.rounds}", flush=True)
            order = sides if number % 2 == 0 else sides[::-1]
            for name, size, codec, one_by_one in combos:
                self.combo(order, name, size, codec, one_by_one)

    def combo(self, order, name, size, codec, one_by_one):
        def wanted(verb):
            return re.search(self.options.loads, f"{verb}-{name}")

        reads = wanted("consume") and not one_by_one
        if not wanted("produce") and not reads:
            return
        # In whole thousands for each partition, as both programs group records.
        count = max(1, int(BYTES * self.options.scale / size / 1000 / PARTITIONS)) * 1000 * PARTITIONS
        topics = {side.name: self.produce(name, side, size, count, codec, one_by_one) for side in order}
        for side in order if reads else ():
            self.consume(name, side, size, count, topics["librdkafka"])
        for side in order:
            self.call("delete", side, topics[side.name])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--jangbu", help="the broker's binary")
    parser.add_argument("--client", help="client/benches/load.rs, built (default: cargo builds it)")
    parser.add_argument("--broker", choices=["jangbu", "kafka"], default="jangbu")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loads", default=".", help="regular expression over the loads' names")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of records")
    parser.add_argument("--out", help="appends every single result as a line of JSON")
    parser.add_argument("--data", help="where the broker keeps its data (default: a temporary folder)")
    options = parser.parse_args()
    if options.broker == "jangbu" and not options.jangbu:
        parser.error("--jangbu BINARY is missing; target/release/jangbu after `cargo build --release`")
    work = tempfile.mkdtemp(dir=options.data, prefix="clients-")
    directory = os.path.join(work, options.broker)
    if options.broker == "kafka":
        broker = Kafka("kafka", directory)
    else:
        broker = Jangbu("jangbu", directory, os.path.abspath(options.jangbu))
    broker.start()
    try:
        measure(Clients, options, work, [Client("librdkafka", broker), Client("jangbu-client", broker)])
    finally:
        broker.end()


if __name__ == "__main__":
    main()
