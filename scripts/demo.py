"""Streams a CSV file through a node that is killed on the way, reads it back with kcat, checks every row; then a bus of topics and groups.

Usage: demo.py JANGBU FLIGHTS.csv, beside which is weather.csv

What is checked: as many records as rows, per key the same rows in the same order, offsets without a gap
in each partition, one partition per key. The bus is demo_bus.py. Exits non-zero when anything is off. Ends its own processes only.
"""

import collections
import csv
import json
import shutil
import signal
import subprocess
import sys
import time

import demo_bus
from demo_node import HOME, Node, Off, rate, step, tail

TOPIC, KEY, PARTITIONS = "flights", "tailnum", 6
PRODUCE_SECONDS, READ_SECONDS = 600, 300


def read_input(path):
    """The rows by key, in order, and how many there are."""
    by_key, count = collections.defaultdict(list), 0
    with open(path, newline="") as file:
        rows = csv.reader(file)
        header = next(rows)
        at = header.index(KEY)
        for row in rows:
            by_key[row[at]].append(tuple(row))
            count += 1
    return header, by_key, count


def kill_and_restart(node, taken, total):
    node.kill()
    print(f"kill -9 after {taken:,} of {total:,} rows were taken in")
    listening, ready = node.start()
    print(f"started again: listens after {listening * 1000:.0f} ms, all partitions led after {ready * 1000:.0f} ms")


def stream(node, path, total, outage=kill_and_restart):
    """Produces the file; makes an outage once a third is in; waits for the producer."""
    out = open(HOME / "produce.log", "wb")
    began = time.monotonic()
    command = [node.binary, "produce", TOPIC, path, "--key", KEY, "--brokers", node.kafka, "--json"]
    producer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=out)
    try:
        taken = 0
        while taken < total // 3:
            if producer.poll() is not None:
                raise Off("the producer ended too early:\n" + tail(HOME / "produce.log"))
            taken = node.records()
            time.sleep(0.002)
        if producer.poll() is not None:
            raise Off("the producer was done before the kill")
        outage(node, taken, total)
        text, _ = producer.communicate(timeout=PRODUCE_SECONDS)
        if producer.returncode != 0:
            raise Off(f"the producer ended with {producer.returncode}:\n" + tail(HOME / "produce.log"))
        done = json.loads(text.splitlines()[-1])
        seconds = time.monotonic() - began
        print(f"producer: {done['records']:,} records acknowledged, {done['retries']} batches sent again, "
              f"{seconds:.1f} s with the outage, {rate(done['records'], seconds)}")
        if done["records"] != total or done["failed"]:
            raise Off(f"{total} rows, but {done['records']} acknowledged and {done['failed']} failed")
    finally:
        out.close()
        if producer.poll() is None:
            producer.kill()
            producer.wait()


def read_back(node):
    """Everything in the topic, by kcat: (partition, offset, key or None, value) as text."""
    dump = HOME / "kcat.tsv"
    command = ["kcat", "-b", node.kafka, "-C", "-t", TOPIC, "-o", "beginning", "-e", "-q"]
    command += ["-X", "check.crcs=true", "-f", "%p\t%o\t%K\t%k\t%s\n"]
    began = time.monotonic()
    with open(dump, "wb") as out, open(HOME / "kcat.log", "wb") as log:
        code = subprocess.run(command, stdout=out, stderr=log, timeout=READ_SECONDS).returncode
    seconds = time.monotonic() - began
    if code != 0:
        raise Off(f"kcat ended with {code}:\n" + tail(HOME / "kcat.log"))
    with open(dump, encoding="utf-8", newline="\n") as lines:
        for line in lines:
            partition, offset, length, key, value = line.rstrip("\n").split("\t", 4)
            yield int(partition), int(offset), None if length == "-1" else key, value
    size = dump.stat().st_size
    print(f"kcat: {size / 1e6:.0f} MB in {seconds:.1f} s, {size / 1e6 / seconds:.0f} MB/s")


