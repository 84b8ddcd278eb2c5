//! `jangbu group`: how far consumer groups are, and changing that.
//!
//! Not here: the arguments (`cli/group.rs`); where a reset goes (`group/aim.rs`, which asks nobody).

mod aim;
mod describe;
mod reset;

use anyhow::Context;
use jangbu_client::{Client, ErrorCode, TopicPartition};
use serde_json::json;

use crate::cli::Brokers;
use crate::cli::group::{DeleteArgs, GroupCommand, Partitions};
use crate::output;
use crate::topic::connect;

/// Runs one of the group commands.
pub(crate) async fn run(command: &GroupCommand, json: bool) -> anyhow::Result<()> {
    match command {
        GroupCommand::List(brokers) => list(brokers, json).await,
        GroupCommand::Describe(args) => describe::run(args, json).await,
        GroupCommand::Reset(args) => reset::run(args, json).await,
        GroupCommand::Delete(args) => delete(args, json).await,
    }
}

/// A text that may be missing or empty, as a cell of a table.
fn cell(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

async fn list(brokers: &Brokers, json: bool) -> anyhow::Result<()> {
    let groups = connect(brokers).await?.list_groups().await?;
    if json {
        for group in groups {
            output::json_line(&json!({
                "group": group.id,
                "type": group.kind,
                "state": group.state,
                "protocol": group.protocol_type,
                "coordinator": group.coordinator.0,
            }))?;
        }
        return Ok(());
    }
    if groups.is_empty() {
        output::note("there are no groups yet; a consumer with a group.id makes one");
        return Ok(());
    }
    let row = |group: &jangbu_client::GroupListing| {
        let cells = [Some(&*group.id), group.kind.as_deref(), group.state.as_deref()].map(cell);
        [cells.to_vec(), vec![group.coordinator.0.to_string()]].concat()
    };
    let rows: Vec<_> = groups.iter().map(row).collect();
    output::table(&["GROUP", "TYPE", "STATE", "COORDINATOR"], &rows)?;
    Ok(())
}

async fn delete(args: &DeleteArgs, json: bool) -> anyhow::Result<()> {
    let client = connect(&args.brokers).await?;
    for group in &args.groups {
        let text = if args.topics.is_empty() {
            client.delete_group(group).await.map_err(|error| explained(error, group))?;
            format!("deleted {group}")
        } else {
            let partitions = named(&client, &args.topics).await?;
            let done = client.delete_offsets(group, &partitions).await;
            done.map_err(|error| explained(error, group))?;
            format!("{group} has forgotten its offsets of {} partitions", partitions.len())
        };
        if json {
            let topics: Vec<&String> = args.topics.iter().map(|topic| &topic.topic).collect();
            output::json_line(&json!({ "deleted": group, "topics": topics }))?;
        } else {
            output::line(&text)?;
        }
    }
    Ok(())
}

/// What the codes of groups mean for whoever typed the command.
fn explained(error: jangbu_client::Error, group: &str) -> anyhow::Error {
    let context = match error.code() {
        Some(ErrorCode::NonEmptyGroup | ErrorCode::UnknownMemberId) => format!(
            "somebody is in the group {group}; stop its members first, `jangbu group describe {group}` shows them"
        ),
        Some(ErrorCode::GroupIdNotFound) => missing(group),
        Some(ErrorCode::GroupSubscribedToTopic) => {
            format!("a member of {group} reads that topic; stop it first")
        }
        _ => return error.into(),
    };
    anyhow::Error::from(error).context(context)
}

fn missing(group: &str) -> String {
    format!("there is no group {group}; `jangbu group list` shows those there are")
}

/// The partitions that are named, after a look whether they exist.
async fn named(client: &Client, topics: &[Partitions]) -> anyhow::Result<Vec<TopicPartition>> {
    let mut partitions = Vec::new();
    for wanted in topics {
        let topic = client.topic(&wanted.topic).await?;
        let count = i32::try_from(topic.partitions.len()).context("too many partitions")?;
        let numbers = wanted.only.clone().unwrap_or_else(|| (0..count).collect());
        if let Some(partition) = numbers.iter().copied().find(|number| *number >= count) {
            let (topic, count) = (wanted.topic.clone(), topic.partitions.len());
            return Err(jangbu_client::Error::UnknownPartition { topic, partition, count }.into());
        }
        partitions.extend(numbers.into_iter().map(|n| TopicPartition::new(&*wanted.topic, n)));
    }
    partitions.sort();
    partitions.dedup();
    Ok(partitions)
}
