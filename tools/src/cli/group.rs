//! The arguments of `jangbu group`.

use std::str::FromStr;

use clap::{ArgGroup, Args, Subcommand};

use super::Brokers;
use crate::timestamp::Timestamp;

/// See how far consumer groups are, and change that.
#[derive(Debug, Subcommand)]
pub(crate) enum GroupCommand {
    /// List all groups.
    #[command(after_help = "Examples:\n  jangbu group list\n  jangbu group list --json")]
    List(Brokers),
    /// Show what groups have committed, how far that is from the ends, and who reads what.
    #[command(after_help = "\
Examples:
  jangbu group describe billing
  jangbu group describe billing --watch        (every 2 seconds, until Ctrl-C)
  jangbu group describe billing --watch=10 --json
  jangbu group describe                        (all groups)")]
    Describe(DescribeArgs),
    /// Set what a group has committed. Nobody may be in the group meanwhile.
    #[command(after_help = RESET_HELP)]
    Reset(ResetArgs),
    /// Delete groups with all that they have committed, or only what they have committed of some topics.
    #[command(after_help = "\
Examples:
  jangbu group delete billing
  jangbu group delete billing --topic flights      (forgets its offsets of that topic)")]
    Delete(DeleteArgs),
}

const RESET_HELP: &str = "\
The group must be empty: stop its members first. A group that does not exist yet is made. An offset before the first record that
is there, or after the last one, becomes that end. --dry-run shows what would change, and changes nothing.

Examples:
  jangbu group reset billing --topic flights --to-earliest --dry-run
  jangbu group reset billing --all-topics --to-latest
  jangbu group reset billing --topic flights:0,2 --to-offset 1000
  jangbu group reset billing --topic flights --topic delays --shift-by -100
  jangbu group reset billing --all-topics --to-datetime 2026-01-31T12:00:00Z
  jangbu group reset billing --all-topics --by-duration 2h";

/// Which groups to show.
#[derive(Debug, Args)]
pub(crate) struct DescribeArgs {
    /// Their names [default: all groups]
    #[arg(value_name = "GROUP")]
    pub groups: Vec<String>,
    /// Show them again and again, with so many seconds in between [without a number: 2]
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "2",
        value_parser = clap::value_parser!(u64).range(1..))]
    pub watch: Option<u64>,
    #[command(flatten)]
    pub brokers: Brokers,
}

/// Which offsets to set, and where to.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["topics", "all_topics"])))]
#[command(group(ArgGroup::new("to").required(true)))]
pub(crate) struct ResetArgs {
    /// The group
    #[arg(value_name = "GROUP")]
    pub group: String,
    /// A topic, or some of its partitions; may be repeated
    #[arg(long = "topic", value_name = "TOPIC[:P,P...]")]
    pub topics: Vec<Partitions>,
    /// All topics of which the group has committed offsets
    #[arg(long)]
    pub all_topics: bool,
    /// To the first record there is
    #[arg(long, group = "to")]
    pub to_earliest: bool,
    /// To the end
    #[arg(long, group = "to")]
    pub to_latest: bool,
    /// To what is committed already, inside what is there
    #[arg(long, group = "to")]
    pub to_current: bool,
    /// To the first record of this time or later: milliseconds since 1970, or like 2026-01-31T12:00:00Z
    #[arg(long, group = "to", value_name = "MS|RFC3339")]
    pub to_datetime: Option<Timestamp>,
    /// To the first record of so long ago or later, for instance 30s, 10m or 2h
    #[arg(long, group = "to", value_name = "DURATION", value_parser = jangbu_server::config::parse_duration_ms)]
    pub by_duration: Option<u64>,
    /// To this offset
    #[arg(long, group = "to", value_name = "OFFSET", value_parser = clap::value_parser!(i64).range(0..))]
    pub to_offset: Option<i64>,
    /// By so many records on, or back if it is negative
    #[arg(long, group = "to", value_name = "RECORDS", allow_negative_numbers = true)]
    pub shift_by: Option<i64>,
    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub brokers: Brokers,
}

/// What to delete.
#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    /// The groups
    #[arg(value_name = "GROUP", required = true)]
    pub groups: Vec<String>,
    /// Only what they have committed of this topic, or of some of its partitions; may be repeated
    #[arg(long = "topic", value_name = "TOPIC[:P,P...]")]
    pub topics: Vec<Partitions>,
    #[command(flatten)]
    pub brokers: Brokers,
}

/// A topic, or some of its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Partitions {
    /// The topic.
    pub topic: String,
    /// The numbers of its partitions; `None` are all.
    pub only: Option<Vec<i32>>,
}

impl FromStr for Partitions {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = || format!("expected TOPIC or TOPIC:0,2, not `{text}`");
        let (topic, numbers) = match text.split_once(':') {
            None => (text, None),
            Some((topic, numbers)) => (topic, Some(numbers)),
        };
        let number = |text: &str| text.parse().ok().filter(|number: &i32| *number >= 0);
        let only = match numbers {
            None => None,
            Some(numbers) => {
                let numbers: Option<Vec<i32>> = numbers.split(',').map(number).collect();
                Some(numbers.ok_or_else(expected)?)
            }
        };
        if topic.is_empty() { Err(expected()) } else { Ok(Self { topic: topic.to_owned(), only }) }
    }
}

#[cfg(test)]
mod tests {
    use super::Partitions;

    #[test]
    fn a_topic_may_name_some_of_its_partitions() {
        let of = |only: Option<&[i32]>| {
            Ok(Partitions { topic: "t".into(), only: only.map(<[i32]>::to_vec) })
        };
        assert_eq!("t".parse(), of(None));
        assert_eq!("t:0,2".parse(), of(Some(&[0, 2])));
        for wrong in ["", ":1", "t:", "t:a", "t:-1", "t:1,,2", "t:1:2"] {
            assert!(wrong.parse::<Partitions>().is_err(), "{wrong}");
        }
    }
}
