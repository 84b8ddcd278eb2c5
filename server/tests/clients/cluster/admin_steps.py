"""What operators ask of a cluster with Kafka's tools: records, groups of both protocols, offsets, the nodes themselves.

Each step's exit code and each line are compared with those in kafka-4.3.0-tools.txt, which Apache Kafka 4.3.0 printed
(`cluster_tools.py --record kafka` writes the file anew). DIFFERENT has what jangbu rightly prints instead.

Not compared: addresses, ids that somebody drew, blanks, the order of lines, and numbers that tell of times or sizes.
"""

import json
import pathlib
import re
import signal
import time

from cluster.failed import wait_for
from cluster.tools import (CLUSTER, CONFIGS, CONSUME, CONSUMER_PERF, DELETE_RECORDS, FEATURES, GROUPS, LOG_DIRS, OFFSETS, PRODUCE,
                           PRODUCER_PERF, QUORUM, TOPICS, VERSIONS)
from crash import report

RECORDED = pathlib.Path(__file__).with_name("kafka-4.3.0-tools.txt")
PROTOCOL_PAGE = pathlib.Path(__file__).parents[4] / "docs" / "protocol.md"
TOPIC, PERF = "admin", "perf"
LINES = [f"k{n}:line {n}" for n in range(30)]
NOT_COMPARED = [
    (re.compile(r"\b\d+\.\d+\.\d+\.\d+:\d+(?: +\(\d\))?"), "HOST:PORT"),
    (re.compile(r"\b\d+\.\d+\.\d+\.\d+ +\d+ "), "HOST PORT "),
    (re.compile(r"/\d+\.\d+\.\d+\.\d+"), "/HOST"),
    (re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"), "UUID"),
    (re.compile(r"console-consumer-\d+"), "console-consumer-N"),
    (re.compile(r"(?<![\w-])(?!\w*Exception)[\w-]{22}(?![\w-])"), "ID"),
    (re.compile(r"\s+"), " "),
    # How often a group has changed.
    (re.compile(r" \d+ (admin:\S+) \d+ (?=admin:)"), r" N \1 N "),
]
NUMBER = re.compile(r"(?<!\w)-?\d+(?:\.\d+)?(?:E\d+)?")
API = re.compile(r"\t(\w+)\((\d+)\): (\d+)(?: to (\d+))?")
DOCUMENTED = re.compile(r"^\| (\d+) \| (\w+) \| [^|]* \| (\d+)-(\d+) \|", re.M)

WRONG_FEATURE = ("Could not upgrade nonsense to N. The update failed for all features since the following feature had an error: Invalid update "
                 "version N for feature nonsense. ")
# What jangbu rightly prints instead. Its features go with its version, and it does not take SCRAM credentials (yet).
DIFFERENT = {
    "features-upgrade-of-an-unknown-one": [
        "exit 1", "N out of N operation(s) failed.",
        f"{WRONG_FEATURE}Broker N does not support changing this feature: the versions of features go with that of jangbu."],
    "configs-alter-user-scram": ["exit 1", "Error while executing config command with args '--alter --entity-type users --entity-name u "
                                 "--add-config SCRAM-SHA-256=[password=secret] --bootstrap-server HOST:PORT,HOST:PORT,HOST:PORT'"],
}


def plain(line):
    for pattern, instead in NOT_COMPARED:
        line = pattern.sub(instead, line)
    return line.strip()


def recorded():
    """What Kafka printed: {step: lines}."""
    steps = {}
    for line in RECORDED.read_text().splitlines():
        if line.startswith("== "):
            lines = steps.setdefault(line[3:], [])
        elif not line.startswith("#"):
            lines.append(line)
    return steps


class AdminSteps:
    """The steps; each is one test."""

    def __init__(self, cluster, tools, is_kafka, record):
        self.cluster, self.tools, self.is_kafka, self.bad = cluster, tools, is_kafka, False
        self.record, self.printed = record, {}
        self.expected = {} if record else recorded()

    def go_through(self):
        self.topics_and_records()
        self.offsets()
        for protocol in ("classic", "consumer"):
            self.group(protocol)
        self.delete_records()
        self.measurements()
        self.nodes()
        self.quotas()
        if self.record:
            text = "".join(f"== {name}\n" + "".join(f"{line}\n" for line in lines) for name, lines in self.printed.items())
            RECORDED.write_text("# What Apache Kafka 4.3.0 printed at each step of admin_steps.py.\n" + text)
        missing = set(self.expected) - set(self.printed)
        self.bad |= report("every-step-that-was-recorded-was-gone-through", f"{missing}" if missing else None)

    def compare(self, name, code, lines):
        """What was printed is what Kafka printed."""
        got = [f"exit {code}", *sorted(filter(None, map(plain, lines)))]
        self.printed[name] = got
        want = self.expected.get(name, got if self.record else None)
        if not self.is_kafka:
            want = DIFFERENT.get(name, want)
            got, want = sorted(got), sorted(want)
        self.bad |= report(name, None if got == want else f"{got} instead of {want}")

    def step(self, name, tool, *arguments, given=None, numbers=True):
        """Runs a tool and compares; without `numbers` only whether there are some."""
        code, lines = self.tools.run(tool, *arguments, given=given)
        self.compare(name, code, lines if numbers else [NUMBER.sub("N", plain(line)) for line in lines])

    def topics_and_records(self):
        for topic in (TOPIC, PERF):
            self.step(f"topics-create-{topic}", TOPICS, "--create", "--topic", topic, "--partitions", "3", "--replication-factor", "3")
        self.cluster.wait_in_sync([TOPIC, PERF])
        self.step("console-producer", PRODUCE, "--topic", TOPIC, "--reader-property", "parse.key=true",
                  "--reader-property", "key.separator=:", given=LINES)
        self.step("console-consumer", CONSUME, "--topic", TOPIC, "--from-beginning", "--max-messages", "30",
                  "--formatter-property", "print.key=true", "--formatter-property", "print.partition=true")
        self.step("console-consumer-of-a-partition", CONSUME, "--topic", TOPIC, "--partition", "1", "--offset", "3", "--max-messages", "2")
        self.step("console-consumer-of-nothing", CONSUME, "--topic", TOPIC, "--timeout-ms", "1000")

    def offsets(self):
        for name in ("latest", "earliest", "earliest-local", "latest-tiered", "0"):
            self.step(f"get-offsets-{name}", OFFSETS, "--topic", TOPIC, "--time", name)
        self.step("get-offsets-max-timestamp", OFFSETS, "--topic", TOPIC, "--time", "max-timestamp", numbers=False)
        self.step("get-offsets-of-some-partitions", OFFSETS, "--topic-partitions", f"{TOPIC}:0-2")
        self.step("get-offsets-of-all-topics", OFFSETS, "--exclude-internal-topics")
        self.step("get-offsets-of-an-unknown-topic", OFFSETS, "--topic", "nope")

    # kafka-consumer-groups.

    def group(self, protocol):
        group = f"readers-{protocol}"

        def ask(name, *arguments, numbers=True):
            self.step(f"groups-{name}-{protocol}", GROUPS, *arguments, numbers=numbers)

        def reset(name, *arguments, of=("--topic", TOPIC)):
            ask(f"reset-{name}", "--reset-offsets", "--group", group, *of, *arguments)

        self.step(f"console-consumer-in-a-group-{protocol}", CONSUME, "--topic", TOPIC, "--group", group, "--from-beginning",
                  "--max-messages", "30" if protocol == "classic" else "36", "--command-property", f"group.protocol={protocol}")
        self.step(f"console-producer-of-more-{protocol}", PRODUCE, "--topic", TOPIC, "--reader-property", "parse.key=true",
                  "--reader-property", "key.separator=:", given=LINES[:6] if protocol == "classic" else LINES[6:12])
        ask("list", "--list")
        ask("list-states", "--list", "--state")
        ask("list-types", "--list", "--type")
        ask("list-of-a-type", "--list", "--type", protocol)
        ask("list-of-a-state", "--list", "--state", "Stable")
        ask("describe", "--describe", "--group", group)
        ask("describe-verbose", "--describe", "--group", group, "--verbose", numbers=False)
        ask("describe-all", "--describe", "--all-groups")
        ask("describe-state", "--describe", "--group", group, "--state")
        ask("describe-members", "--describe", "--group", group, "--members")
        ask("describe-unknown", "--describe", "--group", "nobody")
        self.group_with_a_member(protocol, group, ask)
        reset("to-earliest-dry", "--to-earliest", "--dry-run")
        reset("to-latest", "--to-latest", "--execute")
        reset("to-offset", "--to-offset", "5", "--execute")
        reset("to-offset-beyond", "--to-offset", "5000", "--execute")
        reset("shift-by", "--shift-by", "-2", "--execute")
        reset("to-datetime", "--to-datetime", "2020-01-01T00:00:00.000", "--execute")
        reset("by-duration", "--by-duration", "PT1H", "--execute")
        reset("to-current", "--to-current", "--execute")
        reset("of-a-partition", "--to-offset", "4", "--execute", of=("--topic", f"{TOPIC}:1"))
        reset("of-all-topics-exported", "--to-latest", "--export", "--dry-run", of=("--all-topics",))
        reset("from-a-file", "--from-file", self.tools.text([f"{TOPIC},0,1", f"{TOPIC},2,3"]), "--execute", of=())
        reset("of-an-unknown-topic", "--to-latest", "--execute", of=("--topic", "nope"))
        ask("describe-after-resets", "--describe", "--group", group)
        ask("delete-offsets", "--delete-offsets", "--group", group, "--topic", f"{TOPIC}:0,1")
        ask("delete-offsets-of-an-unknown-topic", "--delete-offsets", "--group", group, "--topic", "nope")
        ask("describe-after-delete-offsets", "--describe", "--group", group)
        ask("delete", "--delete", "--group", group)
        ask("delete-again", "--delete", "--group", group)
        ask("list-after-delete", "--list")

    def group_with_a_member(self, protocol, group, ask):
        """What is told while somebody is in the group, and what is refused."""
        member = self.tools.beside(CONSUME, "--topic", TOPIC, "--group", group, "--command-property", f"group.protocol={protocol}")

        def is_in(state, lag):
            """Whether the group is in that state, and (with a member) has read everything."""
            told = self.tools.run(GROUPS, "--describe", "--group", group, "--state")[1]
            lags = [line.split()[5] for line in self.tools.run(GROUPS, "--describe", "--group", group)[1] if f" {TOPIC} " in line]
            return any(f" {state} " in line for line in told) and lags == [lag] * 3

        try:
            wait_for(lambda: is_in("Stable", "0"), 60, f"a console consumer in {group}")
            ask("live-state", "--describe", "--group", group, "--state", numbers=False)
            ask("live-members", "--describe", "--group", group, "--members", "--verbose")
            ask("live-offsets", "--describe", "--group", group)
            ask("live-list", "--list", "--state", "Stable")
            ask("live-reset", "--reset-offsets", "--group", group, "--topic", TOPIC, "--to-earliest", "--execute")
            ask("live-delete", "--delete", "--group", group)
            ask("live-delete-offsets", "--delete-offsets", "--group", group, "--topic", TOPIC)
        finally:
            member.send_signal(signal.SIGTERM)
            member.wait(60)
        wait_for(lambda: is_in("Empty", "0"), 60, f"nobody in {group}")

    def delete_records(self):
        def delete(name, offset):
            at = [{"topic": TOPIC, "partition": p, "offset": offset} for p in range(3)]
            self.step(name, DELETE_RECORDS, "--offset-json-file", self.tools.file({"partitions": at, "version": 1}))

        delete("delete-records", 2)
        delete("delete-records-beyond-the-end", 5000)
        self.step("get-offsets-after-delete-records", OFFSETS, "--topic", TOPIC, "--time", "earliest")
        delete("delete-all-records", -1)
        self.step("get-offsets-after-all-are-deleted", OFFSETS, "--topic", TOPIC, "--time", "earliest")

    def measurements(self):
        self.step("producer-perf-test", PRODUCER_PERF, "--topic", PERF, "--num-records", "3000", "--record-size", "100",
                  "--throughput", "-1", "--command-property", "acks=all", numbers=False)
        self.step("get-offsets-sum-after-producer-perf-test", OFFSETS, "--topic", PERF, numbers=False)
        for protocol in ("classic", "consumer"):
            self.step(f"consumer-perf-test-{protocol}", CONSUMER_PERF, "--topic", PERF, "--num-records", "3000", "--group", f"perf-{protocol}",
                      "--command-property", f"group.protocol={protocol}", numbers=False)

    # The nodes.

    def nodes(self):
        self.api_versions()
        self.step("cluster-id", CLUSTER, "cluster-id")
        self.step("cluster-endpoints", CLUSTER, "list-endpoints")
        self.step("cluster-unregister-unknown", CLUSTER, "unregister", "--id", "99")
        self.features()
        self.quorum()
        self.log_dirs()

    def api_versions(self):
        """Each node tells what docs/protocol.md says, and no API is older than Kafka's at its newest."""
        code, text = self.tools.raw(VERSIONS)
        nodes = [dict((int(key), (int(low), int(high or low))) for _, key, low, high in API.findall(node))
                 for node in text.split(" -> (")[1:]]
        alike = len(nodes) == 3 and all(node == nodes[0] for node in nodes)
        self.compare("broker-api-versions-three-nodes-tell-the-same", code, [str(alike)])
        told = {int(key): (int(low), int(high)) for key, _, low, high in DOCUMENTED.findall(PROTOCOL_PAGE.read_text())}
        documented = [f"{key} is {nodes[0].get(key)}, and {versions} in docs/protocol.md" for key, versions in told.items()
                      if nodes[0].get(key) != versions]
        self.bad |= report("broker-api-versions-are-those-of-the-documentation", None if self.is_kafka else "; ".join(documented))
        kafkas = nodes[0] if self.record else {int(key): int(newest) for key, newest in map(str.split, self.expected["broker-api-newest"][1:])}
        if self.is_kafka:
            self.compare("broker-api-newest", code, [f"{key} {high}" for key, (_, high) in sorted(nodes[0].items())])
            return
        self.printed["broker-api-newest"] = []
        older = [f"{key}: {high} instead of {kafkas[key]}" for key, (_, high) in nodes[0].items() if key in kafkas and high != kafkas[key]]
        self.bad |= report("broker-api-newest", "; ".join(older))

    def features(self):
        """jangbu has one of Kafka's features; the number of changes differs."""
        code, lines = self.tools.run(FEATURES, "describe")
        self.compare("features-describe-group-version", code, [re.sub(r"Epoch: \d+", "", line) for line in lines if "group.version" in line])
        self.step("features-upgrade-of-an-unknown-one", FEATURES, "upgrade", "--feature", "nonsense=3", numbers=False)

    def quorum(self):
        code, lines = self.tools.run(QUORUM, "describe", "--status")
        voters = [f"{line.split(':')[0]} {re.findall(r'.id.: (.)', line)}" for line in lines if line.startswith("Current")]
        rest = [NUMBER.sub("N", line) for line in lines if not line.startswith(("Current", "ClusterId"))]
        self.compare("metadata-quorum-status", code, [*voters, *rest])
        code, lines = self.tools.run(QUORUM, "describe", "--replication")
        rows = [line.split() for line in lines]
        # Which of them leads is not the same in each run.
        self.compare("metadata-quorum-replication", code, [
            " ".join(rows[0]), *(f"node {row[0]} with {len(row)} columns" for row in rows[1:]),
            " ".join(sorted(row[-1] for row in rows[1:]))])

    def log_dirs(self):
        code, lines = self.tools.run(LOG_DIRS, "--describe", "--topic-list", f"{TOPIC},{PERF}")
        found = []
        for broker in json.loads(next(line for line in lines if line.startswith("{")))["brokers"]:
            for directory in broker["logDirs"]:
                found += [f"broker {broker['broker']} error {directory['error']} {p['partition']} size {p['size'] > 0} lag {p['offsetLag']} "
                          f"future {p['isFuture']}" for p in directory["partitions"] if p["partition"].startswith(PERF)]
        self.compare("log-dirs", code, [*(line for line in lines if not line.startswith("{")), *found])

    # kafka-configs of users and clients. (Of users alone the tool asks for SCRAM credentials as well.)

    def quotas(self):
        def configs(name, *arguments):
            self.step(f"configs-{name}", CONFIGS, *arguments)

        user, client = ("--entity-type", "users"), ("--entity-type", "clients")
        configs("alter-user", "--alter", *user, "--entity-name", "u", "--add-config", "producer_byte_rate=1048576")
        configs("alter-client", "--alter", *client, "--entity-name", "c", "--add-config", "request_percentage=150")
        configs("alter-default-client", "--alter", *client, "--entity-default", "--add-config", "consumer_byte_rate=2097152")
        configs("alter-user-and-client", "--alter", *user, "--entity-name", "u", *client, "--entity-name", "c", "--add-config",
                "producer_byte_rate=4096")
        time.sleep(0 if not self.is_kafka else 1)  # Kafka answers before its brokers have heard of it
        configs("describe-default-user", "--describe", *user, "--entity-default")
        configs("describe-users", "--describe", *user)
        configs("describe-a-user", "--describe", *user, "--entity-name", "u")
        configs("describe-clients", "--describe", *client)
        configs("describe-a-client", "--describe", *client, "--entity-name", "c")
        configs("describe-users-and-clients", "--describe", *user, *client)
        configs("alter-user-scram", "--alter", *user, "--entity-name", "u", "--add-config", "SCRAM-SHA-256=[password=secret]")
        configs("delete-user", "--alter", *user, "--entity-name", "u", "--delete-config", "producer_byte_rate")
        configs("delete-client", "--alter", *client, "--entity-name", "c", "--delete-config", "request_percentage")
        configs("delete-default-client", "--alter", *client, "--entity-default", "--delete-config", "consumer_byte_rate")
        configs("delete-user-and-client", "--alter", *user, "--entity-name", "u", *client, "--entity-name", "c", "--delete-config",
                "producer_byte_rate")
        time.sleep(0 if not self.is_kafka else 1)
        configs("describe-clients-after-all-are-deleted", "--describe", *client)
