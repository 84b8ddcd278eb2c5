//! `jangbu group reset`: sets what a group has committed.
//!
//! Invariant: nothing is committed unless an offset is known for every partition that was asked for.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use jangbu_client::{Client, Position, TopicPartition};
use serde_json::json;

use super::aim::{Aim, Extent};
use super::{explained, named};
use crate::cli::group::ResetArgs;
use crate::output;
use crate::topic::connect;

/// What happens to a partition.
struct Change {
    at: TopicPartition,
    before: Option<i64>,
    after: i64,
}

pub(super) async fn run(args: &ResetArgs, json: bool) -> anyhow::Result<()> {
    let client = connect(&args.brokers).await?;
    let group = client.describe_group(&args.group).await?;
    if group.is_live() {
        bail!(
            "the group {} is {} and has {} members; stop them first, `jangbu group describe {}` shows them",
            args.group,
            group.state,
            group.members.len(),
            args.group
        );
    }
    let changes = plan(&client, args).await?;
    if changes.is_empty() {
        bail!("the group {} has committed nothing; name topics with --topic", args.group);
    }
    if !args.dry_run {
        let offsets = changes.iter().map(|change| (change.at.clone(), change.after)).collect();
        let done = client.commit_offsets(&args.group, &offsets).await;
        done.map_err(|error| explained(error, &args.group))?;
    }
    show(args, &changes, json)
}

async fn plan(client: &Client, args: &ResetArgs) -> anyhow::Result<Vec<Change>> {
    let committed = client.committed(&args.group).await?;
    let partitions: Vec<TopicPartition> = match args.all_topics {
        true => committed.keys().cloned().collect(),
        false => named(client, &args.topics).await?,
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    let aim = Aim::of(args, i64::try_from(now.as_millis())?);
    let earliest = client.offsets(&partitions, Position::Earliest).await?;
    let end = client.offsets(&partitions, Position::Latest).await?;
    let found = match aim {
        Aim::Position(position @ Position::Timestamp(_)) => {
            client.offsets(&partitions, position).await?
        }
        Aim::Position(Position::Earliest) => earliest.clone(),
        _ => end.clone(),
    };
    let offset = |of: &BTreeMap<TopicPartition, i64>, at: &TopicPartition| {
        let offset = of.get(at).copied();
        offset.with_context(|| format!("{at} has no leader now, or was deleted; try again"))
    };
    let mut changes = Vec::with_capacity(partitions.len());
    for at in partitions {
        let before = committed.get(&at).map(|committed| committed.offset);
        let extent = Extent { earliest: offset(&earliest, &at)?, end: offset(&end, &at)? };
        let after = aim.offset(before, offset(&found, &at)?, extent).with_context(|| {
            format!("{} has committed nothing of {at} that could be moved", args.group)
        })?;
        changes.push(Change { at, before, after });
    }
    Ok(changes)
}

fn show(args: &ResetArgs, changes: &[Change], json: bool) -> anyhow::Result<()> {
    if json {
        for change in changes {
            output::json_line(&json!({
                "group": args.group,
                "topic": &*change.at.topic,
                "partition": change.at.partition,
                "before": change.before,
                "after": change.after,
                "dry_run": args.dry_run,
            }))?;
        }
        return Ok(());
    }
    let row = |change: &Change| {
        let before = change.before.map_or("-".into(), |offset| offset.to_string());
        let by = change.before.map_or("-".into(), |before| format!("{:+}", change.after - before));
        let (topic, number) = (change.at.topic.to_string(), change.at.partition.to_string());
        vec![topic, number, before, change.after.to_string(), by]
    };
    let rows: Vec<_> = changes.iter().map(row).collect();
    output::table(&["TOPIC", "PARTITION", "BEFORE", "AFTER", "CHANGE"], &rows)?;
    if args.dry_run {
        output::note("nothing was changed; without --dry-run it is");
    }
    Ok(())
}
