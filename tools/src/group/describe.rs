//! `jangbu group describe`: what groups have committed, how far that is from the ends, and who reads what.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::bail;
use jangbu_client::{Client, GroupDescription, GroupMember, Position, TopicPartition};
use serde_json::{Value, json};

use super::{cell, missing};
use crate::cli::group::DescribeArgs;
use crate::output;
use crate::topic::connect;

/// A partition that a group has committed, or that one of its members reads.
struct Row<'a> {
    at: TopicPartition,
    committed: Option<i64>,
    /// None for a partition that is gone or has no leader.
    end: Option<i64>,
    member: Option<&'a GroupMember>,
}

impl Row<'_> {
    /// Records that are not read yet; negative when there are fewer than are committed.
    fn lag(&self) -> Option<i64> {
        Some(self.end? - self.committed?)
    }
}

pub(super) async fn run(args: &DescribeArgs, json: bool) -> anyhow::Result<()> {
    let client = connect(&args.brokers).await?;
    loop {
        if args.watch.is_some() && !json {
            output::clear()?;
        }
        show_all(&client, &args.groups, json).await?;
        match args.watch {
            Some(seconds) => tokio::time::sleep(Duration::from_secs(seconds)).await,
            None => return Ok(()),
        }
    }
}

async fn show_all(client: &Client, named: &[String], json: bool) -> anyhow::Result<()> {
    let groups = match named {
        [] => client.list_groups().await?.into_iter().map(|group| group.id).collect(),
        named => named.to_vec(),
    };
    for (index, group) in groups.iter().enumerate() {
        let described = client.describe_group(group).await?;
        if described.is_missing() {
            // One of all groups may be deleted while they are listed.
            if named.is_empty() {
                continue;
            }
            bail!(missing(group));
        }
        if index > 0 && !json {
            output::line("")?;
        }
        show(client, &described, json).await?;
    }
    Ok(())
}

async fn show(client: &Client, group: &GroupDescription, json: bool) -> anyhow::Result<()> {
    let rows = rows(client, group).await?;
    let lag = rows.iter().filter_map(Row::lag).map(|lag| lag.max(0)).sum();
    if json { show_json(group, &rows, lag) } else { show_text(group, &rows, lag) }
}

async fn rows<'a>(client: &Client, group: &'a GroupDescription) -> anyhow::Result<Vec<Row<'a>>> {
    let committed = client.committed(&group.id).await?;
    let readers: BTreeMap<&TopicPartition, &GroupMember> = group
        .members
        .iter()
        .flat_map(|member| member.assigned.iter().map(move |at| (at, member)))
        .collect();
    let all: BTreeSet<&TopicPartition> = committed.keys().chain(readers.keys().copied()).collect();
    let all: Vec<TopicPartition> = all.into_iter().cloned().collect();
    let ends = client.offsets(&all, Position::Latest).await?;
    let row = |at: TopicPartition| Row {
        committed: committed.get(&at).map(|committed| committed.offset),
        end: ends.get(&at).copied(),
        member: readers.get(&at).copied(),
        at,
    };
    Ok(all.into_iter().map(row).collect())
}

fn show_json(group: &GroupDescription, rows: &[Row<'_>], lag: i64) -> anyhow::Result<()> {
    let members: Vec<Value> = group
        .members
        .iter()
        .map(|member| {
            json!({
                "member": member.id,
                "instance": member.instance,
                "client": member.client_id,
                "host": member.host,
                "partitions": member.assigned.len(),
            })
        })
        .collect();
    let partitions: Vec<Value> = rows
        .iter()
        .map(|row| {
            json!({
                "topic": &*row.at.topic,
                "partition": row.at.partition,
                "committed": row.committed,
                "end": row.end,
                "lag": row.lag(),
                "member": row.member.map(|member| &member.id),
            })
        })
        .collect();
    output::json_line(&json!({
        "group": group.id,
        "type": group.kind,
        "state": group.state,
        "assignor": group.assignor,
        "epoch": group.epoch,
        "coordinator": group.coordinator.0,
        "lag": lag,
        "members": members,
        "partitions": partitions,
    }))?;
    Ok(())
}

fn show_text(group: &GroupDescription, rows: &[Row<'_>], lag: i64) -> anyhow::Result<()> {
    let lag = output::grouped(u64::try_from(lag).unwrap_or(0));
    let assignor = match &*group.assignor {
        "" => String::new(),
        assignor => format!(", {assignor}"),
    };
    output::line(&format!(
        "{}: {} ({}{assignor}), {} members, coordinator {}, lag {lag}",
        group.id,
        group.state,
        group.kind,
        group.members.len(),
        group.coordinator.0
    ))?;
    let number = |number: Option<i64>| number.map_or("-".into(), |number| number.to_string());
    let table: Vec<_> = rows
        .iter()
        .map(|row| {
            vec![
                row.at.topic.to_string(),
                row.at.partition.to_string(),
                number(row.committed),
                number(row.end),
                number(row.lag()),
                cell(row.member.map(|member| &*member.id)),
                cell(row.member.map(|member| &*member.host)),
            ]
        })
        .collect();
    if !table.is_empty() {
        let header = ["TOPIC", "PARTITION", "COMMITTED", "END", "LAG", "MEMBER", "HOST"];
        output::table(&header, &table)?;
    }
    for member in group.members.iter().filter(|member| member.assigned.is_empty()) {
        output::line(&format!("no partition: {} at {}", member.id, member.host))?;
    }
    Ok(())
}
