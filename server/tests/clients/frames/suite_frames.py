"""Frames no client would send, over plain sockets: each closes its own connection at most.

Usage: suite_frames.py BOOTSTRAP [PATTERN]. Needs nothing but Python. NODE_PID, when given, is watched for memory.
"""

import os
import random
import resource
import socket
import struct
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), ".."))

from suite import BOOTSTRAP, ON_JANGBU, equal, main, test, wait_until  # noqa: E402

HOST, PORT = BOOTSTRAP.rsplit(":", 1)
IDLE_CONNECTIONS = 10000
NODE_PID = os.environ.get("NODE_PID")


def connect(source=None):
    s = socket.create_connection((HOST, int(PORT)), 10, source)
    s.settimeout(20)
    return s


def header(key, version, correlation, client=b"frames"):
    return struct.pack(">hhih", key, version, correlation, len(client)) + client


def frame(body):
    return struct.pack(">i", len(body)) + body


def api_versions(correlation, version=0):
    """An ApiVersions request; from version 3 on the header ends with (no) tagged fields."""
    body = b"\x00\x02x\x021\x00" if version >= 3 else b""
    return frame(header(18, version, correlation) + body)


def metadata(correlation):
    """Metadata v1 for no topic at all."""
    return frame(header(3, 1, correlation) + struct.pack(">i", 0))


def exactly(s, count):
    data = b""
    while len(data) < count:
        more = s.recv(count - len(data))
        if not more:
            raise AssertionError(f"closed after {len(data)} of {count} bytes")
        data += more
    return data


def answer(s):
    """(correlation id, body) of the next answer."""
    size = struct.unpack(">i", exactly(s, 4))[0]
    body = exactly(s, size)
    return struct.unpack(">i", body[:4])[0], body[4:]


def is_closed(s):
    try:
        return s.recv(1) == b""
    except ConnectionError:
        return True


def works():
    """A normal client on a connection of its own gets its answer."""
    with connect() as s:
        s.sendall(api_versions(7))
        correlation, body = answer(s)
        equal(correlation, 7, "correlation id")
        equal(body[:2], b"\0\0", "error code")


