"""What is done with Kafka's tools, one step after the other, and what each must print.

Every expectation here was green against Apache Kafka 4.3.0 (`cluster_tools.py kafka`). Invariant: a step leaves no move under
way, no throttle, and all nodes running, so that the next one begins with what its expectations say.
"""

import json
import re
import time

from cluster.failed import wait_for
from cluster.tools import CONFIGS, ELECT, REASSIGN, TOPICS
from cluster.writers import goes_on
from crash import report

# Where the three partitions of each topic are put.
FIRST, SECOND = [[1, 2], [2, 3], [3, 1]], [[2, 3], [3, 1], [1, 2]]
ALL = [[1, 2, 3], [2, 3, 1], [3, 1, 2]]
# Bytes a second: far less than is written meanwhile, so that a move cannot end, and far more.
SLOW, FAST = 20_000, 500_000_000
MOVED_WITHIN = 120
THROTTLE_NOTE = "Warning: You must run --verify periodically, until the reassignment completes, to ensure the throttle is removed."
SAVE_NOTE = "Save this to use as the --reassignment-json-file option during rollback"
EXISTING = ("Cannot execute because there is an existing partition assignment.  Use --additional to override this and create a "
            "new partition assignment in addition to the existing one. The --additional flag can also be used to change the "
            "throttle by resubmitting the current reassignment.")
NO_MOVES = "None of the specified partition moves are active."
NOT_AVAILABLE = "org.apache.kafka.common.errors.PreferredLeaderNotAvailableException: The preferred leader was not available."
NOT_ELIGIBLE = "org.apache.kafka.common.errors.EligibleLeadersNotAvailableException: "
ELECTED = re.compile(r"(Successfully completed leader election \(PREFERRED\)|Valid replica already elected) for partitions (.+)")
LEADER = re.compile(r"Leader: (\d+)")
ALL_REPLICAS = re.compile(r"(?<=\tReplicas: )[0-9,]+")


