"""Asks a node that is cut off from the others, as clients do that have not heard of it.

Such a node is the old leader of its partitions until it finds out, and for good as long as nobody tells it. What it may
not do: acknowledge a record, since no majority has it, or answer an end that is smaller than what others have
acknowledged meanwhile. An error, or no answer at all, is right.
"""

import collections
import itertools
import threading
import time

from cluster.wire import Connection
from cluster.writers import ends

# How long one answer is waited for. A node that is cut off may well be silent.
PATIENCE = 3
NONE, OUT_OF_RANGE = 0, 1


class Witness:
    """What one node answers while it is cut off. Made before the cut, begun after it, ended before it is healed."""

    values = itertools.count()

    def __init__(self, node, writers, topic, led):
        """`led`: the partitions the node leads, by topic; `topic`: where the witness writes itself."""
        self.node, self.topic, self.led = node, topic, led
        self.writers = {writer.topic: writer for writer in writers}
        self.ends = {writer.topic: ends(writer) for writer in writers}
        self.ended, self.began = threading.Event(), time.monotonic()
        self.answers, self.acked, self.wrong = collections.Counter(), [], []
        self.threads = [threading.Thread(target=self.again, args=(ask,), daemon=True)
                        for ask in (self.produce, self.list_latest, self.fetch)]

    def begin(self):
        for thread in self.threads:
            thread.start()

    def end(self):
        """Nothing that is answered from now on counts as answered by a node that is cut off."""
        self.ended.set()

    def join(self):
        for thread in self.threads:
            thread.join()

    def again(self, ask):
        """Asks until the end; a connection that failed is opened anew."""
        connection = None
        while not self.ended.is_set():
            try:
                connection = connection or Connection(self.node.kafka, PATIENCE)
                ask(connection)
            except OSError as error:
                self.answers[f"{ask.__name__}: {type(error).__name__}"] += 1
                connection = connection and connection.close()
            self.ended.wait(0.05)

    def note(self, what, code):
        self.answers[f"{what}: {code}"] += 1

    def object(self, text):
        """Something is wrong, if the node is still cut off."""
        if not self.ended.is_set():
            self.wrong.append(f"{time.monotonic() - self.began:.1f} s after the cut {text}")

    def produce(self, connection):
        for partition in self.led.get(self.topic, []):
            value = b"%012d" % next(self.values)
            code, offset = connection.produce(self.topic, partition, value)
            self.note("produce", code)
            if code == NONE:
                self.acked.append((partition, offset, int(value)))
                self.object(f"it acknowledged a record of {self.topic}-{partition}")

    def known(self):
        """The partitions the node led, with the end at the cut and the one that is known now."""
        for topic, writer in self.writers.items():
            now = ends(writer)
            for partition in self.led.get(topic, []):
                yield topic, partition, self.ends[topic][partition], now[partition]

    def list_latest(self, connection):
        for topic, partition, _, known in self.known():
            for version, ask in [(1, connection.list_latest), (0, connection.list_latest_v0)]:
                code, end = ask(topic, partition)
                self.note(f"list v{version}", code)
                if code == NONE and end < known:
                    self.object(f"ListOffsets {version} of {topic}-{partition} answers {end}, {known} are acknowledged")

    def fetch(self, connection):
        for topic, partition, at_cut, known in self.known():
            code, end = connection.fetch(topic, partition, at_cut)
            self.note("fetch", code)
            if code == NONE and end < known:
                self.object(f"Fetch of {topic}-{partition} says the log ends at {end}, {known} are acknowledged")
            code, _ = connection.fetch(topic, partition, known)
            self.note("fetch", code)
            if code == OUT_OF_RANGE:
                self.object(f"Fetch of {topic}-{partition} says that acknowledged offset {known} is out of range")
