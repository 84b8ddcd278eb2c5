//! What a group leaves behind when it falls asleep, and who asks it something while it stops.

use jangbu_engine::{Engine, Offset, Options, PartitionId, PartitionLog, RetentionClass};

use futures_util::FutureExt;

use super::super::Committed;
use super::switch::WAKE_TIMEOUT;
use super::*;
use crate::peer::{Identity, Peers};

/// Counts what it applied.
#[derive(Debug, Default)]
struct Counter(u8);

impl StateMachine for Counter {
    type Log = PartitionLog;

    const IDEMPOTENT: bool = false;

    fn apply(&mut self, _entry: &Committed) -> Bytes {
        self.0 += 1;
        Bytes::new()
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::copy_from_slice(&[self.0])
    }

    fn restore(&mut self, checkpoint: &[u8], _next_offset: Offset) -> Result<(), String> {
        self.0 = *checkpoint.first().ok_or("a counter has a byte")?;
        Ok(())
    }
}

/// A node with a group of one that leads.
struct Alone {
    engine: Engine,
    log: PartitionLog,
    group: Group<Counter>,
    _dir: tempfile::TempDir,
}

impl Alone {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let failed = |error: &jangbu_engine::Error| panic!("the engine failed: {error}");
        let engine = Engine::open(dir.path(), Options::default(), Arc::new(failed)).unwrap();
        let log = engine.log(PartitionId(1), RetentionClass::from_retention_ms(-1)).unwrap();
        let replica = ReplicaId::new(1, 0);
        let network = Network::new(Peers::new(Identity {
            node: 1,
            cluster_id: String::new(),
            directory: [1; 16],
            incarnation: 1,
        }));
        let start = Group::start(replica, log.clone(), Counter::default(), &network, Clock::Node);
        let group = start.await.unwrap();
        group.initialize(&[replica]).await.unwrap();
        assert!(group.wait_for_leader(WAKE_TIMEOUT).await);
        Self { engine, log, group, _dir: dir }
    }

    async fn write(&self) {
        let command = Bytes::from_static(b"one");
        self.group.propose(EntryKind::Command, command).await.unwrap().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_applied_before_a_sleep_is_not_applied_again_after_a_crash() {
    let Alone { engine, log, group, .. } = {
        let alone = Alone::new().await;
        for _ in 0..5 {
            alone.write().await;
        }
        alone
    };
    while !group.sleep().await {
        tokio::task::yield_now().await;
    }
    // The checkpoint is written before this is.
    engine.set_node_value("behind", b"").unwrap();
    let recovered = Applier::recover(Counter::default(), log.clone()).unwrap();
    assert_eq!(recovered.applied_index(), log.state().last.map(|last| last.index));
}

#[tokio::test]
async fn a_sole_voter_confirms_reads_by_itself_and_sleeps_on() {
    let alone = Alone::new().await;
    alone.write().await;
    assert_eq!(alone.group.linearize().now_or_never(), Some(Ok(())), "nobody is asked");
    while !alone.group.sleep().await {
        tokio::task::yield_now().await;
    }
    assert_eq!(alone.group.linearize().now_or_never(), Some(Ok(())));
    assert!(alone.group.is_asleep());
    alone.group.shutdown().await;
    assert_eq!(alone.group.linearize().await, Err(Error::Stopped));
}

#[tokio::test]
async fn whoever_asks_an_instance_whose_end_somebody_gave_up_waiting_for_is_refused() {
    let alone = Alone::new().await;
    let raft = alone.group.running().unwrap();
    let given_up = raft.shutdown();
    assert!(given_up.now_or_never().is_none(), "the core has to end first");
    let asked = raft.call(|core| async move { core.is_initialized().await }).await;
    assert!(asked.is_err());
    assert_eq!(
        alone.group.propose(EntryKind::Command, Bytes::new()).await.err(),
        Some(Error::Stopped)
    );
    assert!(raft.shutdown().await);
}

#[tokio::test]
async fn a_sleep_that_nobody_waits_for_any_more_is_slept_and_ends_with_the_next_write() {
    let alone = Alone::new().await;
    alone.write().await;
    while !alone.group.is_asleep() {
        // It gives up at once.
        let _ = alone.group.sleep().now_or_never();
        tokio::task::yield_now().await;
    }
    alone.write().await;
    assert!(!alone.group.is_asleep());
    assert_eq!(alone.group.applied_index(), alone.log.state().last.map(|last| last.index));
}
