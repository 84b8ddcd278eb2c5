//! `jangbu consume`: reads records to standard output.

mod group;
pub(crate) mod print;

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use jangbu_client::{Client, Consumer, ConsumerConfig, Position, Received};

use print::Printer;

use crate::cli::{ConsumeArgs, OutputFormat};
use crate::output;
use crate::progress::{Progress, Unit};
use crate::topic::connect;

/// How long one look for new records takes; the loop goes on anyway.
const POLL: Duration = Duration::from_secs(1);

/// A run of `consume` so far.
struct Run<'a> {
    args: &'a ConsumeArgs,
    consumer: Consumer,
    /// Where to stop, by partition. Empty when following.
    ends: BTreeMap<i32, i64>,
    printer: Printer,
    progress: Option<Progress>,
    printed: u64,
}

/// Reads until the end, the count, or for ever.
pub(crate) async fn run(args: &ConsumeArgs, json: bool) -> anyhow::Result<()> {
    let default = if json { OutputFormat::Json } else { OutputFormat::Value };
    let client = connect(&args.brokers).await?;
    if let Some(group) = &args.group {
        let printer = Printer::new(args.format.unwrap_or(default));
        return group::run(&client, args, group, printer).await;
    }
    let mut consumer = client.consumer(ConsumerConfig::default());
    let ends = assign(&client, &mut consumer, args).await?;
    let left: u64 =
        ends.iter().map(|(partition, end)| ahead(&consumer, args, *partition, *end)).sum();
    if left == 0 && !args.follow {
        output::note(if args.from_beginning {
            "there are no records"
        } else {
            "there is nothing after the start; add --from-beginning, or --follow to wait for more"
        });
        return Ok(());
    }
    let total = if args.follow { 0 } else { args.count.map_or(left, |count| count.min(left)) };
    let mut run = Run {
        args,
        consumer,
        ends: if args.follow { BTreeMap::new() } else { ends },
        printer: Printer::new(args.format.unwrap_or(default)),
        progress: output_is_file().then(|| Progress::new(total, Unit::Records)),
        printed: 0,
    };
    let done = run.read().await;
    run.printer.flush()?;
    if let Some(progress) = &mut run.progress {
        progress.show(run.printed, run.printed);
        progress.finish();
    }
    done
}

/// Assigns the partitions asked for, and returns where each ends now.
async fn assign(
    client: &Client,
    consumer: &mut Consumer,
    args: &ConsumeArgs,
) -> anyhow::Result<BTreeMap<i32, i64>> {
    let topic = client.topic(&args.topic).await?;
    let all = topic.partitions.iter().map(|partition| partition.number);
    let partitions: Vec<i32> =
        if args.partitions.is_empty() { all.collect() } else { args.partitions.clone() };
    let mut ends = BTreeMap::new();
    for partition in partitions {
        let end = client.offset(&args.topic, partition, Position::Latest).await?;
        let start = match (args.from_beginning, args.offset, args.timestamp) {
            (true, _, _) => client.offset(&args.topic, partition, Position::Earliest).await?,
            (_, Some(offset), _) => offset,
            (_, _, Some(time)) => {
                client.offset(&args.topic, partition, Position::Timestamp(time.0)).await?
            }
            _ => end,
        };
        ends.insert(partition, end);
        if args.follow || start < end {
            consumer.assign(&args.topic, partition, start);
        }
    }
    Ok(ends)
}

/// Offsets between where a partition is read and `end`.
fn ahead(consumer: &Consumer, args: &ConsumeArgs, partition: i32, end: i64) -> u64 {
    let position = consumer.position(&args.topic, partition).unwrap_or(end);
    u64::try_from(end - position).unwrap_or(0)
}

impl Run<'_> {
    async fn read(&mut self) -> anyhow::Result<()> {
        let mut last_flush = Instant::now();
        loop {
            let records = self.consumer.poll(POLL).await?;
            for received in &records {
                if self.is_counted_out() {
                    return Ok(());
                }
                self.print(received)?;
            }
            self.leave_finished();
            let counted_out = self.is_counted_out();
            if counted_out || (!self.args.follow && self.ends.is_empty()) {
                return Ok(());
            }
            // While records pour in, a full buffer is written anyway; at the tail each is shown at once.
            if self.args.follow || last_flush.elapsed() > POLL {
                self.printer.flush()?;
                last_flush = Instant::now();
            }
            if let Some(progress) = self.progress.as_mut().filter(|progress| progress.is_due()) {
                progress.show(self.printed, self.printed);
            }
        }
    }

    fn is_counted_out(&self) -> bool {
        self.args.count.is_some_and(|count| self.printed >= count)
    }

    fn print(&mut self, received: &Received) -> anyhow::Result<()> {
        let end = self.ends.get(&received.partition);
        let is_wanted = self.args.follow || end.is_some_and(|end| received.offset < *end);
        if is_wanted {
            self.printer.print(received)?;
            self.printed += 1;
        }
        Ok(())
    }

    /// Forgets partitions that have reached their end.
    fn leave_finished(&mut self) {
        let (consumer, topic) = (&mut self.consumer, &self.args.topic);
        self.ends.retain(|partition, end| {
            let is_done = consumer.position(topic, *partition).is_none_or(|at| at >= *end);
            if is_done {
                consumer.unassign(topic, *partition);
            }
            !is_done
        });
    }
}

/// Whether standard output is a file, so that progress can be shown without disturbing anything.
fn output_is_file() -> bool {
    fs::metadata("/dev/stdout").is_ok_and(|metadata| metadata.is_file())
}
