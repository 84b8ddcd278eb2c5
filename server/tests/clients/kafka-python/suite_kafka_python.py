"""kafka-python, the newest: a client written from the protocol's description in pure Python.

Usage: suite_kafka_python.py BOOTSTRAP [PATTERN].
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from kafka import KafkaConsumer, KafkaProducer, TopicPartition  # noqa: E402
from kafka import errors  # noqa: E402
from kafka.admin import (  # noqa: E402
    ConfigResource,
    ConfigResourceType,
    KafkaAdminClient,
    NewTopic,
)
import groups  # noqa: E402
from suite import BOOTSTRAP, equal, main, odd_records, test, topic_name, wait_until  # noqa: E402


def admin():
    return KafkaAdminClient(bootstrap_servers=BOOTSTRAP)


def new_topic(name, partitions=1, **config):
    topic = topic_name(name)
    client = admin()
    client.create_topics([NewTopic(topic, partitions, 1, topic_configs=config)])

    def ready():
        found = client.describe_topics([topic])[0]
        leaders = [p.get("leader_id", p.get("leader")) for p in found["partitions"]]
        return not found["error_code"] and len(leaders) == partitions and min(leaders) >= 0

    wait_until(ready, f"{topic} has leaders")
    client.close()
    return topic


def producer(**config):
    return KafkaProducer(bootstrap_servers=BOOTSTRAP, **{"linger_ms": 50, **config})


def produce(topic, records, **config):
    client = producer(**config)
    sent = [client.send(topic, v, k, headers=h, partition=0) for k, v, h in records]
    client.flush(60)
    for future in sent:
        future.get(60)
    client.close()


def consumer(**config):
    settings = {"enable_auto_commit": False, "auto_offset_reset": "earliest", **config}
    return KafkaConsumer(bootstrap_servers=BOOTSTRAP, **settings)


def consume(topic, count, offset=0, seconds=60):
    client, partition, got = consumer(), TopicPartition(topic, 0), []
    client.assign([partition])
    client.seek(partition, offset)
    end = time.monotonic() + seconds
    while len(got) < count and time.monotonic() < end:
        for records in client.poll(500).values():
            got += records
    client.close()
    equal(len(got), count, "records read")
    return got


def check_records(got, want, first=0):
    for i, (record, (key, value, headers)) in enumerate(zip(got, want)):
        equal(record.offset, first + i, "offset")
        equal(record.key, key, f"key of {first + i}")
        equal(record.value, value, f"value of {first + i}")
        equal(list(map(tuple, record.headers)), headers, f"headers of {first + i}")


def round_trip(**config):
    topic, records = new_topic("round"), odd_records(500)
    produce(topic, records, **config)
    check_records(consume(topic, len(records)), records)


def refused(error, action, what):
    try:
        answer = action()
    except error:
        return
    raise AssertionError(f"{what} was not refused: {answer}")


for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
    test(f"codec-{codec or 'none'}")(lambda codec=codec: round_trip(compression_type=codec))
for acks in [0, 1, "all"]:
    test(f"acks-{acks}")(lambda acks=acks: round_trip(acks=acks, enable_idempotence=False))
test("idempotence")(lambda: round_trip(enable_idempotence=True))


def stored_in(codec):
    topic, records = new_topic("stored", **{"compression.type": codec}), odd_records(200)
    for i, sent in enumerate([None, "gzip", "snappy", "lz4", "zstd"]):
        produce(topic, records, compression_type=sent)
        check_records(consume(topic, 200, 200 * i), records, 200 * i)


for codec in ["uncompressed", "gzip", "snappy", "lz4", "zstd"]:
    test(f"stored-in-{codec}")(lambda codec=codec: stored_in(codec))


@test("middle-of-batch")
def middle_of_batch():
    topic, records = new_topic("middle"), odd_records(500)
    produce(topic, records, linger_ms=300)
    for offset in [1, 249, 250, 499]:
        check_records(consume(topic, 500 - offset, offset), records[offset:], offset)


@test("long-poll")
def long_poll():
    topic = new_topic("poll")
    client, partition = consumer(fetch_max_wait_ms=20000), TopicPartition(topic, 0)
    client.assign([partition])
    client.seek(partition, 0)
    equal(client.poll(1500), {}, "an empty log")
    produce(topic, [(b"k", b"late", [])])
    start = time.monotonic()
    equal([r.value for r in client.poll(15000).get(partition, [])], [b"late"], "the late record")
    if time.monotonic() - start > 8:
        raise AssertionError(f"it took {time.monotonic() - start:.1f} s")
    client.close()


@test("alter-configs")
def alter_configs():
    topic, client = new_topic("alter", **{"retention.bytes": "5"}), admin()

    def alter(configs, **options):
        client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs)], **options)

    def value(name):  # None when it is not set: defaults are left out
        found = client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        return found["topic"][topic].get(name, {}).get("value")

    alter({"retention.ms": ("SET", "7"), "retention.bytes": ("DELETE", None)})
    equal((value("retention.ms"), value("retention.bytes")), ("7", None), "set and deleted")
    alter({"segment.ms": "8000", "retention.ms": "9"}, incremental=False)
    equal((value("segment.ms"), value("retention.ms")), ("8000", "9"), "replaced")
    client.close()


@test("large-and-too-large")
def large():
    topic = new_topic("large")
    client = producer(max_request_size=4000000, batch_size=16384)
    client.send(topic, b"m" * 1000000, partition=0).get(60)
    refused(
        errors.MessageSizeTooLargeError,
        lambda: client.send(topic, b"x" * 2000000, partition=0).get(60),
        "2 MB",
    )
    client.close()  # its idempotent state ends with the refused batch
    produce(topic, [(b"k", b"after", [])])
    equal([len(r.value) for r in consume(topic, 2)], [1000000, 5], "sizes")


@test("thousand-partitions")
def thousand_partitions():
    count = 1000
    topic = new_topic("thousand", count)
    client = producer()
    for i in range(2 * count):
        client.send(topic, b"%d" % (i // count), partition=i % count)
    client.flush(90)
    client.close()
    partitions = [TopicPartition(topic, p) for p in range(count)]
    reader, seen = consumer(max_poll_records=5000), {}
    reader.assign(partitions)
    reader.seek_to_beginning(*partitions)
    end = time.monotonic() + 90
    while sum(map(len, seen.values())) < 2 * count and time.monotonic() < end:
        for partition, records in reader.poll(500).items():
            seen.setdefault(partition, []).extend((r.offset, r.value) for r in records)
    reader.close()
    want = [(0, b"0"), (1, b"1")]
    equal([p for p in partitions if seen.get(p) != want], [], "partitions with other content")
    client = admin()
    client.delete_topics([topic])
    client.close()


@test("auto-create")
def auto_create():
    topic, records = topic_name("auto"), odd_records(20)
    produce(topic, records)
    check_records(consume(topic, 20), records)


@test("unknown-partition")
def unknown_partition():
    topic = new_topic("unknown", 2)
    client = producer(max_block_ms=3000)
    refused(Exception, lambda: client.send(topic, b"x", partition=7).get(10), "partition 7 of 2")
    client.close()


@test("bad-topic-names")
def bad_names():
    client = admin()
    for name in ["a b", "a/b", "..", "x" * 250]:
        refused(
            (errors.InvalidTopicError, ValueError),
            lambda: client.create_topics([NewTopic(name, 1, 1)]),
            f"topic {name[:20]!r}",
        )
    client.close()


@test("offsets")
def offsets():
    topic = new_topic("offsets")
    base = int(time.time() * 1000) - 100000
    client = producer(linger_ms=0)
    for i in range(3):
        client.send(topic, b"%d" % i, partition=0, timestamp_ms=base + 1000 * i).get(30)
    client.close()
    reader, partition = consumer(), TopicPartition(topic, 0)
    equal(reader.beginning_offsets([partition]), {partition: 0}, "beginning")
    equal(reader.end_offsets([partition]), {partition: 3}, "end")
    found = reader.offsets_for_times({partition: base + 1})[partition]
    equal((found.offset, found.timestamp), (1, base + 1000), "by timestamp")
    equal(reader.offsets_for_times({partition: base + 2001})[partition], None, "after the last")
    reader.close()


@test("admin-create-list-delete")
def create_list_delete():
    topic, client = new_topic("admin", 3), admin()
    equal(topic in client.list_topics(), True, "listed")
    refused(
        errors.TopicAlreadyExistsError,
        lambda: client.create_topics([NewTopic(topic, 3, 1)]),
        "a second create",
    )
    client.delete_topics([topic])
    wait_until(lambda: topic not in client.list_topics(), "the topic is gone")
    client.close()


groups.define(new_topic, produce)

if __name__ == "__main__":
    main()
