"""The faults. Each does its harm while writing goes on, makes it good again, and says what is not as promised.

The partitions that count are written all the time, and after every fault each of them must get on: also with the fault
still there, as long as a majority can work.
"""

import random
import re
import signal
import subprocess
import time

from cluster.failed import Failed, wait_for
from cluster.moves import Moves
from cluster.network import both_ways
from cluster.wire import Connection
from cluster.witness import Witness
from cluster.writers import goes_on

# What a node says whose data are lost: it may come back, as another one.
TO_JOIN = re.compile(r"[^;\n]*(--join|must join under a new id)[^;\n]*")


class Faults(Moves):
    """What the faults need: the cluster, the topics, and who writes to them."""

    def __init__(self, cluster, topics, witnessed, writers, gaps):
        self.cluster, self.topics, self.witnessed, self.writers = cluster, topics, witnessed, writers
        self.gaps, self.witnesses, self.said = gaps, [], ""

    def do(self, name):
        """Does the fault of this name; what there is to say about it."""
        goes_on(self.writers)
        self.gaps.reset()
        self.said = ""
        getattr(self, name)()
        goes_on(self.writers)
        self.cluster.wait_in_sync([*self.topics, self.witnessed])
        return self.said

    def make_good(self):
        """After a fault that went wrong: whatever it left is put right, so that the others can be done."""
        self.cluster.network.heal()
        for node in [*self.cluster.nodes, self.cluster.extra]:
            if node and not node.runs():
                node.start(self.cluster.list)
            if node:
                node.send(signal.SIGCONT)
        self.cluster.wait_ready()
        self.send_off()
        self.cluster.wait_in_sync([*self.topics, self.witnessed])

    def leader(self):
        return self.cluster.leader_of_some(self.topics)

    # Processes.

    def kill(self):
        """kill -9 of a leader."""
        node = self.leader()
        node.kill()
        goes_on(self.writers)
        node.start(self.cluster.list)

    def hang(self):
        """A leader hangs for some seconds."""
        node = self.leader()
        node.send(signal.SIGSTOP)
        goes_on(self.writers)
        time.sleep(random.choice([0, 2]))
        node.send(signal.SIGCONT)

    def stop(self):
        """A leader is stopped as an operator does."""
        node = self.leader()
        node.send(signal.SIGTERM)
        goes_on(self.writers)
        node.ended_well()
        node.start(self.cluster.list)

    def rolling(self):
        """All three are stopped and started, one after the other."""
        for node in random.sample(self.cluster.nodes, 3):
            node.terminate()
            node.start(self.cluster.list)
            self.cluster.wait_ready()
            self.cluster.wait_in_sync([*self.topics, self.witnessed])

    def kill_all(self):
        for node in self.cluster.nodes:
            node.send(signal.SIGKILL)
        for node in self.cluster.nodes:
            node.process.wait()

    def all(self):
        """kill -9 of all three at once; they come back in any order."""
        self.kill_all()
        self.cluster.start()

    def two(self):
        """kill -9 of all three at once; two come back, and the third once writing goes on."""
        self.kill_all()
        last, *first = random.sample(self.cluster.nodes, 3)
        self.cluster.start(first)
        goes_on(self.writers)
        last.start(self.cluster.list)

    # The network.

    def cut_while(self, pairs, node):
        """Cuts the network there until writing goes on and some time more; the node is asked meanwhile."""
        led = {topic: [p.id for p in self.cluster.partitions(topic) if p.leader == node.number]
               for topic in [*self.topics, self.witnessed]}
        self.cluster.network.cut(pairs)
        witness = Witness(node, self.writers, self.witnessed, led)
        self.witnesses.append(witness)
        try:
            witness.begin()
            goes_on(self.writers)
            time.sleep(random.uniform(0.5, 3))
        finally:
            witness.end()
            self.cluster.network.heal()
            witness.join()
            answers = ", ".join(f"{what} x {count}" for what, count in sorted(witness.answers.items()))
            self.said = f"node {node.number} led {sum(map(len, led.values()))}; it answered {answers or 'nothing'}"

    def numbers(self, nodes):
        return [node.number for node in nodes]

    def isolate(self):
        """A leader is cut off from both others; clients reach it."""
        node = self.leader()
        self.cut_while(both_ways(node.number, self.numbers(self.cluster.others(node))), node)

    def follower(self):
        """The node that leads the fewest partitions is cut off from both others."""
        node = self.cluster.leader_of_fewest(self.topics)
        self.cut_while(both_ways(node.number, self.numbers(self.cluster.others(node))), node)

    def mute(self):
        """Nothing that a leader sends reaches the others; it hears them."""
        node = self.leader()
        self.cut_while([(node.number, n) for n in self.numbers(self.cluster.others(node))], node)

    def deaf(self):
        """Nothing that the others send reaches a leader; they hear it."""
        node = self.leader()
        self.cut_while([(n, node.number) for n in self.numbers(self.cluster.others(node))], node)

    def link(self):
        """Two nodes do not reach each other; the third reaches both."""
        one, other, _ = random.sample(self.cluster.nodes, 3)
        self.cluster.network.cut(both_ways(one.number, [other.number]))
        try:
            goes_on(self.writers)
            time.sleep(random.uniform(0.5, 3))
            goes_on(self.writers)
        finally:
            self.cluster.network.heal()

    def flap(self):
        """A leader is cut off and reached again, quickly and often."""
        node = self.leader()
        pairs = both_ways(node.number, self.numbers(self.cluster.others(node)))
        for _ in range(random.randrange(3, 6)):
            self.cluster.network.cut(random.choice([pairs, pairs[::2], pairs[1::2]]))
            time.sleep(random.uniform(0.1, 1.8))
            self.cluster.network.heal()
            time.sleep(random.uniform(0.1, 1))

    # The disk.

    def short(self):
        """A disk has less room than its reserve. What its node leads need not go on before there is room again."""
        node = self.cluster.on_disk
        since = node.log_end()
        self.cluster.disk.fill(leave=200 << 20)
        try:
            wait_for(lambda: "the disk is nearly full" in node.logged(since), 20, "the node sees its disk fill up")
            try:
                goes_on(self.writers, 6)
                self.said = "writing went on meanwhile"
            except Failed as why:
                self.said = f"what waited for room: {why}"
        finally:
            self.cluster.disk.make_room()
        if not node.runs():
            raise Failed(f"node {node.number} ended although its disk had room")

    def full(self):
        """A disk has no room at all: its node ends, the others go on, and it comes back when there is room."""
        node = self.cluster.on_disk
        self.cluster.disk.fill()
        try:
            wait_for(lambda: self.flooded(node), 60, "a node whose disk is full ends")
            goes_on(self.writers)
        finally:
            self.cluster.disk.make_room()
        if node.process.returncode == 0:
            raise Failed("a node whose disk was full ended with 0")
        node.start(self.cluster.list)

    def flooded(self, node):
        """Writes some MB that this node must keep a copy of, into what it has reserved of its disk; whether it has ended."""
        led = [(p.id, p.leader) for p in self.cluster.partitions(self.witnessed) if p.leader not in (-1, node.number)]
        for partition, leader in led:
            try:
                connection = Connection(self.cluster.nodes[leader - 1].kafka, 3)
                for _ in range(8):
                    connection.produce(self.witnessed, partition, b"%012d" % next(Witness.values) + bytes(900_000))
                connection.close()
            except OSError:
                pass  # It tries again.
        return not node.runs()

    def wiped(self):
        """A node comes back without its data: it must not take part, and say why; the others go on."""
        node = self.leader()
        node.terminate()
        kept = node.data.with_name("kept")
        node.data.rename(kept)
        since = node.log_end()
        node.start(self.cluster.list)
        try:
            wait_for(lambda: TO_JOIN.search(node.readiness()[1] + node.logged(since)), 20,
                     lambda: f"a node without its data says what to do ({node.readiness()[1]})")
            self.said = "it said: " + TO_JOIN.search(node.readiness()[1] + node.logged(since)).group()
            goes_on(self.writers)
            if node.readiness()[0]:
                raise Failed(f"node {node.number} is ready although its data are lost")
        finally:
            if node.runs():
                node.terminate()
            subprocess.run(["rm", "-rf", str(node.data)], check=True)
            kept.rename(node.data)
        node.start(self.cluster.list)


NAMES = ["kill", "isolate", "follower", "hang", "mute", "all", "deaf", "stop", "link", "short", "two", "flap", "full",
         "wiped", "rolling", "moves", "drain", "heal"]
