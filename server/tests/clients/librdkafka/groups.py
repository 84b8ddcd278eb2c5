"""Consumer groups with librdkafka: sharing partitions, committing, resuming, static and cooperative members.

What holds for both group protocols is a function of the `member` that takes part; consumer_groups.py has the other one.
"""

import time

from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from suite import BOOTSTRAP, equal, test, topic_name, wait_until

BASE = {"bootstrap.servers": BOOTSTRAP}
admin = AdminClient(BASE)


def member(group, **config):
    settings = {
        "group.id": group,
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "session.timeout.ms": 6000,
        "heartbeat.interval.ms": 500,
    }
    return Consumer({**BASE, **settings, **config})


def poll_all(members, until, what, seconds=60):
    """Polls the members in turn until `until` holds; what they read."""
    records, end = [], time.monotonic() + seconds
    while not until(records):
        if time.monotonic() > end:
            raise AssertionError(f"timed out: {what}; {[m.assignment() for m in members]}")
        for each in members:
            message = each.poll(0.05)
            if message is not None:
                if message.error():
                    raise KafkaException(message.error())
                records.append(message)
    return records


def shares(members):
    return sorted(len(each.assignment()) for each in members)


def share(member, new_topic, produce):
    """Two members share the partitions; what they commit is where another one goes on."""
    topic, group = new_topic("group", 4), topic_name("g")
    for partition in range(4):
        produce(topic, [(None, b"v%d" % i, None) for i in range(25)], partition)
    one, two = member(group), member(group)
    one.subscribe([topic])
    read = poll_all([one], lambda read: len(read) == 100, "all records by one member")
    equal(sorted({m.partition() for m in read}), [0, 1, 2, 3], "partitions")
    two.subscribe([topic])
    poll_all([one, two], lambda _: shares([one, two]) == [2, 2], "two members with two partitions each")
    at = [TopicPartition(topic, p, 10 + p, metadata=f"note {p}") for p in range(4)]
    mine = {p.partition for p in one.assignment()}
    one.commit(offsets=[p for p in at if p.partition in mine], asynchronous=False)
    two.commit(offsets=[p for p in at if p.partition not in mine], asynchronous=False)
    one.close()
    poll_all([two], lambda _: shares([two]) == [4], "the rest goes to the other one")
    two.close()
    three = member(group)
    found = three.committed([TopicPartition(topic, p) for p in range(4)], 30)
    equal([p.offset for p in found], [10, 11, 12, 13], "committed")
    equal([p.metadata for p in found], [f"note {p}" for p in range(4)], "metadata")
    three.subscribe([topic])
    read = poll_all([three], lambda read: len(read) == 100 - 46, "what was not committed")
    equal(min(m.offset() for m in read if m.partition() == 3), 13, "resumed at")
    three.close()


def static(member, new_topic, **config):
    """A member with a name of its own that comes back has the partition it had, and the other one keeps its own."""
    topic, group = new_topic("group-static", 2), topic_name("g")
    names = [{"group.instance.id": name, **config} for name in "ab"]
    one, two = (member(group, **name) for name in names)
    for each in (one, two):
        each.subscribe([topic])
    poll_all([one, two], lambda _: shares([one, two]) == [1, 1], "one partition each")
    had = [p.partition for p in two.assignment()]
    two.close()
    again = member(group, **names[1])
    again.subscribe([topic])
    poll_all([one, again], lambda _: shares([again]) == [1], "the same name has a partition")
    equal([p.partition for p in again.assignment()], had, "the partition it had")
    equal(shares([one]), [1], "the other one")
    one.close()
    again.close()


def refusal(call):
    """The name of the error that a call ends with."""
    try:
        call()
    except KafkaException as error:
        return error.args[0].name()
    raise AssertionError("it was not refused")


def fenced(member, new_topic):
    """Nobody from outside commits for a group that has members; afterwards anybody may."""
    topic, group = new_topic("group-fenced", 1), topic_name("g")
    one, alone = member(group), member(group)
    one.subscribe([topic])
    poll_all([one], lambda _: shares([one]) == [1], "a member")

    def committing(who, **what):
        return lambda: who.commit(offsets=[TopicPartition(topic, 0, 5, **what)], asynchronous=False)

    equal(refusal(committing(alone)), "UNKNOWN_MEMBER_ID", "the refusal")
    equal(refusal(committing(one, metadata="x" * 4097)), "OFFSET_METADATA_TOO_LARGE", "the refusal")
    one.commit(offsets=[TopicPartition(topic, 0, 4)], asynchronous=False)
    equal(alone.committed([TopicPartition(topic, 0)], 30)[0].offset, 4, "committed by the member")
    one.close()
    committing(alone)()
    equal(alone.committed([TopicPartition(topic, 0)], 30)[0].offset, 5, "committed")
    alone.close()


