//! The nodes of a simulation, what is between them, and what was seen of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Write};
use std::sync::Arc;
use std::time::Duration;

use jangbu_engine::{Entry, LogId, Offset};
use parking_lot::Mutex;
use tokio::sync::{Notify, Semaphore};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::disk::{Disk, DiskLog};
use super::image::Image;
use super::link::{Lanes, Link};
use super::oracle::{Oracle, Verdict};
use super::plan::Plan;
use super::random::Random;
use crate::consensus::transport::Transport;
use crate::consensus::types::Membership;
use crate::consensus::{Network, ReplicaId};
use crate::partition::{DiskReads, Partition, Quick, ReadAhead, Shared};

/// How a line of the trace begins that tells of what must not happen.
pub(super) const VIOLATED: &str = "VIOLATED";

/// The replica that a node runs.
pub(super) type Replica = Partition<DiskLog>;

/// A running process.
#[derive(Debug, Clone)]
pub(super) struct Process {
    pub(super) network: Network,
    /// Cancelled when it ends.
    pub(super) dead: CancellationToken,
    /// `None` while it starts.
    pub(super) partition: Option<Arc<Replica>>,
}

/// One node.
#[derive(Debug)]
struct Node {
    disk: Arc<Disk>,
    starts: u64,
    process: Option<Process>,
    slow: bool,
}

/// A simulation.
#[derive(Debug)]
pub(crate) struct World {
    pub(super) plan: Plan,
    pub(super) lanes: Lanes,
    random: Mutex<Random>,
    oracle: Mutex<Oracle>,
    nodes: Mutex<BTreeMap<i32, Node>>,
    /// From where nothing gets to where.
    cuts: Mutex<BTreeSet<(i32, i32)>>,
    trace: Mutex<String>,
    violation: Mutex<Option<String>>,
    begun: Instant,
}

impl World {
    /// All nodes, none of which runs.
    pub(super) fn new(plan: Plan, random: Random) -> Arc<Self> {
        let node = |id: i32| {
            let replica = ReplicaId::new(id.unsigned_abs(), 0);
            (id, Node { disk: Disk::new(replica), starts: 0, process: None, slow: false })
        };
        let nodes = (1..=plan.nodes).map(node).collect();
        Arc::new(Self {
            plan,
            lanes: Lanes::default(),
            random: Mutex::new(random),
            oracle: Mutex::default(),
            nodes: Mutex::new(nodes),
            cuts: Mutex::default(),
            trace: Mutex::default(),
            violation: Mutex::default(),
            begun: Instant::now(),
        })
    }

    /// The replicas that begin the group.
    pub(super) fn first_voters(&self) -> Vec<ReplicaId> {
        (1..=self.plan.voters).map(|node| ReplicaId::new(node.unsigned_abs(), 0)).collect()
    }

    /// Draws something.
    pub(super) fn draw<T>(&self, draw: impl FnOnce(&mut Random) -> T) -> T {
        draw(&mut self.random.lock())
    }

    /// Adds a line to the trace.
    pub(super) fn note(&self, what: fmt::Arguments<'_>) {
        let now = self.begun.elapsed().as_millis();
        let written = writeln!(self.trace.lock(), "{now:6} {what}");
        written.expect("memory takes what is written");
    }

    /// Everything that was noted.
    pub(super) fn trace(&self) -> String {
        self.trace.lock().clone()
    }

    /// Has the oracle look at something.
    pub(super) fn judge(&self, look: impl FnOnce(&mut Oracle) -> Verdict) {
        let verdict = look(&mut self.oracle.lock());
        if let Err(violation) = verdict {
            self.fail(violation);
        }
    }

    /// Looks at what the oracle knows.
    pub(super) fn known<T>(&self, look: impl FnOnce(&Oracle) -> T) -> T {
        look(&self.oracle.lock())
    }

    /// Something happened that must not.
    pub(super) fn fail(&self, violation: String) {
        self.note(format_args!("{VIOLATED} {violation}"));
        self.violation.lock().get_or_insert(violation);
    }

    /// What happened first that must not.
    pub(super) fn violation(&self) -> Option<String> {
        self.violation.lock().clone()
    }

    /// A replica is about to apply everything up to `upto`.
    pub(super) fn committed(
        &self,
        replica: ReplicaId,
        memory: &Image,
        durable: &Image,
        upto: LogId,
    ) {
        let mut oracle = self.oracle.lock();
        let is_new = oracle.committed(replica, memory, upto);
        let membership = oracle.membership(memory);
        drop(oracle);
        match is_new {
            Ok(true) => {
                self.note(format_args!("{:#x} commits {}-{}", replica.0, upto.term, upto.index));
                let held =
                    membership.is_some_and(|m| self.majority_holds(&m, replica, durable, upto));
                if !held {
                    self.fail(format!("{upto:?} is committed and not durable on a majority"));
                }
            }
            Ok(false) => {}
            Err(violation) => self.fail(violation),
        }
    }

    /// Looks at what a reader gets of a replica that knows everything below `end`.
    pub(super) fn look_at_records(&self, replica: ReplicaId, end: Offset) {
        let disks = self.disks();
        let Some((_, disk)) = disks.iter().find(|(_, disk)| disk.replica == replica) else {
            return;
        };
        let (start, last, found) = disk.memory(|image| {
            let last = image.batches(image.log_start, end).last().map(Entry::next_offset);
            (image.log_start, last, image.records(end))
        });
        self.judge(|oracle| oracle.holds_last_of_each_key(replica, start..end, &found));
        if start < end && last != Some(end) {
            self.fail(format!("{:#x}: readers come to {last:?}, the end is {end}", replica.0));
        }
    }

