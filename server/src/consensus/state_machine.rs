//! Drives a [`StateMachine`] with committed entries, and keeps its checkpoint.
//!
//! Invariants:
//! - A checkpoint is queued behind the entries it stands for, so it is never durable without them.
//! - A snapshot that was installed is stored before the log begins anew behind it, or on top of what was staged for it
//!   (`staging.rs`). A log that holds the snapshot's entry is left as it is: others may count on what lies behind it.
//! - What is applied again after a restart is bounded by [`CHECKPOINT_ENTRIES_MAX`] and
//!   [`CHECKPOINT_BYTES_MAX`], never by the length of the log.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use jangbu_engine::{Index, LogId as EngineLogId, Offset, Term};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use parking_lot::Mutex;

use super::boundary::{Boundary, Memberships};
use super::codec::{self, Checkpoint};
use super::log::{self, Log};
use super::log_store::{durably, to_io};
use super::transfer::Transfers;
use super::types::{Entry, LogId, SnapshotMeta, StoredMembership, Types};
use super::{Applied, Committed, StateMachine};

/// A checkpoint is due after this many entries, ...
const CHECKPOINT_ENTRIES_MAX: u32 = 4096;
/// ... or after this much batch data, whichever comes first.
const CHECKPOINT_BYTES_MAX: i64 = 16 << 20;

type Snapshot = openraft::type_config::alias::SnapshotOf<Types, Bytes>;

/// The state machine of one group. Clones share it.
#[derive(Debug)]
pub(crate) struct Applier<M: StateMachine> {
    shared: Arc<Mutex<State<M>>>,
    /// Held while a checkpoint is made and stored, so that none is stored behind a newer one.
    saving: Arc<Mutex<()>>,
    transfers: Transfers,
    log: M::Log,
}

impl<M: StateMachine> Clone for Applier<M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            saving: Arc::clone(&self.saving),
            transfers: self.transfers.clone(),
            log: self.log.clone(),
        }
    }
}

#[derive(Debug)]
struct State<M> {
    machine: M,
    applied: Option<LogId>,
    memberships: Memberships,
    next_offset: Offset,
    entries_since_checkpoint: u32,
    bytes_since_checkpoint: i64,
    /// Bytes of batches applied since the process started.
    applied_bytes: u64,
    /// Where snapshots stand, for an idempotent machine whose log was purged.
    boundary: Option<Boundary>,
    /// Whether a snapshot is stored that this state does not hold yet.
    installing: bool,
    /// The last snapshot of another machine.
    snapshot: Option<(SnapshotMeta, Bytes)>,
}

impl<M: StateMachine> State<M> {
    fn new(machine: M) -> Self {
        Self {
            machine,
            applied: None,
            memberships: Memberships::default(),
            next_offset: Offset(0),
            entries_since_checkpoint: 0,
            bytes_since_checkpoint: 0,
            applied_bytes: 0,
            boundary: None,
            installing: false,
            snapshot: None,
        }
    }

    fn restore(&mut self, checkpoint: Checkpoint) -> io::Result<()> {
        let next_offset = Offset(checkpoint.next_offset);
        self.machine
            .restore(&checkpoint.machine, next_offset)
            .map_err(|why| codec::invalid("checkpoint", why))?;
        self.applied = checkpoint.applied;
        let mut memberships = checkpoint.memberships;
        if memberships.last() != Some(&checkpoint.membership) {
            memberships.push(checkpoint.membership);
        }
        self.memberships = Memberships::new(memberships);
        self.next_offset = next_offset;
        self.boundary = checkpoint.boundary;
        self.entries_since_checkpoint = 0;
        self.bytes_since_checkpoint = 0;
        Ok(())
    }

    /// The state at the entry applied last.
    fn checkpoint(&self) -> Checkpoint {
        Checkpoint {
            applied: self.applied,
            membership: self.memberships.last(),
            next_offset: self.next_offset.0,
            machine: self.machine.checkpoint(),
            boundary: self.boundary,
            memberships: if M::IDEMPOTENT { self.memberships.to_vec() } else { Vec::new() },
        }
    }

