"""What happens to three nodes that a fourth one joins: moves that are interrupted, draining, healing.

Each case begins with three nodes that hold everything, lets a fourth one join, and ends with the three alone again: the
fourth is drained, or killed, and removed for ever. So a case can be done again, with a node that gets another id.

Writing goes on all the time. What a move must keep, wherever it is interrupted: a partition has the replicas it had, or
those it is to have, or while it moves both.
"""

import contextlib
import json
import random
import signal
import subprocess
import time

from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource
from kafka import TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.errors import KafkaConnectionError, NoReassignmentInProgressError

from cluster.failed import Failed, wait_for
from cluster.nodes import HEAL_AFTER
from cluster.writers import goes_on

# Bytes a second for new replicas: far less than is written meanwhile, so that a move cannot end.
SLOW = 20_000
RATE = "leader.replication.throttled.rate"
# Seconds for whatever moves as fast as it can.
SOON = 120


class Moves:
    """The part of Faults that needs a fourth node."""

    @contextlib.contextmanager
    def fourth(self, dead=False):
        """Another node; when the case is done it goes, drained or `dead`. After a failure make_good sees to it."""
        node = self.cluster.join()
        yield node
        if dead:
            node.kill()
            wait_for(lambda: node.number in self.status()["dead"], SOON, "a broker that was killed is known to be dead")
        else:
            self.command("drain", node)
            self.hold_nothing(node)
            node.terminate()
        self.command("remove", node)
        self.cluster.forget(node)

    def everything(self):
        return [*self.topics, self.witnessed]

    def command(self, verb, node=None, *more):
        """`jangbu cluster VERB`, as an operator runs it; what it prints."""
        ids = [str(node.number)] if node else []
        command = [self.cluster.nodes[0].binary, "cluster", verb, *ids, *more, "--brokers", self.cluster.bootstrap]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SOON)
        except subprocess.TimeoutExpired:
            raise Failed(f"`jangbu cluster {verb}` did not end within {SOON} s; {self.status()['moves'][:2]}") from None
        if done.returncode:
            raise Failed(f"`jangbu cluster {verb}` ended with {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def status(self):
        return json.loads(self.command("status", None, "--json"))

    def replicas(self):
        """Where everything is: {(topic, partition): [broker, ...]}."""
        return {(t, p.id): p.replicas for t in self.everything() for p in self.cluster.partitions(t)}

    def held(self, node):
        return sum(node.number in brokers for brokers in self.replicas().values())

    def hold_nothing(self, node):
        if self.held(node):
            raise Failed(f"broker {node.number} still holds {self.held(node)} replicas")

    # Moves, and crashes while they are under way.

    def throttle(self, rate):
        """What each broker may send to new replicas a second; None: as much as it likes."""
        kind, admin = AlterConfigOpType.DELETE if rate is None else AlterConfigOpType.SET, self.cluster.admin()
        for node in self.cluster.living():
            entry = ConfigEntry(RATE, str(rate or 0), incremental_operation=kind)
            change = ConfigResource(ConfigResource.Type.BROKER, str(node.number), incremental_configs=[entry])
            admin.incremental_alter_configs([change])[change].result(SOON)

    def reassign(self, wanted):
        """AlterPartitionReassignments: {(topic, partition): brokers, or None to turn it back}."""
        # A client does not ask a node that is down for long, but it may ask it.
        admin = KafkaAdminClient(bootstrap_servers=[node.kafka for node in self.cluster.living()])
        asked = {TopicPartition(*place): brokers for place, brokers in wanted.items()}
        for attempt in range(10):
            try:
                answered = admin.alter_partition_reassignments(asked)
                break
            except KafkaConnectionError:
                if attempt == 9:
                    raise
                time.sleep(0.5)
        admin.close()
        return {place: error for place, error in answered.items() if error}

    def begin(self, wanted):
        refused = self.reassign(wanted)
        if refused:
            raise Failed(f"moves were refused: {refused}")

    def instead(self, source, target):
        """The replicas when one node takes the place of another."""
        return {place: [target.number if b == source.number else b for b in brokers]
                for place, brokers in self.replicas().items()}

    def wait_moved(self, wanted, in_sync=True):
        def elsewhere():
            return {place: brokers for place, brokers in self.replicas().items() if brokers != wanted[place]}

        wait_for(lambda: not elsewhere() and not self.status()["moving"], SOON,
                 lambda: f"everything has moved ({list(elsewhere().items())[:3]} instead of {list(wanted.items())[:3]})")
        if in_sync:
            self.cluster.wait_in_sync(self.everything())

    def old_or_new(self, old, new):
        """Nothing has replicas but those it had and those it is to have."""
        for place, brokers in self.replicas().items():
            if set(brokers) not in (set(old[place]), set(new[place]), {*old[place], *new[place]}):
                raise Failed(f"{place} moves from {old[place]} to {new[place]} and is on {brokers}")

    def interrupt(self, source, target, victim, slowly):
        """Moves everything from one node to another; one is killed meanwhile. The move goes on by itself."""
        old, new = self.replicas(), self.instead(source, target)
        if slowly:
            self.throttle(SLOW)
        self.begin(new)
        if slowly:
            goes_on(self.writers)
            if not self.status()["moving"]:
                raise Failed("everything has moved although next to nothing may be sent")
        else:
            time.sleep(random.uniform(0, 1.5))
        victim = victim()
        victim.kill()
        goes_on(self.writers)
        self.old_or_new(old, new)
        victim.start(self.cluster.list)
        self.cluster.wait_ready()
        if slowly:
            self.throttle(None)
        self.wait_moved(new)
        goes_on(self.writers)

    def turn_back(self, source, target):
        """The new replicas die, and the moves are turned back: what has not moved yet is as it was."""
        old, new = self.replicas(), self.instead(source, target)
        self.throttle(SLOW)
        self.begin(new)
        goes_on(self.writers)
        target.kill()
        goes_on(self.writers)
        refused = self.reassign(dict.fromkeys(old))
        if not set(refused.values()) <= {NoReassignmentInProgressError} or len(refused) == len(old):
            raise Failed(f"moves were not turned back: {refused}")
        gone = {(place.topic, place.partition) for place in refused}
        self.wait_moved({place: new[place] if place in gone else brokers for place, brokers in old.items()}, in_sync=False)
        target.start(self.cluster.list)
        self.cluster.wait_ready()
        self.throttle(None)
        self.begin(old)
        self.wait_moved(old)

    def controller(self):
        number = self.status()["controller"]
        return next(node for node in self.cluster.living() if node.number == number)

    def moves(self):
        """Moves under way, and kill -9 of the leader, the new replicas, the controller: early, and at any moment."""
        with self.fourth() as fourth:
            one, other = random.sample(self.cluster.nodes, 2)
            self.interrupt(one, fourth, lambda: one, slowly=True)
            self.interrupt(fourth, one, self.controller, slowly=True)
            self.turn_back(other, fourth)
            self.interrupt(other, fourth, self.leader, slowly=False)
            self.interrupt(fourth, other, lambda: other, slowly=False)
            self.interrupt(one, fourth, self.controller, slowly=False)

    # What an operator does.

    def drain(self):
        """A node is drained, which is cancelled, and done; it is restarted, and gets its share again."""
        with self.fourth() as fourth:
            node = self.controller()
            if node is fourth:
                node = self.leader()
            self.give_up_draining(node)
            self.command("drain", node)
            self.hold_nothing(node)
            goes_on(self.writers)
            node.terminate()
            node.start(self.cluster.list)
            self.cluster.wait_ready()
            self.hold_nothing(node)
            broker = next(b for b in self.status()["brokers"] if b["id"] == node.number)
            if not broker["draining"]:
                raise Failed("a broker that was restarted has forgotten that it drains")
            self.command("add", node)
            if not self.held(node):
                raise Failed("`jangbu cluster add` gave the broker nothing")
            goes_on(self.writers)
            self.command("rebalance")
            self.level()

    def give_up_draining(self, node):
        """The operator interrupts it and takes it back."""
        self.throttle(SLOW)
        command = [node.binary, "cluster", "drain", str(node.number), "--brokers", self.cluster.bootstrap]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as draining:
            wait_for(lambda: self.status()["moving"], SOON, "a broker drains")
            goes_on(self.writers)
            draining.send_signal(signal.SIGINT)
        self.command("drain", node, "--cancel")
        if any(broker["draining"] for broker in self.status()["brokers"]):
            raise Failed("a broker drains although that was cancelled")
        self.throttle(None)
        goes_on(self.writers)

    def level(self):
        """Each broker holds as much as every other, and one more at most."""
        held = {node.number: self.held(node) for node in self.cluster.living()}
        if max(held.values()) - min(held.values()) > 1:
            raise Failed(f"after `jangbu cluster rebalance` the brokers hold {held}")
        leads = {(t, p.id): (p.leader, p.replicas[0]) for t in self.everything() for p in self.cluster.partitions(t)}
        wrong = {place: who for place, who in leads.items() if who[0] != who[1]}
        if wrong:
            raise Failed(f"after `jangbu cluster rebalance` these are led by others than the first: {wrong}")

    def heal(self):
        """A node stays dead: its replicas are rebuilt. It comes back and gets its share; another dies and is removed."""
        with self.fourth(dead=True) as fourth:
            node = self.leader()
            node.kill()
            goes_on(self.writers)
            wait_for(lambda: not self.held(node), HEAL_AFTER + SOON,
                     lambda: f"the replicas of a dead broker are rebuilt ({self.held(node)} are left)")
            self.cluster.wait_in_sync(self.everything())
            if self.held(fourth) != len(self.replicas()):
                raise Failed(f"broker {fourth.number} got {self.held(fourth)} of {len(self.replicas())} replicas")
            goes_on(self.writers)
            node.start(self.cluster.list)
            self.cluster.wait_ready()
            self.command("add", node)
            if not self.held(node):
                raise Failed("`jangbu cluster add` gave the broker nothing")
            goes_on(self.writers)

    def send_off(self):
        """After a case that went wrong: three nodes hold everything again."""
        node = self.cluster.extra
        if node:
            self.throttle(None)
            wait_for(lambda: not self.status()["moving"], SOON, "what was under way has moved")
            for broker in self.status()["brokers"]:
                if broker["draining"] and broker["id"] != node.number:
                    self.command("drain", next(n for n in self.cluster.nodes if n.number == broker["id"]), "--cancel")
            self.command("drain", node)
            node.terminate()
            self.command("remove", node)
            self.cluster.forget(node)
