//! What must hold whatever happens, checked while it happens: the invariants of Raft and of a partition.
//!
//! - Election safety: a term has one leader; a replica votes for one candidate in a term, before and after crashes.
//! - Log matching: two logs that hold an entry of the same index and term hold the same up to there.
//! - Leader completeness: whoever is elected holds every entry that is committed, or began behind it.
//! - State machine safety: every replica commits the same entry at an index.
//! - A leader commits only what is durable on a majority.
//! - A producer's batches are committed once each and in their order; an acknowledged one stays at its offset.
//! - A confirmed read sees what was acknowledged, or confirmed, before it began.
//! - It finds the last record of each key, or nothing of a key whose last record is a tombstone, however often and
//!   wherever logs were cleaned; and nothing that was not produced.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use jangbu_engine::batch::Header;
use jangbu_engine::{Entry, EntryKind, Index, LogId, Offset, Term};

use super::image::Image;
use super::records::{Record, records};
use crate::consensus::types::{Membership, Vote};
use crate::consensus::{ReplicaId, codec};
use crate::producers::Producers;

/// What was found, in words for whoever has to find out why.
pub(super) type Verdict = Result<(), String>;

/// An entry as far as it must be the same everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Digest {
    previous_term: Option<Term>,
    kind: EntryKind,
    base_offset: Offset,
    crc: u32,
}

/// An entry that is committed.
#[derive(Debug)]
struct Fact {
    term: Term,
    base_offset: Offset,
    crc: u32,
}

/// Everything that happened, as far as it decides what may happen.
#[derive(Debug, Default)]
pub(super) struct Oracle {
    leaders: BTreeMap<u64, ReplicaId>,
    /// The terms whose leaders have begun to lead.
    elected: BTreeSet<u64>,
    votes: BTreeMap<(ReplicaId, u64), u64>,
    logged: BTreeMap<(Index, Term), Digest>,
    committed: BTreeMap<u64, Fact>,
    memberships: BTreeMap<u64, Membership>,
    /// The entry behind the last one that a replica's process was seen to commit.
    behind: BTreeMap<ReplicaId, u64>,
    /// Where the committed batches are, by producer and first sequence.
    batches: BTreeMap<(i64, i32), Offset>,
    /// The sequence that a producer's next batch begins with.
    next_sequences: BTreeMap<i64, i32>,
    producers: Producers,
    /// Every committed record.
    records: BTreeMap<Offset, Record>,
    readable: Offset,
    pub(super) acknowledged: u64,
}

fn crc(entry: &Entry) -> u32 {
    crc32c::crc32c(&entry.payload)
}

fn must(holds: bool, otherwise: impl FnOnce() -> String) -> Verdict {
    if holds { Ok(()) } else { Err(otherwise()) }
}

impl Oracle {
    /// A replica has written entries to its log, which is `image` now.
    pub(super) fn appended(
        &mut self,
        replica: ReplicaId,
        image: &Image,
        entries: &[Entry],
    ) -> Verdict {
        for entry in entries {
            let before = image.entries.range(..entry.index.0).next_back().map(|(_, e)| e.term);
            let previous_term = before.or(image.purged.map(|(purged, _)| purged.term));
            let Entry { kind, base_offset, .. } = *entry;
            let digest = Digest { previous_term, kind, base_offset, crc: crc(entry) };
            let known = *self.logged.entry((entry.index, entry.term)).or_insert(digest);
            must(known == digest, || {
                format!(
                    "log matching: {:#x} holds {digest:?} at {}-{}, elsewhere it is {known:?}",
                    replica.0, entry.term, entry.index
                )
            })?;
        }
        Ok(())
    }

    /// A replica stores a vote; `image` is its log.
    pub(super) fn votes(&mut self, replica: ReplicaId, vote: &Vote, image: &Image) -> Verdict {
        let leader = vote.leader_id();
        if !vote.is_committed() {
            return Ok(());
        }
        self.leads(leader.term, ReplicaId(leader.voted_for))?;
        if leader.voted_for != replica.0 {
            return Ok(());
        }
        self.granted(replica, leader.term, leader.voted_for)?;
        if !self.elected.insert(leader.term) {
            return Ok(());
        }
        let missing = self
            .committed
            .iter()
            .find(|(index, fact)| !image.covers(LogId { term: fact.term, index: Index(**index) }));
        must(missing.is_none(), || {
            format!(
                "leader completeness: {:#x} leads in term {} without {missing:?}",
                replica.0, leader.term
            )
        })
    }

    /// A replica is said to lead.
    pub(super) fn leads(&mut self, term: u64, leader: ReplicaId) -> Verdict {
        let known = *self.leaders.entry(term).or_insert(leader);
        must(known == leader, || {
            format!("election safety: both {:#x} and {:#x} lead in term {term}", known.0, leader.0)
        })
    }

    /// A replica has voted for a candidate and said so.
    pub(super) fn granted(&mut self, replica: ReplicaId, term: u64, candidate: u64) -> Verdict {
        let known = *self.votes.entry((replica, term)).or_insert(candidate);
        must(known == candidate, || {
            let replica = replica.0;
            format!("{replica:#x} voted for {known:#x} and for {candidate:#x} in term {term}")
        })
    }

    /// A replica's process has started; it will see what is committed once more.
    pub(super) fn restarted(&mut self, replica: ReplicaId) {
        self.behind.remove(&replica);
    }

