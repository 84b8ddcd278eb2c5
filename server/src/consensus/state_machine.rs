//! Drives a [`StateMachine`] with committed entries, and keeps its checkpoint.
//!
//! Invariants:
//! - A checkpoint is queued behind the entries it stands for, so it is never durable without them.
//! - What is applied again after a restart is bounded by [`CHECKPOINT_ENTRIES_MAX`] and
//!   [`CHECKPOINT_BYTES_MAX`], never by the length of the log.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use jangbu_engine::{Index, Offset, PartitionLog, Term};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;

use super::codec::{self, Checkpoint};
use super::log_store::{durably, to_io};
use super::types::{Entry, LogId, StoredMembership, Types};
use super::{Applied, Committed, StateMachine};

/// A checkpoint is due after this many entries, ...
const CHECKPOINT_ENTRIES_MAX: u32 = 4096;
/// ... or after this much batch data, whichever comes first.
const CHECKPOINT_BYTES_MAX: i64 = 16 << 20;

type Snapshot = openraft::type_config::alias::SnapshotOf<Types, Bytes>;
type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<Types>;

/// The state machine of one group. Clones share it.
#[derive(Debug)]
pub(crate) struct Applier<M> {
    shared: Arc<Mutex<State<M>>>,
    /// Held while a checkpoint is made and stored, so that none is stored behind a newer one.
    saving: Arc<Mutex<()>>,
    log: PartitionLog,
}

impl<M> Clone for Applier<M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            saving: Arc::clone(&self.saving),
            log: self.log.clone(),
        }
    }
}

#[derive(Debug)]
struct State<M> {
    machine: M,
    applied: Option<LogId>,
    membership: StoredMembership,
    next_offset: Offset,
    entries_since_checkpoint: u32,
    bytes_since_checkpoint: i64,
    snapshot: Option<(SnapshotMeta, Bytes)>,
}

impl<M: StateMachine> State<M> {
    fn restore(&mut self, checkpoint: Checkpoint) -> io::Result<()> {
        let next_offset = Offset(checkpoint.next_offset);
        self.machine
            .restore(&checkpoint.machine, next_offset)
            .map_err(|why| codec::invalid("checkpoint", why))?;
        self.applied = checkpoint.applied;
        self.membership = checkpoint.membership;
        self.next_offset = next_offset;
        self.entries_since_checkpoint = 0;
        self.bytes_since_checkpoint = 0;
        Ok(())
    }

    fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            applied: self.applied,
            membership: self.membership.clone(),
            next_offset: self.next_offset.0,
            machine: self.machine.checkpoint(),
        }
    }

    fn snapshot_meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() }
    }

    fn apply(&mut self, entry: Entry) -> Applied {
        let term = |id: &LogId| id.committed_leader_id().term;
        let newer = self.applied.as_ref().map(term) != Some(term(&entry.log_id));
        self.applied = Some(entry.log_id);
        if newer {
            self.machine.new_term();
        }
        self.entries_since_checkpoint += 1;
        match entry.payload {
            EntryPayload::Blank => Applied::default(),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Applied::default()
            }
            EntryPayload::Normal(payload) => {
                self.next_offset = payload.next_offset;
                self.bytes_since_checkpoint += batch_bytes(&payload.bytes);
                let base_offset = payload.base_offset;
                let committed = Committed {
                    kind: payload.kind,
                    base_offset,
                    next_offset: payload.next_offset,
                    payload: payload.bytes,
                };
                Applied { base_offset, reply: self.machine.apply(&committed) }
            }
        }
    }

    fn checkpoint_is_due(&self) -> bool {
        self.entries_since_checkpoint >= CHECKPOINT_ENTRIES_MAX
            || self.bytes_since_checkpoint >= CHECKPOINT_BYTES_MAX
    }
}

/// Bytes of the batch that `header` begins, from its length field.
fn batch_bytes(header: &[u8]) -> i64 {
    header.get(8..12).map_or(0, |length| {
        i64::from(i32::from_be_bytes([length[0], length[1], length[2], length[3]]))
    })
}

