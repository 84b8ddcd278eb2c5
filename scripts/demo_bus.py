"""The bus that such a log is for: several publishers, several groups that read each at its own pace, one member killed.

Publishers, all at once: metrics (the weather at three airports each hour), log lines (one for each flight) and tracking (where each plane goes,
as a site tracks its users). Groups read them each at its own pace. What is checked: every group has read every record of its topics; so
what the killed member had read without committing it was read by others.
"""

import collections
import csv
import itertools
import json
import pathlib
import signal
import subprocess
import sys
import time

from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from demo_node import HOME, Off, step

PARTITIONS, ROWS = 4, 30000
# Topic: how it is published, and how many records a second.
PUBLISHERS = {
    "metrics": (["metrics.csv", "--key", "origin"], 2000),
    "log": (["log.txt", "--key-separator", "|"], 2500),
    "tracking": (["tracking.jsonl", "--key", "plane"], 2500),
}
# Group: its topics, its members, and how many records a second each of them takes at most.
GROUPS = {
    "dashboard": (["metrics", "tracking"], 2, 10000),
    "archive": (["metrics", "log", "tracking"], 3, 10000),
    "audit": (["log"], 1, 1700),
}
SECONDS = 60


def write_inputs(flights):
    """The files of the publishers, from the data set."""
    with open(pathlib.Path(flights).parent / "weather.csv") as weather, open(HOME / "metrics.csv", "w") as metrics:
        metrics.writelines(itertools.islice(weather, ROWS))
    with open(flights, newline="") as file, open(HOME / "log.txt", "w") as log, open(HOME / "tracking.jsonl", "w") as tracking:
        for row in itertools.islice(csv.DictReader(file), ROWS):
            what = "cancelled" if row["dep_time"] == "NA" else f"departed {row['dep_delay']} min late"
            log.write(f"{row['carrier']}|{row['time_hour']} {row['carrier']}{row['flight']} {row['origin']}-{row['dest']} {what}\n")
            tracking.write(json.dumps({"plane": row["tailnum"], "visits": row["dest"], "at": row["time_hour"]}) + "\n")


class Member:
    """A process of a group (demo_member.py), and what it has written down."""

    def __init__(self, node, group, number):
        topics, _, rate = GROUPS[group]
        self.group, self.name, self.out = group, f"{group}-{number}", HOME / f"{group}-{number}.jsonl"
        program = pathlib.Path(__file__).with_name("demo_member.py")
        with open(HOME / "members.log", "ab") as log:
            self.process = subprocess.Popen([sys.executable, program, node.kafka, group, self.out, str(rate), *topics], stderr=log)

    def lines(self):
        """What it has written down; a member that is killed may leave half a line, which it has not committed."""
        if self.out.exists():
            for line in self.out.read_text().splitlines():
                try:
                    yield json.loads(line)
                except ValueError:
                    pass

    def owns(self):
        found = [line["owns"] for line in self.lines() if "owns" in line]
        return {tuple(each) for each in found[-1]} if found else set()

    def read(self):
        return [tuple(each) for line in self.lines() for each in line.get("read", ())]


def partitions(group):
    return {(topic, p) for topic in GROUPS[group][0] for p in range(PARTITIONS)}


def wait_for(condition, what):
    end = time.monotonic() + SECONDS
    while not condition():
        if time.monotonic() > end:
            raise Off(f"{what}: not within {SECONDS} s; see {HOME}/members.log")
        time.sleep(0.05)


def settled(members):
    """Whether every partition of each group is owned by exactly one of these members."""
    for group in GROUPS:
        owned = [each for member in members if member.group == group for each in member.owns()]
        if sorted(owned) != sorted(partitions(group)):
            return False
    return True


class Lag:
    """How far each group is behind the ends of its topics, as any tool asks for it."""

    def __init__(self, node):
        self.admin = AdminClient({"bootstrap.servers": node.kafka, "log_level": 0})

    def ends(self):
        asked = {TopicPartition(topic, p): OffsetSpec.latest() for topic in PUBLISHERS for p in range(PARTITIONS)}
        return {(p.topic, p.partition): found.result(30).offset for p, found in self.admin.list_offsets(asked).items()}

    def of_groups(self):
        ends, behind = self.ends(), {}
        for group in GROUPS:
            found = self.admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])[group].result(30)
            committed = {(p.topic, p.partition): max(p.offset, 0) for p in found.topic_partitions}
            behind[group] = sum(ends[each] - committed.get(each, 0) for each in partitions(group))
        return sum(ends.values()), behind

    def show(self, began):
        published, behind = self.of_groups()
        groups = "   ".join(f"{group} {lag:>7,}" for group, lag in behind.items())
        print(f"{time.monotonic() - began:4.0f} s   {published:>7,} published   lag: {groups}", flush=True)
        return not any(behind.values())


