"""Consumer groups with kafka-python: subscribing, committing and resuming.

The same for the newest version and for 2.0.2, which speaks the protocol of Kafka 2.5.
"""

import time

from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata

from suite import BOOTSTRAP, equal, test, topic_name


def member(group, topic=None, **config):
    settings = {
        "group_id": group,
        "auto_offset_reset": "earliest",
        "enable_auto_commit": False,
        "session_timeout_ms": 6000,
        "heartbeat_interval_ms": 500,
    }
    one = KafkaConsumer(bootstrap_servers=BOOTSTRAP, **{**settings, **config})
    if topic is not None:
        one.subscribe([topic])
    return one


def noted(offset, note):
    """Fields have come and gone: the leader epoch only exists in newer versions."""
    extra = len(OffsetAndMetadata._fields) - 2
    return OffsetAndMetadata(offset, note, *[-1] * extra)


def poll_all(members, until, what, seconds=60):
    records, end = [], time.monotonic() + seconds
    while not until(records):
        if time.monotonic() > end:
            raise AssertionError(f"timed out: {what}; {[m.assignment() for m in members]}")
        for each in members:
            for batch in each.poll(timeout_ms=50).values():
                records.extend(batch)
    return records


def define(new_topic, produce):
    @test("group-share-commit-and-resume")
    def share():
        topic, group = new_topic("group", 2), topic_name("g")
        produce(topic, [(None, b"v%d" % i, []) for i in range(50)])
        one = member(group, topic)
        poll_all([one], lambda read: len(read) == 50, "all records by one member")
        one.commit({TopicPartition(topic, 0): noted(20, "bis hier")})
        one.close()
        two = member(group, topic)
        at = TopicPartition(topic, 0)
        read = poll_all([two], lambda read: len(read) == 30, "what was not committed")
        equal(read[0].offset, 20, "resumed at")
        equal(two.committed(at), 20, "committed")
        equal(two.committed(at, metadata=True).metadata, "bis hier", "metadata")
        two.close()

    @test("group-a-member-that-comes-takes-its-share")
    def comes():
        import threading

        topic, group = new_topic("group-two", 2), topic_name("g")
        first, second = member(group, topic), member(group, topic)
        stop = threading.Event()

        def poll(one):
            while not stop.is_set():
                one.poll(timeout_ms=100)

        threads = [threading.Thread(target=poll, args=(one,)) for one in (first, second)]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 60
        shares = None
        while shares != [1, 1] and time.monotonic() < end:
            shares = sorted(len(one.assignment()) for one in (first, second))
            time.sleep(0.05)
        stop.set()
        for thread in threads:
            thread.join()
        equal(shares, [1, 1], "partitions of the two members")
        first.close()
        second.close()
