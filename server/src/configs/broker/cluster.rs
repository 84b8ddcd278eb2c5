//! Broker configs about moving replicas: Kafka's throttles, which its own tables of a broker do not list, and jangbu's.
//!
//! Not here: the column meanings (`table.rs`).

use crate::configs::table::rows;
use crate::configs::value::{ConfigDef, Kind, Valid};

/// The broker gets no new replicas and leads nothing.
pub(crate) const DRAINING: &str = "jangbu.draining";
/// Bytes a second that new replicas are sent.
pub(crate) const LEADER_RATE: &str = "leader.replication.throttled.rate";

/// Bytes a second that new replicas of a broker get.
pub(crate) const FOLLOWER_RATE: &str = "follower.replication.throttled.rate";

pub(super) static ROWS: &[ConfigDef] = rows! {
    "follower.replication.throttled.rate" Long "9223372036854775807" (min 0) rw "Most bytes per second that replicas which are being added to the broker are sent, by all leaders together.";
    "jangbu.draining" Boolean "false" () rw "Whether the broker is being emptied: it gets no new replicas and hands over what it leads.";
    "jangbu.heal.after.ms" Long "600000" (min 0) ro "Time a broker stays dead before its replicas are rebuilt on others, in ms; 0 means never.";
    "leader.replication.throttled.rate" Long "9223372036854775807" (min 0) rw "Most bytes per second that the broker sends to replicas which are being added.";
};
