"""What all parts of the side-by-side benchmark share: the rounds, the journal of raw lines, and the table at the end.

A part is a class of loads (Bench) and a dictionary of sides; `main` is its command line. All sides run at the same time and
idle while another is measured; their order turns round every round. A step (one load on one side in one round) is written
to the journal as a whole or not at all, so a run that was broken off goes on behind the last whole one.

Not here: how a broker starts (sides.py), the page and its charts (page.py).
"""

import argparse
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Callable, NamedTuple

from sides import HERE, Side, shell, speaks_kafka
from stats import LABELS, done, duration, figures, parse, ratio, seconds_left, told

DEFAULT_BATCH = 1_000_000  # librdkafka's own batch.size
WARM = 20_000  # records that a new topic gets before the clock starts
WARM_UP = 100_000  # records at least that each side gets before anything is measured
FAILURES = (RuntimeError, OSError, subprocess.SubprocessError, ValueError, KeyError)


def everyone(_):
    return True


class Load(NamedTuple):
    """A step of every round."""

    name: str
    action: Callable[[Side], None]
    rounds: int = 1_000_000  # at most
    fits: Callable[[Side], bool] = speaks_kafka


class Journal:
    """The raw lines of a file, if there is one, and of this run."""

    def __init__(self, path):
        self.path, rows = path, []
        if path and os.path.exists(path):
            with open(path) as f:
                text = f.read()
            rows = parse(text)
            if text and not text.endswith("\n"):  # the end of a run that was broken off
                self.write("")
        self.took = done(rows)

    def write(self, lines):
        if self.path:
            with open(self.path, "a") as f:
                f.write(lines + "\n")

    def add(self, rows):
        self.took |= done(rows)
        self.write("\n".join(json.dumps(row) for row in rows))


