//! A change of the configs that are set on a topic or a broker: what comes out of it, or why not.
//!
//! The checks, their order and their words are those of Kafka 4.3 (`ConfigAdminManager`,
//! `ConfigurationControlManager`). Values are stored trimmed, and lists without repeated elements, which
//! is what Kafka reads out of them.
//!
//! Not here: where configs are stored, and that nobody else changes them meanwhile (group 0).

use std::collections::{BTreeMap, BTreeSet};

use super::broker::{broker_config, is_dynamic};
use super::group::{group_config, validate_group_config};
use super::topic::{topic_config, validate_broker_config, validate_topic_configs};
use super::value::{ConfigDef, Invalid, Kind, elements};

/// What is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One topic.
    Topic,
    /// One broker, or every broker.
    Broker,
    /// One group.
    Group,
}

/// What to do with one config.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Give it a value.
    Set,
    /// Take its value away, so that the default holds.
    Delete,
    /// Add elements to a list.
    Append,
    /// Take elements out of a list.
    Subtract,
}

impl Operation {
    /// The operation with this number in IncrementalAlterConfigs.
    pub fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Self::Set),
            1 => Some(Self::Delete),
            2 => Some(Self::Append),
            3 => Some(Self::Subtract),
            _ => None,
        }
    }
}

/// One config to change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Edit<'a> {
    /// Its name.
    pub name: &'a str,
    /// The number of the operation, as it came.
    pub operation: i8,
    /// The value; null only means something where it is taken away.
    pub value: Option<&'a str>,
}

/// A change that a client asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change<'a> {
    /// Only these configs (IncrementalAlterConfigs, KIP-339).
    Edit(Vec<Edit<'a>>),
    /// These and no others, whatever was set before (AlterConfigs).
    Replace(Vec<(&'a str, Option<&'a str>)>),
}

/// Why nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// A config is named twice.
    #[error("Error due to duplicate config keys")]
    Twice,
    /// Values are missing.
    #[error("Null value not supported for : {0}")]
    Null(String),
    /// There is no such operation.
    #[error("Unknown operation type {0}")]
    Operation(i8),
    /// A running broker does not take these.
    #[error("Cannot update these configs dynamically: [{0}]")]
    ReadOnly(String),
    /// The config has no elements. The text is Kafka's for the scope.
    #[error("{0}")]
    NoList(String),
    /// A value is not allowed.
    #[error(transparent)]
    Value(#[from] Invalid),
}

impl Change<'_> {
    /// What is set after the change, `current` being set before.
    ///
    /// # Errors
    /// [`Rejected`] for the first thing that is wrong.
    pub fn apply(
        &self,
        scope: Scope,
        current: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, Rejected> {
        let edits = self.edits();
        check_names(&edits)?;
        let mut configs = match self {
            Self::Edit(_) => current.clone(),
            Self::Replace(_) => BTreeMap::new(),
        };
        if scope == Scope::Broker {
            check_broker_names(&edits)?;
        }
        for edit in &edits {
            match edited(scope, edit, configs.get(edit.name).map(String::as_str))? {
                Some(value) => configs.insert(edit.name.to_owned(), value),
                None => configs.remove(edit.name),
            };
        }
        match scope {
            Scope::Topic => validate_topic_configs(
                configs.iter().map(|(name, value)| (name.as_str(), Some(value.as_str()))),
            )?,
            Scope::Broker => {
                configs.iter().try_for_each(|(name, value)| validate_broker_config(name, value))?
            }
            Scope::Group => {
                configs.iter().try_for_each(|(name, value)| validate_group_config(name, value))?
            }
        }
        Ok(normal(scope, configs))
    }

    fn edits(&self) -> Vec<Edit<'_>> {
        match self {
            Self::Edit(edits) => edits.clone(),
            Self::Replace(pairs) => {
                let set = |&(name, value)| Edit { name, operation: 0, value };
                pairs.iter().map(set).collect()
            }
        }
    }
}

