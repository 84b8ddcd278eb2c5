//! One config's definition, and the check of a value against it.
//!
//! Values are text everywhere, as on the wire. Blanks around a value or a list element do not
//! count, which is how Kafka reads them.
//!
//! Not here: the tables (`topic.rs`, `broker/`), what jangbu refuses although Kafka takes it
//! (`topic.rs`).

/// The type of a config's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`, in any case.
    Boolean,
    /// Any text.
    String,
    /// A 32-bit number.
    Int,
    /// A 16-bit number.
    Short,
    /// A 64-bit number.
    Long,
    /// A floating-point number.
    Double,
    /// Text elements separated by commas.
    List,
    /// The name of a Java class; means nothing to jangbu.
    Class,
    /// Text that is never shown.
    Password,
}

impl Kind {
    /// The number DescribeConfigs uses for this type (field `ConfigType`, since version 3).
    pub fn code(self) -> i8 {
        match self {
            Self::Boolean => 1,
            Self::String => 2,
            Self::Int => 3,
            Self::Short => 4,
            Self::Long => 5,
            Self::Double => 6,
            Self::List => 7,
            Self::Class => 8,
            Self::Password => 9,
        }
    }
}

/// Which values of the right type are allowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Valid {
    /// All.
    Any,
    /// Numbers from `min` up to and including `max`, if there is one.
    Range {
        /// The smallest.
        min: i64,
        /// The largest.
        max: Option<i64>,
    },
    /// A range and one number outside it.
    RangeOr {
        /// The number outside the range.
        also: i64,
        /// The smallest.
        min: i64,
        /// The largest.
        max: i64,
    },
    /// One of these words.
    OneOf(&'static [&'static str]),
    /// One of these words, in any case.
    OneOfAnyCase(&'static [&'static str]),
    /// Any number of these words, also none.
    ListOf(&'static [&'static str]),
    /// `*`, or a list of `partition:broker`.
    ThrottledReplicas,
}

/// One config: what it is called, what it may be, what it means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConfigDef {
    /// Its name in requests and answers.
    pub name: &'static str,
    /// The type of its values.
    pub kind: Kind,
    /// Its value when nobody sets it; `None` is Kafka's null.
    pub default: Option<&'static str>,
    /// Which values of that type are allowed.
    pub valid: Valid,
    /// Whether Kafka can change it only by a restart.
    pub read_only: bool,
    /// Whether its value is hidden in answers.
    pub sensitive: bool,
    /// One sentence on its meaning.
    pub doc: &'static str,
    /// For a topic config: the broker config that gives its default.
    pub broker_synonym: Option<&'static str>,
}

/// Why a config was refused: INVALID_CONFIG on the wire for a topic, INVALID_REQUEST for a broker (as
/// in Kafka, which finds that a pity, KAFKA-13609).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// No topic config has this name.
    #[error("Unknown topic config name: {name}")]
    UnknownTopicConfig {
        /// The name asked for.
        name: String,
    },
    /// No broker config has this name.
    #[error("Unknown broker config name: {name}")]
    UnknownBrokerConfig {
        /// The name asked for.
        name: String,
    },
    /// No group config has this name.
    #[error("Unknown group config name: {name}")]
    UnknownGroupConfig {
        /// The name asked for.
        name: String,
    },
    /// A topic config came without a value.
    #[error("Null value not supported for topic configs: {name}")]
    NullValue {
        /// The config's name.
        name: String,
    },
    /// The value has the wrong type or lies outside the bounds.
    #[error("Invalid value {value} for configuration {name}: {rule}")]
    Value {
        /// The config's name.
        name: String,
        /// The value that was refused.
        value: String,
        /// What is allowed.
        rule: String,
    },
    /// Kafka would take the value; jangbu cannot keep what it promises.
    #[error(
        "Invalid value {value} for configuration {name}: {reason}. \
         Not supported by this version of jangbu; allowed: {allowed}"
    )]
    NotSupported {
        /// The config's name.
        name: String,
        /// The value that was refused.
        value: String,
        /// What is missing.
        reason: &'static str,
        /// The values that are allowed.
        allowed: String,
    },
    /// Two configs of one topic contradict each other.
    #[error("conflict topic config setting {low} ({low_value}) > {high} ({high_value})")]
    Conflict {
        /// The config that must be the smaller one.
        low: &'static str,
        /// Its value.
        low_value: i64,
        /// The config that must be the larger one.
        high: &'static str,
        /// Its value.
        high_value: i64,
    },
}

