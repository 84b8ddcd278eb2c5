//! `jangbu cluster`: who is there, what lives where, and moving it.

mod plan;

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::bail;
use jangbu_client::{Broker, BrokerId, Client, ClusterDescription, Topic};
use serde_json::json;

use crate::cli::{BrokerArgs, Brokers, ClusterCommand};
use crate::output;
use crate::progress::{Progress, Unit};
use crate::topic::connect;
use plan::Placed;

/// Moves that are under way at the same time, so that they do not all copy at once.
const MOVES_AT_A_TIME: usize = 50;
/// How often progress is looked at.
const LOOK: Duration = Duration::from_millis(200);

/// Runs one of the cluster commands.
pub(crate) async fn run(command: &ClusterCommand, json: bool) -> anyhow::Result<()> {
    match command {
        ClusterCommand::Status(brokers) => status(brokers, json).await,
        ClusterCommand::Add(args) => add(args, json).await,
        ClusterCommand::Drain(args) => drain(args, json).await,
        ClusterCommand::Remove(args) => remove(args, json).await,
        ClusterCommand::Rebalance(brokers) => rebalance(brokers, json).await,
    }
}

/// What the commands look at.
struct View {
    cluster: ClusterDescription,
    placed: Vec<Placed>,
    leads: BTreeMap<BrokerId, usize>,
    behind: usize,
    leaderless: usize,
}

impl View {
    async fn of(client: &Client) -> anyhow::Result<Self> {
        let cluster = client.describe_cluster().await?;
        let topics = client.list_topics().await?;
        let mut leads = BTreeMap::new();
        let (mut behind, mut leaderless) = (0, 0);
        for partition in topics.iter().flat_map(|topic| &topic.partitions) {
            match partition.leader {
                Some(leader) => *leads.entry(leader).or_default() += 1,
                None => leaderless += 1,
            }
            behind += usize::from(partition.in_sync.len() < partition.replicas.len());
        }
        let placed = topics.iter().flat_map(|topic| placed(topic)).collect();
        Ok(Self { cluster, placed, leads, behind, leaderless })
    }

    fn broker(&self, id: BrokerId) -> anyhow::Result<&Broker> {
        match self.cluster.brokers.iter().find(|broker| broker.id == id) {
            Some(broker) => Ok(broker),
            None => bail!("there is no live broker {}; `jangbu cluster status` lists them", id.0),
        }
    }

    fn replicas_on(&self, id: BrokerId) -> usize {
        self.placed.iter().filter(|partition| partition.replicas.contains(&id)).count()
    }
}

fn placed(topic: &Topic) -> Vec<Placed> {
    let partitions = topic.partitions.iter();
    let of = |partition: &jangbu_client::Partition| Placed {
        topic: topic.name.clone(),
        partition: partition.number,
        replicas: partition.replicas.clone(),
    };
    partitions.map(of).collect()
}

async fn status(brokers: &Brokers, json: bool) -> anyhow::Result<()> {
    let client = connect(brokers).await?;
    let view = View::of(&client).await?;
    let moving = client.moving().await?.len();
    // Brokers that hold replicas and are not there.
    let mut dead: Vec<BrokerId> =
        view.placed.iter().flat_map(|partition| partition.replicas.clone()).collect();
    dead.sort_unstable();
    dead.dedup();
    dead.retain(|id| view.cluster.brokers.iter().all(|broker| broker.id != *id));
    if json {
        let brokers: Vec<_> = view
            .cluster
            .brokers
            .iter()
            .map(|broker| {
                json!({
                    "id": broker.id.0, "address": broker.address, "rack": broker.rack,
                    "replicas": view.replicas_on(broker.id),
                    "leads": view.leads.get(&broker.id).copied().unwrap_or(0),
                })
            })
            .collect();
        return Ok(output::json_line(&json!({
            "cluster_id": view.cluster.cluster_id,
            "controller": view.cluster.controller.map(|id| id.0),
            "brokers": brokers,
            "dead": dead.iter().map(|id| id.0).collect::<Vec<_>>(),
            "partitions": view.placed.len(),
            "under_replicated": view.behind,
            "leaderless": view.leaderless,
            "moving": moving,
        }))?);
    }
    let row = |broker: &Broker| {
        vec![
            broker.id.0.to_string(),
            broker.address.clone(),
            broker.rack.clone().unwrap_or_else(|| "-".into()),
            view.replicas_on(broker.id).to_string(),
            view.leads.get(&broker.id).copied().unwrap_or(0).to_string(),
            if view.cluster.controller == Some(broker.id) { "yes" } else { "" }.to_owned(),
        ]
    };
    let rows: Vec<_> = view.cluster.brokers.iter().map(row).collect();
    output::table(&["BROKER", "ADDRESS", "RACK", "REPLICAS", "LEADS", "CONTROLLER"], &rows)?;
    for id in dead {
        let replicas = view.replicas_on(id);
        output::line(&format!("broker {} is not there; it holds {replicas} replicas", id.0))?;
    }
    output::line(&format!(
        "{} partitions, {} without a leader, {} with replicas missing, {moving} moving",
        view.placed.len(),
        view.leaderless,
        view.behind
    ))?;
    Ok(())
}

async fn add(args: &BrokerArgs, json: bool) -> anyhow::Result<()> {
    let client = connect(&args.brokers).await?;
    let view = View::of(&client).await?;
    let id = BrokerId(args.broker);
    view.broker(id)?;
    let moves = plan::rebalance(&view.cluster.brokers, &view.placed, Some(id));
    carry_out(&client, &moves).await?;
    done(json, "moved", moves.len(), &format!("broker {} holds its share now", id.0))
}

async fn drain(args: &BrokerArgs, json: bool) -> anyhow::Result<()> {
    let client = connect(&args.brokers).await?;
    let id = BrokerId(args.broker);
    let mut moved = 0;
    // Topics made meanwhile may have been placed on it.
    loop {
        let view = View::of(&client).await?;
        let moves = plan::drain(&view.cluster.brokers, &view.placed, id)?;
        if moves.is_empty() {
            break;
        }
        carry_out(&client, &moves).await?;
        moved += moves.len();
    }
    let next = format!(
        "broker {} holds nothing any more; stop it, then `jangbu cluster remove {}`",
        id.0, id.0
    );
    done(json, "moved", moved, &next)
}

async fn remove(args: &BrokerArgs, json: bool) -> anyhow::Result<()> {
    let client = connect(&args.brokers).await?;
    client.remove_broker(BrokerId(args.broker)).await?;
    done(json, "removed", 1, &format!("broker {} is no longer part of the cluster", args.broker))
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
async fn carry_out(client: &Client, moves: &[jangbu_client::Move]) -> anyhow::Result<()> {
    if moves.is_empty() {
        return Ok(());
    }
    let mut progress = Progress::new(moves.len() as u64, Unit::Partitions);
    let mut finished = 0;
    for some in moves.chunks(MOVES_AT_A_TIME) {
        client.move_partitions(some).await?;
        loop {
            let left = client.moving().await?;
            let is_left = |m: &&jangbu_client::Move| {
                left.iter().any(|l| l.topic == m.topic && l.partition == m.partition)
            };
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
