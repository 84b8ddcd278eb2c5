"""The newest librdkafka, through confluent-kafka.

Usage: suite_librdkafka.py BOOTSTRAP [PATTERN].
"""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from confluent_kafka import (  # noqa: E402
    TIMESTAMP_LOG_APPEND_TIME,
    Consumer,
    KafkaError,
    KafkaException,
    Producer,
    TopicPartition,
)
from confluent_kafka.admin import (  # noqa: E402
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ConfigSource,
    NewPartitions,
    NewTopic,
    OffsetSpec,
)
import consumer_groups  # noqa: E402
import groups  # noqa: E402
import migration  # noqa: E402
from suite import BOOTSTRAP, equal, main, odd_records, test, topic_name, wait_until  # noqa: E402

BASE = {"bootstrap.servers": BOOTSTRAP}
admin = AdminClient(BASE)


def new_topic(name, partitions=1, **config):
    topic = topic_name(name)
    admin.create_topics([NewTopic(topic, partitions, 1, config=config)])[topic].result(60)

    def ready():
        found = admin.list_topics(topic, timeout=30).topics[topic]
        leaders = [p.leader for p in found.partitions.values()]
        return found.error is None and len(leaders) == partitions and min(leaders) >= 0

    wait_until(ready, f"{topic} has leaders")
    return topic


def produce(topic, records, partition=0, **config):
    errors = []
    producer = Producer({**BASE, "linger.ms": 50, "message.timeout.ms": 60000, **config})
    for key, value, headers in records:
        producer.produce(
            topic, value, key, partition, headers=headers, on_delivery=lambda e, m: errors.append(e)
        )
        producer.poll(0)
    equal(producer.flush(60), 0, "records still in the queue")
    equal(len(errors), len(records), "delivery reports")
    return [e for e in errors if e is not None]


def consumer(assignment, **config):
    c = Consumer({**BASE, "group.id": "none", "enable.auto.commit": False, **config})
    c.assign(assignment)
    return c


def consume(topic, count, offset=0, seconds=60):
    c = consumer([TopicPartition(topic, 0, offset)])
    got, end = [], time.monotonic() + seconds
    while len(got) < count and time.monotonic() < end:
        for m in c.consume(count - len(got), 1):
            if m.error():
                raise AssertionError(m.error())
            got.append(m)
    c.close()
    equal(len(got), count, "records read")
    return got


def check_records(got, want, first=0):
    for i, (message, (key, value, headers)) in enumerate(zip(got, want)):
        equal(message.offset(), first + i, "offset")
        equal(message.key(), key, f"key of {first + i}")
        equal(message.value(), value, f"value of {first + i}")
        equal(message.headers() or [], headers, f"headers of {first + i}")


def round_trip(**config):
    topic, records = new_topic("round"), odd_records(1000)
    equal(produce(topic, records, **config), [], "errors")
    check_records(consume(topic, 1000), records)


def code_of(action):
    try:
        action()
    except KafkaException as error:
        return error.args[0].code()
    return None


for codec in ["none", "gzip", "snappy", "lz4", "zstd"]:
    test(f"codec-{codec}")(lambda codec=codec: round_trip(**{"compression.type": codec}))
for acks in ["0", "1", "all"]:
    test(f"acks-{acks}")(lambda acks=acks: round_trip(acks=acks))
test("idempotence")(lambda: round_trip(**{"enable.idempotence": True}))


def stored_in(codec):
    topic, records = new_topic("stored", **{"compression.type": codec}), odd_records(300)
    for i, sent in enumerate(["none", "gzip", "snappy", "lz4", "zstd"]):
        equal(produce(topic, records, **{"compression.type": sent}), [], "errors")
        check_records(consume(topic, 300, 300 * i), records, 300 * i)


for codec in ["uncompressed", "gzip", "snappy", "lz4", "zstd"]:
    test(f"stored-in-{codec}")(lambda codec=codec: stored_in(codec))


@test("log-append-time")
def log_append_time():
    topic, before = new_topic("time", **{"message.timestamp.type": "LogAppendTime"}), time.time()
    reports = []
    producer = Producer(BASE)
    producer.produce(topic, b"x", timestamp=5, on_delivery=lambda e, m: reports.append(m.timestamp()))
    producer.flush(60)
    kind, told = reports[0]
    equal((kind, told >= int(before * 1000)), (TIMESTAMP_LOG_APPEND_TIME, True), "the delivery report")
    equal(consume(topic, 1)[0].timestamp(), (kind, told), "what is consumed")