fn check_names(edits: &[Edit<'_>]) -> Result<(), Rejected> {
    let mut seen = BTreeSet::new();
    if !edits.iter().all(|edit| seen.insert(edit.name)) {
        return Err(Rejected::Twice);
    }
    let deletes =
        |edit: &&Edit<'_>| Operation::from_code(edit.operation) == Some(Operation::Delete);
    let null = edits.iter().filter(|edit| edit.value.is_none() && !deletes(edit));
    let null: Vec<&str> = null.map(|edit| edit.name).collect();
    if null.is_empty() { Ok(()) } else { Err(Rejected::Null(null.join(", "))) }
}

/// A running broker takes only some configs. To delete what it would not take is no error.
fn check_broker_names(edits: &[Edit<'_>]) -> Result<(), Rejected> {
    let sets = edits.iter().filter(|edit| edit.operation != 1);
    let names: Vec<&str> = sets.map(|edit| edit.name).collect();
    if let Some(unknown) = names.iter().find(|name| broker_config(name).is_none()) {
        return Err(Invalid::UnknownBrokerConfig { name: (*unknown).to_owned() }.into());
    }
    let fixed: Vec<&str> = names.into_iter().filter(|name| !is_dynamic(name)).collect();
    if fixed.is_empty() { Ok(()) } else { Err(Rejected::ReadOnly(fixed.join(", "))) }
}

/// The value after one edit; `None` is that there is none.
fn edited(
    scope: Scope,
    edit: &Edit<'_>,
    current: Option<&str>,
) -> Result<Option<String>, Rejected> {
    let operation = Operation::from_code(edit.operation);
    let operation = operation.ok_or(Rejected::Operation(edit.operation))?;
    let value = edit.value.unwrap_or_default();
    let adds = match operation {
        Operation::Set => return Ok(Some(value.to_owned())),
        Operation::Delete => return Ok(None),
        Operation::Append => true,
        Operation::Subtract => false,
    };
    let def = definition(scope, edit.name).filter(|def| def.kind == Kind::List);
    let def = def.ok_or_else(|| no_list(scope, edit.name, adds))?;
    let mut list: Vec<&str> = elements(current.or(def.default).unwrap_or_default()).collect();
    for element in elements(value) {
        match adds {
            true if !list.contains(&element) => list.push(element),
            true => {}
            false => list.retain(|kept| *kept != element),
        }
    }
    Ok(Some(list.join(",")))
}

fn no_list(scope: Scope, name: &str, adds: bool) -> Rejected {
    Rejected::NoList(match scope {
        Scope::Topic | Scope::Group => {
            let word = if adds { "APPEND" } else { "SUBTRACT" };
            format!("Can't {word} to key {name} because its type is not LIST.")
        }
        Scope::Broker => {
            let word = if adds { "append" } else { "subtract" };
            format!("Config value {word} is not allowed for config key: {name}")
        }
    })
}

fn definition(scope: Scope, name: &str) -> Option<&'static ConfigDef> {
    match scope {
        Scope::Topic => topic_config(name),
        Scope::Broker => broker_config(name),
        Scope::Group => group_config(name),
    }
}

/// The same values as Kafka would show them.
fn normal(scope: Scope, mut configs: BTreeMap<String, String>) -> BTreeMap<String, String> {
    for (name, value) in &mut configs {
        let is_list = definition(scope, name).is_some_and(|def| def.kind == Kind::List);
        *value = if is_list {
            let mut seen = BTreeSet::new();
            let once: Vec<&str> = elements(value).filter(|word| seen.insert(*word)).collect();
            once.join(",")
        } else {
            value.trim().to_owned()
        };
    }
    configs
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(values: &[(&str, &str)]) -> BTreeMap<String, String> {
        values.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    fn edit<'a>(name: &'a str, operation: i8, value: &'a str) -> Edit<'a> {
        Edit { name, operation, value: (value != "null").then_some(value) }
    }

    fn topic(edits: &[Edit<'_>], current: &[(&str, &str)]) -> Result<Vec<String>, String> {
        applied(Scope::Topic, &Change::Edit(edits.to_vec()), current)
    }

    fn broker(edits: &[Edit<'_>]) -> Result<Vec<String>, String> {
        applied(Scope::Broker, &Change::Edit(edits.to_vec()), &[])
    }

    fn applied(
        scope: Scope,
        change: &Change<'_>,
        current: &[(&str, &str)],
    ) -> Result<Vec<String>, String> {
        let after = change.apply(scope, &map(current)).map_err(|rejected| rejected.to_string())?;
        Ok(after.iter().map(|(name, value)| format!("{name}={value}")).collect())
    }

    #[test]
    fn an_edit_changes_what_it_names_and_a_replacement_everything() {
        let before = [("retention.ms", "5"), ("retention.bytes", "6")];
        let edits = [edit("retention.ms", 0, " 7 "), edit("retention.bytes", 1, "null")];
        assert_eq!(topic(&edits, &before).unwrap(), ["retention.ms=7"]);
        assert_eq!(topic(&[], &before).unwrap(), ["retention.bytes=6", "retention.ms=5"]);
        let replace = Change::Replace(vec![("segment.ms", Some("8"))]);
        assert_eq!(applied(Scope::Topic, &replace, &before).unwrap(), ["segment.ms=8"]);
        let nothing = Change::Replace(Vec::new());
        assert!(applied(Scope::Topic, &nothing, &before).unwrap().is_empty());
        assert!(topic(&[edit("never.set", 1, "null")], &[]).unwrap().is_empty());
    }

    #[test]
    fn lists_grow_and_shrink_by_element_and_start_from_the_default() {
        let name = "leader.replication.throttled.replicas";
        let value = |edits: &[Edit<'_>], current| topic(edits, &[(name, current)]).unwrap();
        assert_eq!(value(&[edit(name, 2, "1:1,2:1")], "0:1"), [format!("{name}=0:1,1:1,2:1")]);
        assert_eq!(value(&[edit(name, 2, "0:1")], "0:1"), [format!("{name}=0:1")]);
        assert_eq!(value(&[edit(name, 3, "0:1,9:9")], "0:1,1:1"), [format!("{name}=1:1")]);
        assert_eq!(value(&[edit(name, 3, "0:1")], "0:1"), [format!("{name}=")]);
        let policy = [edit("cleanup.policy", 2, "delete")];
        assert_eq!(topic(&policy, &[]).unwrap(), ["cleanup.policy=delete"]);
        let twice = [edit("cleanup.policy", 0, "delete, delete")];
        assert_eq!(topic(&twice, &[]).unwrap(), ["cleanup.policy=delete"]);
    }

    #[test]
    fn what_is_wrong_with_a_change_is_told_in_kafkas_words() {
        let cases: [(&[Edit<'_>], &str); 9] = [
            (
                &[edit("retention.ms", 0, "1"), edit("retention.ms", 1, "null")],
                "Error due to duplicate config keys",
            ),
            (&[edit("retention.ms", 0, "null")], "Null value not supported for : retention.ms"),
            (&[edit("cleanup.policy", 2, "null")], "Null value not supported for : cleanup.policy"),
            (&[edit("retention.ms", 9, "1")], "Unknown operation type 9"),
            (
                &[edit("retention.ms", 2, "1")],
                "Can't APPEND to key retention.ms because its type is not LIST.",
            ),
            (&[edit("foo", 3, "1")], "Can't SUBTRACT to key foo because its type is not LIST."),
            (&[edit("foo", 0, "1")], "Unknown topic config name: foo"),
            (
                &[edit("retention.ms", 0, "soon")],
                "Invalid value soon for configuration retention.ms: Not a number of type LONG",
            ),
            (
                &[edit("min.compaction.lag.ms", 0, "10"), edit("max.compaction.lag.ms", 0, "5")],
                "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)",
            ),
        ];
        for (edits, message) in cases {
            assert_eq!(topic(edits, &[]).unwrap_err(), message);
        }
    }

    #[test]
    fn a_conflict_with_what_is_already_set_is_found() {
        let edits = [edit("min.compaction.lag.ms", 0, "10")];
        assert!(topic(&edits, &[("max.compaction.lag.ms", "5")]).is_err());
    }

    #[test]
    fn compaction_is_turned_on_and_off_at_run_time() {
        let set = |operation, value| topic(&[edit("cleanup.policy", operation, value)], &[]);
        assert_eq!(set(0, "compact").unwrap(), ["cleanup.policy=compact"]);
        assert_eq!(set(2, "compact").unwrap(), ["cleanup.policy=delete,compact"]);
        let off = [edit("cleanup.policy", 3, "compact")];
        let policy = [("cleanup.policy", "compact,delete")];
        assert_eq!(topic(&off, &policy).unwrap(), ["cleanup.policy=delete"]);
    }

    #[test]
    fn a_running_broker_takes_the_defaults_of_topics_and_nothing_else() {
        let taken = [edit("log.retention.ms", 0, "5"), edit("message.max.bytes", 0, "9")];
        assert_eq!(broker(&taken).unwrap(), ["log.retention.ms=5", "message.max.bytes=9"]);
        let refused: [(&[Edit<'_>], &str); 6] = [
            (
                &[edit("node.id", 0, "5"), edit("log.dirs", 0, "x")],
                "Cannot update these configs dynamically: [node.id, log.dirs]",
            ),
            (
                &[edit("num.io.threads", 0, "5")],
                "Cannot update these configs dynamically: [num.io.threads]",
            ),
            (&[edit("foo", 0, "5")], "Unknown broker config name: foo"),
            (
                &[edit("log.retention.ms", 0, "x")],
                "Invalid value x for configuration log.retention.ms: Not a number of type LONG",
            ),
            (
                &[edit("log.retention.ms", 2, "3")],
                "Config value append is not allowed for config key: log.retention.ms",
            ),
            (
                &[edit("message.max.bytes", 0, "null")],
                "Null value not supported for : message.max.bytes",
            ),
        ];
        for (edits, message) in refused {
            assert_eq!(broker(edits).unwrap_err(), message);
        }
        let compact = broker(&[edit("log.cleanup.policy", 2, "compact")]).unwrap();
        assert_eq!(compact, ["log.cleanup.policy=delete,compact"]);
        assert!(broker(&[edit("node.id", 1, "null")]).unwrap().is_empty(), "as in Kafka");
    }
}