    /// A replica is about to apply everything up to `upto`. Whether some of it was not known to be committed.
    pub(super) fn committed(
        &mut self,
        replica: ReplicaId,
        image: &Image,
        upto: LogId,
    ) -> Result<bool, String> {
        let first = image.purged.map_or(0, |(purged, _)| purged.index.0 + 1);
        let first = self.behind.get(&replica).copied().unwrap_or(0).max(first);
        let known = self.committed.last_key_value().map(|(index, _)| *index);
        for index in first..=upto.index.0 {
            let entry = image.entries.get(&index).ok_or_else(|| {
                format!("{:#x} commits {index}, which is not in its log", replica.0)
            })?;
            self.commit(replica, entry)?;
            self.behind.insert(replica, index + 1);
        }
        must(image.covers(upto), || {
            format!("{:#x} commits {upto:?}, and holds another", replica.0)
        })?;
        Ok(Some(upto.index.0) > known)
    }

    fn commit(&mut self, replica: ReplicaId, entry: &Entry) -> Verdict {
        let (term, base_offset, crc) = (entry.term, entry.base_offset, crc(entry));
        if let Some(known) = self.committed.get(&entry.index.0) {
            let same = (known.term, known.base_offset, known.crc) == (term, base_offset, crc);
            return must(same, || {
                format!(
                    "state machine safety: {:#x} applies {}-{} at {base_offset}, others {known:?}",
                    replica.0, entry.term, entry.index
                )
            });
        }
        match entry.kind {
            EntryKind::Batch => self.commit_batch(entry)?,
            EntryKind::Membership => {
                let membership = codec::decode_membership(&entry.payload);
                self.memberships.insert(entry.index.0, membership.map_err(|e| e.to_string())?);
            }
            EntryKind::Blank | EntryKind::Command => {}
        }
        self.committed.insert(entry.index.0, Fact { term, base_offset, crc });
        Ok(())
    }

    fn commit_batch(&mut self, entry: &Entry) -> Verdict {
        let batch = Header::parse(&entry.payload).map_err(|error| error.to_string())?;
        let (id, sequence) = (batch.producer_id, batch.base_sequence);
        let next = self.next_sequences.entry(id).or_default();
        must(sequence == *next, || {
            format!("producer {id}: sequence {sequence} is committed where {next} is the next")
        })?;
        *next += batch.last_offset_delta + 1;
        self.batches.insert((id, sequence), entry.base_offset);
        self.producers.record(&batch, entry.base_offset);
        let records = records(&entry.payload);
        self.records.extend(records.into_iter().map(|record| (record.offset, record)));
        Ok(())
    }

    /// A producer was told that its batch is at `offset`.
    pub(super) fn acknowledged(&mut self, batch: &Header, offset: Offset) -> Verdict {
        let (id, sequence) = (batch.producer_id, batch.base_sequence);
        let committed = self.batches.get(&(id, sequence)).copied();
        must(committed == Some(offset), || {
            format!(
                "producer {id}: {sequence} is acknowledged at {offset}, and is at {committed:?}"
            )
        })?;
        self.acknowledged += 1;
        self.readable = self.readable.max(Offset(offset.0 + i64::from(batch.record_count)));
        Ok(())
    }

    /// What a confirmed read that begins now must see.
    pub(super) fn readable(&self) -> Offset {
        self.readable
    }

    /// A confirmed read has seen everything below `end`; when it began, `readable` was to be seen.
    pub(super) fn read(&mut self, replica: ReplicaId, readable: Offset, end: Offset) -> Verdict {
        must(end >= readable, || {
            format!("stale read: {:#x} gives {end}, {readable} was acknowledged before", replica.0)
        })?;
        self.readable = self.readable.max(end);
        Ok(())
    }

    /// A reader of a replica that knows everything committed was given these records of the range.
    pub(super) fn holds_last_of_each_key(
        &self,
        replica: ReplicaId,
        range: Range<Offset>,
        found: &[Record],
    ) -> Verdict {
        let replica = replica.0;
        let mut lasting = BTreeMap::new();
        for record in self.records.range(range).map(|(_, record)| record) {
            lasting.insert(record.key, *record);
        }
        let mut seen: BTreeMap<i64, Record> = BTreeMap::new();
        for record in found {
            let known = self.records.get(&record.offset);
            must(known == Some(record), || {
                format!("{replica:#x} holds {record:?}, which was {known:?}")
            })?;
            seen.insert(record.key, *record);
        }
        for (key, last) in lasting {
            let seen = seen.get(&key);
            let gone = seen.is_none() && last.is_tombstone;
            must(gone || seen == Some(&last), || {
                format!("{replica:#x} has {seen:?} for key {key}, whose last record is {last:?}")
            })?;
        }
        Ok(())
    }

    /// What every replica knows of producers when it has applied everything.
    pub(super) fn producers(&self) -> &Producers {
        &self.producers
    }

    /// The configuration that is newest in a log, committed or not.
    pub(super) fn membership(&self, image: &Image) -> Option<Membership> {
        let mut entries = image.entries.values().rev();
        let newest = entries.find(|entry| entry.kind == EntryKind::Membership);
        if let Some(entry) = newest {
            return codec::decode_membership(&entry.payload).ok();
        }
        let purged = image.purged.map_or(0, |(purged, _)| purged.index.0);
        self.memberships.range(..=purged).next_back().map(|(_, membership)| membership.clone())
    }

    /// The newest committed configuration and its index.
    pub(super) fn committed_membership(&self) -> Option<(u64, Membership)> {
        let newest = self.memberships.last_key_value();
        newest.map(|(index, membership)| (*index, membership.clone()))
    }
}
