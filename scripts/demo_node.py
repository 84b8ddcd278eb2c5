"""A node that can be killed and started again, and what the demos say: for demo.py, demo_bus.py and cluster_demo.py."""

import pathlib
import re
import signal
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "server/tests/clients"))
from ports import free_port  # noqa: E402

HOME = pathlib.Path("demo-data")
READY_SECONDS = 60


class Off(Exception):
    """Something is not as promised."""


def step(text):
    print(f"\n== {text}", flush=True)


def rate(count, seconds):
    return f"{count / max(seconds, 1e-9):,.0f}/s"


def get(address, path):
    with urllib.request.urlopen(f"http://{address}{path}", timeout=2) as answer:
        return answer.read().decode()


class Node:
    """A `jangbu serve` process. Can be killed and started again on the same ports and data."""

    def __init__(self, binary):
        self.binary = binary
        self.kafka, self.http = (f"127.0.0.1:{free_port()}" for _ in range(2))
        self.process = None

    def start(self):
        """Starts it; returns the seconds until it listens and until all partitions have a leader."""
        began = time.monotonic()
        command = [self.binary, "serve", "--data", str(HOME / "node"), "--listen", self.kafka]
        command += ["--http", self.http, "--json"]
        with open(HOME / "node.log", "ab") as log:
            self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            raise Off(f"the node did not start; {HOME}/node.log says why:\n" + tail(HOME / "node.log"))
        listening = time.monotonic() - began
        while time.monotonic() - began < READY_SECONDS:
            try:
                get(self.http, "/readyz")
                return listening, time.monotonic() - began
            except OSError:
                time.sleep(0.005)
        raise Off(f"the node was not ready after {READY_SECONDS} s; see {HOME}/node.log")

    def records(self):
        """Records it has taken in since it was started."""
        found = re.search(r"^jangbu_produced_records_total (\S+)", get(self.http, "/metrics"), re.M)
        return int(float(found.group(1))) if found else 0

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        """SIGTERM; the seconds it took. It must end with 0."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=10)
        if code != 0:
            raise Off(f"the node ended with {code} after SIGTERM")
        return time.monotonic() - began

    def cleanup(self):
        if self.process and self.process.poll() is None:
            self.kill()


def tail(path):
    return "\n".join(path.read_text(errors="replace").splitlines()[-15:])
