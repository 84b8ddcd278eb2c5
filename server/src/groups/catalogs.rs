//! What the metadata says of topics, made into what groups use of it, once for each version of it that a heartbeat meets.
//!
//! All topics are gone through for it, so that commits and the clock, which do not need the newest, make do with the last.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;

use super::consumer::{Catalog, Overrides, TopicFacts};
use crate::configs::{HEARTBEAT_INTERVAL, SESSION_TIMEOUT};
use crate::controller::{Image, Topic};

/// The newest catalog.
#[derive(Debug, Default)]
pub(super) struct Catalogs(Mutex<Arc<Catalog>>);

impl Catalogs {
    /// The last catalog, if there is one.
    pub(super) fn last(&self, image: &Image<'_>) -> Arc<Catalog> {
        let last = Arc::clone(&self.0.lock());
        if last.layout == 0 { self.of(image) } else { last }
    }

    /// The catalog of what the image says.
    pub(super) fn of(&self, image: &Image<'_>) -> Arc<Catalog> {
        let mut newest = self.0.lock();
        if newest.layout != image.layout {
            *newest = Arc::new(read(image));
        }
        Arc::clone(&newest)
    }
}

fn read(image: &Image<'_>) -> Catalog {
    let racks: BTreeMap<i32, Arc<str>> = image
        .brokers
        .values()
        .filter(|broker| !broker.rack.is_empty())
        .map(|broker| (broker.id, Arc::from(broker.rack.as_str())))
        .collect();
    let facts = |topic: &Arc<Topic>| {
        let of = |brokers: &[i32]| -> BTreeSet<Arc<str>> {
            brokers.iter().filter_map(|broker| racks.get(broker)).cloned().collect()
        };
        let placed = topic.partitions.iter().filter(|_| !racks.is_empty());
        let facts = TopicFacts {
            id: topic.id,
            partitions: i32::try_from(topic.partitions.len()).unwrap_or(i32::MAX),
            racks: placed.map(|placed| of(&placed.brokers)).collect(),
        };
        (topic.name.clone(), facts)
    };
    let overrides = |(group, set): (&String, &BTreeMap<String, String>)| {
        let number = |name: &str| set.get(name).and_then(|value| value.parse().ok());
        let overrides = Overrides {
            session_timeout_ms: number(SESSION_TIMEOUT),
            heartbeat_interval_ms: number(HEARTBEAT_INTERVAL),
        };
        (group.clone(), overrides)
    };
    let overrides = image.group_configs().iter().map(overrides).collect();
    Catalog::new(image.layout, image.topics().map(facts).collect(), overrides)
}
