"""aiokafka: producers with every codec, a consumer by partition and groups, for programs on asyncio.

Usage: suite_aiokafka.py BOOTSTRAP [PATTERN].
"""

import asyncio
import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition  # noqa: E402
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic  # noqa: E402
from aiokafka.coordinator.assignors.range import RangePartitionAssignor  # noqa: E402
from suite import BOOTSTRAP, equal, main, odd_records, test, topic_name  # noqa: E402

BASE = {"bootstrap_servers": BOOTSTRAP}
SECONDS = 60


def asynchronous(name):
    """Registers a coroutine as a test; it must end in time."""

    def register(function):
        test(name)(lambda: asyncio.run(asyncio.wait_for(function(), SECONDS)))
        return function

    return register


async def until(condition, what):
    """Waits until it is so; says what was awaited when it never is."""
    end = time.monotonic() + SECONDS / 2
    while not await condition():
        if time.monotonic() > end:
            raise AssertionError(f"timed out: {what}")
        await asyncio.sleep(0.02)


async def new_topic(name, partitions=1):
    topic = topic_name(name)
    admin = AIOKafkaAdminClient(**BASE)
    await admin.start()
    await admin.create_topics([NewTopic(topic, partitions, 1)])

    async def led():
        (found,) = await admin.describe_topics([topic])
        return found["error_code"] == 0 and len(found["partitions"]) == partitions and not any(
            p["error_code"] for p in found["partitions"])

    await until(led, f"{topic} has leaders")
    await admin.close()
    return topic


async def produce(topic, records, partition=None, **config):
    async with AIOKafkaProducer(**BASE, linger_ms=20, **config) as producer:
        sent = [await producer.send(topic, value, key, partition, headers=headers) for key, value, headers in records]
        return [await each for each in sent]


def keyed(mark, count):
    return [(b"key-%d" % (i % 40), b"%s-%d" % (mark, i), []) for i in range(count)]


async def round_trip(**config):
    topic, records = await new_topic("round"), odd_records(500)
    told = await produce(topic, records, 0, **config)
    if config.get("acks") != 0:
        equal([each.offset for each in told], list(range(500)), "offsets that were told")
    async with AIOKafkaConsumer(**BASE) as consumer:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        for start in (0, 333):
            consumer.seek(partition, start)
            got = [await consumer.getone() for _ in range(500 - start)]
            equal([m.offset for m in got], list(range(start, 500)), "offsets")
            equal([(m.key, m.value, list(m.headers)) for m in got], records[start:], "records")


for codec in [None, "gzip", "snappy", "lz4", "zstd"]:
    asynchronous(f"codec-{codec or 'none'}")(lambda codec=codec: round_trip(compression_type=codec))
asynchronous("idempotence")(lambda: round_trip(enable_idempotence=True))
asynchronous("acks-0")(lambda: round_trip(acks=0))


async def member(topic, group):
    consumer = AIOKafkaConsumer(
        topic, **BASE, group_id=group, auto_offset_reset="earliest", enable_auto_commit=False, session_timeout_ms=6000,
        heartbeat_interval_ms=300, metadata_max_age_ms=5000, partition_assignment_strategy=[RangePartitionAssignor])
    await consumer.start()
    return consumer


async def take(count, *members):
    """So many records, read by these members; each commits what it has read."""
    got = []
    while len(got) < count:
        for each in members:
            for records in (await each.getmany(timeout_ms=100, max_records=count - len(got))).values():
                got += [(m.key, m.value) for m in records]
    for each in members:
        await each.commit()
    return sorted(got)


def values(records):
    return sorted((key, value) for key, value, _ in records)


@asynchronous("group")
async def group():
    topic, name = await new_topic("group", 4), topic_name("g")
    first, second, third = keyed(b"first", 200), keyed(b"second", 200), keyed(b"third", 200)
    await produce(topic, first)
    one = await member(topic, name)
    got = await take(120, one)
    await one.stop()
    one = await member(topic, name)
    equal(sorted(got + await take(80, one)), values(first), "what was read before the restart and after it")
    two = await member(topic, name)

    async def shared():
        await asyncio.gather(one.getmany(timeout_ms=50), two.getmany(timeout_ms=50))
        return [len(each.assignment()) for each in (one, two)] == [2, 2]

    await until(shared, "two members with two partitions each")
    await produce(topic, second)
    equal(await take(200, one, two), values(second), "what two members read")
    await one.stop()

    async def alone():
        await two.getmany(timeout_ms=50)
        return len(two.assignment()) == 4

    await until(alone, "the rest goes to the one that is left")
    await produce(topic, third)
    equal(await take(200, two), values(third), "what is read by the one that is left")
    admin = AIOKafkaAdminClient(**BASE)
    await admin.start()
    (found,) = await admin.describe_consumer_groups([name])
    equal((found.groups[0][2], len(found.groups[0][5])), ("Stable", 1), "state and members")
    equal((name, "consumer") in await admin.list_consumer_groups(), True, "listed")
    offsets = await admin.list_consumer_group_offsets(name)
    equal(sum(each.offset for each in offsets.values()), 600, "records committed")
    await admin.close()
    await two.stop()


@asynchronous("committed-and-metadata")
async def committed():
    topic, name = await new_topic("commits"), topic_name("g")
    async with AIOKafkaConsumer(**BASE, group_id=name, enable_auto_commit=False) as consumer:
        partition = TopicPartition(topic, 0)
        consumer.assign([partition])
        equal(await consumer.committed(partition), None, "nothing is committed")
        await consumer.commit({partition: (17, "a note")})
        equal(await consumer.committed(partition), 17, "committed")


@asynchronous("offsets-by-time")
async def by_time():
    topic = await new_topic("times")
    async with AIOKafkaProducer(**BASE) as producer:
        for at in (1000, 2000, 3000):
            await producer.send_and_wait(topic, b"x", timestamp_ms=at)
    async with AIOKafkaConsumer(**BASE) as consumer:
        partition = TopicPartition(topic, 0)
        found = (await consumer.offsets_for_times({partition: 1500}))[partition]
        equal((found.offset, found.timestamp), (1, 2000), "the first one after that time")
        equal(await consumer.end_offsets([partition]), {partition: 3}, "ends")
        equal(await consumer.beginning_offsets([partition]), {partition: 0}, "beginnings")


@asynchronous("administration")
async def administration():
    topic = await new_topic("admin")
    admin = AIOKafkaAdminClient(**BASE)
    await admin.start()
    await admin.create_partitions({topic: NewPartitions(3)})

    async def three():
        return len((await admin.describe_topics([topic]))[0]["partitions"]) == 3

    await until(three, "three partitions")
    await admin.delete_topics([topic])

    async def gone():
        return topic not in await admin.list_topics()

    await until(gone, "the topic is gone")
    await admin.close()


if __name__ == "__main__":
    main()
