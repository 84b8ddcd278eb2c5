//! `jangbu get`: prints the value of a key, its history, or all keys with the same beginning.

use std::io::{self, BufWriter, IsTerminal, Write};

use jangbu_client::{Client, KeyAnswer, KeyQuery, Received};

use crate::cli::GetArgs;
use crate::consume::print::to_json;
use crate::topic::connect;

/// Keys that are asked for at once.
const PAGE: u32 = 500;

/// Why nothing is printed: the key is not there.
#[derive(Debug, thiserror::Error)]
enum Missing {
    #[error("the key {key} is not in {topic}-{partition}, up to offset {high_watermark}")]
    Key { key: String, topic: String, partition: i32, high_watermark: i64 },
    #[error("the key {key} was deleted by the tombstone at offset {offset} of {topic}-{partition}")]
    Deleted { key: String, topic: String, partition: i32, offset: i64 },
    #[error("no key of {topic} begins with {prefix}")]
    Prefix { prefix: String, topic: String },
}

/// Asks, and prints what was found.
pub(crate) async fn run(args: &GetArgs, json: bool) -> anyhow::Result<()> {
    let client = connect(&args.brokers).await?;
    if args.prefix {
        return list(&client, args, json).await;
    }
    let mut query = described(args, KeyQuery::key(args.key.clone()));
    if let Some(partition) = args.partition {
        query = query.partition(partition);
    }
    if let Some(count) = args.history {
        query = query.limit(count);
    }
    let answer = client.look_up(&args.topic, &query).await?;
    if answer.records.is_empty() {
        return Err(missing(args, &answer).into());
    }
    let mut out = BufWriter::new(io::stdout().lock());
    if args.history.is_some() {
        for found in &answer.records {
            history_line(&mut out, found, json)?;
        }
    } else {
        value(&mut out, args, &answer.records[0], json)?;
    }
    Ok(out.flush()?)
}

/// What the arguments say about any query.
fn described(args: &GetArgs, mut query: KeyQuery) -> KeyQuery {
    if let Some(offset) = args.at_offset {
        query = query.at_offset(offset);
    }
    if let Some(time) = args.at_time {
        query = query.at_time(time.0);
    }
    if args.stale_ok { query.stale_ok() } else { query }
}

fn missing(args: &GetArgs, answer: &KeyAnswer) -> Missing {
    let KeyAnswer { partition, high_watermark, .. } = *answer;
    Missing::Key { key: args.key.clone(), topic: args.topic.clone(), partition, high_watermark }
}

/// Prints the value as it is, or the whole record in JSON.
fn value(out: &mut impl Write, args: &GetArgs, found: &Received, json: bool) -> anyhow::Result<()> {
    let Some(value) = &found.record.value else {
        let Received { partition, offset, .. } = *found;
        let (key, topic) = (args.key.clone(), args.topic.clone());
        return Err(Missing::Deleted { key, topic, partition, offset }.into());
    };
    if json {
        writeln!(out, "{}", to_json(found))?;
        return Ok(());
    }
    out.write_all(value)?;
    if io::stdout().is_terminal() {
        out.write_all(b"\n")?;
    }
    Ok(())
}

fn history_line(out: &mut impl Write, found: &Received, json: bool) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", to_json(found));
    }
    write!(out, "{}\t{}\t", found.offset, found.record.timestamp_ms.unwrap_or(-1))?;
    out.write_all(found.record.value.as_deref().unwrap_or(b"(deleted)"))?;
    out.write_all(b"\n")
}

/// Prints the keys of one partition after the other.
async fn list(client: &Client, args: &GetArgs, json: bool) -> anyhow::Result<()> {
    let partitions = match args.partition {
        Some(partition) => vec![partition],
        None => {
            let topic = client.topic(&args.topic).await?;
            topic.partitions.iter().map(|partition| partition.number).collect()
        }
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let (mut left, mut printed) = (args.count.unwrap_or(u64::MAX), 0_u64);
    for partition in partitions {
        let mut after = None;
        while left > 0 {
            let count = u32::try_from(left).unwrap_or(PAGE).min(PAGE);
            let query = KeyQuery::prefix(args.key.clone()).partition(partition).limit(count);
            let mut query = described(args, query);
            if let Some(key) = after.take() {
                query = query.after(key);
            }
            let page = client.look_up(&args.topic, &query).await?;
            for found in &page.records {
                key_line(&mut out, found, json)?;
            }
            let count = u64::try_from(page.records.len()).unwrap_or(u64::MAX);
            (left, printed) = (left.saturating_sub(count), printed.saturating_add(count));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    out.flush()?;
    if printed == 0 {
        let (prefix, topic) = (args.key.clone(), args.topic.clone());
        return Err(Missing::Prefix { prefix, topic }.into());
    }
    Ok(())
}

fn key_line(out: &mut impl Write, found: &Received, json: bool) -> io::Result<()> {
    if json {
        return writeln!(out, "{}", to_json(found));
    }
    out.write_all(found.record.key.as_deref().unwrap_or_default())?;
    out.write_all(b"\t")?;
    out.write_all(found.record.value.as_deref().unwrap_or_default())?;
    out.write_all(b"\n")
}
