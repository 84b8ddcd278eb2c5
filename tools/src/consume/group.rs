//! `jangbu consume --group`: prints as a member of a group.
//!
//! Invariant: what is committed has been written to standard output before.

use std::time::{Duration, Instant};

use jangbu_client::{Client, Consumer, ConsumerConfig, GroupConfig, GroupProtocol, OffsetReset};

use super::print::Printer;
use crate::cli::{ConsumeArgs, MemberProtocol};

/// How long nothing may come before what was printed is committed, and the end is looked for.
const QUIET: Duration = Duration::from_millis(200);
/// Time between commits while records pour in.
const COMMIT: Duration = Duration::from_secs(5);

/// Prints until the end of what the group has not read, the count, or Ctrl-C.
pub(super) async fn run(
    client: &Client,
    args: &ConsumeArgs,
    group: &str,
    mut printer: Printer,
) -> anyhow::Result<()> {
    client.topic(&args.topic).await?;
    let reset = if args.from_beginning { OffsetReset::Earliest } else { OffsetReset::Latest };
    let protocol = match args.group_protocol {
        MemberProtocol::Classic => GroupProtocol::Classic,
        MemberProtocol::Consumer => GroupProtocol::Consumer,
    };
    let mut consumer = client.consumer(ConsumerConfig {
        group: Some(GroupConfig { protocol, auto_commit: None, ..GroupConfig::new(group) }),
        offset_reset: reset,
        ..ConsumerConfig::default()
    });
    consumer.subscribe(&[&args.topic])?;
    let read = tokio::select! {
        read = read(&mut consumer, args, &mut printer) => read,
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    printer.flush()?;
    let committed = consumer.commit().await;
    consumer.close().await?;
    read?;
    Ok(committed?)
}

async fn read(
    consumer: &mut Consumer,
    args: &ConsumeArgs,
    printer: &mut Printer,
) -> anyhow::Result<()> {
    let (mut printed, mut last_commit) = (0, Instant::now());
    while args.count.is_none_or(|count| printed < count) {
        match tokio::time::timeout(QUIET, consumer.next_record()).await {
            Ok(received) => {
                printer.print(&received?)?;
                printed += 1;
                if last_commit.elapsed() < COMMIT {
                    continue;
                }
            }
            Err(_) if !args.follow && is_level(consumer) => return Ok(()),
            Err(_) => {}
        }
        printer.flush()?;
        consumer.commit().await?;
        last_commit = Instant::now();
    }
    Ok(())
}

/// Whether the member has partitions and has read all of them to their end.
fn is_level(consumer: &Consumer) -> bool {
    let assigned = consumer.assignment();
    let lag = |place: &jangbu_client::TopicPartition| consumer.lag(&place.topic, place.partition);
    !assigned.is_empty() && assigned.iter().all(|place| lag(place) == Some(0))
}
