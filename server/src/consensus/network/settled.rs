//! Sends a snapshot, and before it what was settled below it where the replica lacks that.
//!
//! Not here: why and how (`transfer.rs`), the other end (`staging.rs`).

use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use jangbu_engine::Offset;
use openraft::RPCTypes;
use openraft::errors::{NetworkError, RPCError};
use openraft::raft::SnapshotResponse;

use super::{Refused, Way, read};
use crate::consensus::staging::{Piece, StageAnswer};
use crate::consensus::state_machine::next_offset;
use crate::consensus::transfer::{self, ATTEMPTS, PAUSE, PIECE_TIMEOUT};
use crate::consensus::types::{Types, Vote};
use crate::consensus::wire;
use crate::peer::{self, Lane, Request, Response};
use crate::proto::peer as proto;

type Snapshot = openraft::type_config::alias::SnapshotOf<Types, Bytes>;

fn unreadable(why: String) -> Refused {
    RPCError::Network(NetworkError::from_string(why))
}

impl Way {
    /// A snapshot with what belongs to it. `timeout` is that of the snapshot alone.
    pub(super) async fn send(
        &self,
        vote: Vote,
        snapshot: Snapshot,
        timeout: Duration,
    ) -> Result<SnapshotResponse<Types>, Refused> {
        let next_offset = next_offset(&snapshot.snapshot).map_err(unreadable)?;
        let staged = self.source.start() < next_offset;
        let _held = if staged {
            let held = self.source.hold().await;
            let answer = self.bring(&vote, &snapshot, next_offset).await?;
            if answer.vote > vote {
                return Ok(SnapshotResponse::new(answer.vote));
            }
            Some(held)
        } else {
            None
        };
        let message = wire::to_snapshot(self.to, &vote, &snapshot.meta, snapshot.snapshot, staged);
        let request = Request::Snapshot(message);
        match self.control(RPCTypes::InstallSnapshot, request, timeout).await? {
            Response::Installed(installed) => read(Some(installed), wire::installed),
            _ => read(None, wire::installed),
        }
    }

    /// Everything that was settled below `next_offset`, unless the replica says that it needs nothing.
    async fn bring(
        &self,
        vote: &Vote,
        snapshot: &Snapshot,
        next_offset: Offset,
    ) -> Result<StageAnswer, Refused> {
        let last = snapshot.meta.last_log_id.ok_or_else(|| unreadable("no snapshot".into()))?;
        let stream = self.network.streams.fetch_add(1, Ordering::Relaxed);
        let (mut from, mut sent_bytes) = (Offset(0), 0);
        // The first piece only asks whether anything is needed.
        let mut piece = Piece {
            vote: *vote,
            stream,
            number: 0,
            last,
            next_offset,
            complete: false,
            batches: Vec::new(),
        };
        loop {
            let answer = self.bring_piece(&piece).await?;
            if piece.complete || answer.held || answer.vote > *vote {
                let (to, group) = (self.to.replica.0, self.to.group);
                tracing::info!(group, to, sent_bytes, "a replica was sent what is settled");
                return Ok(answer);
            }
            let batches = self.source.batches(from, next_offset).await.map_err(unreadable)?;
            from = transfer::end(&batches).unwrap_or(next_offset);
            piece.complete = from >= next_offset;
            piece.number += 1;
            piece.batches = transfer::payloads(batches);
            let bytes = piece.batches.iter().map(Bytes::len).sum::<usize>();
            sent_bytes += bytes;
            self.network.settled_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        }
    }

    /// One piece, sent again while nothing is answered.
    async fn bring_piece(&self, piece: &Piece) -> Result<StageAnswer, Refused> {
        let bytes = piece.batches.iter().map(Bytes::len).sum();
        let (group, replica) = (self.to.group, self.to.replica);
        let mut attempts = 0;
        loop {
            self.network.throttle.room(group, replica, bytes).await;
            let error = match self.call_with(piece).await {
                Ok(Response::Staged(staged)) => return read(Some(staged), wire::staged),
                Ok(_) => return read(None::<proto::Staged>, wire::staged),
                Err(error) => error,
            };
            if matches!(error, peer::Error::Unreachable { .. }) {
                self.network.throttle.give_back(group, replica, bytes);
            }
            attempts += 1;
            if attempts >= ATTEMPTS || matches!(error, peer::Error::Refused { .. }) {
                return Err(self.refused(&error, RPCTypes::InstallSnapshot, PIECE_TIMEOUT));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn call_with(&self, piece: &Piece) -> Result<Response, peer::Error> {
        let request = Request::Stage(wire::to_stage(self.to, piece));
        self.call(Lane::Append, request, piece.batches.clone(), PIECE_TIMEOUT).await
    }
}
