//! The engine alone, with what it costs: appends that are synced, then a scan of everything.
//!
//! One thread appends batches to all partitions in turn as fast as the engine takes them; then the engine is
//! opened again and every partition is read from its beginning, past the page cache, and through it twice: first when
//! the tables are not in it, then when they are. Each line of output is one round as JSON:
//! MB/s, CPU seconds of the process per GB (background threads included), and for appends the bytes that
//! reached the disk per byte appended (`/proc/self/io`).
//!
//! Usage: engine [PARTITIONS=1000] [BATCH_KIB=16] [GB=2] [ROUNDS=5] [direct|buffered]

#![allow(clippy::print_stdout, reason = "what it prints is what it is for")]

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::time::Instant;

use jangbu_benches::batch;
use jangbu_engine::{
    Engine, EntryKind, Index, NewEntry, Offset, Options, PartitionId, PartitionLog, RetentionClass,
    Term,
};

const READ_BYTES: usize = 1 << 20;

struct Plan {
    partitions: u32,
    batch_bytes: usize,
    bytes: usize,
    rounds: usize,
    direct_io: bool,
}

/// What the process has used so far.
struct Usage {
    at: Instant,
    cpu_s: f64,
    written: f64,
}

impl Usage {
    fn now() -> Self {
        let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux");
        let fields: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks: f64 = fields[11..13].iter().map(|field| field.parse().unwrap_or(0.0)).sum();
        let io = std::fs::read_to_string("/proc/self/io").expect("Linux");
        let written = io.lines().find_map(|line| line.strip_prefix("write_bytes: "));
        let written = written.and_then(|bytes| bytes.parse().ok()).unwrap_or(0.0);
        Self { at: Instant::now(), cpu_s: ticks / 100.0, written }
    }

    fn report(&self, what: &str, plan: &Plan, bytes: f64) {
        let now = Self::now();
        let seconds = now.at.duration_since(self.at).as_secs_f64();
        println!(
            "{{\"what\": \"{what}\", \"partitions\": {}, \"batch_kib\": {}, \"direct_writes\": {}, \
             \"mb_per_s\": {:.0}, \"cpu_s_per_gb\": {:.2}, \"written_per_byte\": {:.2}}}",
            plan.partitions,
            plan.batch_bytes >> 10,
            plan.direct_io,
            bytes / seconds / 1e6,
            (now.cpu_s - self.cpu_s) / bytes * 1e9,
            (now.written - self.written) / bytes,
        );
    }
}

fn open(dir: &Path, plan: &Plan, direct_io: bool) -> (Engine, Vec<PartitionLog>) {
    let failed = Arc::new(|error: &jangbu_engine::Error| panic!("{error}"));
    let options = Options { direct_io, ..Options::default() };
    let engine = Engine::open(dir, options, failed).expect("it opens");
    let class = RetentionClass::from_retention_ms(-1);
    let log = |id| engine.log(PartitionId(id), class).expect("it opens");
    let logs = (0..plan.partitions).map(log).collect();
    (engine, logs)
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
fn append(dir: &Path, plan: &Plan) {
    let (engine, logs) = open(dir, plan, plan.direct_io);
    let payload = batch(plan.batch_bytes);
    let count = plan.bytes / payload.len();
    let usage = Usage::now();
    let (sender, receiver) = mpsc::channel();
    for at in 0..count {
        let index = Index((at / logs.len()) as u64);
        let kind = EntryKind::Batch;
        let entry = NewEntry { index, term: Term(1), kind, payload: payload.clone() };
        let sender = sender.clone();
        let done = Box::new(move |result| drop(sender.send(result)));
        logs[at % logs.len()].append(vec![entry], done).expect("the engine takes appends");
    }
    drop(sender);
    for result in receiver {
        result.expect("the disk takes appends");
    }
    usage.report("append", plan, (count * payload.len()) as f64);
    engine.close().expect("it closes");
}

#[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
fn scan(dir: &Path, plan: &Plan, direct_io: bool, what: &str) {
    let (engine, logs) = open(dir, plan, direct_io);
    let usage = Usage::now();
    let mut bytes = 0;
    for log in &logs {
        let (mut from, end) = (Offset(0), log.state().end_offset);
        while from < end {
            let read = log.read(from, end, READ_BYTES).expect("it reads");
            from = read.last().expect("there is more").next_offset();
            bytes += read.iter().map(|entry| entry.payload.len()).sum::<usize>();
        }
    }
    usage.report(what, plan, bytes as f64);
    engine.close().expect("it closes");
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number =
        |at: usize, or: usize| arguments.get(at).map_or(or, |text| text.parse().expect("a number"));
    let plan = Plan {
        partitions: u32::try_from(number(0, 1000)).expect("fewer partitions"),
        batch_bytes: number(1, 16) << 10,
        bytes: number(2, 2) * 1_000_000_000,
        rounds: number(3, 5),
        direct_io: arguments.get(4).is_none_or(|how| how != "buffered"),
    };
    for _ in 0..plan.rounds {
        let dir = tempfile::tempdir_in(".").expect("a directory");
        append(dir.path(), &plan);
        scan(dir.path(), &plan, true, "scan past the page cache");
        scan(dir.path(), &plan, false, "scan into the page cache");
        scan(dir.path(), &plan, false, "scan from the page cache");
    }
}
