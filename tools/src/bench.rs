//! `jangbu bench`: what a broker can do, beside another one if there is one, or what the engine can do alone.
//!
//! ```text
//! rounds ─► for each side in turn: topic ─► load (producers, readers) ─► Run
//!                                             │                          │
//!            usage.rs: the broker's CPU ──────┘     summary.rs ◄─────────┴──► report.rs
//! ```
//!
//! What makes it fair: both sides get the same load from the same client in one run, in turns, and the order turns round
//! every round; each run has a topic of its own; what happens in the warm-up is not counted. A run in which a record was
//! refused has no result: it ends with the error.

mod chart;
mod engine;
mod latency;
mod load;
mod pace;
mod payload;
mod report;
mod run;
mod summary;
mod usage;

use jangbu_client::{Client, Config};

use crate::cli::{BenchCommand, LoadArgs};
use crate::output;

use load::{Kind, Load};
use run::Run;

/// A cluster that is measured.
pub(crate) struct Side {
    /// What it is called.
    pub name: String,
    /// Where its brokers are.
    pub brokers: String,
    /// Its process on this machine.
    pub pid: Option<u32>,
    /// Creates and deletes its topics.
    pub client: Client,
}

impl Side {
    /// A client with connections of its own.
    pub(crate) async fn connect(brokers: &str) -> anyhow::Result<Client> {
        let config = Config { client_id: "jangbu-bench".into(), ..Config::for_brokers(brokers) };
        Ok(Client::connect(config).await?)
    }
}

/// Measures.
pub(crate) async fn run(command: &BenchCommand, json: bool) -> anyhow::Result<()> {
    let (kind, args) = match command {
        BenchCommand::Produce(args) => (Kind::Produce, args),
        BenchCommand::Consume(args) => (Kind::Consume, args),
        BenchCommand::Latency(args) => (Kind::Latency, args),
        BenchCommand::Mixed(args) => (Kind::Mixed, args),
        BenchCommand::Engine(args) => return engine::run(args, json).await,
    };
    let load = Load::of(kind, args);
    let sides = sides(args).await?;
    let mut runs: Vec<Vec<Run>> = sides.iter().map(|_| Vec::new()).collect();
    for round in 0..args.rounds {
        // Whoever comes first in one round comes last in the next.
        let mut order: Vec<usize> = (0..sides.len()).collect();
        if round % 2 == 1 {
            order.reverse();
        }
        for at in order {
            let side = &sides[at];
            let done = run::measure(&load, side).await.map_err(|error| {
                error.context(format!("measuring {} in round {}", side.name, round + 1))
            })?;
            output::note(&format!(
                "round {} of {}, {}: {}",
                round + 1,
                args.rounds,
                side.name,
                done.in_a_line()
            ));
            runs[at].push(done);
        }
    }
    let summary = summary::Summary::of(&load, &sides, &runs);
    summary.print(json)?;
    if let Some(file) = &args.report {
        std::fs::write(file, report::page(&summary, &runs))?;
        output::note(&format!("{} has the charts", file.display()));
    }
    Ok(())
}

async fn sides(args: &LoadArgs) -> anyhow::Result<Vec<Side>> {
    let given =
        [(Some(&args.brokers.brokers), args.pid), (args.against.as_ref(), args.against_pid)];
    let mut sides = Vec::new();
    for (at, (brokers, pid)) in given.into_iter().enumerate() {
        let Some(brokers) = brokers else { continue };
        let client = Side::connect(brokers).await?;
        if let Some(pid) = pid {
            // Said now and not after the first round.
            usage::Usage::of(pid)?;
        }
        let name = args.names.get(at).unwrap_or(brokers).clone();
        sides.push(Side { name, brokers: brokers.clone(), pid, client });
    }
    Ok(sides)
}
