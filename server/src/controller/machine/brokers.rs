//! Brokers come, are told dead and alive, and leave.
//!
//! Invariant: a broker id stands for one data directory for ever, and is not given out again when its broker leaves.

use crate::configs::says_draining;
use crate::controller::image::{Broker, Data, TopicPartition};
use crate::proto::metadata::{self as proto, outcome::Error};

/// Takes a broker's addresses, and gives it an id if it has none. Asking again gets the same id.
pub(super) fn register(data: &mut Data, broker: proto::Broker) -> Result<i32, Error> {
    let mut broker = Broker::from_proto(broker).ok_or(Error::UnknownBroker)?;
    if broker.id <= 0 {
        broker.id = id_of(data, &broker.directory)?;
    }
    if data.removed.contains(&broker.id) {
        return Err(Error::UnknownBroker);
    }
    if let Some(known) = data.brokers.get(&broker.id) {
        // One that registered before directories had ids is believed once.
        if known.directory != [0; 16] && known.directory != broker.directory {
            return Err(Error::OtherDirectory);
        }
    }
    broker.draining = says_draining(&data.set_on(Some(broker.id)));
    let id = broker.id;
    broker.dead = false;
    data.last_broker = data.last_broker.max(id);
    data.brokers.insert(id, broker);
    Ok(id)
}

/// The id of a directory: the one it was given before, or the next.
fn id_of(data: &Data, directory: &[u8; 16]) -> Result<i32, Error> {
    if *directory == [0; 16] {
        return Err(Error::UnknownBroker);
    }
    let known = data.brokers.values().find(|known| known.directory == *directory);
    let largest = data.brokers.keys().last().copied().unwrap_or(0).max(data.last_broker);
    match known {
        Some(known) => Ok(known.id),
        None => largest.checked_add(1).ok_or(Error::Exhausted),
    }
}

/// Notes whether a broker answers.
pub(super) fn set_liveness(data: &mut Data, command: &proto::SetLiveness) -> Result<(), Error> {
    let broker = data.brokers.get_mut(&command.broker).ok_or(Error::UnknownBroker)?;
    broker.dead = command.dead.unwrap_or(broker.dead);
    Ok(())
}

/// Lets a broker without replicas leave for ever.
pub(super) fn remove(data: &mut Data, broker: i32) -> Result<(), Error> {
    if data.removed.contains(&broker) {
        return Ok(());
    }
    if !data.brokers.contains_key(&broker) {
        return Err(Error::UnknownBroker);
    }
    let is_used = |partition: &TopicPartition| {
        partition.replica_of(broker).is_some() || partition.then.contains(&broker)
    };
    if data.placements().any(is_used) {
        return Err(Error::InUse);
    }
    data.brokers.remove(&broker);
    data.removed.insert(broker);
    data.set_broker_configs(Some(broker), std::collections::BTreeMap::new());
    Ok(())
}
