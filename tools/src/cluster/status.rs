//! `jangbu cluster status`: who is there, what lives where, and how far moves are.

use std::collections::{BTreeMap, BTreeSet};

use jangbu_client::{Broker, BrokerId, Client, Moving};
use serde_json::{Value, json};

use super::view::View;
use crate::cli::Brokers;
use crate::output;
use crate::topic::connect;

/// Moves that are shown one by one.
const MOVES_SHOWN: usize = 20;

/// How far a replica that is being added is.
#[derive(Debug, PartialEq, Eq)]
struct Added {
    broker: BrokerId,
    /// Bytes it has, and bytes the leader has; `None` when one of them does not tell.
    bytes: Option<(u64, u64)>,
}

impl Added {
    fn percent(&self) -> Option<u64> {
        let (has, of) = self.bytes?;
        // The new replica may begin further back than the leader.
        Some(if of == 0 {
            100
        } else {
            u64::try_from(100 * u128::from(has.min(of)) / u128::from(of)).unwrap_or(100)
        })
    }

    fn to_text(&self) -> String {
        match (self.bytes, self.percent()) {
            (Some((has, of)), Some(percent)) => format!(
                "broker {} has {} of {} ({percent} %)",
                self.broker.0,
                output::human_bytes(has.min(of)),
                output::human_bytes(of)
            ),
            _ => format!("how much broker {} has is not known", self.broker.0),
        }
    }

    fn to_json(&self) -> Value {
        let (bytes, of_bytes) = self.bytes.unzip();
        json!({ "broker": self.broker.0, "bytes": bytes, "of_bytes": of_bytes, "percent": self.percent() })
    }
}

/// How far a move is.
struct Progress<'a> {
    moving: &'a Moving,
    added: Vec<Added>,
    /// For so many seconds it makes no headway, as its leader says.
    stalled_seconds: Option<u64>,
    leader: Option<BrokerId>,
}

impl Progress<'_> {
    fn to_text(&self) -> String {
        let to: Vec<_> = self.moving.to.iter().map(|id| id.0.to_string()).collect();
        let mut parts: Vec<_> = self.added.iter().map(Added::to_text).collect();
        if parts.is_empty() {
            parts.push("nothing to copy".to_owned());
        }
        if let (Some(seconds), Some(leader)) = (self.stalled_seconds, self.leader) {
            parts.push(format!(
                "no headway for {seconds} s: raise leader.replication.throttled.rate of broker {}, or see its log",
                leader.0
            ));
        }
        let (topic, partition) = (&self.moving.topic, self.moving.partition);
        format!("{topic}-{partition} is moving to {}: {}", to.join(","), parts.join("; "))
    }

    fn to_json(&self) -> Value {
        let moving = self.moving;
        json!({
            "topic": moving.topic, "partition": moving.partition,
            "to": moving.to.iter().map(|id| id.0).collect::<Vec<_>>(),
            "removing": moving.removing.iter().map(|id| id.0).collect::<Vec<_>>(),
            "adding": self.added.iter().map(Added::to_json).collect::<Vec<_>>(),
            "stalled_seconds": self.stalled_seconds,
        })
    }
}

pub(super) async fn run(brokers: &Brokers, json: bool) -> anyhow::Result<()> {
    let client = connect(brokers).await?;
    let view = View::of(&client).await?;
    let progress = progress(&client, &view).await;
    if json { print_json(&view, &progress) } else { print(&view, &progress) }
}

/// How far each move is, by the sizes that leaders and new replicas tell.
async fn progress<'a>(client: &Client, view: &'a View) -> Vec<Progress<'a>> {
    let leader = |moving: &Moving| view.leaders.get(&(moving.topic.clone(), moving.partition));
    let leaders = view.moving.iter().filter_map(|moving| leader(moving).copied());
    let asked: BTreeSet<BrokerId> =
        view.moving.iter().flat_map(|moving| moving.adding.clone()).chain(leaders).collect();
    let topics = view.moving.iter().map(|moving| moving.topic.clone()).collect();
    let mut sizes = BTreeMap::new();
    let dead = view.dead();
    for broker in asked.difference(&dead) {
        // One that does not answer just now is shown as not known.
        if let Ok(told) = client.replica_sizes(*broker, &topics).await {
            sizes.insert(*broker, told);
        }
    }
    let of = |moving: &'a Moving| {
        let id = (moving.topic.clone(), moving.partition);
        let size =
            |broker: &BrokerId| Some(sizes.get(broker)?.get(&id).copied().unwrap_or_default());
        let bytes = |broker: &BrokerId| size(broker).map(|size| size.bytes);
        let leader = leader(moving).copied();
        let whole = leader.as_ref().and_then(bytes);
        let added = moving
            .adding
            .iter()
            .map(|broker| Added { broker: *broker, bytes: bytes(broker).zip(whole) });
        let stalled_seconds = leader.as_ref().and_then(size).and_then(|size| size.stalled_seconds);
        Progress { moving, added: added.collect(), stalled_seconds, leader }
    };
    view.moving.iter().map(of).collect()
}

