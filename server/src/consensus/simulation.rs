//! Several nodes in one process, with simulated disks, links and time: the same seed, the same run, to the byte.
//!
//! The code under test is that of production, from [`Partition::append`](crate::partition::Partition) down to what is
//! handed to the engine: producers' state, groups, openraft, messages as bytes. Replaced are the engine (`disk.rs`), the
//! connections (`link.rs`), and where openraft draws and wakes (`runtime.rs`); time is tokio's paused clock.
//!
//! - `clients.rs` and `incidents.rs` say what happens, `oracle.rs` what must hold all the while.
//! - `JANGBU_SIM_SEED=1234` replays one seed and prints its trace, `JANGBU_SIM_SEEDS=5000` runs as many, from
//!   `JANGBU_SIM_FROM` on.
//!
//! Invariants: one thread, one generator; nothing that has an effect depends on wall-clock time, on addresses or on the
//! order of a hash map.

mod clients;
mod disk;
mod image;
mod incidents;
mod link;
mod oracle;
mod plan;
mod random;
mod records;
mod runtime;
mod world;

use std::collections::BTreeMap;
use std::io::Write;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use jangbu_engine::PartitionId;
use parking_lot::Mutex;

use self::clients::Clients;
use self::incidents::Incidents;
use self::plan::Plan;
use self::random::Random;
use self::world::World;

use crate::consensus::Clock;

pub(crate) use self::link::Link;
pub(crate) use self::runtime::Runtime;

/// The group of a simulation.
const GROUP: PartitionId = PartitionId(7);
/// How long it may take until everything is well again when nothing happens any more.
const RECOVERY: Duration = Duration::from_secs(60);
/// How often nodes look whether their followers have to ask what is committed.
const FOLLOWERS_LOOK: Duration = Duration::from_secs(1);
/// Lines of a trace that are shown.
const TAIL: usize = 120;
/// Seeds of a run, unless the environment says otherwise.
const SEEDS: u64 = 2000;
/// So many seeds that went wrong are enough.
const FAILURES_MAX: usize = 20;

/// What a seed came to.
struct Outcome {
    trace: String,
    violation: Option<String>,
    acknowledged: u64,
}

/// Runs one seed.
fn simulate(seed: u64) -> Outcome {
    runtime::seed_thread(Some(seed));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    let world = runtime.block_on(async {
        let mut random = Random::new(seed);
        let plan = Plan::draw(&mut random);
        let world = World::new(plan, random);
        world.note(format_args!("seed {seed}: {:?}", world.plan));
        live(&world).await;
        world.end();
        world
    });
    let violation = world.violation();
    let acknowledged = world.known(|oracle| oracle.acknowledged);
    let trace = world.trace();
    drop(runtime);
    runtime::seed_thread(None);
    assert_eq!(Arc::strong_count(&world), 1, "memory lasts for any number of seeds");
    Outcome { trace, violation, acknowledged }
}

async fn live(world: &Arc<World>) {
    for node in 1..=world.plan.nodes {
        world.start(node).await;
    }
    let (_, first, _) = &world.running()[0];
    first.initialize(&world.first_voters()).await.unwrap();
    let clients = Arc::new(Clients::default());
    let mut producing = Vec::new();
    for id in 0..world.plan.producers {
        producing.push(tokio::spawn(Arc::clone(&clients).produce(Arc::clone(world), id)));
    }
    tokio::spawn(Arc::clone(&clients).read(Arc::clone(world)));
    tokio::spawn(look_after_followers(Arc::clone(world)));
    let incidents = Incidents::new(world);
    for _ in 0..world.plan.incidents {
        let quiet = world.draw(|random| random.millis(world.plan.quiet_ms.clone()));
        tokio::time::sleep(quiet).await;
        if world.draw(|random| random.chance(400)) {
            incidents.see_to_a_leader().await;
        }
        incidents.next().await;
        if world.violation().is_some() {
            return;
        }
    }
    clients.end();
    recover(world, &incidents, producing).await;
}

/// Has followers ask what is committed, as nodes do (`health/followers.rs`) for groups without a clock.
async fn look_after_followers(world: Arc<World>) {
    if world.plan.clock == Clock::Own {
        return;
    }
    loop {
        tokio::time::sleep(FOLLOWERS_LOOK).await;
        for (node, replica, _) in world.running() {
            let Some(leader) = replica.leader_to_ask() else { continue };
            world.note(format_args!("{:#x} asks {:#x}", replica.replica().0, leader.0));
            if let Some(process) = world.process(node) {
                tokio::spawn(async move {
                    process.network.ask_what_is_committed(leader.broker(), vec![GROUP.0]).await;
                });
            }
        }
    }
}

