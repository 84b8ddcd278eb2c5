//! What the config APIs share: whose configs a request means, and changing them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kafka_protocol::ResponseError;
use kafka_protocol::protocol::StrBytes;
use uuid::Uuid;

use super::topics::{Refusal, is_valid_name};
use crate::broker::Broker;
use crate::configs::{Change, DRAINING, HEARTBEAT_INTERVAL, Rejected, SESSION_TIMEOUT, Scope};
use crate::controller::{Error, Topic};
use crate::groups::consumer::ConsumerLimits;

/// Kafka's `ConfigResource.Type`.
pub(super) const RESOURCE_TOPIC: i8 = 2;
pub(super) const RESOURCE_BROKER: i8 = 4;
pub(super) const RESOURCE_GROUP: i8 = 32;

/// How often a change that somebody else got in front of is tried again: each time somebody else's has
/// succeeded.
const TRIES_MAX: usize = 100;

/// The configs of one topic or broker that a request names, and the change it asks for.
pub(super) struct Wish<'a> {
    pub(super) resource_type: i8,
    pub(super) name: &'a str,
    pub(super) change: Change<'a>,
}

/// Changes the configs of each resource by itself, or only says whether it could. What is named twice is
/// refused each time.
pub(super) async fn change_all(
    broker: &Broker,
    wishes: &[Wish<'_>],
    validate_only: bool,
) -> Vec<Result<(), Refusal>> {
    let mut seen = BTreeSet::new();
    let ids = wishes.iter().map(|wish| (wish.resource_type, wish.name));
    let twice: BTreeSet<_> = ids.filter(|id| !seen.insert(*id)).collect();
    let mut results = Vec::with_capacity(wishes.len());
    for wish in wishes {
        results.push(if twice.contains(&(wish.resource_type, wish.name)) {
            let text = "Each resource must appear at most once.";
            Err(Refusal::new(ResponseError::InvalidRequest, text))
        } else {
            change(broker, wish, validate_only).await
        });
    }
    results
}

/// Error code and message of one resource's answer.
pub(super) fn answer(result: Result<(), Refusal>) -> (i16, Option<StrBytes>) {
    match result {
        Ok(()) => (0, None),
        Err(refusal) => (refusal.code.code(), Some(StrBytes::from_string(refusal.message))),
    }
}

async fn change(broker: &Broker, wish: &Wish<'_>, validate_only: bool) -> Result<(), Refusal> {
    for _ in 0..TRIES_MAX {
        let tried = match wish.resource_type {
            RESOURCE_TOPIC => change_topic(broker, wish, validate_only).await,
            RESOURCE_BROKER => change_broker(broker, wish, validate_only).await,
            RESOURCE_GROUP => change_group(broker, wish, validate_only).await,
            other => return Err(no_configs(other)),
        };
        match tried? {
            Err(Error::Stale) => {}
            done => return Ok(done?),
        }
    }
    let text = "the configs were changed by others all the time";
    Err(Refusal::new(ResponseError::RequestTimedOut, text))
}

async fn change_topic(
    broker: &Broker,
    wish: &Wish<'_>,
    validate_only: bool,
) -> Result<Result<(), Error>, Refusal> {
    let topic = match wish.name {
        "" => {
            let text = "Default topic resources are not allowed.";
            return Err(Refusal::new(ResponseError::InvalidRequest, text));
        }
        name => existing_topic(broker, name)?,
    };
    let (scope, seen) = (Scope::Topic, topic.configs.clone());
    let Some(configs) = wish.changed(scope, &seen, validate_only)? else { return Ok(Ok(())) };
    let changed = broker.controller.set_topic_configs(topic.id, seen, configs).await;
    if changed.is_ok() {
        acts_at_once(broker, topic.id);
    }
    Ok(changed)
}

/// Tells the partitions that run here before the change is answered, so that a record sent behind the
/// answer is treated by it. What is read from the topic's settings with each request needs no telling.
fn acts_at_once(broker: &Broker, id: Uuid) {
    let Some(topic) = broker.topic_by_id(id) else { return };
    for partition in &topic.partitions {
        if let Some(partition) = broker.replicas.get(partition.group) {
            partition.set_durability(topic.settings.durability);
        }
    }
}

async fn change_broker(
    broker: &Broker,
    wish: &Wish<'_>,
    validate_only: bool,
) -> Result<Result<(), Error>, Refusal> {
    let id = match wish.name {
        "" if wish.names(DRAINING) => {
            let text = format!("{DRAINING} is a config of one broker");
            return Err(Refusal::new(ResponseError::InvalidRequest, text));
        }
        "" => None,
        name if wish.is_only(DRAINING) => Some(any_id(broker, name)?),
        name => Some(own_id(broker, name, "Node id", ",")?),
    };
    let seen = broker.controller.image().set_on(id);
    Ok(match wish.changed(Scope::Broker, &seen, validate_only)? {
        Some(configs) => broker.controller.set_broker_configs(id, seen, configs).await,
        None => Ok(()),
    })
}

async fn change_group(
    broker: &Broker,
    wish: &Wish<'_>,
    validate_only: bool,
) -> Result<Result<(), Error>, Refusal> {
    let group = named_group(wish.name)?;
    let seen = broker.controller.image().set_for_group(group);
    let Some(configs) = wish.changed(Scope::Group, &seen, false)? else { return Ok(Ok(())) };
    check_group(&configs, &broker.groups.limits().consumer)?;
    if validate_only {
        return Ok(Ok(()));
    }
    Ok(broker.controller.set_group_configs(group.to_owned(), seen, configs).await)
}

/// The group whose configs are meant.
///
/// # Errors
/// INVALID_REQUEST without a name.
pub(super) fn named_group(name: &str) -> Result<&str, Refusal> {
    match name {
        "" => Err(Refusal::new(
            ResponseError::InvalidRequest,
            "Default group resources are not allowed.",
        )),
        name => Ok(name),
    }
}

/// Checks a group's configs against the bounds of the broker and each other, in Kafka's words.
fn check_group(configs: &BTreeMap<String, String>, limits: &ConsumerLimits) -> Result<(), Refusal> {
    let own = |name: &str| configs.get(name).and_then(|value| value.parse::<i32>().ok());
    let bounded = [
        (SESSION_TIMEOUT, limits.session_timeout_ms),
        (HEARTBEAT_INTERVAL, limits.heartbeat_interval_ms),
    ];
    let refuse = |text: String| Err(Refusal::new(ResponseError::InvalidConfig, text));
    for (name, bounds) in bounded {
        let bound = |side: &str| {
            format!("group.{}", name.replacen("consumer.", &format!("consumer.{side}."), 1))
        };
        match own(name) {
            Some(value) if value < bounds.min => {
                return refuse(format!("{name} must be greater than or equal to {}", bound("min")));
            }
            Some(value) if value > bounds.max => {
                return refuse(format!("{name} must be less than or equal to {}", bound("max")));
            }
            _ => {}
        }
    }
    let session = limits.session_timeout_ms.of(own(SESSION_TIMEOUT));
    if session <= limits.heartbeat_interval_ms.of(own(HEARTBEAT_INTERVAL)) {
        return refuse(format!("{SESSION_TIMEOUT} must be greater than {HEARTBEAT_INTERVAL}"));
    }
    Ok(())
}

impl Wish<'_> {
    /// The configs that the request names.
    fn named(&self) -> Vec<&str> {
        match &self.change {
            Change::Edit(edits) => edits.iter().map(|edit| edit.name).collect(),
            Change::Replace(pairs) => pairs.iter().map(|(name, _)| *name).collect(),
        }
    }

    fn names(&self, config: &str) -> bool {
        self.named().contains(&config)
    }

    /// Whether it changes this config and nothing else, whatever is set.
    fn is_only(&self, config: &str) -> bool {
        matches!(self.change, Change::Edit(_)) && self.named() == [config]
    }

    /// What is to be set; `None` when there is nothing to do.
    fn changed(
        &self,
        scope: Scope,
        seen: &BTreeMap<String, String>,
        validate_only: bool,
    ) -> Result<Option<BTreeMap<String, String>>, Refusal> {
        let configs = self.change.apply(scope, seen);
        let configs = configs.map_err(|rejected| rejection(scope, &rejected))?;
        Ok((!validate_only && configs != *seen).then_some(configs))
    }
}

