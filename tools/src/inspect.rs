//! `jangbu inspect`: looks into a stopped node's data directory; only `repair` changes anything in it.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::bail;
use jangbu_engine::batch::Header;
use jangbu_engine::inspect::{self, Repair, Report, Store};
use jangbu_engine::{Entry, EntryKind, Offset, PartitionId};
use serde_json::{Value, json};

use crate::cli::{DumpArgs, InspectCommand};
use crate::output;
use crate::progress::{Progress, Unit};

/// Problems that fit on a screen.
const SHOWN_MAX: usize = 15;
/// Kafka's codecs, by number.
const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

type Names = BTreeMap<PartitionId, (String, usize)>;

/// Runs one of the inspect commands.
pub(crate) fn run(command: &InspectCommand, json: bool) -> anyhow::Result<()> {
    match command {
        InspectCommand::Verify(args) => verify(&Store::open(&args.dir)?, json),
        InspectCommand::Partitions(args) => partitions(&Store::open(&args.dir)?, json),
        InspectCommand::Buckets(args) => buckets(&Store::open(&args.dir)?, json),
        InspectCommand::Dump(args) => dump(&Store::open(&args.dir)?, args, json),
        InspectCommand::Repair(args) => repair(&args.dir, json),
    }
}

fn repair(dir: &Path, json: bool) -> anyhow::Result<()> {
    let done = inspect::repair(dir)?;
    if json {
        return Ok(output::json_line(&match done {
            Repair::NotNeeded => json!({ "repaired": false }),
            Repair::Done { reason, lost } => {
                json!({ "repaired": true, "reason": reason, "lost": lost })
            }
        })?);
    }
    let Repair::Done { reason, lost } = done else {
        return Ok(output::line("the store opens: nothing was changed")?);
    };
    output::line(&format!("RocksDB had refused it: {reason}"))?;
    for file in lost {
        output::line(&format!("  set aside: {}", file.display()))?;
    }
    let dir = dir.display();
    output::line(&format!("see what is missing:  jangbu inspect verify {dir}"))?;
    Ok(output::line(&format!("start without it:     jangbu serve --data {dir} --accept-loss"))?)
}

fn verify(store: &Store, json: bool) -> anyhow::Result<()> {
    let mut progress: Option<Progress> = None;
    let report = store.verify(|done, total| {
        let progress = progress.get_or_insert_with(|| Progress::new(total, Unit::Bytes));
        if progress.is_due() {
            progress.show(done, 0);
        }
    })?;
    if let Some(progress) = &progress {
        progress.finish();
    }
    if json {
        output::json_line(&report_json(&report))?;
    } else {
        tell(&report)?;
    }
    match report.problem_count {
        0 => Ok(()),
        1 => bail!("1 problem"),
        count => bail!("{} problems", output::grouped(count)),
    }
}

fn tell(report: &Report) -> std::io::Result<()> {
    output::line(&format!(
        "{} partitions, {} buckets, {} rows, {} entries, {}",
        output::grouped(report.partitions),
        output::grouped(report.buckets),
        output::grouped(report.rows),
        output::grouped(report.entries),
        output::human_bytes(report.bytes),
    ))?;
    for problem in report.problems.iter().take(SHOWN_MAX) {
        output::line(&format!("  {}: {}", problem.place, problem.what))?;
    }
    let more = report.problem_count.saturating_sub(SHOWN_MAX as u64);
    if more > 0 {
        output::line(&format!("  and {} more; --json tells up to 200", output::grouped(more)))?;
    }
    if report.problem_count == 0 {
        output::line("every checksum, chain, index and row agrees")?;
    }
    Ok(())
}

fn report_json(report: &Report) -> Value {
    let problem = |p: &jangbu_engine::inspect::Problem| json!({ "place": p.place, "what": p.what });
    json!({
        "partitions": report.partitions,
        "buckets": report.buckets,
        "rows": report.rows,
        "entries": report.entries,
        "bytes": report.bytes,
        "problem_count": report.problem_count,
        "problems": report.problems.iter().map(problem).collect::<Vec<_>>(),
    })
}

fn name(names: &Names, id: PartitionId) -> String {
    match names.get(&id) {
        Some((topic, number)) => format!("{topic}-{number}"),
        None if id.0 == 0 => "(metadata)".to_owned(),
        None => "(no topic)".to_owned(),
    }
}

