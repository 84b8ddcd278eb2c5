"""One member of a consumer group, for demo_bus.py: reads, writes down what it has read, commits, at no more than its pace.

Usage: demo_member.py BROKERS GROUP OUT RECORDS_PER_SECOND TOPIC...

OUT gets a line of JSON for what the member owns, whenever that changes, and one for each batch of records that it has read.
A batch is committed after it was written down: who is killed in between has it read again by another member.
"""

import json
import signal
import sys
import time

from confluent_kafka import Consumer

BATCH = 250


def main():
    brokers, group, out, rate, *topics = sys.argv[1:]
    running = [True]
    signal.signal(signal.SIGTERM, lambda *_: running.clear())
    consumer = Consumer({"bootstrap.servers": brokers, "group.id": group, "auto.offset.reset": "earliest", "enable.auto.commit": False,
                         "session.timeout.ms": 6000, "heartbeat.interval.ms": 500, "log_level": 0})
    with open(out, "a") as file:

        def note(**what):
            file.write(json.dumps(what) + "\n")
            file.flush()

        def owns(partitions):
            note(owns=[[p.topic, p.partition] for p in partitions])

        consumer.subscribe(topics, on_assign=lambda _, given: owns(given), on_revoke=lambda *_: owns([]), on_lost=lambda *_: owns([]))
        while running:
            began = time.monotonic()
            records = [m for m in consumer.consume(BATCH, 0.1) if not m.error()]
            if records:
                note(read=[[m.topic(), m.partition(), m.offset()] for m in records])
                consumer.commit(asynchronous=False)
            time.sleep(max(0, len(records) / float(rate) - (time.monotonic() - began)))
        consumer.close()


if __name__ == "__main__":
    main()