    /// What another replica begins with: the state at the boundary, or later than that.
    fn snapshot(&self) -> Checkpoint {
        let Some(boundary) = self.boundary else { return self.checkpoint() };
        let membership = self.memberships.at(&boundary.id);
        Checkpoint {
            applied: Some(boundary.id),
            memberships: vec![membership.clone()],
            membership,
            next_offset: boundary.next_offset.0,
            machine: self.machine.checkpoint(),
            boundary: Some(boundary),
        }
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
            EntryPayload::Blank => Applied::nothing(),
            EntryPayload::Membership(membership) => {
                self.memberships.push(StoredMembership::new(Some(entry.log_id), membership));
                if !M::IDEMPOTENT {
                    self.memberships.forget_before(&entry.log_id);
                }
                Applied::nothing()
            }
            EntryPayload::Normal(payload) => {
                self.next_offset = payload.next_offset;
                let bytes = batch_bytes(&payload.bytes);
                self.bytes_since_checkpoint += bytes;
                self.applied_bytes += u64::try_from(bytes).unwrap_or(0);
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

    /// Lets the current snapshot stand where the log was purged up to, or later; `stored` is the checkpoint.
    fn stand_at(&mut self, log: &M::Log, purged: EngineLogId, stored: Bytes) -> io::Result<()> {
        if !M::IDEMPOTENT {
            let last_membership = self.memberships.last();
            let meta = SnapshotMeta { last_log_id: self.applied, last_membership };
            self.snapshot = Some((meta, stored));
        } else if self.boundary.is_none_or(|b| codec::engine_log_id(&b.id) < purged) {
            self.boundary = Some(Boundary::at_purged(log, purged)?);
        }
        Ok(())
    }

    fn checkpoint_is_due(&self) -> bool {
        self.entries_since_checkpoint >= CHECKPOINT_ENTRIES_MAX
            || self.bytes_since_checkpoint >= CHECKPOINT_BYTES_MAX
    }
}

/// Whether a snapshot holds what it is said to hold; the offset behind it.
///
/// # Errors
/// Why it cannot be installed.
pub(super) fn check_snapshot(meta: &SnapshotMeta, data: &[u8]) -> Result<Offset, String> {
    let held = Checkpoint::decode(data).map_err(|e| e.to_string())?;
    if held.applied != meta.last_log_id
        || held.membership != meta.last_membership
        || held.next_offset < 0
    {
        return Err(format!("a snapshot up to {:?} holds something else", meta.last_log_id));
    }
    Ok(Offset(held.next_offset))
}

/// The offset behind a snapshot that this node has made.
pub(super) fn next_offset(snapshot: &[u8]) -> Result<Offset, String> {
    let held = Checkpoint::decode(snapshot).map_err(|error| error.to_string())?;
    Ok(Offset(held.next_offset))
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
    pub(crate) fn recover(machine: M, log: M::Log) -> io::Result<Self> {
        let mut state = State::new(machine);
        if let Some(bytes) = log.checkpoint().map_err(to_io)? {
            let checkpoint = Checkpoint::decode(&bytes)?;
            if let Some(applied) = checkpoint.applied.as_ref().map(codec::engine_log_id)
                && !log::holds(&log, applied)
            {
                // Only a snapshot is stored before its log: the process ended before the log began anew behind it. A
                // checkpoint of this replica's own that is ahead of its log means that the log has lost entries.
                let snapshot = checkpoint.boundary.map(|boundary| boundary.id);
                if M::IDEMPOTENT && snapshot != checkpoint.applied {
                    return Err(codec::invalid("log", "it ends before its checkpoint".to_owned()));
                }
                let next_offset = Offset(checkpoint.next_offset);
                log.reset(applied, next_offset, Box::new(|_| {})).map_err(to_io)?;
            }
            state.restore(checkpoint)?;
            if let Some(purged) = log.state().purged {
                state.stand_at(&log, purged, bytes)?;
            }
        }
        let (saving, transfers) = Default::default();
        Ok(Self { shared: Arc::new(Mutex::new(state)), saving, transfers, log })
    }

    /// Stores a checkpoint at the applied position if anything was applied since the last.
    ///
    /// # Errors
    /// When the engine is closed.
    pub(crate) fn save_checkpoint(&self) -> io::Result<()> {
        let _saving = self.saving.lock();
        let checkpoint = {
            let mut state = self.shared.lock();
            if state.entries_since_checkpoint == 0 || state.installing {
                return Ok(());
            }
            state.entries_since_checkpoint = 0;
            state.bytes_since_checkpoint = 0;
            state.checkpoint()
        };
        self.log.save_checkpoint(checkpoint.encode(), None).map_err(to_io)
    }

    /// What other replicas are being sent of the settled part of the log.
    pub(super) fn transfers(&self) -> &Transfers {
        &self.transfers
    }

    /// The log it applies.
    pub(crate) fn log(&self) -> &M::Log {
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

    /// Bytes of batches applied since the process started.
    pub(crate) fn applied_bytes(&self) -> u64 {
        self.shared.lock().applied_bytes
    }

    /// Who belongs to the group, by what is applied here.
    pub(crate) fn membership(&self) -> StoredMembership {
        self.shared.lock().memberships.last()
    }

    /// Lets snapshots stand at the entry `upto`, which is applied and not purged. May read the disk. Machines that are
    /// not idempotent have no boundary.
    ///
    /// # Errors
    /// When the entry cannot be read.
    pub(crate) fn move_boundary(&self, upto: Index) -> io::Result<()> {
        let is_behind = |state: &State<M>| state.boundary.is_none_or(|b| b.id.index < upto.0);
        if !M::IDEMPOTENT || !is_behind(&self.shared.lock()) {
            return Ok(());
        }
        let boundary = Boundary::at(&self.log, upto)?;
        let mut state = self.shared.lock();
        if is_behind(&state) && Some(boundary.id) <= state.applied {
            state.memberships.forget_before(&boundary.id);
            state.boundary = Some(boundary);
        }
        Ok(())
    }
}

impl<M: StateMachine> RaftStateMachine<Types> for Applier<M> {
    type SnapshotData = Bytes;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let state = self.shared.lock();
        Ok((state.applied, state.memberships.last()))
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
        // Stored first: a start that finds the log behind its checkpoint does what is left to do.
        let checkpoint = Checkpoint::decode(&snapshot)?;
        let stored = snapshot.clone();
        durably(|done| {
            let _saving = self.saving.lock();
            self.shared.lock().installing = true;
            self.log.save_checkpoint(stored, Some(done))
        })
        .await?;
        if let Some(last) = meta.last_log_id.as_ref().map(codec::engine_log_id)
            && !log::holds(&self.log, last)
        {
            let next_offset = Offset(checkpoint.next_offset);
            durably(|done| self.log.reset(last, next_offset, done)).await?;
        }
        let mut state = self.shared.lock();
        state.restore(checkpoint)?;
        state.installing = false;
        state.snapshot = (!M::IDEMPOTENT).then(|| (meta.clone(), snapshot));
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let state = self.shared.lock();
        if state.boundary.is_some() {
            return Ok(Some(as_snapshot(&state.snapshot())));
        }
        Ok(state.snapshot.clone().map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

fn as_snapshot(state: &Checkpoint) -> Snapshot {
    let last_membership = state.membership.clone();
    let meta = SnapshotMeta { last_log_id: state.applied, last_membership };
    Snapshot { meta, snapshot: state.encode() }
}

impl<M: StateMachine> RaftSnapshotBuilder<Types> for Applier<M> {
    type SnapshotData = Bytes;

    /// A snapshot holds the state derived from the log, never its records: followers read those from
    /// the log.
    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let mut snapshot = None;
        durably(|done| {
            let _saving = self.saving.lock();
            let state = self.shared.lock();
            snapshot = Some(as_snapshot(&state.snapshot()));
            if state.installing {
                // What is stored is newer than this.
                done(Ok(()));
                return Ok(());
            }
            let stored = state.checkpoint().encode();
            drop(state);
            self.log.save_checkpoint(stored, Some(done))
        })
        .await?;
        let snapshot = snapshot.ok_or_else(|| io::Error::other("no snapshot was taken"))?;
        if !M::IDEMPOTENT {
            let (meta, bytes) = (snapshot.meta.clone(), snapshot.snapshot.clone());
            self.shared.lock().snapshot = Some((meta, bytes));
        }
        Ok(snapshot)
    }
}
