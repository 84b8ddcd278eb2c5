//! What a group leaves behind when it falls asleep.

use jangbu_engine::{Engine, Offset, Options, PartitionId, PartitionLog, RetentionClass};

use super::super::Committed;
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

#[tokio::test(flavor = "multi_thread")]
async fn what_was_applied_before_a_sleep_is_not_applied_again_after_a_crash() {
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
    for _ in 0..5 {
        let proposal = group.propose(EntryKind::Command, Bytes::from_static(b"one")).await.unwrap();
        proposal.await.unwrap();
    }
    while !group.sleep().await {
        tokio::task::yield_now().await;
    }
    // The checkpoint is written before this is.
    engine.set_node_value("behind", b"").unwrap();
    let recovered = Applier::recover(Counter::default(), log.clone()).unwrap();
    assert_eq!(recovered.applied_index(), log.state().last.map(|last| last.index));
}
