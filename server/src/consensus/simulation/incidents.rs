//! What happens to the nodes of a simulation: crashes, cuts, elections, purges, changes of members.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jangbu_engine::{CleanRules, EntryKind, Index, Offset};

use super::world::{Replica, World};
use crate::consensus::{Clock, ReplicaId, codec};

/// Something that happens.
#[derive(Debug, Clone, Copy)]
enum Incident {
    Crash,
    PowerCut,
    Restart,
    Cut,
    Isolate,
    Heal,
    Elect,
    Transfer,
    Checkpoint,
    DeleteRecords,
    Clean,
    Purge,
    SlowDisk,
    FastDisk,
    ChangeMembers,
    Replace,
    Rest,
}

/// How often each happens, relative to the others.
const WEIGHTS: [(Incident, u64); 17] = [
    (Incident::Crash, 12),
    (Incident::PowerCut, 2),
    (Incident::Restart, 22),
    (Incident::Cut, 6),
    (Incident::Isolate, 4),
    (Incident::Heal, 10),
    (Incident::Elect, 8),
    (Incident::Transfer, 6),
    (Incident::Checkpoint, 5),
    (Incident::DeleteRecords, 5),
    (Incident::Clean, 26),
    (Incident::Purge, 26),
    (Incident::SlowDisk, 3),
    (Incident::FastDisk, 4),
    (Incident::ChangeMembers, 8),
    (Incident::Replace, 6),
    (Incident::Rest, 8),
];

/// Makes things happen, one after the other.
#[derive(Debug)]
pub(super) struct Incidents {
    world: Arc<World>,
    /// Whether members are being changed.
    changing: Arc<AtomicBool>,
}

impl Incidents {
    pub(super) fn new(world: &Arc<World>) -> Self {
        Self { world: Arc::clone(world), changing: Arc::default() }
    }

    /// Lets one thing happen.
    pub(super) async fn next(&self) {
        let total = WEIGHTS.iter().map(|(_, weight)| weight).sum();
        let mut dice = self.world.draw(|random| random.within(0..total));
        let drawn = WEIGHTS.iter().find(|(_, weight)| {
            let found = dice < *weight;
            dice = dice.wrapping_sub(*weight);
            found
        });
        let (incident, _) = drawn.expect("the dice shows less than the total");
        self.happen(*incident).await;
    }

    async fn happen(&self, incident: Incident) {
        let world = &self.world;
        match incident {
            Incident::Crash => self.with_node(true, |node| world.crash(node)),
            Incident::PowerCut => world.nodes(true).into_iter().for_each(|node| world.crash(node)),
            Incident::Restart => {
                let down = world.nodes(false);
                if let Some(node) = world.draw(|random| random.pick(&down)) {
                    world.start(node).await;
                }
            }
            Incident::Cut => self.cut(),
            Incident::Isolate => self.isolate(),
            Incident::Heal => {
                world.heal();
                world.note(format_args!("heals"));
            }
            Incident::Elect => self.elect().await,
            Incident::Transfer => self.on_leader(transfer),
            Incident::Checkpoint => self.with_replica(|replica| {
                replica.save_checkpoint();
                world.note(format_args!("{:#x} stores a checkpoint", replica.replica().0));
            }),
            Incident::DeleteRecords => self.on_leader(delete_records),
            Incident::Clean => self.with_replica(|replica| clean(world, replica)),
            Incident::Purge => self.purge(),
            Incident::SlowDisk => self.with_node(true, |node| world.set_slow(node, true)),
            Incident::FastDisk => self.with_node(true, |node| world.set_slow(node, false)),
            Incident::ChangeMembers => self.change_members(),
            Incident::Replace => self.replace().await,
            Incident::Rest => self.on_leader(rest),
        }
    }

    fn with_node(&self, running: bool, act: impl FnOnce(i32)) {
        let nodes = self.world.nodes(running);
        if let Some(node) = self.world.draw(|random| random.pick(&nodes)) {
            act(node);
        }
    }

    fn with_replica(&self, act: impl FnOnce(&Arc<Replica>)) {
        let running = self.world.running();
        if let Some((_, replica, _)) = self.world.draw(|random| random.pick(&running)) {
            act(&replica);
        }
    }