def memory_kib():
    with open(f"/proc/{NODE_PID}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def closes(data, what):
    with connect() as bystander, connect() as s:
        bystander.sendall(api_versions(1))
        answer(bystander)
        try:
            s.sendall(data)
        except ConnectionError:
            pass
        equal(is_closed(s), True, f"{what} closes the connection")
        bystander.sendall(api_versions(2))
        equal(answer(bystander)[0], 2, "the bystander's answer")
    works()


@test("two-gib-claimed")
def two_gib():
    before = memory_kib() if NODE_PID else 0
    closes(struct.pack(">i", 2**31 - 1) + b"x" * 100, "a claim of 2 GiB")
    if NODE_PID and memory_kib() - before > 200 * 1024:
        raise AssertionError(f"memory grew by {memory_kib() - before} KiB")


@test("just-above-the-limit")
def above_limit():
    closes(struct.pack(">i", 100 * 1024 * 1024 + 1) + b"x" * 100, "a claim of 100 MiB and one byte")


def never_comes():
    """90 MiB are allowed; claiming them without sending costs no memory.

    Kafka allocates what is claimed: with a heap of 1 GiB these 50 connections end it.
    """
    before = memory_kib() if NODE_PID else 0
    sockets = [connect() for _ in range(50)]
    for s in sockets:
        s.sendall(struct.pack(">i", 90 * 1024 * 1024) + header(3, 1, 1))
    works()
    if NODE_PID and memory_kib() - before > 200 * 1024:
        raise AssertionError(f"memory grew by {memory_kib() - before} KiB")
    for s in sockets:
        s.close()
    works()


if ON_JANGBU:
    test("large-claim-that-never-comes")(never_comes)
for size in [-1, -2, -(2**31)]:
    name = f"negative-size{size}"
    test(name)(lambda size=size: closes(struct.pack(">i", size) + b"x" * 20, f"size {size}"))
for size in range(8):
    test(f"size-{size}")(lambda size=size: closes(frame(b"\0" * size), f"{size} bytes of header"))


@test("garbage")
def garbage():
    rng = random.Random(42)
    for _ in range(20):
        with connect() as s:
            try:
                s.sendall(b"\x7f" + rng.randbytes(500))
            except ConnectionError:
                pass
            equal(is_closed(s), True, "garbage closes the connection")
    works()


@test("garbage-in-sound-frames")
def garbage_in_frames():
    """Random bodies behind sound headers of every API: an answer or a closed connection, never silence."""
    rng = random.Random(43)
    for key in [0, 1, 2, 3, 10, 18, 19, 20, 22, 23, 32, 37, 60, 75]:
        for version in [1, 4, 9, 12]:
            with connect() as s:
                s.sendall(frame(header(key, version, 1) + b"\0" + b"\xff" * 4 + rng.randbytes(60)))
                try:
                    s.recv(4)
                except ConnectionError:
                    pass
    works()


@test("http-request")
def http():
    closes(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", "an HTTP request")


@test("unknown-api-key")
def unknown_key():
    closes(frame(header(9999, 0, 1)), "api key 9999")


@test("negative-api-key")
def negative_key():
    closes(frame(header(-1, 0, 1)), "api key -1")


@test("unsupported-version")
def unsupported_version():
    closes(frame(header(3, 99, 1)), "Metadata v99")


@test("unsupported-api-versions-version")
def unsupported_api_versions():
    for version in [5, 99, 32767]:
        with connect() as s:
            s.sendall(api_versions(5, version))
            correlation, body = answer(s)
            equal(correlation, 5, "correlation id")
            error, count = struct.unpack(">hi", body[:6])
            equal(error, 35, "error code")
            equal(len(body), 6 + 6 * count, "length of a v0 body")
            keys = [struct.unpack(">hhh", body[6 + 6 * i : 12 + 6 * i]) for i in range(count)]
            known = [k for k in keys if k[0] == 18]
            equal(len(known) == 1 and known[0][2] >= 4, True, f"range of key 18 in {known}")
            s.sendall(api_versions(6, 0))
            equal(answer(s)[0], 6, "the retry on the same connection")


@test("truncated-body")
def truncated_body():
    closes(frame(header(3, 1, 1) + b"\0\0"), "a Metadata request that ends early")


@test("array-count-lies")
def array_count():
    before = memory_kib() if NODE_PID else 0
    closes(frame(header(3, 1, 1) + struct.pack(">i", 2**31 - 1)), "two thousand million topics")
    if NODE_PID and memory_kib() - before > 200 * 1024:
        raise AssertionError(f"memory grew by {memory_kib() - before} KiB")


@test("string-length-lies")
def string_length():
    closes(frame(header(3, 1, 1) + struct.pack(">ih", 1, 32767) + b"x"), "a topic name that is not there")


@test("client-id-length-lies")
def client_id_length():
    closes(frame(struct.pack(">hhih", 3, 1, 1, 5000) + b"x"), "a client id that is not there")


@test("client-closes-in-the-middle")
def closes_in_middle():
    for count in range(1, 24):
        with connect() as s:
            s.sendall(metadata(1)[:count])
    works()


@test("byte-by-byte")
def byte_by_byte():
    with connect() as s:
        s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in metadata(77):
            s.sendall(bytes([byte]))
        equal(answer(s)[0], 77, "correlation id")


@test("pipelined")
def pipelined():
    """A thousand requests in one write, two kinds: the answers come in the order of the requests."""
    count = 1000
    with connect() as s:
        s.sendall(b"".join(metadata(i) if i % 3 else api_versions(i) for i in range(count)))
        equal([answer(s)[0] for _ in range(count)], list(range(count)), "order of the answers")


@test("pipelined-behind-a-waiting-fetch")
def pipelined_fetch():
    """An empty fetch that waits 1 s, then metadata: the fetch is still answered first."""
    fetch = struct.pack(">iiiib", -1, 1000, 1, 1 << 20, 0) + struct.pack(">i", 0)
    with connect() as s:
        s.sendall(frame(header(1, 4, 1) + fetch) + metadata(2))
        equal([answer(s)[0], answer(s)[0]], [1, 2], "order of the answers")


@test("ten-thousand-idle-connections")
def idle_connections():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard < IDLE_CONNECTIONS + 100:
        raise AssertionError(f"the limit of open files is {hard}: raise it (ulimit -Hn)")
    sockets = []
    try:
        for i in range(IDLE_CONNECTIONS):
            sockets.append(connect())
            if i % 32 == 0:  # so that the node's queue of new connections never overflows
                sockets[-1].sendall(api_versions(i))
                equal(answer(sockets[-1])[0], i, "answer on a new connection")
        for s in random.Random(44).sample(sockets, 200):
            s.sendall(api_versions(3))
            equal(answer(s)[0], 3, "answer on an idle connection")
        start = time.monotonic()
        works()
        if time.monotonic() - start > 5:
            raise AssertionError("a normal client had to wait")
    finally:
        for s in sockets:
            s.close()
    wait_until(lambda: works() is None, "the node answers afterwards")


if __name__ == "__main__":
    main()
