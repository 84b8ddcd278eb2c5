//! How openraft is set up for a group.

use std::time::Duration;

use openraft::SnapshotPolicy;

use super::Clock;

/// Leaders of groups that have a clock send heartbeats this often.
const HEARTBEAT_MS: u64 = 250;
/// A follower with a clock that hears nothing for a time in this range stands for election.
const ELECTION_TIMEOUT_MS: std::ops::Range<u64> = 700..1000;
/// For as long after a majority has heard of a leader no other one is elected, and it takes writes: openraft takes the
/// end of the range for it.
pub(super) const LEASE: Duration = Duration::from_millis(ELECTION_TIMEOUT_MS.end);
/// Proposals waiting for one group's core.
const PROPOSALS_MAX: u64 = 4096;
/// How long another node may take to begin anew behind a snapshot.
const INSTALL_TIMEOUT_MS: u64 = 10_000;
/// Pauses before a replica that could not be reached is asked again.
const BACKOFF: &str = "20ms 40ms 80ms ...1000ms";

/// `same_leader` goes on in the term in which this replica led. Else it stands for election, since a leader
/// that restarts has lost the part of its state that was not checkpointed.
pub(super) fn config(name: String, clock: Clock, same_leader: bool) -> openraft::Config {
    openraft::Config {
        cluster_name: name,
        enable_tick: clock == Clock::Own,
        heartbeat_interval: HEARTBEAT_MS,
        heartbeat_min_interval: Some(HEARTBEAT_MS * 4 / 5),
        election_timeout_min: ELECTION_TIMEOUT_MS.start,
        election_timeout_max: ELECTION_TIMEOUT_MS.end,
        enable_pre_vote: Some(true),
        enable_leader_restore: Some(same_leader),
        snapshot_policy: SnapshotPolicy::Never,
        install_snapshot_timeout: INSTALL_TIMEOUT_MS,
        // The entries are the partition's records: a snapshot of what they came to must not take them away.
        // Only `Group::purge` does.
        max_in_snapshot_log_to_keep: u64::MAX,
        replication_lag_threshold: 200,
        max_payload_entries: 1024,
        api_channel_size: Some(PROPOSALS_MAX),
        notification_channel_size: Some(PROPOSALS_MAX),
        backoff: BACKOFF.to_owned(),
        ..openraft::Config::default()
    }
}