impl<M: StateMachine> Applier<M> {
    /// The machine as of its last checkpoint.
    ///
    /// # Errors
    /// When the stored checkpoint cannot be read or does not decode.
    pub(crate) fn recover(machine: M, log: PartitionLog) -> io::Result<Self> {
        let mut state = State {
            machine,
            applied: None,
            membership: StoredMembership::default(),
            next_offset: Offset(0),
            entries_since_checkpoint: 0,
            bytes_since_checkpoint: 0,
            snapshot: None,
        };
        if let Some(bytes) = log.checkpoint().map_err(to_io)? {
            state.restore(Checkpoint::decode(&bytes)?)?;
            if log.state().purged.is_some() {
                state.snapshot = Some((state.snapshot_meta(), bytes));
            }
        }
        Ok(Self { shared: Arc::new(Mutex::new(state)), saving: Arc::default(), log })
    }

    /// Stores a checkpoint at the applied position if anything was applied since the last.
    ///
    /// # Errors
    /// When the engine is closed.
    pub(crate) fn save_checkpoint(&self) -> io::Result<()> {
        let _saving = self.saving.lock();
        let checkpoint = {
            let mut state = self.shared.lock();
            if state.entries_since_checkpoint == 0 {
                return Ok(());
            }
            state.entries_since_checkpoint = 0;
            state.bytes_since_checkpoint = 0;
            state.checkpoint()
        };
        self.log.save_checkpoint(checkpoint.encode(), None).map_err(to_io)
    }

    /// The log it applies.
    pub(crate) fn log(&self) -> &PartitionLog {
        &self.log
    }

    /// The index of the entry applied last.
    pub(crate) fn applied_index(&self) -> Option<Index> {
        self.shared.lock().applied.map(|id| Index(id.index))
    }

    /// The term of the entry applied last.
    pub(crate) fn applied_term(&self) -> Option<Term> {
        self.shared.lock().applied.map(|id| Term(id.committed_leader_id().term))
    }

    async fn save_durably(&self, checkpoint: Bytes) -> io::Result<()> {
        durably(|done| self.log.save_checkpoint(checkpoint, Some(done))).await
    }
}

impl<M: StateMachine> RaftStateMachine<Types> for Applier<M> {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let state = self.shared.lock();
        Ok((state.applied, state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(item) = entries.next().await {
            let (entry, responder) = item?;
            let applied = self.shared.lock().apply(entry);
            if let Some(responder) = responder {
                responder.send(applied);
            }
        }
        let due = self.shared.lock().checkpoint_is_due();
        if due { self.save_checkpoint() } else { Ok(()) }
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Bytes,
    ) -> Result<(), io::Error> {
        let checkpoint = Checkpoint::decode(&snapshot)?;
        let next_offset = Offset(checkpoint.next_offset);
        if let Some(boundary) = &meta.last_log_id {
            let behind = self.log.state().last < Some(codec::engine_log_id(boundary));
            if behind {
                // Ordered before the checkpoint below, whose sync covers both.
                self.log
                    .reset(codec::engine_log_id(boundary), next_offset, Box::new(|_| {}))
                    .map_err(to_io)?;
            }
        }
        self.save_durably(snapshot.clone()).await?;
        let mut state = self.shared.lock();
        state.restore(checkpoint)?;
        state.snapshot = Some((meta.clone(), snapshot));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let state = self.shared.lock();
        Ok(state.snapshot.clone().map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

impl<M: StateMachine> RaftSnapshotBuilder<Types> for Applier<M> {
    type SnapshotData = Bytes;

    /// A snapshot holds the state derived from the log, never its records: followers read those from
    /// the log.
    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let (meta, bytes) = {
            let state = self.shared.lock();
            (state.snapshot_meta(), state.checkpoint().encode())
        };
        self.save_durably(bytes.clone()).await?;
        self.shared.lock().snapshot = Some((meta.clone(), bytes.clone()));
        Ok(Snapshot { meta, snapshot: bytes })
    }
}
