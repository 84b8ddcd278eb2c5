//! The binary `jangbu`: server, topics, producer and consumer.
//!
//! Everything a user reads on standard output or as an error goes through `output.rs`.

mod bench;
mod cli;
mod cluster;
mod consume;
mod explain;
mod get;
mod group;
mod inspect;
mod output;
mod pages;
mod produce;
mod progress;
mod serve;
mod timestamp;
mod topic;

use std::process::ExitCode;

use clap::Parser;

use cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::parse();
    output::log_to_stderr(&cli.command);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return explain::report(&error.into(), cli.json),
    };
    let done = runtime.block_on(run(&cli));
    // A read from standard input may never return, so it is not waited for.
    runtime.shutdown_background();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => explain::report(&error, cli.json),
    }
}

async fn run(cli: &Cli) -> anyhow::Result<()> {
    match &cli.command {
        Command::Serve(args) => serve::run(args, cli.json).await,
        Command::Topic(command) => topic::run(command, cli.json).await,
        Command::Cluster(command) => cluster::run(command, cli.json).await,
        Command::Group(command) => group::run(command, cli.json).await,
        Command::Produce(args) => produce::run(args, cli.json).await,
        Command::Consume(args) => consume::run(args, cli.json).await,
        Command::Get(args) => get::run(args, cli.json).await,
        Command::Bench(command) => bench::run(command, cli.json).await,
        Command::Completions { shell } => pages::completions(*shell),
        Command::Man { dir } => pages::manual(dir, cli.json),
        Command::Inspect(command) => inspect::run(command, cli.json),
    }
}
