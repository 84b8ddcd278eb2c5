#!/usr/bin/env python3
"""Kafka's own tools administer three nodes, and move partitions and leaders while two libraries write to them.

Usage: cluster_tools.py --toolbox COMMAND [--only-admin] [--record] [--drop-one] [--keep] JANGBU|kafka

The tools are run as an operator runs them. Every exit code and every line they print is compared with what Apache Kafka 4.3.0
prints at the same step: `kafka` instead of a binary asks Kafka's own nodes, and must be green too. Where the two rightly differ, the
step says so (`either`, `DIFFERENT`). First what is administered without moving anything (cluster/admin_steps.py), then moves and
elections (cluster/tool_steps.py).

Under those, librdkafka's and kafka-python's idempotent producers write all the time, each to a topic of its own; after each step every
partition must get on, and in the end both libraries read every record, once and in order.

Not here: crashes in the middle of a move (cluster.py, cluster/moves.py).

--drop-one takes one record away from what was read: the check must then fail, which shows that it can.
"""

import argparse
import pathlib
import shlex
import shutil
import sys
import tempfile

from cluster import network
from cluster.admin_steps import AdminSteps
from cluster.failed import Failed
from cluster.nodes import Cluster
from cluster.reference import Reference
from cluster.tool_steps import Steps
from cluster.tools import Tools
from cluster.writers import PATIENCE, PAUSE, PythonWriter
from crash import Writer, check_what_is_there, report

WRITTEN = ["by-kafka-python", "by-librdkafka"]


def leave_out_the_unknown(writers):
    """A batch that Kafka has had before may be acknowledged without an offset. jangbu tells it always."""
    for writer in writers:
        writer.acked = [[(offset, n) for offset, n in acked if offset is not None] for acked in writer.acked]


def go_through(cluster, tools, options):
    cluster.start()
    cluster.wait_ready()
    admin = AdminSteps(cluster, tools, options.nodes == "kafka", options.record)
    admin.go_through()
    if options.only_admin:
        return admin.bad
    steps = Steps(cluster, tools, WRITTEN, options.nodes == "kafka")
    steps.create()
    python, librdkafka = WRITTEN
    writers = [PythonWriter(cluster.bootstrap, python, options.partitions),
               Writer(cluster.bootstrap, librdkafka, options.partitions, PATIENCE, PAUSE)]
    for writer in writers:
        writer.start()
    steps.go_through(writers)
    for writer in writers:
        writer.stopping.set()
    for writer in writers:
        writer.join()
    bad = admin.bad | steps.bad | report("no-delivery-failed", "; ".join(f for w in writers for f in w.failed[:3]))
    if options.nodes == "kafka":
        leave_out_the_unknown(writers)
    for writer, kind in zip(writers, ["kafka-python", "librdkafka"]):
        name = f"written-with-{kind}-is-there-once-in-order-for-"
        bad |= check_what_is_there(cluster.bootstrap, writer.topic, writer, options, name)
    cluster.stop()
    print(f"# {sum(w.count() for w in writers)} acknowledged records")
    return bad


def check(options):
    home, cluster, tools, bad = pathlib.Path(tempfile.mkdtemp(prefix="cluster-tools-")), None, None, True
    try:
        if options.nodes == "kafka":
            cluster = Reference(home)
        else:
            network.enter_own_namespaces()
            cluster = Cluster(options.nodes, home)
        tools = Tools(cluster.bootstrap, options.toolbox, home)
        bad = go_through(cluster, tools, options)
    except Failed as why:
        report("cluster-tools", str(why))
    finally:
        if tools:
            tools.close()
        if cluster:
            cluster.remove()
        if bad and options.keep:
            print(f"# kept: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    return bad


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("nodes", help="the jangbu binary, or `kafka`")
    parser.add_argument("--toolbox", required=True, type=shlex.split, help="the command that starts Kafka's tools in one JVM")
    parser.add_argument("--only-admin", action="store_true", help="neither moves nor elections")
    parser.add_argument("--record", action="store_true", help="keep what Kafka prints as what is expected")
    parser.add_argument("--drop-one", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep data and logs when a check fails")
    options = parser.parse_args()
    options.partitions = 3
    return options


if __name__ == "__main__":
    sys.exit(1 if check(arguments()) else 0)
