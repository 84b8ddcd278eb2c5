#!/usr/bin/env python3
"""Three nodes lose a minority, or all at once, in every way: every acknowledged record is there, once and in order.

Usage: cluster.py [--rounds N] [--minutes M] [--faults NAME,...] [--partitions P] [--seed S] [--drop-one] JANGBU

Two idempotent producers write all the time with acks=all, librdkafka's and kafka-python's, each to a topic of its own
with three replicas. Each round does one fault, of a process, of the network or of a disk (cluster/faults.py), or moves
everything while a fourth node is there (cluster/moves.py), and waits until every partition gets on without what is broken,
makes it good again, and waits until all replicas are in sync.

A node that is cut off is asked meanwhile (cluster/witness.py): it may acknowledge nothing, nor tell an old end of a log.

In the end both topics are read with both libraries and compared record by record; then all nodes stop, every store is
checked with `jangbu inspect verify`, and the three copies of each partition must be the same.

Needs root: the nodes are in network namespaces of their own, and one has a file system of its own. The machine's network
is not touched; of a run that was killed only temporary files stay.

--drop-one takes one record away from what was read: the check must then fail, which shows that it can.
"""

import argparse
import json
import os
import pathlib
import random
import shutil
import subprocess
import sys
import tempfile
import time

from confluent_kafka.admin import NewTopic

from cluster import faults, network
from cluster.failed import Failed
from cluster.nodes import Cluster
from cluster.writers import PATIENCE, PAUSE, Gaps, PythonWriter
from crash import Writer, check_what_is_there, read_librdkafka, report


def rounds(happening, options):
    """The faults one after the other, and then in any order; each is reported when it goes wrong, or in the end."""
    kinds, done, stop = options.faults.split(","), 0, time.monotonic() + 60 * options.minutes
    wrong, tried = set(), set()
    while done < (options.rounds or len(kinds)) or time.monotonic() < stop:
        if done and done % len(kinds) == 0:
            random.shuffle(kinds)
        kind, began = kinds[done % len(kinds)], time.monotonic()
        tried.add(kind)
        try:
            said = happening.do(kind)
        except Failed as why:
            wrong.add(kind)
            report(f"writing-goes-on-through-{kind}", str(why))
            happening.make_good()
            said = happening.said
        took, (gap, where) = time.monotonic() - began, happening.gaps.longest
        print(f"# {kind}: {took:.1f} s, no partition longer than {gap:.2f} s ({where}) without an acknowledgement"
              f"{'; ' if said else ''}{said}", flush=True)
        done += 1
    for kind in sorted(tried - wrong):
        report(f"writing-goes-on-through-{kind}", None)
    return bool(wrong)


def first_of(problems):
    """Some of many problems, with their number."""
    return f"{len(problems)}: {'; '.join(problems[:3])}" if problems else None


def check_witnesses(happening):
    """What nodes that were cut off answered."""
    wrong = [text for witness in happening.witnesses for text in witness.wrong]
    bad = report("a-node-that-is-cut-off-acknowledges-nothing", first_of([w for w in wrong if "acknowledged a" in w]))
    bad |= report("a-node-that-is-cut-off-lists-no-old-end", first_of([w for w in wrong if "ListOffsets" in w]))
    return bad | report("a-node-that-is-cut-off-lets-nobody-read-on", first_of([w for w in wrong if "Fetch" in w]))


def check_records(cluster, topics, happening, options):
    bad = False
    address = cluster.bootstrap.split(",")[0]
    for topic, writer, kind in zip(topics, happening.writers, ["librdkafka", "kafka-python"]):
        name = f"written-with-{kind}-is-there-once-in-order-for-"
        bad |= check_what_is_there(address, topic, writer, options, name)
    acked = [(p, offset, value) for witness in happening.witnesses for p, offset, value in witness.acked]
    there = {(p, o, v) for p, found in enumerate(read_librdkafka(address, happening.witnessed, options.partitions))
             for o, v in found}
    return bad | report("what-the-witnesses-were-acknowledged-is-there", first_of([str(a) for a in acked if a not in there]))


