//! openraft's own conformance suite, run on our log store and state machine over a real engine.

use std::sync::Arc;

use bytes::Bytes;
use jangbu_engine::{Engine, Offset, Options, PartitionId, PartitionLog, RetentionClass};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use tempfile::TempDir;

use super::log_store::LogStore;
use super::state_machine::Applier;
use super::types::Types;
use super::{Committed, StateMachine};

/// Counts what it applied.
#[derive(Debug, Default)]
struct Counter(u64);

impl StateMachine for Counter {
    type Log = PartitionLog;

    fn apply(&mut self, _entry: &Committed) -> Bytes {
        self.0 += 1;
        Bytes::new()
    }

    fn checkpoint(&self) -> Bytes {
        Bytes::copy_from_slice(&self.0.to_be_bytes())
    }

    fn restore(&mut self, checkpoint: &[u8], _next_offset: Offset) -> Result<(), String> {
        let bytes = checkpoint.try_into().map_err(|_| "a counter has eight bytes".to_owned())?;
        self.0 = u64::from_be_bytes(bytes);
        Ok(())
    }
}

/// Keeps the engine open and its directory in place for one test of the suite.
struct Guard {
    engine: Engine,
    _dir: TempDir,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.engine.close().expect("the engine closes");
    }
}

struct Builder;

impl StoreBuilder<Types, LogStore<PartitionLog>, Applier<Counter>, Guard> for Builder {
    async fn build(
        &self,
    ) -> Result<(Guard, LogStore<PartitionLog>, Applier<Counter>), StorageError<Types>> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let engine =
            Engine::open(dir.path(), Options::default(), Arc::new(|error| panic!("{error}")))
                .expect("an empty engine opens");
        let log = engine
            .log(PartitionId(7), RetentionClass::from_retention_ms(-1))
            .expect("an empty log opens");
        let applier =
            Applier::recover(Counter::default(), log.clone()).expect("nothing to recover");
        Ok((Guard { engine, _dir: dir }, LogStore::new(log, Arc::default()), applier))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_store_passes_openrafts_suite() {
    Suite::test_all(Builder).await.expect("every test of the suite passes");
}
