//! The storage engine in this process, with what it costs: appends that are synced, then a scan of everything.
//!
//! One thread appends batches to all partitions in turn as fast as the engine takes them. Then the engine is opened again
//! and every partition is read from its beginning: past the page cache as a node does, through it when the tables are not in
//! it, and through it when they are.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use bytes::Bytes;
use jangbu_engine::batch::sample;
use jangbu_engine::{
    Engine, EntryKind, Index, NewEntry, Offset, Options, PartitionId, PartitionLog, RetentionClass,
    Term,
};
use serde_json::{Value, json};

use super::summary::median;
use super::usage::Usage;
use crate::cli::EngineArgs;
use crate::output;

/// What one read asks for.
const READ_BYTES: usize = 1 << 20;

/// What one pass over all partitions came to.
struct Pass {
    what: &'static str,
    mb_per_s: f64,
    cpu_s_per_gb: f64,
    written_per_byte: f64,
}

/// Measures it.
pub(super) async fn run(args: &EngineArgs, json: bool) -> anyhow::Result<()> {
    let mut passes: Vec<Pass> = Vec::new();
    for round in 1..=args.rounds {
        let done = tokio::task::block_in_place(|| one_round(args))?;
        let told = done.iter().map(|pass| format!("{} {:.0} MB/s", pass.what, pass.mb_per_s));
        output::note(&format!(
            "round {round} of {}: {}",
            args.rounds,
            told.collect::<Vec<_>>().join(", ")
        ));
        passes.extend(done);
    }
    let mut names: Vec<&str> = Vec::new();
    passes.iter().for_each(|pass| {
        if !names.contains(&pass.what) {
            names.push(pass.what)
        }
    });
    let of = |what: &str, figure: fn(&Pass) -> f64| -> Vec<f64> {
        passes.iter().filter(|pass| pass.what == what).map(figure).collect()
    };
    if json {
        let pass = |what: &str| -> Value {
            json!({
                "what": what,
                "mb_per_s": of(what, |pass| pass.mb_per_s),
                "cpu_s_per_gb": of(what, |pass| pass.cpu_s_per_gb),
                "written_per_byte": of(what, |pass| pass.written_per_byte),
            })
        };
        let settings = json!({
            "partitions": args.partitions, "batch_bytes": args.batch, "bytes": args.bytes, "relaxed": args.relaxed,
            "past_the_page_cache": !args.buffered,
        });
        let passes: Vec<Value> = names.iter().map(|what| pass(what)).collect();
        output::json_line(&json!({ "load": settings, "passes": passes }))?;
        return Ok(());
    }
    let cell =
        |values: &[f64], digits: usize| format!("{:.digits$}", median(values).unwrap_or_default());
    let row = |what: &&str| {
        vec![
            (*what).to_owned(),
            cell(&of(what, |pass| pass.mb_per_s), 0),
            cell(&of(what, |pass| pass.cpu_s_per_gb), 2),
            cell(&of(what, |pass| pass.written_per_byte), 2),
        ]
    };
    let rows: Vec<Vec<String>> = names.iter().map(row).collect();
    Ok(output::table(&["median", "MB/s", "CPU-s/GB", "written/byte"], &rows)?)
}

fn one_round(args: &EngineArgs) -> anyhow::Result<Vec<Pass>> {
    let dir = Scratch::under(&args.dir)?;
    let appended = append(&dir.0, args)?;
    let scans = [
        ("scan past the cache", true),
        ("scan into the cache", false),
        ("scan from the cache", false),
    ];
    let scans = scans.into_iter().map(|(what, direct)| scan(&dir.0, args, direct, what));
    std::iter::once(Ok(appended)).chain(scans).collect()
}

/// A directory that goes with this value.
struct Scratch(std::path::PathBuf);

impl Scratch {
    fn under(dir: &Path) -> std::io::Result<Self> {
        let path = dir.join(format!("jangbu-bench-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_dir_all(&self.0) {
            output::note(&format!("warning: {} is left behind: {error}", self.0.display()));
        }
    }
}

fn open(
    dir: &Path,
    args: &EngineArgs,
    direct_io: bool,
) -> anyhow::Result<(Engine, Vec<PartitionLog>)> {
    let failed = Arc::new(|error: &jangbu_engine::Error| output::note(&format!("error: {error}")));
    let engine = Engine::open(dir, Options { direct_io, ..Options::default() }, failed)?;
    let class = RetentionClass::from_retention_ms(-1);
    let logs = (0..args.partitions).map(|id| engine.log(PartitionId(id), class));
    let logs = logs.collect::<Result<_, _>>()?;
    Ok((engine, logs))
}

fn append(dir: &Path, args: &EngineArgs) -> anyhow::Result<Pass> {
    let (engine, logs) = open(dir, args, !args.buffered)?;
    logs.iter().for_each(|log| log.set_relaxed(args.relaxed));
    let payload = Bytes::from(sample(args.batch));
    let count = (args.bytes / payload.len()).max(1);
    let (began, before) = (Instant::now(), Usage::of("self")?);
    let (sender, receiver) = mpsc::channel();
    for at in 0..count {
        let entry = NewEntry {
            index: Index((at / logs.len()) as u64),
            term: Term(1),
            kind: EntryKind::Batch,
            payload: payload.clone(),
        };
        let sender = sender.clone();
        // The receiver outlives all answers.
        let done = Box::new(move |result| drop(sender.send(result)));
        logs[at % logs.len()].append(vec![entry], done)?;
    }
    drop(sender);
    for result in receiver {
        result?;
    }
    let pass = pass("append", began, &before, count * payload.len())?;
    engine.close()?;
    Ok(pass)
}

fn scan(
    dir: &Path,
    args: &EngineArgs,
    direct_io: bool,
    what: &'static str,
) -> anyhow::Result<Pass> {
    let (engine, logs) = open(dir, args, direct_io)?;
    let (began, before) = (Instant::now(), Usage::of("self")?);
    let mut bytes = 0;
    for log in &logs {
        let (mut from, end) = (Offset(0), log.state().end_offset);
        while from < end {
            let read = log.read(from, end, READ_BYTES)?;
            let Some(last) = read.last() else {
                anyhow::bail!("nothing is stored at offset {from:?}")
            };
            from = last.next_offset();
            bytes += read.iter().map(|entry| entry.payload.len()).sum::<usize>();
        }
    }
    let pass = pass(what, began, &before, bytes)?;
    engine.close()?;
    Ok(pass)
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
fn pass(what: &'static str, began: Instant, before: &Usage, bytes: usize) -> anyhow::Result<Pass> {
    let (seconds, used) = (began.elapsed().as_secs_f64(), Usage::of("self")?.since(before));
    let bytes = bytes as f64;
    Ok(Pass {
        what,
        mb_per_s: bytes / seconds / 1e6,
        cpu_s_per_gb: used.cpu_s / bytes * 1e9,
        written_per_byte: used.written / bytes,
    })
}