def compare(header, by_key, total, records):
    """Raises `Off` when anything is not as it was sent."""
    got, home, ends, count = collections.defaultdict(list), {}, collections.Counter(), 0
    for partition, offset, key, value in records:
        if offset != ends[partition]:
            raise Off(f"partition {partition}: offset {offset} where {ends[partition]} comes next")
        ends[partition] += 1
        count += 1
        if home.setdefault(key, partition) != partition:
            raise Off(f"key {key!r} is in partitions {home[key]} and {partition}")
        got[key].append(tuple(json.loads(value)[column] for column in header))
    spread = ", ".join(f"{partition}: {ends[partition]:,}" for partition in sorted(ends))
    print(f"records: {count:,} read, {total:,} rows sent; by partition {spread}")
    wrong = [key for key in by_key.keys() | got.keys() if by_key.get(key) != got.get(key)]
    for key in wrong[:5]:
        print(f"  key {key!r}: {len(by_key.get(key, []))} rows sent, {len(got.get(key, []))} read, not the same")
    longest = max(by_key, key=lambda key: len(by_key[key]))
    print(f"order: {len(by_key) - len(wrong):,} of {len(by_key):,} keys have the same rows in the same order "
          f"(the most frequent, {longest}, has {len(by_key[longest]):,})")
    if wrong or count != total:
        raise Off(f"{len(wrong)} keys differ; {total} rows sent and {count} records read")
    print("nothing lost, nothing doubled, no offset left out")


def ask(node, header, by_key):
    """The last row of the most frequent key, as the node answers it."""
    key = max(by_key, key=lambda key: len(by_key[key]))
    command = [node.binary, "get", TOPIC, key, "--brokers", node.kafka]
    print("$ " + " ".join(["jangbu", *command[1:]]))
    asked = time.monotonic()
    answer = subprocess.run(command, timeout=60, stdout=subprocess.PIPE, text=True)
    took = time.monotonic() - asked
    if answer.returncode != 0:
        raise Off(f"jangbu get ended with {answer.returncode}")
    row = json.loads(answer.stdout)
    if tuple(row[column] for column in header) != by_key[key][-1]:
        raise Off(f"{answer.stdout!r} is not the last row of {key}, which is {by_key[key][-1]!r}")
    print(answer.stdout.rstrip("\n"))
    print(f"the last of its {len(by_key[key]):,} rows, in {took * 1000:.0f} ms with the start of the program")


def run(node, path):
    header, by_key, total = read_input(path)
    step(f"A node on {node.kafka}, and a topic with {PARTITIONS} partitions")
    listening, _ = node.start()
    print(f"the node listens after {listening * 1000:.0f} ms; its log is {HOME}/node.log")
    create = [node.binary, "topic", "create", TOPIC, "--partitions", str(PARTITIONS), "--brokers", node.kafka,
              "--config", "jangbu.key.index=true"]
    if subprocess.run(create, timeout=60).returncode != 0:
        raise Off("the topic was not created")
    step(f"Stream {total:,} rows keyed by {KEY}, and kill the node with -9 on the way")
    stream(node, path, total)
    step("Read everything back with kcat and compare with the file")
    compare(header, by_key, total, read_back(node))
    demo_bus.run(node, path)
    step("Ask for a key")
    ask(node, header, by_key)
    print(f"stopped with SIGTERM in {node.stop() * 1000:.0f} ms")


def play(make, run):
    """Runs a demo on what `make` makes of the binary, and cleans up; whether all was as promised."""
    binary, path = sys.argv[1:]
    # So that Ctrl-C and a closed terminal also clean up.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    signal.signal(signal.SIGHUP, lambda *_: sys.exit(129))
    shutil.rmtree(HOME, ignore_errors=True)
    HOME.mkdir()
    actor = make(binary)
    try:
        run(actor, path)
    except (Off, OSError, subprocess.SubprocessError) as error:
        print(f"\nDEMO FAILED: {error}", file=sys.stderr)
        return False
    finally:
        actor.cleanup()
    step("Done")
    return True


def main():
    if not play(Node, run):
        return 1
    binary = sys.argv[1]
    size = sum(file.stat().st_size for file in (HOME / "node").rglob("*") if file.is_file())
    print(f"""The data lies in ./{HOME}/node ({size / 1e6:.0f} MB). Go on with it:
  {binary} serve --data {HOME}/node
and in another terminal:
  {binary} topic describe {TOPIC}
  {binary} consume {TOPIC} --from-beginning --count 5
  {binary} get {TOPIC} KEY --history 3
  kcat -b 127.0.0.1:9092 -C -t {TOPIC} -o -5 -e""")
    return 0


if __name__ == "__main__":
    sys.exit(main())
