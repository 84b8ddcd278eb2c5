//! What the commands look at: brokers, where replicas are and where they are moving, who leads.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::bail;
use jangbu_client::{Broker, BrokerId, Client, ClusterDescription, Moving, Topic};

use super::plan::Placed;

/// The cluster at one moment.
pub(super) struct View {
    pub(super) cluster: ClusterDescription,
    /// Where replicas are, or are moving.
    pub(super) placed: Vec<Placed>,
    pub(super) moving: Vec<Moving>,
    /// Replicas on each broker, those that are being added or that leave included.
    held: BTreeMap<BrokerId, usize>,
    /// Who leads each partition.
    pub(super) leaders: BTreeMap<(String, i32), BrokerId>,
    pub(super) behind: usize,
    pub(super) leaderless: usize,
}

impl View {
    pub(super) async fn of(client: &Client) -> anyhow::Result<Self> {
        let cluster = client.describe_cluster().await?;
        // In this order: what ends to move in between counts as moving, and is looked at again.
        let moving = client.moving().await?;
        let topics = client.list_topics().await?;
        let mut view = Self {
            cluster,
            placed: Vec::new(),
            moving,
            held: BTreeMap::new(),
            leaders: BTreeMap::new(),
            behind: 0,
            leaderless: 0,
        };
        for topic in &topics {
            view.add(topic);
        }
        Ok(view)
    }

    fn add(&mut self, topic: &Topic) {
        for partition in &topic.partitions {
            let (name, number) = (&topic.name, partition.number);
            match partition.leader {
                Some(leader) => drop(self.leaders.insert((name.clone(), number), leader)),
                None => self.leaderless += 1,
            }
            self.behind += usize::from(partition.in_sync.len() < partition.replicas.len());
            let moving = self.moving.iter().find(|m| m.topic == *name && m.partition == number);
            let leave = moving.map_or(&[][..], |moving| &moving.removing);
            let on: BTreeSet<_> = partition.replicas.iter().chain(leave).collect();
            for broker in on {
                *self.held.entry(*broker).or_default() += 1;
            }
            self.placed.push(Placed {
                topic: name.clone(),
                partition: number,
                replicas: moving.map_or(&partition.replicas, |moving| &moving.to).clone(),
                moving: moving.is_some(),
            });
        }
    }

    /// A broker that is part of the cluster.
    pub(super) fn broker(&self, id: BrokerId) -> anyhow::Result<&Broker> {
        match self.cluster.brokers.iter().find(|broker| broker.id == id) {
            Some(broker) => Ok(broker),
            None => bail!("there is no broker {}; `jangbu cluster status` lists them", id.0),
        }
    }

    /// Brokers that do not answer: those that are told dead, and those that hold replicas and are not told.
    pub(super) fn dead(&self) -> BTreeSet<BrokerId> {
        let lives = |id: &BrokerId| self.cluster.brokers.iter().any(|b| b.id == *id && b.alive);
        let told = self.cluster.brokers.iter().map(|broker| broker.id);
        told.chain(self.held.keys().copied()).filter(|id| !lives(id)).collect()
    }

    pub(super) fn replicas_on(&self, id: BrokerId) -> usize {
        self.held.get(&id).copied().unwrap_or(0)
    }

    pub(super) fn led_by(&self, id: BrokerId) -> usize {
        self.leaders.values().filter(|leader| **leader == id).count()
    }
}
