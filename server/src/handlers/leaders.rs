//! Who leads instead, told with the error, so that a client need not ask for metadata first (KIP-951).

use std::collections::BTreeSet;

use kafka_protocol::ResponseError;

use crate::broker::{Broker, Leader};
use crate::controller::{self, Topic};

/// The leaders that one response names.
#[derive(Debug, Default)]
pub(crate) struct Leaders {
    named: BTreeSet<i32>,
}

impl Leaders {
    /// The leader of a partition, if `code` says that this broker is not or that the client knows an old one.
    pub(crate) fn find(
        &mut self,
        broker: &Broker,
        topic: Option<&Topic>,
        index: i32,
        code: i16,
    ) -> Option<Leader> {
        let tells = [ResponseError::NotLeaderOrFollower, ResponseError::FencedLeaderEpoch];
        if !tells.iter().any(|tells| tells.code() == code) {
            return None;
        }
        let placed = usize::try_from(index).ok().and_then(|i| topic?.partitions.get(i))?;
        let leader = broker.leader_of(placed.group)?;
        self.named.insert(leader.broker);
        Some(leader)
    }

    /// Where the named ones are.
    pub(crate) fn brokers(&self, broker: &Broker) -> Vec<controller::Broker> {
        if self.named.is_empty() {
            return Vec::new();
        }
        let image = broker.controller.image();
        self.named.iter().filter_map(|id| image.brokers.get(id).cloned()).collect()
    }
}
