#!/usr/bin/env python3
"""A compacted topic under real clients: read from anywhere while it is cleaned, kill -9 in the middle of cleaning.

Usage: compaction.py [--kills N] [--drop-one] JANGBU DATA

One librdkafka producer overwrites and deletes keys all the time; librdkafka, the Java client and franz-go each read again and again, from the
beginning and from anywhere. After every kill, and in the end by these and kafka-python: the last acknowledged value of every key is there, none that
was deleted is back, and no offset holds anything but what was acknowledged there. Then the topic is left alone until it is clean: one record for
each key; and `jangbu inspect verify` finds nothing. --drop-one forgets a key that was read: the check must then fail.
JAVA_READER and GO_READER are the commands of the two readers that are no Python.
"""

import argparse
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request

from confluent_kafka.admin import AdminClient, AlterConfigOpType, ConfigEntry, ConfigResource

from compacted import KEYS, PARTITIONS, TOPIC, Updates, cleans, create, read, read_kafka_python, stale, unordered, untrue, wait_for
from crash import Node, report
from ports import free_port


class Program:
    """A reader in another language: takes offsets to read from on its standard input, prints what is there."""

    def __init__(self, command, address):
        self.complaints = tempfile.TemporaryFile("w+")
        self.process = subprocess.Popen(
            [*command.split(), address, TOPIC], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.complaints, text=True)

    def read(self, starts):
        self.process.stdin.write(" ".join(map(str, starts)) + "\n")
        self.process.stdin.flush()
        found = [[] for _ in starts]
        for line in self.process.stdout:
            if line == ".\n":
                return found
            partition, offset, *rest = line.split()
            key, value = (None if each == "-" else bytes.fromhex(each) for each in rest)
            found[int(partition)].append((int(offset), key, value))
        code = self.process.wait()
        self.complaints.seek(0)
        raise AssertionError(f"{self.process.args[0]} ended with {code}: {self.complaints.read()[-500:].strip()}")

    def end(self):
        self.process.stdin.close()
        self.process.wait(30)


class Reader(threading.Thread):
    """Reads from the beginning and from anywhere, again and again; what is wrong stands in `wrong`."""

    def __init__(self, name, read, updates):
        super().__init__(daemon=True)
        self.name, self.read, self.updates, self.wrong, self.reads = name, read, updates, [], 0
        self.stopping = threading.Event()

    def run(self):
        while not self.stopping.is_set() and not self.wrong:
            ends = [max(acked, default=0) for acked in self.updates.acked]
            starts = [random.choice([0, random.randint(0, end)]) for end in ends]
            known = [dict(acked) for acked in map(dict.copy, self.updates.acked)]
            try:
                found = self.read(starts)
            except AssertionError as error:
                self.wrong.append(str(error))
                return
            self.wrong += filter(None, [untrue(known, found), unordered(starts, found)])
            self.reads += 1

    def verdict(self):
        """What was wrong, if anything."""
        return "; ".join(self.wrong[:3]) or (None if self.reads else "nothing was read")


def asked(http, acked):
    """Every key is asked for over HTTP."""
    for p, want in enumerate(acked):
        for key, value in {key: value for _, (key, value) in sorted(want.items())}.items():
            url = f"http://127.0.0.1:{http}/topics/{TOPIC}/keys/{key.decode()}?partition={p}"
            try:
                with urllib.request.urlopen(url, timeout=10) as answer:
                    got = answer.read()
            except urllib.error.HTTPError as error:
                got = None if error.code == 404 else error
            if got != value:
                return f"{key} is {got}, was last written {value}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--drop-one", action="store_true")
    parser.add_argument("jangbu")
    parser.add_argument("data")
    options = parser.parse_args()
    http = free_port()
    node = Node([options.jangbu, "serve", "--data", options.data, "--listen", "127.0.0.1:{port}", "--http",
                 f"127.0.0.1:{http}"], free_port())
    node.start()
    bad, programs = False, {}
    try:
        admin = AdminClient({"bootstrap.servers": node.address})
        create(admin)
        updates = Updates(node.address)
        programs |= {name: Program(os.environ[command], node.address) for name, command in [("java", "JAVA_READER"), ("franz-go", "GO_READER")]}
        by_name = {"librdkafka": lambda starts: read(node.address, starts), **{name: each.read for name, each in programs.items()}}
        readers = [Reader(name, way, updates) for name, way in by_name.items()]
        updates.start()
        for reader in readers:
            reader.start()
        for kill in range(options.kills):
            cleans(http, 2000)
            time.sleep(random.uniform(0, 1))
            node.kill()
            node.start()
            before = [dict(acked) for acked in map(dict.copy, updates.acked)]
            bad |= report(f"kill {kill + 1}: what is read was written there", untrue(before, read(node.address, [0] * PARTITIONS)))
        cleans(http, 2000)
        updates.stopping.set()
        updates.join()
        for reader in readers:
            reader.stopping.set()
        for reader in readers:
            reader.join()
        readings = ", ".join(f"{reader.reads} by {reader.name}" for reader in readers)
        print(f"{updates.sent} updates; readings meanwhile: {readings}", flush=True)
        bad |= report("every update was acknowledged", "; ".join(updates.failed[:3]))
        for reader in readers:
            bad |= report(f"{reader.name}: read from anywhere while cleaned", reader.verdict())
        acked = updates.acked
        everything = {**by_name, "kafka-python": lambda _: read_kafka_python(node.address)}
        for name, way in everything.items():
            found = way([0] * PARTITIONS)
            if options.drop_one:
                found[1] = [record for record in found[1] if record[1] != b"key-1"]
            bad |= report(f"{name}: the last value of every key", untrue(acked, found) or stale(acked, found))
        bad |= report("asked for, every key has its last value", asked(http, acked))
        left = KEYS - len(range(0, KEYS, 7))

        def is_clean():
            return sum(map(len, read(node.address, [0] * PARTITIONS))) == left

        # Without more updates nothing would be due but by age.
        admin.incremental_alter_configs([ConfigResource(ConfigResource.Type.TOPIC, TOPIC, incremental_configs=[
            ConfigEntry("max.compaction.lag.ms", "1", incremental_operation=AlterConfigOpType.SET)])])
        try:
            wait_for("one record for each key that has a value", is_clean)
            why = None
        except AssertionError as error:
            why = str(error)
        found = read(node.address, [0] * PARTITIONS)
        values = {key: value for got in found for _, key, value in got}
        want = {b"key-%d" % key: b"the end of %d" % key for key in range(KEYS) if key % 7}
        bad |= report("clean: one record for each key that has a value", why or (None if values == want else "other values"))
        bad |= report("asked for when clean", asked(http, acked))
    finally:
        for program in programs.values():
            program.end()
        node.process.terminate()
        node.process.wait(30)
    verify = subprocess.run([options.jangbu, "inspect", "verify", options.data], stdout=subprocess.PIPE, text=True)
    bad |= report("inspect verify", verify.stdout[-500:] if verify.returncode else None)
    sys.exit(bad)


if __name__ == "__main__":
    main()
