"""Power cuts while a compacted topic is cleaned: for powercut.py, which holds the node, its disk and the wire.

Few keys are overwritten and deleted all the time. After each cut the store that it left is verified, and everything is read: no key is behind
its last acknowledged update, so none lost its value and none is back from the dead, and no offset holds anything else than what was
acknowledged there. While it is read nothing new is written. In the end two libraries must read exactly what is left.
"""

import copy
import random
import subprocess
import time

from confluent_kafka.admin import AdminClient

from compacted import PARTITIONS, Updates, cleans, create, read, read_kafka_python, stale, undone, untrue
from crash import report

# Few enough that most keys have no update that is not answered when the power is cut.
QUEUED = 100


def cut(rig, options, updates, made):
    """Cuts in one of the ways, at a moment when there is cleaning; what is wrong then, and how many cuts it were."""
    cleans(rig.http, random.randrange(300, 4000))
    more = rig.cut_somehow(made)
    updates.pause()
    acked, pending = copy.deepcopy(updates.acked), copy.deepcopy(updates.pending)
    why = verify(rig, options)
    rig.node.start()
    found = read(rig.address, [0] * PARTITIONS)
    updates.resume()
    return why or untrue(acked, found) or undone(acked, pending, found), more


def verify(rig, options):
    command = [options.command[0], "inspect", "verify", f"{rig.disk.root}/data"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return f"inspect verify: {done.stdout[-500:]}" if done.returncode else None


def check(rig, options):
    """Whether something was wrong."""
    rig.disk.mount()
    rig.node.start()
    create(AdminClient({"bootstrap.servers": rig.address}))
    updates = Updates(rig.address, QUEUED)
    updates.start()
    made, end, why = 0, time.monotonic() + 60 * options.minutes, None
    while not why and (made < options.cuts or time.monotonic() < end):
        why, more = cut(rig, options, updates, made)
        made += more
    bad = report(f"no-key-is-behind-after-{made}-power-cuts", why)
    updates.stopping.set()
    updates.join()
    bad |= report("no-update-failed", "; ".join(updates.failed[:3]))
    for name, way in [("librdkafka", lambda: read(rig.address, [0] * PARTITIONS)), ("kafka-python", lambda: read_kafka_python(rig.address))]:
        found = way()
        if options.drop_one:
            found[1] = [record for record in found[1] if record[1] != b"key-1"]
        bad |= report(f"last-value-of-every-key-{name}", untrue(updates.acked, found) or stale(updates.acked, found))
    rig.cut()
    bad |= report("inspect-verify-after-the-last-cut", verify(rig, options))
    print(f"# {made + 1} cuts, {updates.sent} updates, of which {sum(map(len, found))} are left")
    return bad
