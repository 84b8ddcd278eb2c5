"""A group with members in it moves between the protocols (KIP-848): one member after the other is replaced, under load."""

import threading

from confluent_kafka import KafkaException, Producer

import consumer_groups
import groups
from groups import admin, poll_all, shares
from suite import BOOTSTRAP, equal, test, topic_name

PARTITIONS = 4
# A commit while the group changes is refused; what it would have committed is read again.
PASSING = {"REBALANCE_IN_PROGRESS", "ILLEGAL_GENERATION", "STALE_MEMBER_EPOCH", "UNKNOWN_MEMBER_ID", "_NO_OFFSET",
           "FENCED_MEMBER_EPOCH", "GROUP_ID_NOT_FOUND", "_STATE", "_ASSIGNMENT_LOST", "COORDINATOR_LOAD_IN_PROGRESS"}


class Load:
    """Writes numbered records until it is stopped."""

    def __init__(self, topic):
        self.topic, self.count, self.stopped = topic, 0, threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        producer = Producer({"bootstrap.servers": BOOTSTRAP, "enable.idempotence": True})
        while not self.stopped.wait(0.01):
            producer.produce(self.topic, b"%d" % self.count, partition=self.count % PARTITIONS)
            self.count += 1
            producer.poll(0)
        producer.flush(60)

    def stop(self):
        self.stopped.set()
        self.thread.join()
        return self.count


class Committing:
    """A member that commits each record that it has read, and notes it."""

    def __init__(self, inner, read):
        self.inner, self.read = inner, read

    def poll(self, timeout):
        message = self.inner.poll(timeout)
        if message is not None and not message.error():
            self.read.add(int(message.value()))
            try:
                self.inner.commit(message=message, asynchronous=False)
            except KafkaException as error:
                if error.args[0].name() not in PASSING:
                    raise
        return message

    def assignment(self):
        return self.inner.assignment()

    def close(self):
        self.inner.close()


def described(group):
    found = admin.describe_consumer_groups([group])[group].result(30)
    return (found.type.name, len(found.members))


def rolling(new_topic, **classic):
    """Two members are replaced by ones of the other protocol and back; nothing is skipped, and both always have their share."""
    topic, group, read = new_topic("rolling", PARTITIONS), topic_name("g"), set()
    load = Load(topic)

    def come(is_consumer):
        inner = consumer_groups.member(group) if is_consumer else groups.member(group, **classic)
        inner.subscribe([topic])
        return Committing(inner, read)

    members = [come(False), come(False)]
    poll_all(members, lambda _: shares(members) == [2, 2], "two members of the classic protocol")
    equal(described(group), ("CLASSIC", 2), "before")
    for at, is_consumer, kind in [(0, True, "CONSUMER"), (1, True, "CONSUMER"), (0, False, "CONSUMER"), (1, False, "CLASSIC")]:
        members.append(come(is_consumer))
        poll_all(members, lambda _: shares(members) == [1, 1, 2], "three members")
        equal(described(group), ("CONSUMER", 3), "with a member of each protocol")
        # Those that stay take the place of those that go in their order.
        members.pop(0).close()
        poll_all(members, lambda _: shares(members) == [2, 2], f"step {at} to {kind}")
        equal(described(group), (kind, 2), f"after step {at}")
        seen = len(read)
        poll_all(members, lambda _: len(read) > seen + 20, "the records that come")
    count = load.stop()
    poll_all(members, lambda _: len(read) == count, "all records")
    equal(read, set(range(count)), "records")
    for member in members:
        member.close()
    again = Committing(consumer_groups.member(group), read)
    again.inner.subscribe([topic])
    poll_all([again], lambda _: shares([again]) == [PARTITIONS], "somebody who goes on")
    ends = {p.partition: p.offset for p in again.inner.committed(again.assignment(), 30)}
    equal(ends, {p: len(range(p, count, PARTITIONS)) for p in range(PARTITIONS)}, "what was committed last")
    again.close()


def define(new_topic):
    test("group-rolls-to-the-consumer-protocol-and-back-under-load")(lambda: rolling(new_topic))
    test("group-of-cooperative-members-rolls-and-back-under-load")(
        lambda: rolling(new_topic, **{"partition.assignment.strategy": "cooperative-sticky"}))