impl ConfigDef {
    /// Checks `value` against the type and the bounds.
    ///
    /// # Errors
    /// [`Invalid::Value`], naming what is allowed.
    pub fn check(&self, value: &str) -> Result<(), Invalid> {
        let text = value.trim();
        self.check_kind(text).and_then(|()| self.check_bounds(text)).map_err(|rule| {
            Invalid::Value { name: self.name.to_owned(), value: value.to_owned(), rule }
        })
    }

    fn check_kind(&self, text: &str) -> Result<(), String> {
        let (fits, wanted) = match self.kind {
            Kind::Boolean => (boolean(text).is_some(), "Expected value to be either true or false"),
            Kind::Short => (text.parse::<i16>().is_ok(), "Not a number of type SHORT"),
            Kind::Int => (text.parse::<i32>().is_ok(), "Not a number of type INT"),
            Kind::Long => (text.parse::<i64>().is_ok(), "Not a number of type LONG"),
            Kind::Double => (text.parse::<f64>().is_ok(), "Not a number of type DOUBLE"),
            Kind::String | Kind::List | Kind::Class | Kind::Password => (true, ""),
        };
        if fits { Ok(()) } else { Err(wanted.to_owned()) }
    }

    fn check_bounds(&self, text: &str) -> Result<(), String> {
        let fits = match self.valid {
            Valid::Any => true,
            Valid::Range { min, max } => self.within(text, min, max),
            Valid::RangeOr { also, min, max } => {
                self.within(text, also, Some(also)) || self.within(text, min, Some(max))
            }
            Valid::OneOf(words) => words.contains(&text),
            Valid::OneOfAnyCase(words) => words.iter().any(|word| word.eq_ignore_ascii_case(text)),
            Valid::ListOf(words) => elements(text).all(|element| words.contains(&element)),
            Valid::ThrottledReplicas => text == "*" || elements(text).all(is_replica),
        };
        if fits { Ok(()) } else { Err(self.valid.rule()) }
    }

    #[allow(
        clippy::cast_precision_loss,
        reason = "the bounds of floating-point configs are 0 and 1, which are exact"
    )]
    fn within(&self, text: &str, min: i64, max: Option<i64>) -> bool {
        if self.kind == Kind::Double {
            return text.parse::<f64>().is_ok_and(|number| {
                number >= min as f64 && max.is_none_or(|max| number <= max as f64)
            });
        }
        text.parse::<i64>().is_ok_and(|number| number >= min && max.is_none_or(|max| number <= max))
    }
}

impl Valid {
    /// What is allowed, as the end of an error message.
    pub fn rule(&self) -> String {
        match *self {
            Self::Any => "Every value is allowed".to_owned(),
            Self::Range { min, max: None } => format!("Value must be at least {min}"),
            Self::Range { min, max: Some(max) } => {
                format!("Value must be at least {min} and no more than {max}")
            }
            Self::RangeOr { also, min, max } => {
                format!("Value must be between {min} and {max} or equal to {also}")
            }
            Self::OneOf(words) | Self::OneOfAnyCase(words) | Self::ListOf(words) => {
                format!("String must be one of: {}", words.join(", "))
            }
            Self::ThrottledReplicas => {
                "Value must be * or a list of [partitionId]:[brokerId]".to_owned()
            }
        }
    }
}

/// The elements of a list value.
pub(super) fn elements(text: &str) -> impl Iterator<Item = &str> {
    text.split(',').map(str::trim).filter(|element| !element.is_empty())
}

pub(super) fn boolean(text: &str) -> Option<bool> {
    [("true", true), ("false", false)]
        .into_iter()
        .find_map(|(word, value)| word.eq_ignore_ascii_case(text).then_some(value))
}

/// Whether a list of `partition:broker` pairs names a replica. An empty one names all, as `*` does.
pub(crate) fn names_replica(list: &str, partition: usize, broker: i32) -> bool {
    let mut elements = elements(list).peekable();
    let pair = |element: &str| {
        let (partition, broker) = element.split_once(':')?;
        Some((partition.parse::<usize>().ok()?, broker.parse::<i32>().ok()?))
    };
    elements.peek().is_none()
        || elements.any(|element| element == "*" || pair(element) == Some((partition, broker)))
}

fn is_replica(element: &str) -> bool {
    element.split_once(':').is_some_and(|(partition, broker)| {
        [partition, broker].iter().all(|id| id.parse::<i32>().is_ok_and(|id| id >= 0))
    })
}