fn rejection(scope: Scope, rejected: &Rejected) -> Refusal {
    let code = match (rejected, scope) {
        (Rejected::NoList(_), _) | (Rejected::Value(_), Scope::Topic | Scope::Group) => {
            ResponseError::InvalidConfig
        }
        (Rejected::Value(_), Scope::Broker)
        | (
            Rejected::Twice | Rejected::Null(_) | Rejected::Operation(_) | Rejected::ReadOnly(_),
            _,
        ) => ResponseError::InvalidRequest,
    };
    Refusal::new(code, rejected.to_string())
}

/// The topic whose configs are meant.
///
/// # Errors
/// UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION.
pub(super) fn existing_topic(broker: &Broker, name: &str) -> Result<Arc<Topic>, Refusal> {
    match broker.topic(name) {
        Some(topic) => Ok(topic),
        None if is_valid_name(name) => {
            let text = format!("The topic '{name}' does not exist.");
            Err(Refusal::new(ResponseError::UnknownTopicOrPartition, text))
        }
        None => {
            let text = format!("'{name}' cannot be a topic's name");
            Err(Refusal::new(ResponseError::InvalidTopicException, text))
        }
    }
}

/// The broker whose configs are to be described; `None` is every broker.
///
/// # Errors
/// INVALID_REQUEST for any broker but this one.
pub(super) fn named_broker(broker: &Broker, name: &str) -> Result<Option<i32>, Refusal> {
    match name {
        "" => Ok(None),
        name => own_id(broker, name, "Broker id", " or empty string,").map(Some),
    }
}

/// This broker's id, when `name` is it; Kafka words the two refusals a little differently by API.
fn own_id(broker: &Broker, name: &str, what: &str, or: &str) -> Result<i32, Refusal> {
    let own = broker.id();
    let text = match name.parse::<i32>() {
        Ok(id) if id == own => return Ok(own),
        Ok(id) => format!("Unexpected broker id, expected {own}{or} but received {id}"),
        Err(_) => format!("{what} must be an integer, but it is: {name}"),
    };
    Err(Refusal::new(ResponseError::InvalidRequest, text))
}

/// The id of any broker of the cluster: a broker that is dead is emptied too, and cannot be asked itself.
fn any_id(broker: &Broker, name: &str) -> Result<i32, Refusal> {
    let id = name.parse().ok().filter(|id| broker.controller.image().brokers.contains_key(id));
    let text = || format!("there is no broker {name}");
    id.ok_or_else(|| Refusal::new(ResponseError::InvalidRequest, text()))
}

/// The refusal of a resource that has no configs here.
pub(super) fn no_configs(resource_type: i8) -> Refusal {
    let text = format!(
        "resource type {resource_type} has no configs here; topics (2), brokers (4) and groups (32) do"
    );
    Refusal::new(ResponseError::InvalidRequest, text)
}