class Steps:
    """The steps; each line of their result is one test."""

    def __init__(self, cluster, tools, written, is_kafka):
        self.cluster, self.tools, self.written, self.is_kafka = cluster, tools, written, is_kafka
        self.writers, self.bad = [], False

    def go_through(self, writers):
        self.writers = writers
        for step in (self.generate, self.move, self.move_slowly, self.cancel, self.refused, self.grow, self.elect,
                     self.without_a_node):
            goes_on(writers)
            step()
        goes_on(writers)

    # What is expected.

    def expect(self, name, got, code, *lines):
        """The exit code, and the lines in any order: what kafka-topics prints first is not the same in each run."""
        problem = None
        if got[0] != code:
            problem = f"ended with {got[0]} instead of {code}: {got[1]}"
        elif sorted(got[1]) != sorted(lines):
            problem = (f"did not print {sorted(set(lines) - set(got[1]))}, but {sorted(set(got[1]) - set(lines))}; "
                       f"{len(got[1])} lines instead of {len(lines)}")
        self.bad |= report(name, problem)

    def either(self, kafka, jangbu):
        """Where the two rightly differ."""
        return kafka if self.is_kafka else jangbu

    def names(self):
        return [f"{topic}-{p}" for topic in self.written for p in range(3)]

    def spread(self, brokers):
        """The partitions of both topics, each on the brokers of its number."""
        return {(topic, p): brokers[p] for topic in self.written for p in range(3)}

    def as_json(self, brokers):
        partitions = [{"topic": t, "partition": p, "replicas": b} for (t, p), b in self.spread(brokers).items()]
        return json.dumps({"version": 1, "partitions": partitions}, separators=(",", ":"))

    def described(self, brokers, configs=""):
        """What kafka-topics says of both topics, with all replicas in sync and whoever leads."""
        for topic in self.written:
            yield f"Topic: {topic}\tPartitionCount: 3\tReplicationFactor: {len(brokers[0])}\tConfigs: {configs}".rstrip()
            for p in range(3):
                replicas, in_sync = (",".join(map(str, b)) for b in (brokers[p], sorted(brokers[p])))
                yield f"\tTopic: {topic}\tPartition: {p}\tLeader: N\tReplicas: {replicas}\tIsr: {in_sync}"

    def describe(self, *arguments):
        code, lines = self.tools.run(TOPICS, "--describe", "--topic", "by-.*", *arguments)
        return code, [LEADER.sub("Leader: N", line) for line in lines]

    def leaders(self, topics):
        """Who leads: {(topic, partition): broker}."""
        return {(t, p.id): p.leader for t in topics for p in self.cluster.partitions(t)}

    # kafka-reassign-partitions.

    def create(self):
        for topic in self.written:
            self.make(topic, FIRST)
        self.cluster.wait_in_sync(self.written)
        self.expect("topics-describe-is-as-it-was-made", self.describe(), 0, *self.described(FIRST))

    def make(self, topic, brokers):
        assignment = ",".join(":".join(map(str, b)) for b in brokers)
        created = self.tools.run(TOPICS, "--create", "--topic", topic, "--replica-assignment", assignment)
        self.expect(f"topics-create-{topic}", created, 0, f"Created topic {topic}.")

    def execute(self, assignment, *more):
        return self.tools.run(REASSIGN, "--execute", "--reassignment-json-file", assignment, *more)

    def verify(self, assignment, *more):
        return self.tools.run(REASSIGN, "--verify", "--reassignment-json-file", assignment, *more)

    def started(self, before, throttle=None):
        """What --execute prints."""
        notes = [THROTTLE_NOTE, f"The inter-broker throttle limit was set to {throttle} B/s"] if throttle else []
        return ["Current partition replica assignment", before, SAVE_NOTE, *notes,
                f"Successfully started partition reassignments for {','.join(self.names())}"]

    def status(self, text):
        """What --verify prints of every partition."""
        return ["Status of partition reassignment:", *(f"Reassignment of partition {name} is {text}." for name in self.names())]

    def cleared(self, begun=""):
        return [f"{begun}Clearing broker-level throttles on brokers 1,2,3",
                f"Clearing topic-level throttles on topics {','.join(self.written)}"]

    def wait_moved(self, name, assignment):
        """Asks with --verify until the move is done; then it clears the throttles."""
        begun = time.monotonic()
        got = self.verify(assignment)
        while "still in progress" in "".join(got[1]) and time.monotonic() - begun < MOVED_WITHIN:
            got = self.verify(assignment)
        self.expect(name, got, 0, *self.status("completed"), *self.cleared())
        goes_on(self.writers)
        self.cluster.wait_in_sync(self.written)

    def generate(self):
        asked = self.tools.file({"version": 1, "topics": [{"topic": t} for t in self.written]})
        code, lines = self.tools.run(REASSIGN, "--generate", "--topics-to-move-json-file", asked, "--broker-list", "1,3")
        proposed = [json.loads(line) for line in lines if line.startswith("{")][1:]
        self.expect("generate-tells-what-is", (code, lines[:2]), 0, "Current partition replica assignment", self.as_json(FIRST))
        good = len(proposed) == 1 and [f"{p['topic']}-{p['partition']}" for p in proposed[0]["partitions"]] == self.names() and all(
            sorted(p["replicas"]) == [1, 3] for p in proposed[0]["partitions"])
        self.bad |= report("generate-proposes-brokers-of-the-list", None if good else f"{lines}")
        too_few = self.tools.run(REASSIGN, "--generate", "--topics-to-move-json-file", asked, "--broker-list", "1,9")
        self.expect("generate-refuses-brokers-that-are-not-there", too_few, 1, "Error: The target replication factor of 2 cannot be "
                    "reached because only 1 broker(s) are registered or some brokers have all their log directories cordoned.")

    def move(self):
        assignment = self.tools.assignment(self.spread(SECOND))
        self.expect("list-of-nothing", self.tools.run(REASSIGN, "--list"), 0, "No partition reassignments found.")
        self.expect("execute-starts", self.execute(assignment), 0, *self.started(self.as_json(FIRST)))
        self.wait_moved("verify-tells-when-it-is-done", assignment)
        self.expect("topics-describe-after-the-move", self.describe(), 0, *self.described(SECOND))

    def configs(self, name, rate, brokers=(), replicas=()):
        """What kafka-configs shows of the throttle: the rate of each broker, and the replicas of each topic."""
        rates = [f"  {side}.replication.throttled.rate={rate}" for side in ("follower", "leader")] if rate else []
        self.expect(f"configs-of-brokers-{name}", self.tools.run(CONFIGS, "--describe", "--entity-type", "brokers"), 0,
                    *(line for n in (1, 2, 3) for line in [f"Dynamic configs for broker {n} are:", *rates]),
                    "Default configs for brokers in the cluster are:")
        for topic in self.written:
            got = self.tools.run(CONFIGS, "--describe", "--entity-type", "topics", "--entity-name", topic)
            self.expect(f"configs-of-{topic}-{name}", got, 0, f"Dynamic configs for topic {topic} are:",
                        *(f"  {setting}" for setting in replicas))

    def move_slowly(self):
        """SECOND to FIRST: a partition keeps one of its two brokers, so one is added and one removed."""
        assignment, other = self.tools.assignment(self.spread(FIRST)), self.tools.assignment(self.spread(ALL))
        added, removed = ([next(b for b in one[p] if b not in of[p]) for p in range(3)] for one, of in
                          [(FIRST, SECOND), (SECOND, FIRST)])
        self.expect("execute-with-a-throttle", self.execute(assignment, "--throttle", str(SLOW)), 0,
                    *self.started(self.as_json(SECOND), SLOW))
        leaders = ",".join(sorted(f"{p}:{b}" for p in range(3) for b in SECOND[p]))
        throttled = [f"follower.replication.throttled.replicas={','.join(f'{p}:{added[p]}' for p in range(3))}",
                     f"leader.replication.throttled.replicas={leaders}"]
        self.configs("while-it-moves", SLOW, replicas=throttled)
        both = [[*FIRST[p], removed[p]] for p in range(3)]
        self.expect("list-of-moves", self.tools.run(REASSIGN, "--list"), 0, "Current partition reassignments:",
                    *(f"{t}-{p}: replicas: {','.join(map(str, both[p]))}. adding: {added[p]}. removing: {removed[p]}."
                      for t in self.written for p in range(3)))
        self.expect("verify-while-it-moves", self.verify(assignment), 0, *self.status("still in progress"))
        self.expect("execute-beside-another-move-is-refused", self.execute(other), 1, EXISTING)
        self.expect("nothing-is-under-replicated", self.describe("--under-replicated-partitions"), 0)
        self.describe_moving(both, added, removed)
        goes_on(self.writers)
        code, lines = self.execute(assignment, "--additional", "--throttle", str(FAST))
        # In which order the brokers are named meanwhile is not asked: Kafka names those first that will stay, jangbu those that were.
        was = next((line for line in lines if line.startswith("{")), "")
        self.expect("execute-additional-changes-the-throttle", (code, lines), 0, *self.started(was, FAST))
        self.wait_moved("verify-clears-the-throttle", assignment)
        self.configs("after-verify", None)
        self.expect("topics-describe-after-the-slow-move", self.describe(), 0, *self.described(FIRST))

    def describe_moving(self, both, added, removed):
        code, lines = self.describe()
        found = [ALL_REPLICAS.sub(lambda m: ",".join(sorted(m.group().split(","))), line)
                 for line in lines if line.startswith("\t")]
        self.expect("topics-describe-while-it-moves", (code, found), 0, *(
            f"\tTopic: {t}\tPartition: {p}\tLeader: N\tReplicas: {','.join(map(str, sorted(both[p])))}\t"
            f"Isr: {','.join(map(str, sorted(SECOND[p])))}\tAdding Replicas: {added[p]}\tRemoving Replicas: {removed[p]}"
            for t in self.written for p in range(3)))

    def cancel(self):
        assignment = self.tools.assignment(self.spread(SECOND))
        self.expect("execute-what-is-cancelled", self.execute(assignment, "--throttle", str(SLOW)), 0,
                    *self.started(self.as_json(FIRST), SLOW))

        def cancelled():
            return self.tools.run(REASSIGN, "--cancel", "--reassignment-json-file", assignment)

        self.expect("cancel", cancelled(), 0,
                    f"Successfully cancelled partition reassignments for: {','.join(self.names())}", *self.cleared(NO_MOVES))
        wait_for(lambda: self.tools.run(REASSIGN, "--list")[1] == ["No partition reassignments found."], MOVED_WITHIN,
                 "no moves after --cancel")
        self.expect("cancel-again", cancelled(), 0, "None of the specified partition reassignments are active.",
                    *self.cleared(NO_MOVES))
        self.configs("after-cancel", None)
        goes_on(self.writers)
        self.cluster.wait_in_sync(self.written)
        # Kafka does not put the brokers back into the order they had.
        found = {(t, p.id): sorted(p.replicas) for t in self.written for p in self.cluster.partitions(t)}
        back = found == {place: sorted(brokers) for place, brokers in self.spread(FIRST).items()}
        self.bad |= report("cancel-leaves-the-old-replicas", None if back else f"{found}")

    def refused(self):
        topic = self.written[0]
        unknown = self.tools.assignment({(topic, 0): [1, 9]})
        self.expect("execute-to-an-unknown-broker", self.execute(unknown), 1, "Error: Unknown broker id 9")
        missing = self.tools.assignment({(topic, 7): [1, 2]})
        self.expect("execute-of-an-unknown-partition", self.execute(missing), 1, "Error: org.apache.kafka.common.errors."
                    f"UnknownTopicOrPartitionException: Unable to find partition: {topic}-7")
        self.expect("verify-of-an-unknown-partition", self.verify(missing), 0, "Status of partition reassignment:",
                    f"There is no active reassignment of partition {topic}-7, but replica set is  rather than 1,2.",
                    "Clearing broker-level throttles on brokers 1,2,3", f"Clearing topic-level throttles on topic {topic}")
        three = self.tools.assignment({(topic, 0): [1, 2, 3]})
        code, lines = self.execute(three, "--disallow-replication-factor-change")
        self.expect("execute-that-may-not-change-the-factor", (code, lines[-2:]), 1, "Error reassigning partition(s):",
                    f"{topic}-0: The replication factor is changed from 2 to 3")

    def grow(self):
        assignment = self.tools.assignment(self.spread(ALL))
        code, lines = self.execute(assignment)
        self.expect("execute-with-more-replicas", (code, lines[-1:]), 0, self.started("")[-1])
        self.wait_moved("verify-with-more-replicas", assignment)
        self.expect("topics-describe-with-more-replicas", self.describe(), 0, *self.described(ALL))

    # kafka-leader-election.

    def elected(self, name, got, partitions):
        """An election that was asked for was held. It may not have been needed: jangbu balances leaders by itself before long."""
        answers = [ELECTED.fullmatch(line) for line in got[1]]
        told = sorted(n for answer in answers if answer for n in answer[2].split(", "))
        held = all(answers) and told == sorted(f"{t}-{p}" for t, p in partitions) and self.either(
            all(answer[1].startswith("Successfully") for answer in answers if answer), True)
        lead = self.leaders(self.written)
        wrong = {place: lead[place] for place in partitions if lead[place] != self.preferred[place]}
        self.bad |= report(name, None if got[0] == 0 and held and not wrong else f"{got}; not led as preferred: {wrong}")

    def elect(self):
        """The order of the replicas is changed, so that others should lead than those that do."""
        turned = {place: [b for b in (1, 2, 3) if b != leader] + [leader] for place, leader in self.leaders(self.written).items()}
        self.preferred = {place: brokers[0] for place, brokers in turned.items()}
        assignment = self.tools.assignment(turned)
        code, lines = self.execute(assignment)
        self.expect("execute-with-another-order", (code, lines[-1:]), 0, self.started("")[-1])
        self.wait_moved("verify-with-another-order", assignment)
        first, second = self.written
        one = self.tools.run(ELECT, "--election-type", "preferred", "--topic", first, "--partition", "0")
        self.elected("election-of-one-partition", one, [(first, 0)])
        some = [(first, 1), (second, 2)]
        named = self.tools.partitions(some)
        self.elected("election-of-a-file", self.tools.run(ELECT, "--election-type", "preferred", "--path-to-json-file", named), some)
        rest = [place for place in self.preferred if place not in [(first, 0), *some]]
        code, lines = self.tools.run(ELECT, "--election-type", "preferred", "--all-topic-partitions")
        # Of all, those that needed none are not told.
        needed = [(t, p) for t, p in rest if f"{t}-{p}" in " ".join(lines)]
        self.elected("election-of-all", (code, lines), self.either(rest, needed))
        lead = self.leaders(self.written)
        self.bad |= report("all-preferred-replicas-lead", None if lead == self.preferred else f"{lead}")
        again = self.tools.run(ELECT, "--election-type", "preferred", "--path-to-json-file", named)
        self.expect("election-that-is-not-needed", again, 0, f"Valid replica already elected for partitions {first}-1, {second}-2")
        unclean = self.tools.run(ELECT, "--election-type", "unclean", "--topic", first, "--partition", "0")
        self.expect("unclean-election-that-is-not-needed", unclean, 0, f"Valid replica already elected for partitions {first}-0")
        missing = self.tools.run(ELECT, "--election-type", "preferred", "--topic", first, "--partition", "9")
        self.expect("election-of-an-unknown-partition", missing, 1, "Error completing leader election (PREFERRED) for partition: "
                    f"{first}-9: org.apache.kafka.common.errors.UnknownTopicOrPartitionException: No such partition as {first}-9",
                    "1 replica(s) could not be elected")

    def without_a_node(self):
        """The preferred replica is dead; of one partition it is the only one."""
        self.make("one", [[3]])
        self.make("two", [[3, 1]])
        self.cluster.wait_in_sync(["one", "two"])
        node = self.cluster.nodes[2]
        node.kill()
        try:
            self.check_without(node)
        finally:
            node.start(self.cluster.list)
        self.cluster.wait_ready()
        self.cluster.wait_in_sync(["one", "two", *self.written])
        got = self.tools.run(ELECT, "--election-type", "preferred", "--all-topic-partitions")
        everything = {**self.preferred, ("one", 0): 3, ("two", 0): 3}
        lead = self.leaders(["one", "two", *self.written])
        self.bad |= report("preferred-replicas-lead-again", None if lead == everything and got[0] == 0 else f"{got}, {lead}")

    def check_without(self, node):
        goes_on(self.writers)

        alone = "\tTopic: one\tPartition: 0\tLeader: none\tReplicas: 3\tIsr:"
        # Of two replicas both are needed for a majority; Kafka goes on with one.
        pair = "\tTopic: two\tPartition: 0\tLeader: none\tReplicas: 3,1\tIsr: 1"
        gone, begun = self.either([alone], [alone, pair]), time.monotonic()
        got = self.tools.run(TOPICS, "--describe", "--unavailable-partitions")
        while sorted(got[1]) != sorted(gone) and time.monotonic() - begun < 60:  # it takes a moment to notice
            got = self.tools.run(TOPICS, "--describe", "--unavailable-partitions")
        self.expect("topics-describe-unavailable", got, 0, *gone)
        code, lines = self.describe("--under-replicated-partitions")
        short = sorted(line for line in lines if "\tIsr: 1,2" in line)
        self.expect("topics-describe-under-replicated", (code, [line.split("\tReplicas")[0] for line in short]), 0,
                    *(f"\tTopic: {t}\tPartition: {p}\tLeader: N" for t in self.written for p in range(3)))
        names = self.tools.partitions([("one", 0), ("two", 0)])
        self.expect("election-of-a-dead-preferred-replica",
                    self.tools.run(ELECT, "--election-type", "preferred", "--path-to-json-file", names), 1,
                    *(f"Error completing leader election (PREFERRED) for partition: {n}-0: {NOT_AVAILABLE}" for n in ("one", "two")),
                    "2 replica(s) could not be elected")
        self.unclean(names)

    def unclean(self, names):
        """Kafka elects nobody who is not there. jangbu elects nobody without a majority, since that could lose records."""
        got = self.tools.run(ELECT, "--election-type", "unclean", "--path-to-json-file", names)
        why = NOT_ELIGIBLE + self.either(
            "Eligible topic partition leaders are not available.",
            "a majority of the replicas must be alive; the partition then elects a leader by itself")
        error = "Error completing leader election (UNCLEAN) for partition: {}-0: " + why
        self.expect("unclean-election-is-refused", got, 1, error.format("one"), *self.either(
            ["Valid replica already elected for partitions two-0", "1 replica(s) could not be elected"],
            [error.format("two"), "2 replica(s) could not be elected"]))
