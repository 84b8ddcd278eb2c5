//! Forming a cluster out of a list of empty nodes.
//!
//! ```text
//! first voter                                   every other voter
//!   draws the cluster's id, stores it
//!   are you there, empty, with this list?  -->  yes
//!            (until all say so)
//!   you belong to this cluster             -->  stores it, answers, starts the metadata group
//!            (until all have stored it)
//!   stores it, starts the metadata group and initializes it
//! ```
//!
//! Whoever stops in between goes on where it was: the first voter keeps the id it has drawn, and the others take no
//! other id after the first. One of them whose disk was lost before all had stored the id keeps the cluster from being
//! formed, and says so; it never makes a second one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Cluster, Standing, names};
use crate::config::Role;
use crate::error::Error;
use crate::peer::{self, Request, Response};
use crate::proto::peer::{Form, Formed};

/// Between two rounds of asking.
const PAUSE: Duration = Duration::from_millis(300);
/// How long one node may take to answer.
const ANSWER_MAX: Duration = Duration::from_secs(3);

/// What a round of asking came to.
#[derive(Debug, Default, PartialEq, Eq)]
struct Round {
    /// Nodes that do not answer.
    missing: BTreeMap<i32, String>,
    /// What is wrong with those that do.
    problems: Vec<String>,
}

impl Round {
    fn is_fine(&self) -> bool {
        self.missing.is_empty() && self.problems.is_empty()
    }

    /// For people, after "waiting for".
    fn text(&self) -> String {
        let missing: Vec<_> = self.missing.iter().collect();
        let missing = Some(names(&missing)).filter(|names| !names.is_empty());
        missing.into_iter().chain(self.problems.iter().cloned()).collect::<Vec<_>>().join("; ")
    }
}

impl Cluster {
    /// Forms the cluster as its first voter.
    pub(super) async fn form(
        &self,
        nodes: &BTreeMap<i32, String>,
        voters: Vec<i32>,
    ) -> Result<Standing, Error> {
        let node = self.own.node;
        let cluster_id = self.directory.forming()?;
        let others = || voters.iter().copied().filter(|id| *id != node);
        loop {
            let mut round = self.ask_all(others(), nodes, "", &cluster_id).await;
            if round.is_fine() {
                round = self.ask_all(others(), nodes, &cluster_id, &cluster_id).await;
            }
            if round.is_fine() {
                break;
            }
            self.status.wait_for(round.text());
            tokio::time::sleep(PAUSE).await;
        }
        tracing::info!(cluster_id, "formed a cluster of {} nodes", nodes.len());
        let standing = Standing { node, cluster_id, voters, nodes: nodes.clone() };
        self.directory.settle(&standing)?;
        Ok(standing)
    }

    /// Waits until the first voter has formed the cluster.
    pub(super) async fn wait_to_be_formed(
        &self,
        nodes: &BTreeMap<i32, String>,
    ) -> Result<Standing, Error> {
        let mut formed = self.formed.subscribe();
        let voters = self.role.voters();
        let asking = async {
            loop {
                let others = voters.iter().copied().filter(|id| *id != self.own.node);
                let round = self.ask_all(others, nodes, "", "").await;
                self.status.wait_for(match round.is_fine() {
                    true => "the first node of the list to form the cluster".to_owned(),
                    false => round.text(),
                });
                tokio::time::sleep(PAUSE).await;
            }
        };
        tokio::select! {
            () = asking => unreachable!("it asks for ever"),
            standing = formed.wait_for(Option::is_some) => {
                let standing = standing.ok().and_then(|standing| standing.clone());
                standing.ok_or_else(|| Error::Start("the node is stopping".to_owned()))
            }
        }
    }

    /// Asks nodes at the same time, with `given` that they belong to that cluster. `own` is this node's cluster.
    async fn ask_all(
        &self,
        ids: impl Iterator<Item = i32>,
        nodes: &BTreeMap<i32, String>,
        given: &str,
        own: &str,
    ) -> Round {
        let listed: Vec<i32> = nodes.keys().copied().collect();
        let form = Form { nodes: listed.clone(), cluster_id: given.to_owned() };
        let mut asking = tokio::task::JoinSet::new();
        for id in ids {
            let Some(address) = nodes.get(&id).cloned() else { continue };
            let (peers, form) = (self.peers.clone(), form.clone());
            asking.spawn(async move {
                let answer = peers.ask(&address, Request::Form(form), ANSWER_MAX).await;
                (id, address, answer)
            });
        }
        let mut round = Round::default();
        for (id, address, answer) in asking.join_all().await {
            match answer {
                Ok(Response::Formed(answer)) => {
                    let objection = objection(&listed, given, own, &answer);
                    round
                        .problems
                        .extend(objection.map(|why| format!("node {id} ({address}){why}")));
                }
                Err(peer::Error::Refused { reason, .. }) => {
                    round.problems.push(format!("node {id} ({address}), which refuses: {reason}"));
                }
                Ok(_) | Err(peer::Error::Unreachable { .. } | peer::Error::Timeout { .. }) => {
                    round.missing.insert(id, address);
                }
            }
        }
        round.problems.sort();
        round
    }