fn partitions(store: &Store, json: bool) -> anyhow::Result<()> {
    let names = jangbu_server::topic_names(store);
    let mut rows = Vec::new();
    for info in store.partitions()? {
        let name = name(&names, info.id);
        if json {
            output::json_line(&json!({
                "id": info.id.0,
                "name": name,
                "log_start": info.log_start.0,
                "end": info.end.0,
                "first_index": info.indexes.map(|(first, _)| first.0),
                "last_index": info.indexes.map(|(_, last)| last.0),
                "buckets": info.buckets,
                "damage": info.damage,
            }))?;
            continue;
        }
        let indexes =
            info.indexes.map_or("-".to_owned(), |(first, last)| format!("{first}..{last}"));
        rows.push(vec![
            info.id.to_string(),
            name,
            info.log_start.to_string(),
            info.end.to_string(),
            indexes,
            info.buckets.to_string(),
            info.damage.unwrap_or_default(),
        ]);
    }
    if !json {
        let header = ["ID", "PARTITION", "START", "END", "INDEXES", "BUCKETS", "DAMAGE"];
        output::table(&header, &rows)?;
    }
    Ok(())
}

fn buckets(store: &Store, json: bool) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for info in store.buckets()? {
        if json {
            output::json_line(&json!({
                "name": info.name,
                "state": info.state,
                "created_ms": info.created_ms,
                "bytes": info.bytes,
                "partitions": info.partitions,
            }))?;
            continue;
        }
        rows.push(vec![
            info.name,
            info.state.to_owned(),
            info.created_ms.to_string(),
            output::human_bytes(info.bytes),
            info.partitions.to_string(),
        ]);
    }
    if !json {
        output::table(&["BUCKET", "STATE", "CREATED MS", "BYTES", "PARTITIONS"], &rows)?;
    }
    Ok(())
}

fn dump(store: &Store, args: &DumpArgs, json: bool) -> anyhow::Result<()> {
    let id = match (&args.topic, args.id) {
        (_, Some(id)) => PartitionId(id),
        (Some(topic), None) => {
            let wanted = (topic.clone(), args.partition);
            let names = jangbu_server::topic_names(store);
            match names.iter().find(|(_, name)| **name == wanted) {
                Some((id, _)) => *id,
                None => bail!(
                    "there is no partition {topic}-{}; `jangbu inspect partitions` lists all, and --id takes the id of one",
                    args.partition
                ),
            }
        }
        (None, None) => bail!("say which partition, with --topic and --partition or with --id"),
    };
    let (mut printed, mut damage, mut closed) = (0, 0, Ok(()));
    store.dump(id, |entry| {
        let text = match entry {
            Ok((entry, _)) if entry.next_offset() <= Offset(args.from) && args.from > 0 => {
                return true;
            }
            Ok((entry, header)) => entry_line(entry, header.as_ref(), json),
            Err(error) => {
                damage += 1;
                if json {
                    json!({ "error": error.to_string() }).to_string()
                } else {
                    error.to_string()
                }
            }
        };
        closed = output::line(&text);
        printed += 1;
        closed.is_ok() && args.count.is_none_or(|count| printed < count)
    })?;
    closed?;
    if damage > 0 {
        bail!("{damage} places are damaged");
    }
    Ok(())
}

fn entry_line(entry: &Entry, header: Option<&Header>, json: bool) -> String {
    let kind = match entry.kind {
        EntryKind::Batch => "batch",
        EntryKind::Blank => "blank",
        EntryKind::Membership => "membership",
        EntryKind::Command => "command",
    };
    let (index, term, bytes) = (entry.index.0, entry.term.0, entry.payload.len());
    let codec = header.and_then(|h| CODECS.get(usize::from(h.codec()))).copied().unwrap_or("?");
    if json {
        let batch = header.map(|h| {
            json!({
                "records": h.record_count,
                "codec": codec,
                "base_timestamp": h.base_timestamp,
                "max_timestamp": h.max_timestamp,
                "producer_id": h.producer_id,
                "producer_epoch": h.producer_epoch,
                "base_sequence": h.base_sequence,
                "crc_matches": h.verify_crc(&entry.payload).is_ok(),
            })
        });
        let offset = entry.base_offset.0;
        return json!({ "index": index, "term": term, "kind": kind, "offset": offset, "bytes": bytes, "batch": batch })
            .to_string();
    }
    let start = format!("index {index} term {term} {kind}");
    let Some(h) = header else { return format!("{start} {bytes} bytes") };
    let crc = if h.verify_crc(&entry.payload).is_ok() { "" } else { " CRC DOES NOT MATCH" };
    let producer = if h.producer_id < 0 {
        String::new()
    } else {
        format!(
            " producer {} epoch {} sequence {}",
            h.producer_id, h.producer_epoch, h.base_sequence
        )
    };
    let last = entry.next_offset().0.saturating_sub(1);
    format!(
        "{start} offsets {}..{last} {} records {bytes} bytes {codec} time {}..{}{producer}{crc}",
        entry.base_offset, h.record_count, h.base_timestamp, h.max_timestamp
    )
}
