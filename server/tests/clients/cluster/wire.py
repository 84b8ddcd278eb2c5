"""Requests to one node and no other, in the plain old versions of the protocol that are easily written by hand.

Libraries ask whom the metadata names. A node that is cut off must be asked itself.
"""

import socket
import struct
import time

from kafka.record import MemoryRecordsBuilder

PRODUCE, FETCH, LIST_OFFSETS = 0, 1, 2
LATEST = -1


def text(value):
    return struct.pack(">h", len(value)) + value.encode()


def one(topic, partition):
    """The one topic with the one partition of every request here, as far as they look alike."""
    return struct.pack(">i", 1) + text(topic) + struct.pack(">ii", 1, partition)


class Connection:
    """A connection to one node. Answers that do not come within the seconds are `TimeoutError`."""

    def __init__(self, address, seconds):
        host, port = address.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), seconds)
        self.socket.settimeout(seconds)
        self.sent = 0

    def close(self):
        self.socket.close()

    def read(self, count):
        data = b""
        while len(data) < count:
            more = self.socket.recv(count - len(data))
            if not more:
                raise ConnectionError("the node has closed the connection")
            data += more
        return data

    def ask(self, key, version, body):
        self.sent += 1
        request = struct.pack(">hhi", key, version, self.sent) + text("witness") + body
        self.socket.sendall(struct.pack(">i", len(request)) + request)
        answer = self.read(struct.unpack(">i", self.read(4))[0])
        if struct.unpack_from(">i", answer)[0] != self.sent:
            raise ConnectionError("the answer is of another request")
        return answer[4:]

    def produce(self, topic, partition, value):
        """Produce 3, acks=all, no retries: the error code and the offset."""
        builder = MemoryRecordsBuilder(magic=2, compression_type=0, batch_size=1 << 20)
        builder.append(timestamp=int(time.time() * 1000), key=None, value=value)
        builder.close()
        records = bytes(builder.buffer())
        body = struct.pack(">hhi", -1, -1, 5000) + one(topic, partition) + struct.pack(">i", len(records)) + records
        answer = self.ask(PRODUCE, 3, body)
        return struct.unpack_from(">hq", answer, 4 + 2 + len(topic) + 4 + 4)

    def list_latest(self, topic, partition):
        """ListOffsets 1: the error code and the end."""
        body = struct.pack(">i", -1) + one(topic, partition) + struct.pack(">q", LATEST)
        code, _, end = struct.unpack_from(">hqq", self.ask(LIST_OFFSETS, 1, body), 4 + 2 + len(topic) + 4 + 4)
        return code, end

    def list_latest_v0(self, topic, partition):
        """ListOffsets 0, which answers a list: the error code and the end."""
        body = struct.pack(">i", -1) + one(topic, partition) + struct.pack(">qi", LATEST, 1)
        answer = self.ask(LIST_OFFSETS, 0, body)
        code, count = struct.unpack_from(">hi", answer, 4 + 2 + len(topic) + 4 + 4)
        return code, struct.unpack_from(">q", answer, len(answer) - 8)[0] if count else -1

    def fetch(self, topic, partition, offset):
        """Fetch 4 that waits a little: the error code and the high watermark."""
        body = struct.pack(">iiiib", -1, 100, 1, 1 << 20, 0) + one(topic, partition) + struct.pack(">qi", offset, 1 << 20)
        answer = self.ask(FETCH, 4, body)
        return struct.unpack_from(">hq", answer, 4 + 4 + 2 + len(topic) + 4 + 4)