class Bench:
    """Loads, and how a client is called. Subclasses say which loads there are."""

    replicas = 1  # of the topics

    def __init__(self, options, work):
        self.options, self.work, self.load, self.results = options, work, os.path.join(work, "load"), []
        self.part = os.path.splitext(os.path.basename(sys.argv[0]))[0]
        self.journal, self.label = Journal(options.out), None
        shell("need gcc gcc libc6-dev; [ -e /usr/include/librdkafka/rdkafka.h ] || packages librdkafka-dev")
        sources = [os.path.join(HERE, name) for name in ("load.c", "endtoend.c", "gets.c")]
        subprocess.run(["gcc", "-O2", "-o", self.load, *sources, "-lrdkafka", "-lpthread"], check=True)

    def scaled(self, count):
        return max(1000, int(count * self.options.scale))

    def seconds(self, full):
        """Of a load that takes a time: all of it from a scale of 0.4 on."""
        return max(1, round(full * min(1, self.options.scale / 0.4)))

    def start_client(self, verb, side, *arguments):
        return subprocess.Popen(self.command(verb, side, *arguments), stdout=subprocess.PIPE, text=True)

    def command(self, verb, side, *arguments):
        return [side.client or self.load, verb, side.address, *map(str, arguments)]

    def answer(self, process):
        """What a client says at its end: {} for what is only done, not measured."""
        try:
            out, _ = process.communicate(timeout=900)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        if process.returncode:
            raise RuntimeError(f"{' '.join(process.args[1:])} ended with {process.returncode}: {out}")
        return json.loads(out) or {}

    def call(self, verb, side, *arguments):
        return self.answer(self.start_client(verb, side, *arguments))

    def record(self, load, side, values):
        values["load_avg"] = os.getloadavg()[0]
        row = {"load": load, "side": side.name, **values}
        self.results.append(row)
        if not self.label:  # no step: a part with rounds of its own
            self.journal.add([{"part": self.part, **row}])
        numbers = "  ".join(f"{k}={v:g}" for k, v in values.items())
        print(f"  {load:<24} {side.name:<12} {numbers}", flush=True)

    def measure(self, load, side, gigabytes, action):
        """Runs action; adds what the broker used meanwhile."""
        os.sync()  # what another side has left in the page cache is not written at this one's expense
        before = side.cpu()
        values = action()
        if gigabytes:
            if "mb_per_s" in values and "seconds" in values:  # of what really went over the wire
                gigabytes = values["mb_per_s"] * values["seconds"] / 1e3
            values["broker_cpu_s_per_gb"] = (side.cpu() - before) / gigabytes
            if "client_cpu_s" in values:
                values["client_cpu_s_per_gb"] = values.pop("client_cpu_s") / gigabytes
        else:
            values["broker_cpu_share"] = (side.cpu() - before) / values["seconds"]
        values["rss_mb"] = side.rss_mb()
        for unused in ("seconds", "records"):
            values.pop(unused, None)
        self.record(load, side, values)

    def new_topic(self, side, partitions, *settings):
        topic = f"bench-{random.randrange(1 << 40)}"
        self.create(side, topic, partitions, *settings)
        return topic

    def warm_topic(self, side, partitions):
        """A new topic that has been written to: the first write to a partition is not what is measured."""
        topic = self.new_topic(side, partitions)
        self.call("produce", side, topic, partitions, 100, self.warm(partitions), DEFAULT_BATCH)
        return topic

    @staticmethod
    def warm(partitions):
        return max(WARM, 2 * partitions)

    def create(self, side, topic, partitions, *settings):
        self.call("create", side, topic, partitions, self.replicas, *settings)

    def warm_up(self, sides):
        """One pass that is not counted: a JVM needs it, and no broker is hurt by it."""
        for side in sides:
            topic, count = self.warm_topic(side, 10), max(WARM_UP, self.scaled(300_000))
            self.call("produce", side, topic, 10, 1024, count, DEFAULT_BATCH)
            self.call("consume", side, topic, 10, count)
            self.call("delete", side, topic)

    def loads(self):
        """Each a Load, or its first fields; None for a part that has rounds of its own."""

    def plan(self, sides):
        """[(round, load, side)] of what is still to be measured, in order; None if that is not known."""
        loads = self.loads()
        if loads is None:
            return None
        chosen = [load for load in (Load(*each) for each in loads) if re.search(self.options.loads, load.name)]
        steps = []
        for number in range(self.options.rounds):
            for load in chosen:
                if number >= load.rounds:
                    continue
                for side in sides if number % 2 == 0 else sides[::-1]:
                    if load.fits(side) and self.key(number, load, side) not in self.journal.took:
                        steps.append((number, load, side))
        return steps

    def key(self, number, load, side):
        return self.part, number, load.name, side.name

    def rounds(self, sides):
        steps = self.plan(sides)
        for at, (number, load, side) in enumerate(steps):
            left = seconds_left([self.key(*step) for step in steps[at:]], self.journal.took)
            told_left = f", about {duration(left)} left" if left else ""
            print(f"[{self.part} {at + 1}/{len(steps)}{told_left}] {load.name} on {side.name}, "
                  f"round {number + 1} of {self.options.rounds}", flush=True)
            self.step(number, load, side)

    def step(self, number, load, side):
        self.label = dict(zip(("part", "round", "step", "side"), self.key(number, load, side)))
        mark, since = len(self.results), time.monotonic()
        try:
            load.action(side)
        except FAILURES as error:
            print(f"  failed: {error}", flush=True)
            del self.results[mark:]
            self.journal.add([{**self.label, "error": str(error)[:300]}])
            side.revive()
            return
        rows = [{**self.label, **row} for row in self.results[mark:]]
        self.journal.add([*rows, {**self.label, "took_s": round(time.monotonic() - since, 2)}])


