"""kafka-python 2.0.2 pinned to the protocol of Kafka 0.10 and 0.11, as appliances still speak it.

Kafka 4 refuses these versions, jangbu answers them: so this runs with TARGET=jangbu only. With 0.10 settings the
client asks with Metadata 1, ListOffsets 0, CreateTopics 0 and DeleteTopics 0; records are read and written with
0.11, which brought today's record format.

Usage: suite_old.py BOOTSTRAP [PATTERN].
"""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from kafka import KafkaConsumer, KafkaProducer, TopicPartition  # noqa: E402
from kafka.admin import KafkaAdminClient, NewTopic  # noqa: E402
import groups  # noqa: E402
from suite import BOOTSTRAP, equal, main, odd_records, test, topic_name, wait_until  # noqa: E402


def produce(topic, records, version=(0, 11), **config):
    client = KafkaProducer(bootstrap_servers=BOOTSTRAP, api_version=version, linger_ms=50, **config)
    sent = [client.send(topic, v, k, headers=h, partition=0) for k, v, h in records]
    client.flush(60)
    for future in sent:
        future.get(60)
    client.close()


def consumer(version):
    return KafkaConsumer(
        bootstrap_servers=BOOTSTRAP,
        api_version=version,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
    )


def round_trip(version, **config):
    topic, records = topic_name("old"), odd_records(300)
    produce(topic, records, version, **config)
    client, partition, got = consumer(version), TopicPartition(topic, 0), []
    client.assign([partition])
    client.seek_to_beginning(partition)

    def done():
        for batch in client.poll(500).values():
            got.extend(batch)
        return len(got) >= len(records)

    wait_until(done, "all records are read")
    client.close()
    for i, (record, (key, value, headers)) in enumerate(zip(got, records)):
        equal((record.offset, record.key, record.value), (i, key, value), f"record {i}")
        equal(record.headers, headers, f"headers of {i}")


def admin_with(version):
    topic = topic_name("admin")
    client = KafkaAdminClient(bootstrap_servers=BOOTSTRAP, api_version=version)
    client.create_topics([NewTopic(topic, 2, 1)])
    wait_until(lambda: topic in client.list_topics(), "the topic is listed")
    client.delete_topics([topic])
    wait_until(lambda: topic not in client.list_topics(), "the topic is gone")
    client.close()


def offsets_with(version):
    topic = topic_name("offsets")
    produce(topic, odd_records(10))
    client, partition = consumer(version), TopicPartition(topic, 0)
    equal(client.beginning_offsets([partition]), {partition: 0}, "beginning")
    equal(client.end_offsets([partition]), {partition: 10}, "end")
    client.close()


for version in [(0, 10, 0), (0, 10, 1)]:
    label = ".".join(map(str, version))
    test(f"old-offsets-{label}")(lambda version=version: offsets_with(version))
for version in [(0, 10, 1), (0, 11, 0), (1, 0, 0), (2, 0, 0)]:
    label = ".".join(map(str, version))
    test(f"old-admin-{label}")(lambda version=version: admin_with(version))
for version in [(0, 11, 0), (1, 0, 0), (2, 5, 0)]:
    label = ".".join(map(str, version))
    test(f"old-round-trip-{label}")(lambda version=version: round_trip(version))
for codec in ["gzip", "snappy", "lz4"]:
    test(f"old-codec-{codec}")(lambda codec=codec: round_trip((0, 11, 0), compression_type=codec))


def create(name, partitions):
    topic = topic_name(name)
    client = KafkaAdminClient(bootstrap_servers=BOOTSTRAP, api_version=(2, 0, 0))
    client.create_topics([NewTopic(topic, partitions, 1)])
    client.close()
    return topic


groups.define(create, produce)

if __name__ == "__main__":
    main()
