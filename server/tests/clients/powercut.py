#!/usr/bin/env python3
"""Power cuts in the middle of writing: every acknowledged record is back at its offset, once and in order.

Usage: powercut.py [--compacted] [--cuts N] [--minutes M] [--partitions P] [--drop-one] -- COMMAND...

COMMAND starts the node in the foreground; in it {data} is replaced by the data directory, {port} by the port to
listen on, {wire} by the port to tell clients and {http} by that of the metrics. Needs root: the data lies on an ext4 file system of its own, in a file
on a loop device, and a cut is FS_IOC_SHUTDOWN without flushing the journal, which drops whatever was not synced.

A cut takes the network first and then the disk: clients reach the node over a wire that this program holds, and
no byte passes it any more when the file system goes down. That order is the point. The ioctl aborts the journal, and
an fdatasync that is under way meanwhile may answer success although its bytes are lost (disk.py shows it without any
database); in a real power cut no call returns. So what is answered after the ioctl must reach nobody.

A cut falls while clients write, while the node starts, or while it stops. Producers are librdkafka's (idempotent,
acks=all), the readers librdkafka's and kafka-python's.

With --compacted a topic is written to and cleaned meanwhile: powercut_compacted.py.

--drop-one takes one record (with --compacted, one key) away from what was read: the check must then fail, which shows that it can.
"""

import argparse
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from confluent_kafka.admin import AdminClient, NewTopic

import powercut_compacted
from crash import (
    Node,
    StartFailed,
    Writer,
    check_what_is_there,
    report,
)
from disk import Disk, DiskFailed
from ports import free_ports


class Wire:
    """What clients connect to; it passes bytes on to the node until it is cut."""

    def __init__(self, node_port):
        self.node_port, self.down, self.lock, self.ends = node_port, False, threading.Lock(), set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            client, _ = self.listener.accept()
            try:
                node = socket.create_connection(("127.0.0.1", self.node_port), 1)
            except OSError:
                client.close()
                continue
            for end in (client, node):
                end.settimeout(None)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self.lock:
                self.ends |= {client, node}
            # Only answers wait for the lock: a client always reads, a node may make its clients wait.
            threading.Thread(target=self.pump, args=(node, client, self.lock), daemon=True).start()
            threading.Thread(
                target=self.pump, args=(client, node, threading.Lock()), daemon=True
            ).start()

    def pump(self, source, target, lock):
        try:
            while data := source.recv(1 << 18):
                with lock:
                    if self.down:
                        break
                    target.sendall(data)
        except OSError:
            pass
        for end in (source, target):
            try:
                end.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        with self.lock:
            self.ends -= {source, target}

    def cut(self):
        """No byte reaches a client any more when this returns."""
        with self.lock:
            self.down = True

    def hang_up(self):
        with self.lock:
            for end in self.ends:
                try:
                    end.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass

    def mend(self):
        self.down = False


class Rig:
    """The node, its disk and the wire to its clients."""

    def __init__(self, command, disk):
        self.disk = disk
        port, self.http = free_ports(2)
        self.wire = Wire(port)
        self.address = f"127.0.0.1:{self.wire.port}"
        places = {"{wire}": str(self.wire.port), "{data}": f"{disk.root}/data", "{http}": str(self.http)}
        for name, value in places.items():
            command = [part.replace(name, value) for part in command]
        self.node = Node(command, port)
        self.ended_itself = 0

    def cut(self):
        """The network, then the disk; what is still in the node's memory dies with it."""
        self.wire.cut()
        self.disk.cut()
        try:
            self.node.process.wait(0.1)
            self.ended_itself += 1
        except subprocess.TimeoutExpired:
            self.node.kill()
        self.wire.hang_up()
        self.disk.unmount()
        self.disk.mount()
        self.wire.mend()

    def cut_while_starting(self):
        self.node.process = subprocess.Popen(
            self.node.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        time.sleep(random.uniform(0, 0.4))
        self.cut()

    def cut_while_stopping(self):
        self.node.process.send_signal(signal.SIGTERM)
        time.sleep(random.uniform(0, 0.2))
        self.cut()

    def cut_somehow(self, made):
        """Cuts after so many cuts: mostly while it runs, sometimes while it stops, or starts again. How many cuts it were."""
        if made % 5 == 4:
            self.cut_while_stopping()
        else:
            self.cut()
        if made % 5 == 2:
            self.cut_while_starting()
            return 2
        return 1


def wait_for(writer, more):
    goal, end = writer.count() + more, time.monotonic() + 120
    while writer.count() < goal:
        if not writer.is_alive():
            return "the producer has given up"
        if time.monotonic() > end:
            return f"only {writer.count()} of {goal} acknowledged within 120 s"
        time.sleep(0.001)
    return None


def cut_while_writing(rig, writer, cuts, minutes):
    """Cuts after some more acknowledgements each time, at no fixed moment. Returns (cuts made, why it stopped)."""
    made, end = 0, time.monotonic() + 60 * minutes
    while made < cuts or time.monotonic() < end:
        why = wait_for(writer, random.randrange(500, 15000))
        if why:
            return made, why
        more = rig.cut_somehow(made)
        rig.node.start()
        made += more
    return made, None


def check(rig, options):
    rig.disk.mount()
    for _ in range(2):
        rig.cut_while_starting()
    rig.node.start()
    topic = f"powercut-{os.getpid()}"
    admin = AdminClient({"bootstrap.servers": rig.address})
    admin.create_topics([NewTopic(topic, options.partitions, 1)])[topic].result(60)
    writer = Writer(rig.address, topic, options.partitions)
    writer.start()
    try:
        made, why = cut_while_writing(rig, writer, options.cuts, options.minutes)
    except StartFailed as error:
        return report("writing-goes-on-after-power-cuts", str(error))
    bad = report(f"writing-goes-on-after-{made}-power-cuts", why)
    writer.stopping.set()
    writer.join()
    bad |= report("no-delivery-failed", "; ".join(writer.failed[:3]))
    rig.cut()
    rig.node.start()
    bad |= check_what_is_there(rig.address, topic, writer, options)
    print(f"# {made + 3} cuts, {writer.count()} acknowledged records")
    print(f"# the node ended by itself within 0.1 s of {rig.ended_itself} cuts")
    return bad


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--compacted", action="store_true")
    parser.add_argument("--cuts", type=int, default=20)
    parser.add_argument("--minutes", type=float, default=0, help="go on at least this long")
    parser.add_argument("--partitions", type=int, default=8)
    parser.add_argument("--drop-one", action="store_true")
    parser.add_argument("command", nargs=argparse.REMAINDER)
    options = parser.parse_args()
    options.command = [c for c in options.command if c != "--"]
    if not options.command:
        parser.error("the command that starts the node is missing")
    return options


def main():
    options = arguments()
    disk = rig = None
    try:
        disk = Disk()
        rig = Rig(options.command, disk)
        bad = (powercut_compacted.check if options.compacted else check)(rig, options)
        sys.exit(1 if bad else 0)
    except (StartFailed, DiskFailed, OSError) as why:
        sys.exit(report("the-node-starts-on-a-disk-whose-power-can-be-cut", str(why)))
    finally:
        if rig and rig.node.process and rig.node.process.poll() is None:
            rig.node.kill()
        if disk:
            disk.remove()


if __name__ == "__main__":
    main()