def batches(node, topic, partition):
    """What a stopped node holds of a partition: every batch with its place, without the log's other entries."""
    command = [node.binary, "inspect", "dump", str(node.data), "--topic", topic, "--partition", str(partition), "--json"]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [entry for entry in map(json.loads, out.splitlines()) if entry["kind"] == "batch"]


def check_stores(cluster, topics, options):
    """Each store by itself, and that the copies of each partition are the same. All nodes have stopped."""
    bad = False
    for node in cluster.nodes:
        done = subprocess.run([node.binary, "inspect", "verify", str(node.data)], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
        why = f"`jangbu inspect verify` ended with {done.returncode}: {done.stdout[-500:]}"
        bad |= report(f"store-of-node-{node.number}-is-sound", why if done.returncode else None)
    try:
        return bad | report("all-copies-are-the-same", ", ".join(different_copies(cluster, topics, options)))
    except subprocess.CalledProcessError as why:
        return report("all-copies-are-the-same", str(why))


def different_copies(cluster, topics, options):
    for topic in topics:
        for p in range(options.partitions):
            first, *others = [batches(node, topic, p) for node in cluster.nodes]
            if any(other != first for other in others):
                yield f"{topic}-{p}"


def form(cluster, options):
    """Starts the nodes and makes the topics: one for each writer, and one for the witnesses."""
    cluster.start()
    cluster.wait_ready()
    topics = [f"{name}-{os.getpid()}" for name in ("by-librdkafka", "by-kafka-python", "by-witnesses")]
    admin = cluster.admin()
    for created in admin.create_topics([NewTopic(t, options.partitions, 3) for t in topics]).values():
        created.result(60)
    cluster.wait_in_sync(topics)
    report("three-nodes-form-a-cluster", None)
    return topics


def go_through(cluster, options):
    """Writes, does the faults, and checks what came of it."""
    *topics, witnessed = form(cluster, options)
    writers = [Writer(cluster.bootstrap, topics[0], options.partitions, PATIENCE, PAUSE),
               PythonWriter(cluster.bootstrap, topics[1], options.partitions)]
    gaps = Gaps(writers)
    for thread in [*writers, gaps]:
        thread.start()
    happening = faults.Faults(cluster, topics, witnessed, writers, gaps)
    bad = rounds(happening, options)
    for thread in [gaps, *writers]:
        thread.stopping.set()
    for thread in [gaps, *writers]:
        thread.join()
    bad |= report("no-delivery-failed", "; ".join(f for w in writers for f in w.failed[:3]))
    bad |= check_witnesses(happening)
    bad |= check_records(cluster, topics, happening, options)
    cluster.stop()
    bad |= check_stores(cluster, [*topics, witnessed], options)
    print(f"# {sum(w.count() for w in writers)} acknowledged records")
    return bad


def check(options):
    home, cluster, bad = pathlib.Path(tempfile.mkdtemp(prefix="cluster-")), None, True
    try:
        network.enter_own_namespaces()
        cluster = Cluster(options.jangbu, home)
        bad = go_through(cluster, options)
    except Failed as why:
        report("cluster", str(why))
    finally:
        if cluster and bad and options.keep:
            shutil.copytree(cluster.on_disk.data, home / "node3", dirs_exist_ok=True)
        if cluster:
            cluster.remove()
        if bad and options.keep:
            print(f"# kept: {home}")
        else:
            shutil.rmtree(home, ignore_errors=True)
    return bad


def arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("jangbu")
    parser.add_argument("--rounds", type=int, default=0, help="instead of every fault once")
    parser.add_argument("--minutes", type=float, default=0, help="go on at least this long")
    parser.add_argument("--faults", default=",".join(faults.NAMES), help="these, in turn; default: %(default)s")
    parser.add_argument("--partitions", type=int, default=6)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--drop-one", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep data and logs when a check fails")
    options = parser.parse_args()
    unknown = set(options.faults.split(",")) - set(faults.NAMES)
    if unknown:
        parser.error(f"no such faults: {', '.join(sorted(unknown))}; there are {', '.join(faults.NAMES)}")
    options.seed = random.randrange(1 << 30) if options.seed is None else options.seed
    random.seed(options.seed)
    print(f"# seed {options.seed}", flush=True)
    return options


if __name__ == "__main__":
    sys.exit(1 if check(arguments()) else 0)