@test("middle-of-batch")
def middle_of_batch():
    topic, records = new_topic("middle"), odd_records(500)
    equal(produce(topic, records, **{"linger.ms": 300}), [], "errors")
    for offset in [1, 249, 250, 499]:
        check_records(consume(topic, 500 - offset, offset), records[offset:], offset)


@test("long-poll")
def long_poll():
    topic = new_topic("poll")
    c = consumer([TopicPartition(topic, 0, 0)], **{"fetch.wait.max.ms": 20000})
    equal(c.poll(1.5), None, "an empty log")
    start = time.monotonic()
    equal(produce(topic, [(b"k", b"late", [])]), [], "errors")
    message = c.poll(15)
    equal(message and message.value(), b"late", "the late record")
    if time.monotonic() - start > 8:
        raise AssertionError(f"it took {time.monotonic() - start:.1f} s")
    c.close()


@test("partition-eof")
def partition_eof():
    topic = new_topic("eof")
    produce(topic, odd_records(10))
    c = consumer([TopicPartition(topic, 0, 0)], **{"enable.partition.eof": True})
    got = [c.poll(10) for _ in range(11)]
    equal(got[10] is not None and got[10].error().code(), KafkaError._PARTITION_EOF, "the 11th event")
    equal(c.get_watermark_offsets(TopicPartition(topic, 0)), (0, 10), "watermarks")
    c.close()


@test("large-and-too-large")
def large():
    topic = new_topic("large")
    big = {"message.max.bytes": 4000000}
    fits, over = (b"k", b"m" * 1000000, []), (b"k", b"x" * 2000000, [])
    equal(produce(topic, [fits], **big), [], "errors for 1 MB")
    codes = [e.code() for e in produce(topic, [over], **big)]
    equal(codes, [KafkaError.MSG_SIZE_TOO_LARGE], "error for 2 MB")
    after = (b"k", b"after", [])
    equal(produce(topic, [after], **big), [], "errors afterwards")
    check_records(consume(topic, 2), [fits, after])


@test("keyless-on-compacted-topic")
def keyless():
    topic = new_topic("compacted", **{"cleanup.policy": "compact"})
    errors = produce(topic, [(None, b"x", [])])
    equal([e.code() for e in errors], [KafkaError.INVALID_RECORD], "error without a key")
    with_key = (b"k", b"y", [])
    equal(produce(topic, [with_key]), [], "errors with one")
    check_records(consume(topic, 1), [with_key])