    /// Has a replica that leads do something, beside everything else.
    fn on_leader<F>(&self, act: impl FnOnce(Arc<World>, Arc<Replica>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let leading: Vec<_> =
            self.world.running().into_iter().filter(|(_, replica, _)| replica.leads()).collect();
        if let Some((_, leader, _)) = self.world.draw(|random| random.pick(&leading)) {
            tokio::spawn(act(Arc::clone(&self.world), leader));
        }
    }

    fn cut(&self) {
        let nodes = self.world.plan.nodes;
        let (from, to, both) = self.world.draw(|random| {
            let mut node =
                || i32::try_from(random.within(0..nodes.unsigned_abs().into())).unwrap() + 1;
            (node(), node(), random.chance(500))
        });
        self.world.cut(from, to);
        if both {
            self.world.cut(to, from);
        }
        self.world.note(format_args!("cuts {from} off from {to}, both ways: {both}"));
    }

    fn isolate(&self) {
        self.with_node(true, |node| {
            for other in 1..=self.world.plan.nodes {
                self.world.cut(node, other);
                self.world.cut(other, node);
            }
            self.world.note(format_args!("isolates {node}"));
        });
    }

    /// Has a replica stand for election.
    pub(super) async fn elect(&self) {
        let running = self.world.running();
        if let Some((_, replica, _)) = self.world.draw(|random| random.pick(&running)) {
            self.world.note(format_args!("{:#x} is to stand for election", replica.replica().0));
            replica.elect().await;
        }
    }

    /// Sees to it that somebody is elected, as nodes do (`health/elections.rs`): a group whose beginning was lost is
    /// begun again, and where nobody stands for election by itself, somebody is told to.
    pub(super) async fn see_to_a_leader(&self) {
        let running = self.world.running();
        if running.iter().any(|(_, replica, _)| replica.leads()) {
            return;
        }
        let first = self.world.first_voters();
        let begins = running.iter().find(|(_, replica, _)| first.contains(&replica.replica()));
        if let Some((_, replica, _)) = begins {
            let _ = replica.initialize(&first).await;
        }
        if self.world.plan.clock == Clock::Node {
            self.elect().await;
        }
    }

    /// Forgets entries below the log start, or that are settled, on some replica.
    fn purge(&self) {
        let mut running = self.world.running();
        // What a leader forgets it cannot send any more.
        let leading = running.iter().any(|(_, replica, _)| replica.leads());
        if leading && self.world.draw(|random| random.chance(500)) {
            running.retain(|(_, replica, _)| replica.leads());
        }
        let Some((node, replica, _)) = self.world.draw(|random| random.pick(&running)) else {
            return;
        };
        let disks = self.world.disks();
        let disk = disks.into_iter().find(|(id, _)| *id == node).expect("every node has a disk").1;
        let below: Vec<Index> = disk.memory(|image| {
            let last = image.state().last.map_or(Index(0), |last| last.index);
            let entries = image.entries.values();
            let free = image.log_start.max(image.settled.end());
            let below = entries.take_while(|e| e.next_offset() <= free && e.index < last);
            below.map(|entry| entry.index).collect()
        });
        let all = self.world.draw(|random| random.chance(500));
        let upto = if all { below.last().copied() } else { self.world.draw(|r| r.pick(&below)) };
        let Some(upto) = upto else { return };
        let pressed = self.world.draw(|random| random.chance(700));
        let world = Arc::clone(&self.world);
        tokio::spawn(async move {
            let purged = replica.forget(upto, pressed).await;
            world.note(format_args!("{:#x} purged up to {upto}: {purged:?}", replica.replica().0));
        });
    }

    /// Adds a replica, removes one, or puts one in the place of another.
    fn change_members(&self) {
        if self.changing.swap(true, Ordering::AcqRel) {
            return;
        }
        let changing = Changing(Arc::clone(&self.changing));
        self.on_leader(|world, leader| async move {
            change_members(&world, &leader).await;
            drop(changing);
        });
    }

    /// Gives a node a new replica when nobody can count on its old one any more.
    async fn replace(&self) {
        if self.changing.load(Ordering::Acquire) {
            return;
        }
        let Some((index, members)) = self.world.known(|oracle| oracle.committed_membership())
        else {
            return;
        };
        let disks = self.world.disks();
        let is_named = |replica: ReplicaId| {
            let names = |image: &super::image::Image| {
                image.entries.range(index + 1..).any(|(_, entry)| {
                    entry.kind == EntryKind::Membership
                        && codec::decode_membership(&entry.payload)
                            .is_ok_and(|later| later.nodes().any(|(id, ())| *id == replica.0))
                })
            };
            members.nodes().any(|(id, ())| *id == replica.0)
                || disks.iter().any(|(_, disk)| disk.memory(names) || disk.durable(names))
        };
        let unneeded: Vec<i32> = disks
            .iter()
            .filter(|(_, disk)| !is_named(disk.replica) && disk.memory(|i| i.vote.is_some()))
            .map(|(node, _)| *node)
            .collect();
        if let Some(node) = self.world.draw(|random| random.pick(&unneeded)) {
            self.world.note(format_args!("{node} gets a new replica"));
            self.world.replace(node);
            self.world.start(node).await;
        }
    }
}

/// Members can be changed again when it is dropped.
struct Changing(Arc<AtomicBool>);

impl Drop for Changing {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

async fn transfer(world: Arc<World>, leader: Arc<Replica>) {
    let voters = leader.members().voters;
    let Some(to) = world.draw(|random| random.pick(&voters)) else { return };
    world.note(format_args!("{:#x} is to hand over to {:#x}", leader.replica().0, to.0));
    let handed = leader.transfer(to, Duration::from_secs(1)).await;
    world.note(format_args!("{:#x} handed over: {handed:?}", leader.replica().0));
}

/// Lets a group sleep that nobody else has a part in.
async fn rest(world: Arc<World>, leader: Arc<Replica>) {
    leader.rest(Duration::ZERO).await;
    if leader.is_asleep() {
        world.note(format_args!("{:#x} sleeps", leader.replica().0));
    }
}

/// Cleans a replica's log up to somewhere below its high watermark.
fn clean(world: &World, replica: &Replica) {
    let bounds = replica.bounds();
    let range = bounds.log_start.0.unsigned_abs()..bounds.high_watermark.0.unsigned_abs() + 1;
    let (until, retention) = world.draw(|random| {
        let until = if random.chance(500) { range.end - 1 } else { random.within(range) };
        (until, if random.chance(500) { 0 } else { i64::MAX })
    });
    let until = Offset(i64::try_from(until).expect("offsets are small"));
    let rules = CleanRules {
        until,
        now_ms: 0,
        delete_retention_ms: retention,
        kept: replica.kept(until),
        bytes_max: u64::MAX,
    };
    let cleaned = replica.clean(&rules);
    world.note(format_args!("{:#x} cleans up to {until}: {cleaned:?}", replica.replica().0));
}

async fn delete_records(world: Arc<World>, leader: Arc<Replica>) {
    let bounds = leader.bounds();
    let range = bounds.log_start.0.unsigned_abs()..bounds.high_watermark.0.unsigned_abs() + 1;
    let end = range.end - 1;
    let start = world.draw(|random| if random.chance(500) { end } else { random.within(range) });
    let start = Offset(i64::try_from(start).expect("offsets are small"));
    let moved = leader.set_log_start(start).await;
    world.note(format_args!("{:#x} begins at {start}: {moved:?}", leader.replica().0));
}

async fn change_members(world: &World, leader: &Replica) {
    let mut voters = leader.members().voters;
    let disks = world.disks();
    let others = disks.iter().map(|(_, disk)| disk.replica);
    let others: Vec<_> = others.filter(|replica| !voters.contains(replica)).collect();
    let usual = world.plan.voters.unsigned_abs() as usize;
    let (adds, removes) = world.draw(|random| (random.chance(600), random.chance(600)));
    if removes
        && voters.len() > usual.min(2)
        && let Some(leaves) = world.draw(|random| random.pick(&voters))
    {
        voters.retain(|voter| *voter != leaves);
    }
    if adds
        && voters.len() <= usual
        && let Some(joins) = world.draw(|random| random.pick(&others))
    {
        world.note(format_args!("{:#x} is to learn", joins.0));
        if let Err(error) = leader.add_learner(joins).await {
            world.note(format_args!("{:#x} does not learn: {error}", joins.0));
            return;
        }
        tokio::time::sleep(world.draw(|random| random.millis(1..300))).await;
        voters.push(joins);
    }
    let changed = leader.change_members(&voters).await;
    world.note(format_args!("voters are to be {voters:?}: {changed:?}"));
}
