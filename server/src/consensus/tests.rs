//! Three replicas on three nodes are one log, whoever leads and whatever breaks.

mod cluster;

use std::time::Duration;

use bytes::Bytes;
use jangbu_engine::{EntryKind, Index, Offset};

use super::{Clock, Error, Log, ReplicaId, config};
use crate::peer::{self, Lane, Request};
use crate::proto::peer as proto;
use cluster::{Cluster, GROUP, eventually, propose, replica};

/// A batch of `count` records that nobody will look at; `fill` makes batches differ.
pub(super) fn batch(count: i32, fill: u8) -> Bytes {
    let mut bytes = vec![fill; 61 + 20];
    bytes[..61].fill(0);
    let length = i32::try_from(bytes.len() - 12).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    bytes[16] = 2;
    bytes[23..27].copy_from_slice(&(count - 1).to_be_bytes());
    bytes[43..57].fill(0xff);
    bytes[57..61].copy_from_slice(&count.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[21..]);
    bytes[17..21].copy_from_slice(&crc.to_be_bytes());
    bytes.into()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_replica_holds_the_same_bytes_and_applies_the_same() {
    let cluster = Cluster::of_three().await;
    let applied = cluster.write(1, 20).await;
    assert_eq!(applied.last().unwrap().base_offset, Offset(38));
    cluster.node(1).group().propose(EntryKind::Command, batch(1, 1)).await.unwrap().await.unwrap();
    cluster.level(1, &[2, 3]).await;
    assert_eq!(cluster.node(2).group().leadership().leader, Some(replica(1)));
    assert!(!cluster.node(2).group().leadership().local);
    let members = cluster.node(3).group().members();
    assert_eq!((members.voters.len(), members.learners.len()), (3, 0));
    let replication = cluster.node(1).group().replication();
    assert_eq!(replication.keys().copied().collect::<Vec<_>>(), [replica(2), replica(3)]);
    assert!(cluster.node(2).group().replication().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_proposals_at_once_keep_their_order() {
    let cluster = Cluster::of_three().await;
    let group = cluster.node(1).group();
    let mut proposals = Vec::new();
    for _ in 0..3_000 {
        proposals.push(group.propose(EntryKind::Batch, batch(1, 7)).await.unwrap());
    }
    for (proposal, offset) in proposals.into_iter().zip(0..) {
        assert_eq!(proposal.await.unwrap().base_offset, Offset(offset));
    }
    cluster.level(1, &[2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_majority_has_survives_its_leader_and_what_it_has_not_goes() {
    let mut cluster = Cluster::of_three().await;
    cluster.write(1, 5).await;
    cluster.level(1, &[2, 3]).await;
    let cut = cluster.cut(1);
    // In time, as its lease is still good: it appends, and can tell nobody.
    let lost = cluster.node(1).group().propose(EntryKind::Batch, batch(3, 99)).await;
    assert!(lost.is_ok(), "the leader takes writes for half of its lease");
    eventually("the old leader has a tail", || cluster.node(1).state().end_offset == Offset(13))
        .await;
    cluster.elect(2).await;
    let applied = cluster.write(2, 5).await;
    assert_eq!(applied[0].base_offset, Offset(10), "right behind what was acknowledged");
    cluster.level(2, &[3]).await;
    cluster.heal(1, cut).await;
    cluster.level(2, &[1]).await;
    assert_eq!(lost.unwrap().await.unwrap_err(), Error::NotLeader);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_gives_up_its_leader_elects_another_one_at_once() {
    let mut cluster = Cluster::of_three().await;
    cluster.write(1, 1).await;
    cluster.level(1, &[2, 3]).await;
    cluster.cut(1);
    for id in [2, 3] {
        cluster.node(id).group().let_go().await;
    }
    // Once: within the lease nobody else would give it a vote.
    cluster.node(2).group().elect().await;
    eventually("the other one leads", || cluster.node(2).group().leadership().local).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_without_a_majority_takes_no_writes_and_confirms_no_reads() {
    let mut cluster = Cluster::of_three().await;
    cluster.write(1, 1).await;
    cluster.cut(1);
    tokio::time::sleep(config::LEASE).await;
    assert_eq!(propose(cluster.node(1), batch(1, 1)).await.unwrap_err(), Error::NotLeader);
    assert_eq!(cluster.node(1).group().linearize().await, Err(Error::NotLeader));
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_at_the_same_time_are_confirmed_and_see_what_was_acknowledged_before() {
    let cluster = Cluster::of_three().await;
    for _ in 0..3 {
        cluster.write(1, 1).await;
        let end = cluster.node(1).state().end_offset;
        let group = cluster.node(1).group();
        let reads = futures_util::future::join_all((0..200).map(|_| async {
            group.linearize().await.unwrap();
            group.applied_index()
        }));
        let applied = reads.await;
        let last = cluster.node(1).state().last.map(|last| last.index);
        assert!(applied.iter().all(|index| *index == last), "{applied:?}, the end is {end}");
    }
    assert_eq!(cluster.node(2).group().linearize().await, Err(Error::NotLeader));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_write_after_a_pause_is_taken() {
    let cluster = Cluster::of_three().await;
    cluster.write(1, 1).await;
    for _ in 0..2 {
        tokio::time::sleep(config::LEASE + Duration::from_millis(100)).await;
        propose(cluster.node(1), batch(1, 1)).await.unwrap();
        tokio::time::sleep(config::LEASE + Duration::from_millis(100)).await;
        cluster.node(1).group().linearize().await.unwrap();
    }
    assert_eq!(cluster.node(1).group().leadership().term.0, 1, "nobody was elected meanwhile");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leadership_goes_where_it_is_sent() {
    let cluster = Cluster::of_three().await;
    let timeout = Duration::from_secs(20);
    for (from, to) in [(1, 2), (2, 3), (3, 1)] {
        cluster.write(from, 3).await;
        cluster.node(from).group().transfer(replica(to), timeout).await.unwrap();
        assert!(!cluster.node(from).group().leadership().local);
        eventually("the other one leads", || cluster.node(to).group().leadership().local).await;
    }
    cluster.write(1, 3).await;
    cluster.level(1, &[2, 3]).await;
    let group = cluster.node(2).group();
    assert_eq!(group.transfer(replica(1), timeout).await, Err(Error::NotLeader));
    let outsider = cluster.node(1).group().transfer(ReplicaId(77), timeout).await;
    assert!(matches!(outsider, Err(Error::Members(_))), "{outsider:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_was_started_again_can_take_over_although_nothing_was_written_since() {
    let mut cluster = Cluster::of_three().await;
    cluster.write(1, 3).await;
    cluster.level(1, &[2, 3]).await;
    cluster.restart(2).await;
    cluster.node(1).group().transfer(replica(2), Duration::from_secs(20)).await.unwrap();
    eventually("the other one leads", || cluster.node(2).group().leadership().local).await;
    assert_eq!(cluster.node(2).group().leadership().term.0, 2, "without a second election");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_cannot_hand_over_leads_again() {
    let mut cluster = Cluster::of_three().await;
    cluster.write(1, 1).await;
    cluster.cut(3);
    let handed = cluster.node(1).group().transfer(replica(3), Duration::from_millis(500)).await;
    assert_eq!(handed, Err(Error::Timeout));
    cluster.elect(1).await;
    cluster.write(1, 1).await;
    cluster.level(1, &[2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_replica_gets_what_the_purged_entries_came_to_and_every_entry_behind() {
    let cluster = Cluster::new(4, Clock::Node).await;
    cluster.form(&[1, 2, 3]).await;
    cluster.write(1, 10).await;
    let boundary = cluster.node(1).group().last_index().unwrap();
    cluster.write(1, 10).await;
    cluster.level(1, &[2, 3]).await;
    for id in [1, 3] {
        cluster.node(id).forget(boundary).await;
        assert_eq!(cluster.node(id).state().purged.unwrap().index, boundary, "node {id}");
    }
    assert_eq!(cluster.node(2).state().purged, None);

    let leader = cluster.node(1).group();
    leader.add_learner(replica(4)).await.unwrap();
    assert_eq!(leader.members().learners, [replica(4)]);
    cluster.level(1, &[4]).await;
    let state = cluster.node(4).state();
    assert_eq!(
        state.purged.map(|id| id.index),
        Some(boundary),
        "exactly what is purged is missing"
    );
    assert_eq!(state.log_start_offset, Offset(20));
    assert_eq!(cluster.node(4).entries()[0].index, Index(boundary.0 + 1));

    leader.change_members(&[replica(2), replica(3), replica(4)]).await.unwrap();
    cluster.elect(4).await;
    cluster.write(4, 5).await;
    cluster.level(4, &[2, 3]).await;
    let members = cluster.node(4).group().members();
    assert_eq!(members.voters, [replica(2), replica(3), replica(4)]);
    assert_eq!(members.learners, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_purged_start_again_where_they_were() {
    let mut cluster = Cluster::of_three().await;
    cluster.write(1, 10).await;
    let boundary = cluster.node(1).group().last_index().unwrap();
    cluster.write(1, 3).await;
    cluster.level(1, &[2, 3]).await;
    for id in [1, 2] {
        cluster.node(id).forget(boundary).await;
    }
    let before = cluster.node(2).applied();
    for id in [1, 2, 3] {
        cluster.restart(id).await;
    }
    cluster.elect(2).await;
    assert_eq!(cluster.node(2).applied(), before);
    assert_eq!(cluster.node(2).state().purged.unwrap().index, boundary);
    cluster.write(2, 3).await;
    cluster.level(2, &[1, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_missed_purged_entries_goes_on_behind_them() {
    let mut cluster = Cluster::of_three().await;
    cluster.write(1, 3).await;
    let cut = cluster.cut(3);
    cluster.write(1, 10).await;
    let boundary = cluster.node(1).group().last_index().unwrap();
    cluster.write(1, 4).await;
    cluster.node(1).forget(boundary).await;
    cluster.heal(3, cut).await;
    cluster.level(1, &[3]).await;
    assert_eq!(cluster.node(3).state().purged.unwrap().index, boundary);
    assert_eq!(cluster.node(3).state().log_start_offset, Offset(26));
    cluster.restart(3).await;
    cluster.write(1, 4).await;
    cluster.level(1, &[2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_was_started_again_asks_what_is_committed() {
    let mut cluster = Cluster::of_three().await;
    cluster.write(1, 1).await;
    cluster.level(1, &[2, 3]).await;
    cluster.node(3).group().save_checkpoint();
    let before = Log::checkpoint(&cluster.node(3).log()).unwrap();
    cluster.write(1, 3).await;
    cluster.level(1, &[2, 3]).await;
    cluster.node_mut(3).restart(Clock::Node, before).await;
    let (follower, network) = (cluster.node(3).group(), &cluster.node(3).network);
    assert!(follower.applied_index() < follower.last_index(), "nobody has told it yet");
    let asking = async {
        while follower.applied_index() < follower.last_index() {
            if let Some(leader) = follower.leader_to_ask() {
                network.ask_what_is_committed(leader.broker(), vec![GROUP.0]).await;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(cluster::PATIENCE, asking).await.unwrap();
    cluster.level(1, &[3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_a_clock_elects_a_leader_by_itself() {
    let mut cluster = Cluster::new(3, Clock::Own).await;
    cluster.form(&[1, 2, 3]).await;
    cluster.write(1, 3).await;
    cluster.cut(1);
    let leads = |id: i32| cluster.node(id).group().leadership().local;
    eventually("another one leads", || leads(2) || leads(3)).await;
    let leader = if leads(2) { 2 } else { 3 };
    cluster.write(leader, 3).await;
    cluster.level(leader, &[5 - leader]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_to_another_replica_is_refused() {
    let cluster = Cluster::of_three().await;
    let ask = async |group: u32, replica: ReplicaId| {
        let vote = Some(proto::RaftVote { term: 9, replica: 5, committed: false });
        let request = proto::Vote { group, replica: replica.0, vote, ..proto::Vote::default() };
        let (peers, request) = (&cluster.node(1).peers, Request::PreVote(request));
        peers.call(2, Lane::Control, request, Vec::new(), Duration::from_secs(9)).await
    };
    assert!(ask(GROUP.0, replica(2)).await.is_ok());
    for (group, replica) in [(GROUP.0, ReplicaId::new(2, 1)), (GROUP.0 + 1, replica(2))] {
        let refused = ask(group, replica).await;
        assert!(matches!(refused, Err(peer::Error::Refused { .. })), "{refused:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_sole_voter_sleeps() {
    let cluster = Cluster::new(2, Clock::Node).await;
    cluster.form(&[1]).await;
    cluster.write(1, 1).await;
    let group = cluster.node(1).group();
    assert!(group.sleep().await);
    group.add_learner(replica(2)).await.unwrap();
    assert!(!group.sleep().await, "a learner needs its leader");
    cluster.write(1, 1).await;
    cluster.level(1, &[2]).await;
    group.change_members(&[replica(1), replica(2)]).await.unwrap();
    assert!(!group.sleep().await, "the other voter may have to elect");
    group.change_members(&[replica(1)]).await.unwrap();
    while !group.sleep().await {
        tokio::task::yield_now().await;
    }
    cluster.write(1, 1).await;
}
