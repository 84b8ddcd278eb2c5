"""Kafka's own command-line tools, with the arguments that its shell scripts give them, and what they print.

They run one after the other in one JVM (../toolbox), since a JVM's start costs more than what most of them do.

What differs from run to run and from node to node is left out: topic ids, directories, the order of sets, stack traces,
and warnings about a node that is down.
"""

import json
import pathlib
import re
import subprocess
import tempfile

TOPICS = "org.apache.kafka.tools.TopicCommand"
REASSIGN = "org.apache.kafka.tools.reassign.ReassignPartitionsCommand"
ELECT = "org.apache.kafka.tools.LeaderElectionCommand"
CONFIGS = "kafka.admin.ConfigCommand"
PRODUCE = "org.apache.kafka.tools.ConsoleProducer"
CONSUME = "org.apache.kafka.tools.consumer.ConsoleConsumer"
GROUPS = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
OFFSETS = "org.apache.kafka.tools.GetOffsetShell"
DELETE_RECORDS = "org.apache.kafka.tools.DeleteRecordsCommand"
LOG_DIRS = "org.apache.kafka.tools.LogDirsCommand"
VERSIONS = "org.apache.kafka.tools.BrokerApiVersionsCommand"
PRODUCER_PERF = "org.apache.kafka.tools.ProducerPerformance"
CONSUMER_PERF = "org.apache.kafka.tools.ConsumerPerformance"
QUORUM = "org.apache.kafka.tools.MetadataQuorumCommand"
FEATURES = "org.apache.kafka.tools.FeatureCommand"
CLUSTER = "org.apache.kafka.tools.ClusterTool"
# These want to know the brokers before their subcommand.
BROKERS_FIRST = {QUORUM, FEATURES}

# What the toolbox answers for a tool that does not end.
LATE = 124

# Parts of lines that are not compared.
LEFT_OUT = [
    (re.compile(r"\tTopicId: \S+"), ""),
    (re.compile(r',"log_dirs":\[[^]]*\]'), ""),
    # Which replicas would be eligible without being in sync: jangbu has none, since more than half are always asked.
    (re.compile(r"\tElr: .*"), ""),
    # Kafka knows no defaults of the settings that throttle, jangbu does.
    (re.compile(r" sensitive=false synonyms=.*"), ""),
]
# A format of Kafka's storage sets it; jangbu's is the default.
FORMATTED = re.compile(r"(?<=Configs: )min\.insync\.replicas=1|,min\.insync\.replicas=1|(?<=Configs: )min\.insync\.replicas=1,")
# Whole lines that are not compared.
NOISE = re.compile(r"^\s*$|^  min\.insync\.replicas=1 |^\tat |^\t\.\.\. |^\[|^\s*Suppressed: |^Caused by: |^(org|java|joptsimple)\.\S*(Exception|Error)\b")
# Sets, whose order means nothing.
IN_SYNC = re.compile(r"(?<=Isr: )[0-9,]+")
ELECTED = re.compile(r"(?<= for partitions )\S+-\d+(, \S+-\d+)*")
CONFIG_LIST = re.compile(r"(?<=Configs: )\S+")
SETTING = re.compile(r",(?=[a-z])")


def plain(line):
    """A line as it is compared."""
    line = FORMATTED.sub("", line)
    for pattern, instead in LEFT_OUT:
        line = pattern.sub(instead, line)
    line = IN_SYNC.sub(lambda m: ",".join(sorted(m.group().split(","))), line)
    line = ELECTED.sub(lambda m: ", ".join(sorted(m.group().split(", "))), line)
    line = CONFIG_LIST.sub(lambda m: ",".join(sorted(SETTING.split(m.group()))), line)
    return line.rstrip()


class Tools:
    """The tools, asking one cluster. `toolbox` is the command that starts what they run in."""

    def __init__(self, bootstrap, toolbox, home):
        self.bootstrap, self.toolbox, self.home, self.box = bootstrap, toolbox, pathlib.Path(home), None

    def run(self, tool, *arguments, given=None):
        """The exit code, and the lines that count; `given` is what the tool reads from its standard input."""
        code, printed = self.raw(tool, *arguments, given=given)
        return code, [plain(line) for line in printed.splitlines() if not NOISE.search(line)]

    def raw(self, tool, *arguments, given=None):
        """The exit code, and everything that was printed. A tool that hangs is a failure of its own, not the end of the suite."""
        brokers = ["--bootstrap-server", self.bootstrap]
        arguments = [*brokers, *arguments] if tool in BROKERS_FIRST else [*arguments, *brokers]
        if not self.box or self.box.poll() is not None:
            self.box = subprocess.Popen(self.toolbox, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        asked = "\t".join([self.text(given) if given else "-", tool, *arguments])
        self.box.stdin.write(asked.encode() + b"\n")
        self.box.stdin.flush()
        answer = self.box.stdout.readline().split()
        if not answer:
            return None, f"the toolbox ended with {self.box.wait()}"
        code, count = map(int, answer)
        printed = self.box.stdout.read(count).decode()
        if code == LATE:
            self.box.wait()
            return None, f"it did not end in time, after:\n{printed}"
        return code, printed

    def beside(self, tool, *arguments):
        """Starts a tool in a JVM of its own, which goes on meanwhile; whoever asks for it ends it."""
        box = self.toolbox.index("Toolbox")
        return subprocess.Popen([*self.toolbox[:box], tool, *arguments, "--bootstrap-server", self.bootstrap],
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self):
        """Nothing is asked any more."""
        if self.box:
            self.box.stdin.close()
            self.box.wait()

    def text(self, lines):
        """A file of these lines."""
        with tempfile.NamedTemporaryFile("w", dir=self.home, suffix=".txt", delete=False) as file:
            file.writelines(f"{line}\n" for line in lines)
        return file.name

    def file(self, content):
        """A file for a tool to read."""
        with tempfile.NamedTemporaryFile("w", dir=self.home, suffix=".json", delete=False) as file:
            json.dump(content, file)
        return file.name

    def assignment(self, replicas):
        """A file that assigns the replicas: {(topic, partition): [broker, ...]}."""
        return self.file({"version": 1, "partitions": [
            {"topic": topic, "partition": partition, "replicas": brokers}
            for (topic, partition), brokers in sorted(replicas.items())]})

    def partitions(self, names):
        """A file that names partitions for an election."""
        return self.file({"partitions": [{"topic": topic, "partition": partition} for topic, partition in names]})
