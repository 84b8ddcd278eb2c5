"""Kafka Connect, standalone, with its file connectors: lines of one file go through a topic into another file.

Usage: suite_connect.py JARS BOOTSTRAP [PATTERN]; JARS is the folder of connect-runtime and connect-file.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import urllib.request

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))
JARS = sys.argv.pop(1)

from ports import free_port  # noqa: E402
from suite import BOOTSTRAP, equal, main, test, topic_name, wait_until  # noqa: E402

SECONDS = 60
TOPIC = topic_name("lines")
SOURCE, SINK = f"{TOPIC}-source", f"{TOPIC}-sink"


def properties(path, **settings):
    path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
    return str(path)


class Worker:
    """A standalone worker; its files outlive it, so that it can be started again."""

    def __init__(self, home):
        self.home, self.process, self.written = home, None, []
        self.lines, self.copied = home / "lines.txt", home / "copied.txt"
        self.lines.touch()
        self.copied.touch()
        self.rest = f"127.0.0.1:{free_port()}"
        self.files = [
            properties(home / "worker.properties", **{
                "bootstrap.servers": BOOTSTRAP, "listeners": f"http://{self.rest}",
                "key.converter": "org.apache.kafka.connect.storage.StringConverter",
                "value.converter": "org.apache.kafka.connect.storage.StringConverter",
                "offset.storage.file.filename": home / "offsets", "offset.flush.interval.ms": 500,
                "plugin.discovery": "service_load", "plugin.path": JARS, "consumer.auto.offset.reset": "earliest",
                "consumer.heartbeat.interval.ms": 300, "consumer.session.timeout.ms": 6000}),
            properties(home / "source.properties", **{
                "name": SOURCE, "connector.class": "FileStreamSource", "tasks.max": 1, "file": self.lines, "topic": TOPIC,
                "batch.size": 50, "topic.creation.default.partitions": 4, "topic.creation.default.replication.factor": 1}),
            properties(home / "sink.properties", **{
                "name": SINK, "connector.class": "FileStreamSink", "tasks.max": 2, "file": self.copied, "topics": TOPIC}),
        ]

    def start(self):
        command = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*",
                   "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
                   "org.apache.kafka.connect.cli.ConnectStandalone", *self.files]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(SECONDS)

    def cleanup(self):
        if self.process and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def ask(self, path, body=None):
        request = urllib.request.Request(f"http://{self.rest}/connectors/{path}", method="PUT" if body else "GET",
                                         data=body and json.dumps(body).encode(), headers={"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    def running(self, name, count):
        """Whether a connector runs with so many tasks."""
        if self.process.poll() is not None:
            raise AssertionError(f"the worker ended with {self.process.returncode}")
        try:
            tasks = self.ask(f"{name}/status")["tasks"]
        except OSError:
            return False
        failed = [task for task in tasks if task["state"] == "FAILED"]
        equal(failed, [], "failed tasks")
        return [task["state"] for task in tasks] == ["RUNNING"] * count

    def write(self, mark, count):
        lines = [f"{mark} {i} {'x' * (i % 100)}" for i in range(count)]
        self.written += lines
        with open(self.lines, "a") as file:
            file.write("".join(line + "\n" for line in lines))

    def all_copied(self):
        """Every line, once."""
        wait_until(lambda: len(self.copied.read_text().splitlines()) >= len(self.written), "every line is copied", SECONDS)
        equal(sorted(self.copied.read_text().splitlines()), sorted(self.written), "lines")

    def committed(self):
        """Records behind what the sink's group has committed."""
        offsets = self.ask(f"{SINK}/offsets")["offsets"]
        return sum(each["offset"]["kafka_offset"] for each in offsets)


WORKER = Worker(pathlib.Path(tempfile.mkdtemp()))


@test("a-file-is-copied-through-a-topic-that-connect-creates")
def copied():
    WORKER.write("first", 1000)
    WORKER.start()
    for name, tasks in [(SOURCE, 1), (SINK, 2)]:
        wait_until(lambda name=name, tasks=tasks: WORKER.running(name, tasks), f"{name} runs", SECONDS)
    WORKER.all_copied()


@test("one-of-two-tasks-of-the-sink-leaves")
def one_leaves():
    config = WORKER.ask(f"{SINK}/config")
    WORKER.ask(f"{SINK}/config", {**config, "tasks.max": "1"})
    wait_until(lambda: WORKER.running(SINK, 1), "one task is left", SECONDS)
    WORKER.write("second", 500)
    WORKER.all_copied()


@test("goes-on-where-it-was-after-a-restart")
def restart():
    WORKER.stop()
    WORKER.write("third", 500)
    WORKER.start()
    wait_until(lambda: WORKER.running(SINK, 2), "the sink runs", SECONDS)
    WORKER.all_copied()
    wait_until(lambda: WORKER.committed() == 2000, "everything is committed", 90)


if __name__ == "__main__":
    try:
        main()
    finally:
        WORKER.cleanup()
