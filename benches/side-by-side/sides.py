"""The brokers that are measured: how each starts, stops, and what it has used.

Every side is a process group of its own on loopback with a directory of its own. What each acknowledges, and after which sync,
is said in README.md; a side changes nothing else of its broker's defaults.

Not here: the loads (run.py and the other parts), three nodes of one side (cluster.py).
"""

import os
import signal
import socket
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
CLIENTS = os.path.join(HERE, "../../server/tests/clients")
sys.path.insert(0, CLIENTS)
from ports import free_port  # noqa: E402
TICKS = os.sysconf("SC_CLK_TCK")
NATS_VERSION = "v2.15.2"


def shell(script):
    """Output of a bash script that has the client suites' env.sh."""
    source = f'source "{CLIENTS}/env.sh"; {script}'
    return subprocess.run(["bash", "-c", source], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


class Side:
    """A broker: how it starts, stops, and what it has used."""

    client = None  # the program that loads it, if not load.c
    share = 1.0  # of the records of a load

    def __init__(self, name, directory):
        self.name, self.directory, self.pid, self.address = name, directory, None, None

    def cpu(self):
        with open(f"/proc/{self.pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def end(self):
        """Kills it if it runs."""
        if self.pid and os.path.exists(f"/proc/{self.pid}"):
            self.kill()

    def revive(self):
        """Starts it again if it has ended by itself."""
        if self.ended():
            self.start()

    def rss_mb(self):
        with open(f"/proc/{self.pid}/status") as f:
            return next(int(line.split()[1]) for line in f if line.startswith("VmRSS")) / 1000

    def cool(self):
        """Takes what it stored out of the page cache. What is mapped into its memory stays."""
        os.sync()
        for folder, _, names in os.walk(self.directory):
            for name in names:
                try:
                    with open(os.path.join(folder, name), "rb") as f:
                        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                except OSError:
                    pass  # deleted since


class Kafka(Side):
    def __init__(self, name, directory, *settings):
        super().__init__(name, directory)
        self.settings, self.started = settings, False

    def control(self, verb, *more):
        script = os.path.join(CLIENTS, "reference/kafka.sh")
        command = [script, verb, self.directory, *more]
        return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()

    def start(self):
        self.address = self.control("restart") if self.started else self.control("start", *self.settings)
        self.started = True
        with open(os.path.join(self.directory, "pid")) as f:
            self.pid = int(f.read())

    def ended(self):
        return not os.path.exists(f"/proc/{self.pid}")

    def kill(self):
        self.control("kill")


class Server(Side):
    """One that is a child of this process, and listens at `port`."""

    def __init__(self, name, directory):
        super().__init__(name, directory)
        self.port, self.process = free_port(), None
        self.address = f"127.0.0.1:{self.port}"

    def start(self):
        os.makedirs(self.directory, exist_ok=True)
        command = self.command()
        with open(os.path.join(self.directory, "server.log"), "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        self.pid = self.process.pid
        while True:
            try:
                return socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                if self.process.poll() is not None:
                    sys.exit(f"{command[0]} ended with {self.process.returncode}: see {log.name}")
                time.sleep(0.01)

    def ended(self):
        return self.process.poll() is not None

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()


class Jangbu(Server):
    extra = []  # more options of `jangbu serve`

    def __init__(self, name, directory, binary):
        super().__init__(name, directory)
        self.binary = binary

    def command(self):
        command = [self.binary, "serve", "--data", os.path.join(self.directory, "data"), "--listen", self.address]
        return command + (self.extra if "--http" in self.extra else [*self.extra, "--http", "127.0.0.1:0"])


class Nats(Server):
    """JetStream. `sync`: its sync_interval; the default of two minutes if not given."""

    def __init__(self, name, directory, sync=None):
        super().__init__(name, directory)
        self.sync = sync
        # Each record waits for a sync of its own: the same number would take a quarter of an hour.
        self.share = 0.2 if sync == "always" else 1.0

    def command(self):
        server, Nats.client = nats_programs()
        config = os.path.join(self.directory, "nats.conf")
        sync = f"sync_interval: {self.sync}" if self.sync else ""
        with open(config, "w") as f:
            f.write(f'listen: "{self.address}"\njetstream {{ store_dir: "{self.directory}/data"\n{sync} }}\n')
        return [server, "--config", config]


def nats_programs():
    """nats-server from the Go module proxy, and the client in nats/."""
    home = f'"$CLIENTS_DIR/nats-{NATS_VERSION}"'
    out = shell(
        f'need_go && if [ ! -x {home}/nats-server ]; then GOBIN={home} "$GO" install '
        f'github.com/nats-io/nats-server/v2@{NATS_VERSION} >&2; fi && '
        f'cd "{HERE}/nats" && "$GO" build -o {home}/load . >&2 && echo {home}')
    return os.path.join(out, "nats-server"), os.path.join(out, "load")


def speaks_kafka(side):
    return not isinstance(side, Nats)
