//! Who leads partitions, who is behind or damaged, and where their replicas move.

use std::collections::BTreeSet;

use jangbu_engine::{PartitionId, Term};

use crate::consensus::ReplicaId;
use crate::controller::image::Data;
use crate::proto::metadata::{self as proto, outcome::Error};

/// Takes note of what a broker leads. Partitions that are gone, and older terms, are passed over.
pub(super) fn report_leaders(data: &mut Data, command: &proto::ReportLeaders) -> Result<(), Error> {
    if !data.brokers.contains_key(&command.broker) {
        return Err(Error::UnknownBroker);
    }
    for led in &command.groups {
        data.set_leader(PartitionId(led.group), command.broker, Term(led.term));
    }
    Ok(())
}

/// Takes note of which replicas are behind. Partitions that are gone, and older terms, are passed over.
pub(super) fn report_in_sync(data: &mut Data, command: &proto::ReportInSync) {
    for led in &command.groups {
        let behind: Vec<_> = led.behind.iter().copied().map(ReplicaId).collect();
        data.set_behind(PartitionId(led.group), Term(led.term), &behind);
    }
}

/// Takes note of damaged replicas.
pub(super) fn report_damaged(data: &mut Data, command: &proto::ReportDamaged) {
    for damaged in &command.replicas {
        let replica = ReplicaId(damaged.replica);
        data.set_damaged(PartitionId(damaged.group), replica, damaged.stopped);
    }
}

/// Starts a move, changes where one goes, or turns one back.
pub(super) fn reassign(data: &mut Data, command: proto::Reassign) -> Result<(), Error> {
    let group = PartitionId(command.group);
    let placed = data.placement(group).ok_or(Error::UnknownTopic)?;
    let target = match command.target {
        target if !target.is_empty() => target,
        _ if !placed.is_moving() => return Err(Error::NotReassigning),
        _ => placed.brokers.clone(),
    };
    // The same move asked for again.
    let then = command.then;
    if placed.is_moving() && placed.target == target && placed.then == then {
        return Ok(());
    }
    if placed.brokers != command.seen {
        return Err(Error::Stale);
    }
    if target.iter().chain(&then).any(|broker| !data.brokers.contains_key(broker)) {
        return Err(Error::UnknownBroker);
    }
    let is_set = |ids: &[i32]| ids.iter().collect::<BTreeSet<_>>().len() == ids.len();
    if !is_set(&target) || !is_set(&then) {
        return Err(Error::Stale);
    }
    data.placement_mut(group).ok_or(Error::UnknownTopic)?.move_on(target, then);
    Ok(())
}

/// The target becomes the replicas: the group has exactly its members.
pub(super) fn finish(data: &mut Data, command: &proto::FinishReassignment) -> Result<(), Error> {
    let group = PartitionId(command.group);
    let placed = data.placement(group).ok_or(Error::UnknownTopic)?;
    if placed.reassignment != command.reassignment {
        return Err(Error::NotReassigning);
    }
    // Else it has been finished before.
    if placed.is_moving() {
        data.placement_mut(group).ok_or(Error::UnknownTopic)?.arrive();
        data.forget_departed(group);
    }
    Ok(())
}
