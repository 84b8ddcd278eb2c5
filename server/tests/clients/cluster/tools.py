"""Kafka's own command-line tools, started as its shell scripts start them, and what they print.

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
JAVA = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"]
# A tool waits as long as its requests do; one that hangs is a failure, not the end of the suite.
PATIENCE = 120

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
    """The tools, asking one cluster."""

    def __init__(self, bootstrap, jars, home):
        self.bootstrap, self.jars, self.home = bootstrap, jars, pathlib.Path(home)

    def run(self, tool, *arguments):
        """The exit code, and the lines that count."""
        command = [*JAVA, "-cp", f"{self.jars}/*", tool, *arguments, "--bootstrap-server", self.bootstrap]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=PATIENCE)
        except subprocess.TimeoutExpired as late:
            return None, [f"nothing more within {PATIENCE} s after: {(late.stdout or b'').decode()}"]
        return done.returncode, [plain(line) for line in done.stdout.splitlines() if not NOISE.search(line)]

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
