"""How the Python suites name, run and report their tests: `ok NAME` or `FAIL NAME: why`, one line each."""

import os
import random
import sys
import time

BOOTSTRAP = (sys.argv[1:] or [os.environ.get("BOOTSTRAP", "")])[0]
PATTERN = sys.argv[2] if len(sys.argv) > 2 else ""
ON_JANGBU = os.environ.get("TARGET") == "jangbu"
RUN = f"{random.randrange(1 << 32):08x}"
_tests = []


def topic_name(name):
    """A name nobody has used on this node, so that a suite can be repeated."""
    return f"py-{name}-{RUN}-{random.randrange(1 << 32):08x}"


def test(name):
    """Registers a function without arguments as a test."""

    def register(function):
        _tests.append((name, function))
        return function

    return register


def equal(got, want, what):
    if got != want:
        raise AssertionError(f"{what}: got {str(got)[:200]}, want {str(want)[:200]}")


def wait_until(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise AssertionError(f"timed out: {what}")
        time.sleep(0.02)


def odd_records(count):
    """(key, value, headers) with null keys, null values, empty values and headers among them."""
    records = []
    for i in range(count):
        key, value, headers = b"key-%d" % i, bytes([i % 256]) * (i % 300), []
        if i % 5 == 1:
            key = None
        if i % 5 == 2:
            value = None
        if i % 5 == 3:
            value = b""
        if i % 5 == 4:
            headers = [("h", b"v"), ("h", b""), ("other", b"\x00\xff")]
        records.append((key, value, headers))
    return records


def main():
    if not BOOTSTRAP:
        sys.exit("usage: suite BOOTSTRAP [PATTERN]")
    failed = 0
    for name, function in _tests:
        if PATTERN not in name:
            continue
        try:
            function()
            print(f"ok {name}", flush=True)
        except Exception as error:  # every failure is one line, whatever it was
            failed += 1
            why = f"{type(error).__name__}: {error}".replace("\n", " ")
            print(f"FAIL {name}: {why[:400]}", flush=True)
    sys.exit(1 if failed else 0)
