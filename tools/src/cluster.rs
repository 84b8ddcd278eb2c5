//! `jangbu cluster`: who is there, what lives where, and moving it.

mod plan;
mod status;
mod view;

use std::time::Duration;

use anyhow::bail;
use jangbu_client::{BrokerId, Client, Move};
use serde_json::json;

use crate::cli::{BrokerArgs, Brokers, ClusterCommand, DrainArgs};
use crate::output;
use crate::progress::{Progress, Unit};
use crate::topic::connect;
use view::View;

/// Moves that are under way at the same time, so that they do not all copy at once.
const MOVES_AT_A_TIME: usize = 50;
/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Runs one of the cluster commands.
pub(crate) async fn run(command: &ClusterCommand, json: bool) -> anyhow::Result<()> {
    match command {
        ClusterCommand::Status(brokers) => status::run(brokers, json).await,
        ClusterCommand::Add(args) => add(args, json).await,
        ClusterCommand::Drain(args) if args.cancel => cancel(&args.broker, json).await,
        ClusterCommand::Drain(DrainArgs { broker, .. }) => drain(broker, json).await,
        ClusterCommand::Remove(args) => remove(args, json).await,
        ClusterCommand::Rebalance(brokers) => rebalance(brokers, json).await,
    }
}

async fn add(args: &BrokerArgs, json: bool) -> anyhow::Result<()> {
    let client = connect(&args.brokers).await?;
    let id = BrokerId(args.broker);
    let mut view = View::of(&client).await?;
    if !view.broker(id)?.alive {
        bail!("broker {} is dead; start it first", id.0);
    }
    if view.broker(id)?.draining {
        client.set_draining(id, false).await?;
        view = View::of(&client).await?;
    }
    let moves = plan::rebalance(&view.cluster.brokers, &view.placed, Some(id));
    carry_out(&client, &moves).await?;
    done(json, "moved", moves.len(), &format!("broker {} holds its share now", id.0))
}

async fn drain(args: &BrokerArgs, json: bool) -> anyhow::Result<()> {
    let client = connect(&args.brokers).await?;
    let id = BrokerId(args.broker);
    let moved = empty(&client, id).await?;
    let next = format!(
        "broker {} holds nothing any more; stop it, then `jangbu cluster remove {}`",
        id.0, id.0
    );
    done(json, "moved", moved, &next)
}

/// Moves everything off a broker. How many partitions that were.
async fn empty(client: &Client, id: BrokerId) -> anyhow::Result<usize> {
    let view = View::of(client).await?;
    let draining = view.broker(id)?.draining;
    // Refused before anything is changed, when it cannot be done.
    plan::drain(&view.cluster.brokers, &view.placed, id)?;
    if !draining {
        client.set_draining(id, true).await?;
    }
    let mut moved = 0;
    // A topic that was being created when the broker began to drain may have been placed on it.
    loop {
        let view = View::of(client).await?;
        let moves = plan::drain(&view.cluster.brokers, &view.placed, id)?;
        if moves.is_empty() && view.replicas_on(id) == 0 {
            return Ok(moved);
        }
        carry_out(client, &moves).await?;
        moved += moves.len();
        tokio::time::sleep(LOOK).await;
    }
}

async fn cancel(args: &BrokerArgs, json: bool) -> anyhow::Result<()> {
    let client = connect(&args.brokers).await?;
    client.set_draining(BrokerId(args.broker), false).await?;
    let next = format!(
        "broker {} gets replicas and leads again; `jangbu cluster add {}` gives it its share",
        args.broker, args.broker
    );
    done(json, "cancelled", 1, &next)
}

async fn remove(args: &BrokerArgs, json: bool) -> anyhow::Result<()> {
    let client = connect(&args.brokers).await?;
    let id = BrokerId(args.broker);
    let view = View::of(&client).await?;
    // One that was removed before is not listed, and removing it again is no error.
    let alive = view.cluster.brokers.iter().find(|broker| broker.id == id).map(|b| b.alive);
    let mut moved = 0;
    match (alive, view.replicas_on(id)) {
        (Some(true), held @ 1..) => {
            bail!(
                "broker {} is alive and holds {held} replicas; `jangbu cluster drain {}` moves them",
                id.0,
                id.0
            )
        }
        (Some(false), 1..) => moved = empty(&client, id).await?,
        _ => {}
    }
    client.remove_broker(id).await?;
    let rebuilt = match moved {
        0 => String::new(),
        moved => format!("; {moved} of its partitions have new replicas on others"),
    };
    let text = format!("broker {} is no longer part of the cluster{rebuilt}", id.0);
    done(json, "removed", 1, &text)
}

async fn rebalance(brokers: &Brokers, json: bool) -> anyhow::Result<()> {
    let client = connect(brokers).await?;
    let view = View::of(&client).await?;
    let moves = plan::rebalance(&view.cluster.brokers, &view.placed, None);
    carry_out(&client, &moves).await?;
    client.elect_preferred_leaders().await?;
    done(json, "moved", moves.len(), "every broker holds its share, and preferred leaders lead")
}

fn done(json: bool, what: &str, count: usize, text: &str) -> anyhow::Result<()> {
    if json {
        output::json_line(&json!({ what: count }))?;
    } else {
        output::line(&format!("{what} {count}; {text}"))?;
    }
    Ok(())
}

/// Makes the moves, some at a time, and waits for them.
async fn carry_out(client: &Client, moves: &[Move]) -> anyhow::Result<()> {
    if moves.is_empty() {
        return Ok(());
    }
    let mut progress = Progress::new(moves.len() as u64, Unit::Partitions);
    let mut finished = 0;
    for some in moves.chunks(MOVES_AT_A_TIME) {
        client.move_partitions(some).await?;
        loop {
            let left = client.moving().await?;
            let is_left =
                |m: &&Move| left.iter().any(|l| l.topic == m.topic && l.partition == m.partition);
            let left = some.iter().filter(is_left).count();
            if progress.is_due() {
                progress.show((finished + some.len() - left) as u64, 0);
            }
            if left == 0 {
                break;
            }
            tokio::time::sleep(LOOK).await;
        }
        finished += some.len();
    }
    progress.finish();
    Ok(())
}
