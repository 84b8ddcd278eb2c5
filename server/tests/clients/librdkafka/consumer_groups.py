"""Groups of the consumer protocol (KIP-848) with librdkafka: the stories of groups.py, both assignors, regular expressions."""

from confluent_kafka import Consumer

from groups import administration, fenced, poll_all, share, shares, static
from suite import BOOTSTRAP, equal, test, topic_name


def member(group, **config):
    settings = {
        "bootstrap.servers": BOOTSTRAP,
        "group.id": group,
        "group.protocol": "consumer",
        "auto.offset.reset": "earliest",
        "enable.auto.commit": False,
        "topic.metadata.refresh.interval.ms": 1000,
    }
    return Consumer({**settings, **config})


def sharing_by(assignor):
    return lambda group: member(group, **{"group.remote.assignor": assignor})


def define(new_topic, produce):
    for assignor in ("uniform", "range"):
        test(f"consumer-group-two-members-share-and-resume-{assignor}")(
            lambda by=sharing_by(assignor): share(by, new_topic, produce))
    test("consumer-group-static-member-keeps-its-partitions")(lambda: static(member, new_topic))
    test("consumer-group-commits-of-strangers-are-refused")(lambda: fenced(member, new_topic))
    test("consumer-group-admin")(lambda: administration(member, new_topic, "CONSUMER"))

    @test("consumer-group-regex")
    def regex():
        topic, group = new_topic("regex", 2), topic_name("g")
        produce(topic, [(None, b"v", None)] * 3, 1)
        one = member(group)
        one.subscribe([f"^{topic[:-4]}.*"])
        poll_all([one], lambda read: len(read) == 3, "the records of what matches")
        equal(shares([one]), [2], "partitions")
        one.close()