    /// Whether a majority of each side of a configuration has an entry on its disk; `durable` is the disk of `replica`.
    fn majority_holds(
        &self,
        membership: &Membership,
        replica: ReplicaId,
        durable: &Image,
        id: LogId,
    ) -> bool {
        let nodes = self.nodes.lock();
        let holds = |voter: &u64| {
            if *voter == replica.0 {
                return durable.covers(id);
            }
            let disk = nodes.values().map(|node| &node.disk).find(|d| d.replica.0 == *voter);
            disk.is_some_and(|disk| disk.durable(|image| image.covers(id)))
        };
        let sides = membership.get_joint_config();
        sides.iter().all(|side| 2 * side.iter().filter(|voter| holds(voter)).count() > side.len())
    }

    /// How long the disk of a node takes for a sync.
    pub(super) fn sync_delay(&self, node: i32) -> Duration {
        let slow = self.nodes.lock().get(&node).is_some_and(|node| node.slow);
        self.draw(|random| random.millis(if slow { 50..800 } else { self.plan.sync_ms.clone() }))
    }

    /// Makes the disk of a node slow or fast.
    pub(super) fn set_slow(&self, node: i32, slow: bool) {
        self.note(format_args!("the disk of {node} is slow: {slow}"));
        self.nodes.lock().get_mut(&node).expect("there is such a node").slow = slow;
    }

    /// The process of a node, if one runs.
    pub(super) fn process(&self, node: i32) -> Option<Process> {
        self.nodes.lock().get(&node)?.process.clone()
    }

    /// The replicas that run, by node.
    pub(super) fn running(&self) -> Vec<(i32, Arc<Replica>, CancellationToken)> {
        let nodes = self.nodes.lock();
        let running = nodes.iter().filter_map(|(id, node)| {
            let process = node.process.as_ref()?;
            Some((*id, process.partition.clone()?, process.dead.clone()))
        });
        running.collect()
    }

    /// The nodes that run, or those that do not.
    pub(super) fn nodes(&self, running: bool) -> Vec<i32> {
        let nodes = self.nodes.lock();
        let nodes = nodes.iter().filter(|(_, node)| node.process.is_some() == running);
        nodes.map(|(id, _)| *id).collect()
    }

    /// The disks of all nodes.
    pub(super) fn disks(&self) -> Vec<(i32, Arc<Disk>)> {
        self.nodes.lock().iter().map(|(id, node)| (*id, Arc::clone(&node.disk))).collect()
    }

    /// Starts the process of a node that does not run.
    pub(super) async fn start(self: &Arc<Self>, node: i32) {
        let (disk, starts) = {
            let mut nodes = self.nodes.lock();
            let node = nodes.get_mut(&node).expect("there is such a node");
            node.starts += 1;
            (Arc::clone(&node.disk), node.starts)
        };
        let replica = disk.replica;
        self.oracle.lock().restarted(replica);
        let log = disk.open(self);
        let dead = CancellationToken::new();
        let link = Link::new(self, node, dead.clone());
        let network = Network::over(Transport::Simulated(link));
        let process = Process { network: network.clone(), dead, partition: None };
        self.set_process(node, Some(process.clone()));
        let shared = Shared {
            disk: DiskReads {
                reads: Arc::new(Semaphore::new(1)),
                ahead: Arc::new(ReadAhead::new(0)),
                quick: Arc::new(Quick::new(1)),
            },
            metrics: Arc::default(),
            network,
            terms: Arc::new(Notify::new()),
        };
        self.note(format_args!("{:#x} starts for the {starts}. time", replica.0));
        match Replica::start_with(replica, log, &shared, self.plan.clock).await {
            Ok(partition) => {
                let partition = Some(Arc::new(partition));
                self.set_process(node, Some(Process { partition, ..process }));
            }
            Err(reason) => self.fail(format!("{:#x} does not start: {reason}", replica.0)),
        }
    }

    fn set_process(&self, node: i32, process: Option<Process>) -> Option<Process> {
        let mut nodes = self.nodes.lock();
        let node = nodes.get_mut(&node).expect("there is such a node");
        std::mem::replace(&mut node.process, process)
    }

    /// Ends the process of a node at once, with whatever its disk has not done yet.
    pub(super) fn crash(&self, node: i32) {
        let Some(process) = self.set_process(node, None) else { return };
        let disk = Arc::clone(&self.nodes.lock()[&node].disk);
        process.dead.cancel();
        let lost = self.draw(|random| disk.crash(random));
        self.note(format_args!("{:#x} crashes and loses {lost} changes", disk.replica.0));
        if let Some(partition) = process.partition {
            // Nobody sees what is left of it; this only ends its tasks.
            tokio::spawn(async move { partition.shutdown().await });
        }
    }

    /// Lets go of everything that knows this world: it would keep itself alive for ever.
    pub(super) fn end(&self) {
        let nodes = std::mem::take(&mut *self.nodes.lock());
        drop(nodes);
        self.lanes.close();
    }

    /// Puts a new replica with an empty disk in the place of a node's old one.
    pub(super) fn replace(&self, node: i32) {
        self.crash(node);
        let mut nodes = self.nodes.lock();
        let node_id = node.unsigned_abs();
        let node = nodes.get_mut(&node).expect("there is such a node");
        node.disk = Disk::new(ReplicaId::new(node_id, node.disk.replica.epoch() + 1));
    }

    /// Lets nothing through from one node to another.
    pub(super) fn cut(&self, from: i32, to: i32) {
        self.cuts.lock().insert((from, to));
    }

    /// Whether nothing gets through.
    pub(super) fn is_cut(&self, from: i32, to: i32) -> bool {
        self.cuts.lock().contains(&(from, to))
    }

    /// Lets everything through again.
    pub(super) fn heal(&self) {
        self.cuts.lock().clear();
    }
}
