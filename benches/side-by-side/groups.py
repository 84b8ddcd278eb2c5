#!/usr/bin/env python3
"""Consumer groups, Kafka and jangbu, interleaved: commits, members that join and leave, members that only beat.

Usage: groups.py --jangbu BINARY [--rounds 5] [--loads PATTERN] [--scale 1.0] [--out raw.jsonl] [--data DIR] [--sides ...]

Both with group.initial.rebalance.delay.ms=0, so that what is measured is the broker and not a wait. `join-consumer` is KIP-848.
The client is the Go program in groups/. Below a scale of 0.4 there are fewer members and groups. See README.md.
"""

import json
import os
import resource
import subprocess
import time

from run import HERE, Bench, Jangbu, Kafka, Load, main, shell

GROUPS_COMMITTING = 32


class Groups(Bench):
    def __init__(self, options, work):
        super().__init__(options, work)
        self.program = os.path.join(work, "groups")
        shell(f'need_go && cd "{HERE}/groups" && "$GO" build -o "{self.program}" . >&2')
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))

    def start(self, verb, side, *more):
        return subprocess.Popen([self.program, verb, side.address, *map(str, more)], stdout=subprocess.PIPE, text=True)

    def told(self, process):
        """The next line of the program."""
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(process.args[1:])} ended with {process.wait()}")
        return json.loads(line)

    def topic(self, side, partitions):
        name = f"groups-{time.time_ns()}"
        self.call("create", side, name, partitions, self.replicas)
        return name

    def commits(self, side, seconds):
        topic = self.topic(side, 1)
        process = self.start("commits", side, topic, GROUPS_COMMITTING, seconds)
        self.told(process)  # every group has committed once, its coordinator exists
        self.measure(f"commits of {GROUPS_COMMITTING} groups", side, None, lambda: self.told(process))
        process.wait()
        self.call("delete", side, topic)

    def join(self, side, members, protocol):
        topic = self.topic(side, members)
        process = self.start("join", side, topic, members, protocol)
        values = self.told(process)
        process.wait()  # its members have left
        self.record(f"{members} members, {protocol}", side, {**values, "rss_mb": side.rss_mb()})
        self.call("delete", side, topic)

    def idle(self, side, groups, members, seconds):
        before = side.rss_mb()
        process = self.start("idle", side, groups, members, seconds)
        values, cpu = self.told(process), side.cpu()
        self.told(process)
        share = (side.cpu() - cpu) / seconds
        self.record(f"{groups} groups of {members}, idle", side, {
            **values, "broker_cpu_share": share, "rss_more_mb": side.rss_mb() - before, "rss_mb": side.rss_mb()})
        process.wait()  # its members have left: they would time out during the next step

    def loads(self):
        scale = min(1, self.options.scale / 0.4)
        members = max(4, int(100 * scale))
        yield Load("commits", lambda s: self.commits(s, self.seconds(10)))
        yield Load("join-classic", lambda s: self.join(s, members, "classic"))
        yield Load("join-consumer", lambda s: self.join(s, members, "consumer"), 2)
        yield Load("idle", lambda s: self.idle(s, max(5, int(1000 * scale)), 10, self.seconds(30)), 2)


class EagerJangbu(Jangbu):
    """Without the wait for more members; this is a config of the broker."""

    def start(self):
        super().start()
        shell(f'kafka_jars && java -cp "$KAFKA_JARS/*" -Dorg.slf4j.simpleLogger.defaultLogLevel=error kafka.admin.ConfigCommand '
              f'--bootstrap-server {self.address} --alter --entity-type brokers --entity-name 1 --add-config group.initial.rebalance.delay.ms=0')


SIDES = {
    "kafka": lambda d, _: Kafka("kafka", d),
    "jangbu": lambda d, binary: EagerJangbu("jangbu", d, binary),
}

if __name__ == "__main__":
    main(__doc__, Groups, SIDES)