def fsync_ms(directory, size, count=200):
    """Median and 99th percentile of the time of writing and fdatasyncing `size` bytes."""
    times = []
    with tempfile.NamedTemporaryFile(dir=directory) as f:
        for _ in range(count):
            start = time.perf_counter()
            os.write(f.fileno(), b"x" * size)
            os.fdatasync(f.fileno())
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times), sorted(times)[int(count * 0.99)]


def machine(directory):
    """What the sides run on."""
    with open("/proc/cpuinfo") as f:
        model = next((line.split(":")[1].strip() for line in f if line.startswith("model name")), "?")
    about = {"cpus": os.cpu_count(), "model": model, "kernel": os.uname().release, "fdatasync_ms": {}}
    print(f"{os.cpu_count()} CPUs ({model}); all sides and the client share them")
    for size in (4096, 65536, 1 << 20):
        median, worst = fsync_ms(directory, size)
        about["fdatasync_ms"][f"{size // 1024} KiB"] = [round(median, 3), round(worst, 3)]
        print(f"write + fdatasync of {size // 1024} KiB: median {median:.3f} ms, p99 {worst:.3f} ms", flush=True)
    return about


def table(results, sides):
    """Markdown: one row per load and figure; the ratio is that of the last side over each other one."""
    names = [side.name for side in sides]
    lines = ["| load | figure | " + " | ".join(names) + "".join(f" | {names[-1]} / {n}" for n in names[:-1]) + " |"]
    lines.append("|" + "---|" * (2 + len(names) + len(names) - 1))
    for (_, load), found in figures(results).items():
        for figure, by_side in found.items():
            if figure in LABELS or figure == "load_avg":
                continue
            row = [load, figure] + [told(by_side[n]) if n in by_side else "" for n in names]
            for n in names[:-1]:
                both = n in by_side and names[-1] in by_side
                factor = ratio(by_side[names[-1]], by_side[n]) if both else None
                row.append("" if factor is None else f"{factor:.2f}")
            lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def arguments(doc, sides, **jangbu):
    """The command line of a harness that `doc` describes; `sides` are measured unless others are asked for."""
    parser = argparse.ArgumentParser(description=doc.split("\n")[0])
    parser.add_argument("--jangbu", **jangbu)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--loads", default=".", help="regular expression over the loads' names")
    parser.add_argument("--scale", type=float, default=1.0, help="multiplies the number of records")
    parser.add_argument("--sides", default=sides, help=f"of {sides}; others are passed over")
    parser.add_argument("--out", help="appends every single result as a line of JSON, and goes on behind what is in it")
    parser.add_argument("--data", help="where the brokers keep their data (default: a temporary folder)")
    return parser.parse_args()


def measure(kind, options, work, sides):
    """Starts the sides, runs the loads of a kind of bench, prints the table, and leaves nothing behind."""
    bench = None
    try:
        bench = kind(options, work)
        if bench.plan(sides) == []:
            print(f"{bench.part}: everything asked for is measured")
            return
        machine(work)
        for side in sides:
            side.start()
        bench.warm_up(sides)
        bench.rounds(sides)
    finally:
        for side in sides:
            side.end()
        if bench and bench.results:
            print("\n" + table(bench.results, sides))
        shutil.rmtree(work, ignore_errors=True)


def main(doc, kind, makers, optional=False):
    """The command line of a part. `makers`: how to make each side of a directory and the jangbu binary."""
    about = "the jangbu binary" + ("; without it the others are measured alone" if optional else "")
    options = arguments(doc, ",".join(makers), required=not optional, help=about)
    binary = os.path.abspath(options.jangbu) if options.jangbu else None
    chosen = [n for n in options.sides.split(",") if n in makers and (binary or n != "jangbu")]
    if not chosen:
        sys.exit(f"none of the sides {options.sides} is one of {', '.join(makers)}")
    work = tempfile.mkdtemp(dir=options.data, prefix=f"{kind.__name__.lower()}-")
    measure(kind, options, work, [makers[n](os.path.join(work, n), binary) for n in chosen])
