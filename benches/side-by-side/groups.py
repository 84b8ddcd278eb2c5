#!/usr/bin/env python3
"""Consumer groups, Kafka and jangbu, interleaved: commits, members that join and leave, members that only beat.

Usage: groups.py --jangbu BINARY [--rounds 5] [--loads PATTERN] [--scale 1.0] [--out raw.jsonl] [--data DIR] [--sides ...]

Both with group.initial.rebalance.delay.ms=0, so that what is measured is the broker and not a wait. `join-consumer` (KIP-848) has to be
named in --loads. The client is the Go program in groups/. See README.md.
"""

import json
import os
import re
import resource
import subprocess
import tempfile
import time

from run import HERE, Bench, Jangbu, Kafka, arguments, measure, shell

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
        self.measure(f"commits of {GROUPS_COMMITTING} groups", side, None,
                     lambda: self.told(self.start("commits", side, topic, GROUPS_COMMITTING, seconds)))
        self.call("delete", side, topic)

    def join(self, side, members, protocol):
        topic = self.topic(side, members)
        process = self.start("join", side, topic, members, protocol)
        values = self.told(process)
        process.wait()
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
        process.wait()

    def loads(self):
        scale = self.options.scale
        yield "commits", lambda s: self.commits(s, max(2, int(10 * scale)))
        yield "join-classic", lambda s: self.join(s, max(4, int(100 * scale)), "classic")
        if re.search("consumer", self.options.loads):
            yield "join-consumer", lambda s: self.join(s, max(4, int(100 * scale)), "consumer")
        yield "idle", lambda s: self.idle(s, max(5, int(1000 * scale)), 10, max(5, int(30 * scale)))

    def rounds(self, sides):
        """As every bench, but nothing is restarted."""
        chosen = [action for name, action in self.loads() if re.search(self.options.loads, name)]
        for number in range(self.options.rounds):
            print(f"round {number + 1} of {self.options.rounds}", flush=True)
            for action in chosen:
                for side in sides if number % 2 == 0 else sides[::-1]:
                    action(side)


class EagerJangbu(Jangbu):
    """Without the wait for more members; this is a config of the broker."""

    def start(self):
        super().start()
        shell(f'kafka_jars && java -cp "$KAFKA_JARS/*" -Dorg.slf4j.simpleLogger.defaultLogLevel=error kafka.admin.ConfigCommand '
              f'--bootstrap-server {self.address} --alter --entity-type brokers --entity-name 1 --add-config group.initial.rebalance.delay.ms=0')


def main():
    options = arguments(__doc__, "kafka,jangbu", required=True, help="the jangbu binary")
    work = tempfile.mkdtemp(dir=options.data, prefix="groups-")
    makers = {
        "kafka": lambda d: Kafka("kafka", d),
        "jangbu": lambda d: EagerJangbu("jangbu", d, os.path.abspath(options.jangbu)),
    }
    measure(Groups, options, work, [makers[n](os.path.join(work, n)) for n in options.sides.split(",")])


if __name__ == "__main__":
    main()
