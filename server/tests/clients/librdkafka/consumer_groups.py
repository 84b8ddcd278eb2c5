"""Groups of the consumer protocol (KIP-848) with librdkafka: sharing, resuming, static members, regular expressions."""

from confluent_kafka import Consumer, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient

from groups import poll_all, shares
from suite import BOOTSTRAP, equal, test, topic_name

BASE = {"bootstrap.servers": BOOTSTRAP}
admin = AdminClient(BASE)


def member(group, **config):
    settings = {
        "group.id": group,
        "group.protocol": "consumer",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "topic.metadata.refresh.interval.ms": 1000,
    }
    return Consumer({**BASE, **settings, **config})


def define(new_topic, produce):
    for assignor in ("uniform", "range"):
        @test(f"consumer-group-two-members-share-and-resume-{assignor}")
        def share(assignor=assignor):
            topic, group = new_topic("group", 4), topic_name("g")
            for partition in range(4):
                produce(topic, [(None, b"v%d" % i, None) for i in range(25)], partition)
            one = member(group, **{"group.remote.assignor": assignor})
            two = member(group, **{"group.remote.assignor": assignor})
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
            three.subscribe([topic])
            read = poll_all([three], lambda read: len(read) == 100 - 46, "what was not committed")
            equal(min(m.offset() for m in read if m.partition() == 3), 13, "resumed at")
            three.close()

    @test("consumer-group-static-member-keeps-its-partitions")
    def static():
        topic, group = new_topic("group-static", 2), topic_name("g")
        one, two = (member(group, **{"group.instance.id": name}) for name in "ab")
        for each in (one, two):
            each.subscribe([topic])
        poll_all([one, two], lambda _: shares([one, two]) == [1, 1], "one partition each")
        had = [p.partition for p in two.assignment()]
        two.close()
        again = member(group, **{"group.instance.id": "b"})
        again.subscribe([topic])
        poll_all([one, again], lambda _: shares([again]) == [1], "the same name has a partition")
        equal([p.partition for p in again.assignment()], had, "the partition it had")
        equal(shares([one]), [1], "the other one")
        one.close()
        again.close()

    @test("consumer-group-regex")
    def regex():
        topic, group = new_topic("regex", 2), topic_name("g")
        produce(topic, [(None, b"v", None)] * 3, 1)
        one = member(group)
        one.subscribe([f"^{topic[:-4]}.*"])
        poll_all([one], lambda read: len(read) == 3, "the records of what matches")
        equal(shares([one]), [2], "partitions")
        one.close()

    @test("consumer-group-commits-of-strangers-are-refused")
    def fenced():
        topic, group = new_topic("group-fenced", 1), topic_name("g")
        one = member(group)
        one.subscribe([topic])
        poll_all([one], lambda _: shares([one]) == [1], "a member")
        alone = member(group)
        try:
            alone.commit(offsets=[TopicPartition(topic, 0, 5)], asynchronous=False)
            raise AssertionError("a commit from outside of the group was taken")
        except KafkaException as error:
            equal(error.args[0].name(), "UNKNOWN_MEMBER_ID", "the refusal")
        one.commit(offsets=[TopicPartition(topic, 0, 4)], asynchronous=False)
        equal(alone.committed([TopicPartition(topic, 0)], 30)[0].offset, 4, "committed")
        one.close()
        alone.close()

    @test("consumer-group-admin")
    def administration():
        topic, group = new_topic("group-admin", 2), topic_name("g")
        one = member(group)
        one.subscribe([topic])
        poll_all([one], lambda _: shares([one]) == [2], "a member")
        listed = [g for g in admin.list_consumer_groups().result(30).valid if g.group_id == group]
        equal([(g.state.name, g.type.name) for g in listed], [("STABLE", "CONSUMER")], "listed")
        found = admin.describe_consumer_groups([group])[group].result(30)
        equal((found.state.name, found.type.name, len(found.members)), ("STABLE", "CONSUMER", 1), "described")
        equal(len(found.members[0].assignment.topic_partitions), 2, "its assignment")
        equal(len(found.members[0].target_assignment.topic_partitions), 2, "its target assignment")
        one.close()
        admin.delete_consumer_groups([group])[group].result(30)
        ids = [g.group_id for g in admin.list_consumer_groups().result(30).valid]
        equal(group in ids, False, "the group is still listed")