def administration(member, new_topic, kind):
    """A group with a member is listed and described and cannot be deleted; an empty one can be changed and deleted."""
    topic, group = new_topic("group-admin", 2), topic_name("g")
    one = member(group)
    one.subscribe([topic])
    poll_all([one], lambda _: shares([one]) == [2], "a member")
    one.commit(offsets=[TopicPartition(topic, 0, 3)], asynchronous=False)
    listed = [g for g in admin.list_consumer_groups().result(30).valid if g.group_id == group]
    equal([(g.state.name, g.type.name) for g in listed], [("STABLE", kind)], "listed")
    found = admin.describe_consumer_groups([group])[group].result(30)
    equal((found.state.name, found.type.name, len(found.members)), ("STABLE", kind, 1), "described")
    equal(len(found.members[0].assignment.topic_partitions), 2, "its assignment")
    if kind == "CONSUMER":
        equal(len(found.members[0].target_assignment.topic_partitions), 2, "its target assignment")
    equal(refusal(lambda: admin.delete_consumer_groups([group])[group].result(30)), "NON_EMPTY_GROUP", "the refusal")
    one.close()
    at = ConsumerGroupTopicPartitions(group, [TopicPartition(topic, 1, 7)])
    admin.alter_consumer_group_offsets([at])[group].result(30)
    all_of = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
    offsets = {p.partition: p.offset for p in all_of[group].result(30).topic_partitions}
    equal(offsets, {0: 3, 1: 7}, "offsets")
    admin.delete_consumer_groups([group])[group].result(30)
    ids = [g.group_id for g in admin.list_consumer_groups().result(30).valid]
    equal(group in ids, False, "the group is still listed")


def define(new_topic, produce):
    test("group-two-members-share-and-resume")(lambda: share(member, new_topic, produce))
    test("group-static-member-keeps-its-partitions")(lambda: static(member, new_topic, **{"session.timeout.ms": 30000}))
    test("group-commits-of-strangers-are-refused")(lambda: fenced(member, new_topic))
    test("group-admin")(lambda: administration(member, new_topic, "CLASSIC"))

    @test("group-a-silent-member-is-replaced")
    def silent():
        topic, group = new_topic("group-silent", 2), topic_name("g")
        one, two = member(group), member(group, **{"max.poll.interval.ms": 6000})
        for each in (one, two):
            each.subscribe([topic])
        poll_all([one, two], lambda _: shares([one, two]) == [1, 1], "one partition each")
        poll_all([one], lambda _: shares([one]) == [2], "both, when the other one is not heard")
        one.close()
        two.close()

    @test("group-cooperative-members-keep-what-they-have")
    def cooperative():
        topic, group = new_topic("group-sticky", 4), topic_name("g")
        lost = []
        sticky = {"partition.assignment.strategy": "cooperative-sticky"}
        one, two = member(group, **sticky), member(group, **sticky)
        one.subscribe([topic], on_revoke=lambda _, revoked: lost.extend(revoked))
        poll_all([one], lambda _: shares([one]) == [4], "all of them")
        two.subscribe([topic])
        poll_all([one, two], lambda _: shares([one, two]) == [2, 2], "two each")
        equal(len(lost), 2, "partitions that were taken from the first")
        one.close()
        two.close()

    @test("group-offsets-go-with-their-topic")
    def deleted():
        topic, other, group = new_topic("group-gone", 1), new_topic("group-stays", 1), topic_name("g")
        one = member(group)
        both = [TopicPartition(topic, 0, 1), TopicPartition(other, 0, 2)]
        one.commit(offsets=both, asynchronous=False)
        admin.delete_topics([topic])[topic].result(30)

        def left():
            all_of = admin.list_consumer_group_offsets([ConsumerGroupTopicPartitions(group)])
            return [p.topic for p in all_of[group].result(30).topic_partitions]

        wait_until(lambda: left() == [other], "only the offset of the topic that is left")
        one.close()