    /// Answers whoever forms the cluster, or only asks how it stands.
    pub(super) async fn answer_form(
        self: Arc<Self>,
        from: i32,
        form: Form,
    ) -> Result<Formed, String> {
        // The disk is waited for.
        let storing = tokio::task::spawn_blocking(move || self.be_formed(from, &form));
        storing.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
    }

    fn be_formed(&self, from: i32, form: &Form) -> Result<Formed, Error> {
        let _forming = self.forming.lock();
        let nodes: Vec<i32> = self.role.nodes().into_keys().collect();
        let stored = self.directory.cluster_id()?;
        if stored.is_some() || !self.may_be_formed(from, form) {
            return Ok(Formed { nodes, cluster_id: stored.unwrap_or_default() });
        }
        let standing = Standing {
            node: self.own.node,
            cluster_id: form.cluster_id.clone(),
            voters: Vec::new(),
            nodes: self.role.nodes(),
        };
        self.directory.settle(&standing)?;
        tracing::info!(cluster_id = form.cluster_id, "formed a cluster of {} nodes", nodes.len());
        self.formed.send_replace(Some(standing));
        Ok(Formed { nodes, cluster_id: form.cluster_id.clone() })
    }

    /// Whether `from` is the node that forms the cluster, with the same list, and this one is another of its voters.
    fn may_be_formed(&self, from: i32, form: &Form) -> bool {
        let Role::Member(nodes) = &self.role else { return false };
        let voters = self.role.voters();
        !form.cluster_id.is_empty()
            && voters.first() == Some(&from)
            && voters.iter().skip(1).any(|id| *id == self.own.node)
            && nodes.keys().eq(form.nodes.iter())
    }
}

/// What is wrong with an answer, to follow the node's name. `given` is the cluster it was to become a part of, `own` the
/// one that this node forms.
fn objection(listed: &[i32], given: &str, own: &str, answer: &Formed) -> Option<String> {
    if answer.nodes.is_empty() && answer.cluster_id.is_empty() {
        return Some(": it was started without --cluster".to_owned());
    }
    if !answer.cluster_id.is_empty() && answer.cluster_id != own {
        return Some(format!(
            ": it belongs to cluster {} already, and this node's data directory is empty; if it was lost, the node \
             cannot come back under its id: start it with --join HOST:PORT, without --node and --cluster",
            answer.cluster_id
        ));
    }
    if answer.nodes != listed {
        return Some(format!(
            ": it was started with another --cluster, with nodes {:?} instead of {listed:?}; give all nodes the same list",
            answer.nodes
        ));
    }
    (!given.is_empty() && answer.cluster_id != given)
        .then(|| " to become part of the cluster".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(nodes: &[i32], cluster_id: &str) -> Formed {
        Formed { nodes: nodes.to_vec(), cluster_id: cluster_id.to_owned() }
    }

    #[test]
    fn only_empty_nodes_with_the_same_list_form_a_cluster() {
        let listed = [1, 2, 3];
        let asked = |answer: &Formed| objection(&listed, "", "new", answer);
        assert_eq!(asked(&answer(&listed, "")), None);
        assert_eq!(asked(&answer(&listed, "new")), None, "it had stored it when this node stopped");
        assert!(asked(&answer(&[1, 2, 4], "")).unwrap().contains("[1, 2, 4] instead of [1, 2, 3]"));
        assert!(asked(&answer(&listed, "old")).unwrap().contains("--join"));
        assert!(asked(&answer(&[], "")).unwrap().contains("without --cluster"));
    }

    #[test]
    fn a_cluster_is_formed_only_when_everybody_has_stored_its_id() {
        let listed = [1, 2, 3];
        let told = |answer: &Formed| objection(&listed, "new", "new", answer);
        assert_eq!(told(&answer(&listed, "new")), None);
        assert!(told(&answer(&listed, "")).is_some());
    }

    #[test]
    fn people_are_told_who_is_missing_and_what_is_wrong() {
        let missing = [(2, "b:2".to_owned()), (3, "c:3".to_owned())].into();
        let problems = vec!["node 4 (d:4): it was".to_owned()];
        let round = Round { missing, problems };
        assert_eq!(round.text(), "nodes 2 (b:2), 3 (c:3); node 4 (d:4): it was");
        assert!(!round.is_fine());
        assert!(Round::default().is_fine());
    }
}