@test("thousand-partitions")
def thousand_partitions():
    count = 1000
    topic = new_topic("thousand", count)
    producer = Producer({**BASE, "linger.ms": 50})
    for i in range(3 * count):
        producer.produce(topic, b"%d" % (i // count), partition=i % count)
    equal(producer.flush(60), 0, "records still in the queue")
    c = consumer([TopicPartition(topic, p, 0) for p in range(count)])
    seen, end = {}, time.monotonic() + 60
    while sum(map(len, seen.values())) < 3 * count and time.monotonic() < end:
        for m in c.consume(5000, 0.2):
            seen.setdefault(m.partition(), []).append((m.offset(), m.value()))
    c.close()
    want = [(0, b"0"), (1, b"1"), (2, b"2")]
    equal([p for p in range(count) if seen.get(p) != want], [], "partitions with other content")
    admin.delete_topics([topic])[topic].result(60)


@test("unknown-topic")
def unknown_topic():
    never = topic_name("never")
    c = consumer([], **{"allow.auto.create.topics": False})
    for _ in range(2):  # the second time shows that the first has not created it
        error = c.list_topics(never, timeout=30).topics[never].error
        equal(error and error.code(), KafkaError.UNKNOWN_TOPIC_OR_PART, "error in the metadata")
    code = code_of(lambda: c.get_watermark_offsets(TopicPartition(never, 0), 10, False))
    equal(code is not None, True, "asking for its offsets fails")
    c.close()
    topic = new_topic("unknown-partition", 2)
    errors = []
    producer = Producer({**BASE, "message.timeout.ms": 15000})
    try:
        producer.produce(topic, b"x", partition=7, on_delivery=lambda e, m: errors.append(e.code()))
        producer.flush(20)
    except KafkaException as error:
        errors.append(error.args[0].code())
    equal(errors, [KafkaError._UNKNOWN_PARTITION], "producing to partition 7 of 2")


@test("auto-create")
def auto_create():
    topic, records = topic_name("auto"), odd_records(20)
    equal(produce(topic, records), [], "errors")
    check_records(consume(topic, 20), records)


@test("bad-topic-names")
def bad_names():
    for name in [".", "..", "a b", "a/b", "ü", "x" * 250]:
        code = code_of(lambda: admin.create_topics([NewTopic(name, 1, 1)])[name].result(30))
        equal(code, KafkaError.TOPIC_EXCEPTION, f"creating {name!r}")


@test("admin-create-grow-delete")
def create_grow_delete():
    topic = new_topic("admin", 2)
    code = code_of(lambda: admin.create_topics([NewTopic(topic, 2, 1)])[topic].result(30))
    equal(code, KafkaError.TOPIC_ALREADY_EXISTS, "a second create")
    admin.create_partitions([NewPartitions(topic, 5)])[topic].result(30)
    wait_until(lambda: len(admin.list_topics(topic).topics[topic].partitions) == 5, "5 partitions")
    admin.delete_topics([topic])[topic].result(30)
    wait_until(lambda: topic not in admin.list_topics().topics, "the topic is gone")


@test("admin-describe-configs")
def describe_configs():
    topic = new_topic("configs", **{"retention.ms": "12345"})
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)
    found = admin.describe_configs([resource])[resource].result(30)
    equal(found["retention.ms"].value, "12345", "retention.ms")
    equal(found["cleanup.policy"].value, "delete", "cleanup.policy")
    equal(found["cleanup.policy"].is_default, True, "cleanup.policy is the default")


@test("admin-alter-configs")
def alter_configs():
    topic = new_topic("alter", **{"retention.bytes": "5"})
    resource = ConfigResource(ConfigResource.Type.TOPIC, topic)

    def entry(name, operation, value=None):
        return ConfigEntry(name, value, incremental_operation=operation)

    def alter(*entries, **options):
        change = ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=list(entries))
        admin.incremental_alter_configs([change], **options)[change].result(30)

    def value(name):
        found = admin.describe_configs([resource])[resource].result(30)[name]
        return found.value, found.source

    dynamic = ConfigSource.DYNAMIC_TOPIC_CONFIG.value
    alter(entry("retention.ms", AlterConfigOpType.SET, "7"), validate_only=True)
    equal(value("retention.bytes"), ("5", dynamic), "before")
    alter(
        entry("retention.ms", AlterConfigOpType.SET, "7"),
        entry("retention.bytes", AlterConfigOpType.DELETE),
        entry("leader.replication.throttled.replicas", AlterConfigOpType.APPEND, "0:1"),
    )
    equal(value("retention.ms"), ("7", dynamic), "what was set")
    equal(value("retention.bytes")[0], "-1", "what was deleted")
    equal(value("leader.replication.throttled.replicas"), ("0:1", dynamic), "what was appended")
    bad = entry("retention.ms", AlterConfigOpType.SET, "soon")
    equal(code_of(lambda: alter(bad)), KafkaError.INVALID_CONFIG, "a bad value")
    change = ConfigResource(ConfigResource.Type.TOPIC, topic, set_config={"segment.ms": "8000"})
    admin.alter_configs([change])[change].result(30)
    equal((value("segment.ms")[0], value("retention.ms")[0]), ("8000", "604800000"), "replaced")


@test("admin-offsets")
def offsets():
    topic, partition = new_topic("offsets"), None
    produce(topic, odd_records(10))
    partition = TopicPartition(topic, 0)
    for spec, want in [
        (OffsetSpec.earliest(), 0),
        (OffsetSpec.latest(), 10),
        (OffsetSpec.for_timestamp(1), 0),
    ]:
        got = admin.list_offsets({partition: spec})[partition].result(30).offset
        equal(got, want, f"offset for {spec}")
    c = consumer([])
    answers = c.offsets_for_times([TopicPartition(topic, 0, 1)], 30)
    equal(answers[0].offset, 0, "offset for time 1")
    c.close()


@test("admin-delete-records")
def delete_records():
    topic = new_topic("delete-records")
    produce(topic, odd_records(10))
    at = TopicPartition(topic, 0, 4)
    equal(admin.delete_records([at])[at].result(30).low_watermark, 4, "low watermark")
    spec = {TopicPartition(topic, 0): OffsetSpec.earliest()}
    equal(next(iter(admin.list_offsets(spec).values())).result(30).offset, 4, "earliest offset")
    check_records(consume(topic, 6, 4), odd_records(10)[4:], 4)
    beyond = TopicPartition(topic, 0, 11)
    code = code_of(lambda: admin.delete_records([beyond])[beyond].result(30))
    equal(code, KafkaError.OFFSET_OUT_OF_RANGE, "beyond the end")
    everything = TopicPartition(topic, 0, -1)
    equal(admin.delete_records([everything])[everything].result(30).low_watermark, 10, "all")


groups.define(new_topic, produce)
consumer_groups.define(new_topic, produce)
migration.define(new_topic)

if __name__ == "__main__":
    main()