fn state(broker: &Broker) -> &'static str {
    match (broker.alive, broker.draining) {
        (true, false) => "alive",
        (true, true) => "draining",
        (false, false) => "dead",
        (false, true) => "dead, draining",
    }
}

fn print_json(view: &View, progress: &[Progress<'_>]) -> anyhow::Result<()> {
    let broker = |broker: &Broker| {
        json!({
            "id": broker.id.0, "address": broker.address, "rack": broker.rack,
            "alive": broker.alive, "draining": broker.draining,
            "replicas": view.replicas_on(broker.id),
            "leads": view.led_by(broker.id),
        })
    };
    Ok(output::json_line(&json!({
        "cluster_id": view.cluster.cluster_id,
        "controller": view.cluster.controller.map(|id| id.0),
        "brokers": view.cluster.brokers.iter().map(broker).collect::<Vec<_>>(),
        "dead": view.dead().iter().map(|id| id.0).collect::<Vec<_>>(),
        "partitions": view.placed.len(),
        "under_replicated": view.behind,
        "leaderless": view.leaderless,
        "moving": view.moving.len(),
        "moves": progress.iter().map(Progress::to_json).collect::<Vec<_>>(),
    }))?)
}

fn print(view: &View, progress: &[Progress<'_>]) -> anyhow::Result<()> {
    let row = |broker: &Broker| {
        vec![
            broker.id.0.to_string(),
            broker.address.clone(),
            broker.rack.clone().unwrap_or_else(|| "-".into()),
            state(broker).to_owned(),
            view.replicas_on(broker.id).to_string(),
            view.led_by(broker.id).to_string(),
            if view.cluster.controller == Some(broker.id) { "yes" } else { "" }.to_owned(),
        ]
    };
    let rows: Vec<_> = view.cluster.brokers.iter().map(row).collect();
    output::table(
        &["BROKER", "ADDRESS", "RACK", "STATE", "REPLICAS", "LEADS", "CONTROLLER"],
        &rows,
    )?;
    for id in view.dead() {
        let replicas = view.replicas_on(id);
        output::line(&format!("broker {} is not there; it holds {replicas} replicas", id.0))?;
    }
    for progress in progress.iter().take(MOVES_SHOWN) {
        output::line(&progress.to_text())?;
    }
    if progress.len() > MOVES_SHOWN {
        output::line(&format!("... and {} more moves", progress.len() - MOVES_SHOWN))?;
    }
    Ok(output::line(&format!(
        "{} partitions, {} without a leader, {} with replicas missing, {} moving",
        view.placed.len(),
        view.leaderless,
        view.behind,
        view.moving.len()
    ))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_is_told_in_bytes_and_percent_where_both_sides_tell() {
        let added = |bytes| Added { broker: BrokerId(4), bytes };
        assert_eq!(added(Some((25, 100))).percent(), Some(25));
        assert_eq!(added(Some((0, 0))).percent(), Some(100), "an empty partition has all it needs");
        assert_eq!(added(Some((120, 100))).percent(), Some(100), "it begins further back");
        assert_eq!(added(Some((u64::MAX, u64::MAX))).percent(), Some(100));
        assert!(added(Some((25, 100))).to_text().contains("(25 %)"));
        assert!(added(None).to_text().contains("not known"));
    }

    #[test]
    fn a_move_without_headway_says_what_to_change() {
        let to = vec![BrokerId(4)];
        let moving = Moving { topic: "t".into(), partition: 2, to, ..Moving::default() };
        let leader = Some(BrokerId(1));
        let told = |stalled_seconds| {
            Progress { moving: &moving, added: Vec::new(), stalled_seconds, leader }.to_text()
        };
        assert_eq!(told(None), "t-2 is moving to 4: nothing to copy");
        let stalled = told(Some(75));
        assert!(
            stalled.contains(
                "no headway for 75 s: raise leader.replication.throttled.rate of broker 1"
            )
        );
    }
}