def publish(node):
    """Starts the publishers."""
    started = {}
    for topic, (source, rate) in PUBLISHERS.items():
        command = [node.binary, "produce", topic, str(HOME / source[0]), *source[1:], "--rate", str(rate), "--brokers", node.kafka, "--json"]
        with open(HOME / f"publish-{topic}.log", "wb") as log:
            started[topic] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
    return started


def acknowledged(publishers):
    """How many records of each topic were acknowledged, once all publishers are done."""
    counts = {}
    for topic, process in publishers.items():
        text, _ = process.communicate(timeout=SECONDS)
        if process.returncode != 0:
            raise Off(f"the publisher of {topic} ended with {process.returncode}; see {HOME}/publish-{topic}.log")
        counts[topic] = json.loads(text.splitlines()[-1])["records"]
    return counts


def kill_one(members):
    """Kills a member of the archive, and waits until the others have its partitions."""
    victim = next(member for member in members if member.group == "archive" and member.owns())
    had = sorted(victim.owns())
    victim.process.kill()
    began = time.monotonic()
    print(f"kill -9 of {victim.name}, which has " + ", ".join(f"{topic}-{p}" for topic, p in had))
    return victim, had, began


def follow(node, members, publishers):
    """Shows the lag until there is none; kills a member on the way."""
    lag, began, killed, moved = Lag(node), time.monotonic(), None, False
    while True:
        done = lag.show(began) and all(process.poll() is not None for process in publishers.values())
        if killed and not moved and settled([member for member in members if member is not killed[0]]):
            moved = True
            heirs = {each: member.name for member in members if member is not killed[0] and member.group == "archive" for each in member.owns()}
            print(f"its partitions have moved within {time.monotonic() - killed[2]:.0f} s: "
                  + ", ".join(f"{topic}-{p} to {heirs[topic, p]}" for topic, p in killed[1]))
        if not killed and time.monotonic() - began > 3:
            killed = kill_one(members)
        if done and moved:
            return killed[0]
        if time.monotonic() - began > 2 * SECONDS:
            raise Off(f"the groups have not come to the end after {2 * SECONDS} s; see {HOME}/members.log")
        time.sleep(1)


def check(members, counts, ends):
    """Every group has read every record of its topics; returns by how many it has read some twice."""
    for topic, count in counts.items():
        if sum(end for (name, _), end in ends.items() if name == topic) != count:
            raise Off(f"{count} records of {topic} were acknowledged, but the log has another number")
    for group in GROUPS:
        times = collections.Counter(record for member in members if member.group == group for record in member.read())
        want = {(topic, p, offset) for topic, p in partitions(group) for offset in range(ends[topic, p])}
        if times.keys() != want:
            raise Off(f"{group} has missed {len(want - times.keys())} of {len(want)} records")
        twice = sum(count - 1 for count in times.values())
        members_were = GROUPS[group][1]
        print(f"{group}: {len(want):,} records by {members_were} member{'s' * (members_were > 1)}, none missed"
              + (f", {twice:,} read twice" if twice else ""))


def run(node, flights):
    write_inputs(flights)
    step("A bus: three publishers, three groups, each at its own pace; one member is killed")
    for topic in PUBLISHERS:
        create = [node.binary, "topic", "create", topic, "--partitions", str(PARTITIONS), "--brokers", node.kafka]
        if subprocess.run(create, timeout=60).returncode != 0:
            raise Off(f"the topic {topic} was not created")
    members = [Member(node, group, number + 1) for group, (_, count, _) in GROUPS.items() for number in range(count)]
    publishers = {}
    try:
        wait_for(lambda: settled(members), "the members share the partitions")
        publishers = publish(node)
        killed = follow(node, members, publishers)
        counts = acknowledged(publishers)
        for member in members:
            member.process.send_signal(signal.SIGTERM)
        for member in members:
            if member.process.wait(30) != 0 and member is not killed:
                raise Off(f"{member.name} ended with {member.process.returncode}; see {HOME}/members.log")
        check(members, counts, Lag(node).ends())
    except KafkaException as error:
        raise Off(f"the groups could not be asked: {error}") from error
    finally:
        for process in [*publishers.values(), *(member.process for member in members)]:
            if process.poll() is None:
                process.kill()
                process.wait()