/// Lets everything work again, and waits until it does.
async fn recover(
    world: &Arc<World>,
    incidents: &Incidents,
    producing: Vec<tokio::task::JoinHandle<()>>,
) {
    world.note(format_args!("everything works again"));
    world.heal();
    for node in 1..=world.plan.nodes {
        world.set_slow(node, false);
    }
    for node in world.nodes(false) {
        world.start(node).await;
    }
    let deadline = tokio::time::Instant::now() + RECOVERY;
    while world.violation().is_none() {
        let done = producing.iter().all(tokio::task::JoinHandle::is_finished);
        match uneven(world) {
            None if done => return end(world, producing).await,
            uneven if tokio::time::Instant::now() > deadline => {
                let why = uneven.unwrap_or_else(|| "a producer still waits".to_owned());
                return world.fail(format!("nothing happens any more, and {why}"));
            }
            _ => {}
        }
        incidents.see_to_a_leader().await;
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

/// Looks whether the producers have come to a good end.
async fn end(world: &World, producing: Vec<tokio::task::JoinHandle<()>>) {
    for producer in producing {
        if producer.await.is_err() {
            world.fail("a producer's call panicked".to_owned());
        }
    }
}

/// What still has to be done until all members are level, if anything.
fn uneven(world: &World) -> Option<String> {
    let running = world.running();
    let leading: Vec<_> = running.iter().filter(|(_, replica, _)| replica.leads()).collect();
    let [(_, leader, _)] = &leading[..] else {
        return Some(format!("{} replicas lead", leading.len()));
    };
    let members = leader.members();
    for member in members.voters.iter().chain(&members.learners) {
        let found = running.iter().find(|(_, replica, _)| replica.replica() == *member);
        let Some((_, replica, _)) = found else {
            return Some(format!("{:#x} does not run", member.0));
        };
        let applied = world.known(|oracle| replica.producers() == *oracle.producers());
        if replica.last_index() != leader.last_index() || !applied {
            return Some(format!("{:#x} is not level with its leader", member.0));
        }
        if replica.bounds() != leader.bounds() {
            let (is, leaders) = (replica.bounds(), leader.bounds());
            return Some(format!("{:#x} has {is:?}, its leader {leaders:?}", member.0));
        }
        world.look_at_records(*member, leader.bounds().high_watermark);
    }
    None
}

impl Outcome {
    fn summary(&self, seed: u64) -> String {
        format!("seed {seed}: {}", self.violation.as_deref().unwrap_or("all is well"))
    }

    /// What to say about a seed that went wrong.
    fn report(&self, seed: u64) -> String {
        let lines: Vec<_> = self.trace.lines().collect();
        let end = lines.iter().position(|line| line.contains(world::VIOLATED));
        let end = end.map_or(lines.len(), |at| at + 1);
        let tail = lines[end.saturating_sub(TAIL)..end].join("\n");
        format!(
            "{tail}\n{}\nreplay it: \
             JANGBU_SIM_SEED={seed} cargo test --release --workspace --lib simulation",
            self.summary(seed)
        )
    }
}

/// A number from the environment.
fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().expect("it is a number"))
}

/// Runs seeds on two threads until some have gone wrong.
fn run(seeds: Range<u64>) {
    let next = AtomicU64::new(seeds.start);
    let failed = Mutex::new(BTreeMap::new());
    let work = || {
        while failed.lock().len() < FAILURES_MAX {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds.end {
                return;
            }
            let outcome = simulate(seed);
            if outcome.violation.is_some() {
                failed.lock().insert(seed, outcome);
            }
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(work);
        scope.spawn(work);
    });
    let failed = failed.into_inner();
    let seeds: Vec<_> = failed.iter().map(|(seed, outcome)| outcome.summary(*seed)).collect();
    if let Some((seed, outcome)) = failed.first_key_value() {
        panic!("{}\n{}", outcome.report(*seed), seeds.join("\n"));
    }
}

#[test]
fn whatever_happens_the_invariants_hold() {
    if let Some(seed) = number("JANGBU_SIM_SEED") {
        let outcome = simulate(seed);
        std::io::stderr().write_all(outcome.trace.as_bytes()).unwrap();
        assert!(outcome.violation.is_none(), "{}", outcome.summary(seed));
        return;
    }
    let first = number("JANGBU_SIM_FROM").unwrap_or(0);
    run(first..first + number("JANGBU_SIM_SEEDS").unwrap_or(SEEDS));
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 2, 3, 4] {
        let (first, second) = (simulate(seed), simulate(seed));
        assert!(first.acknowledged > 20, "seed {seed} acknowledges {}", first.acknowledged);
        assert_eq!(first.trace, second.trace, "seed {seed}");
    }
}
