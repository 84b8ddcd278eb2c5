//! What the configuration says about the cluster: alone, one of a list, or joining.

use std::collections::{BTreeMap, BTreeSet};

use super::{Config, Error, parse_host_port};

/// The most nodes that vote on metadata.
const VOTERS_MAX: usize = 5;

/// A node's part in its cluster, as it was started.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// A cluster of one, which others may join if it listens for them.
    Alone,
    /// One of these nodes, by id, with where they listen for each other.
    Member(BTreeMap<i32, String>),
    /// Joins the cluster of the node that listens there.
    Joiner(String),
}

impl Role {
    /// The nodes that the cluster is formed by.
    pub(crate) fn nodes(&self) -> BTreeMap<i32, String> {
        match self {
            Self::Member(nodes) => nodes.clone(),
            Self::Alone | Self::Joiner(_) => BTreeMap::new(),
        }
    }

    /// Those of the nodes that vote on metadata: the first [`voter_count`]. The first of them forms the cluster.
    pub(crate) fn voters(&self) -> Vec<i32> {
        let nodes: Vec<i32> = self.nodes().into_keys().collect();
        let count = voter_count(nodes.len());
        nodes.into_iter().take(count).collect()
    }
}

/// How many of so many nodes vote on metadata: 1, 3 or 5, since an even number tolerates no more failures than the odd one
/// below it.
pub(crate) fn voter_count(nodes: usize) -> usize {
    match nodes {
        0..=2 => nodes.min(1),
        3 | 4 => 3,
        _ => VOTERS_MAX,
    }
}

impl Config {
    /// What the node is in its cluster.
    ///
    /// # Errors
    /// [`Error::Cluster`] when the settings contradict each other.
    pub(crate) fn role(&self) -> Result<Role, Error> {
        let refuse = |text: String| Err(Error::Cluster(text));
        match (&self.cluster, &self.join) {
            (None, None) => Ok(Role::Alone),
            (Some(_), Some(_)) => refuse(
                "--cluster forms a cluster and --join joins one: give one of the two".to_owned(),
            ),
            (None, Some(_)) if self.node.is_some() => {
                refuse("with --join the cluster gives the node its id: leave --node out".to_owned())
            }
            (None, Some(address)) if parse_host_port(address).is_none() => {
                refuse(format!("--join is {address:?}, but must be HOST:PORT"))
            }
            (None, Some(address)) => Ok(Role::Joiner(address.clone())),
            (Some(text), None) => {
                let nodes = parse_list(text)
                    .map_err(|why| Error::Cluster(format!("--cluster {text}: {why}")))?;
                match self.node {
                    Some(node) if !nodes.contains_key(&node) => refuse(format!(
                        "node {node} is not among the nodes of --cluster {text}: add it there, or \
                         start it with --join and without --node"
                    )),
                    _ => Ok(Role::Member(nodes)),
                }
            }
        }
    }
}

/// Reads `1@HOST:PORT,2@HOST:PORT`. A node that is gone may have left its address to another one.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_nodes(text: &str) -> Result<BTreeMap<i32, String>, String> {
    let mut nodes = BTreeMap::new();
    for entry in text.split(',').map(str::trim) {
        let parsed = entry.split_once('@').and_then(|(id, address)| {
            let id = id.parse().ok().filter(|id| *id >= 1)?;
            parse_host_port(address).map(|_| (id, address.to_owned()))
        });
        let Some((id, address)) = parsed else {
            return Err(format!(
                "{entry:?} is not ID@HOST:PORT, for instance 1@node1.example:9093"
            ));
        };
        if nodes.insert(id, address).is_some() {
            return Err(format!("two nodes have the id {id}"));
        }
    }
    Ok(nodes)
}

/// Reads what an operator writes: no two nodes are at one place.
fn parse_list(text: &str) -> Result<BTreeMap<i32, String>, String> {
    let nodes = parse_nodes(text)?;
    let mut places = BTreeSet::new();
    match nodes.values().find(|address| !places.insert(*address)) {
        Some(address) => Err(format!("two nodes have the address {address}")),
        None => Ok(nodes),
    }
}

/// The text that [`parse_nodes`] reads.
pub(crate) fn write_nodes(nodes: &BTreeMap<i32, String>) -> String {
    let entries: Vec<_> = nodes.iter().map(|(id, address)| format!("{id}@{address}")).collect();
    entries.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(cluster: &str, node: Option<i32>) -> Config {
        Config { cluster: Some(cluster.into()), node, ..Config::default() }
    }

    fn refusal(config: &Config) -> String {
        config.validate().unwrap_err().to_string()
    }

    #[test]
    fn the_list_names_each_node_once() {
        let text = "1@a:1,2@[::1]:2,10@c.example:3";
        let nodes = parse_nodes(text).unwrap();
        assert_eq!(nodes[&2], "[::1]:2");
        assert_eq!(write_nodes(&nodes), text);
        for (wrong, why) in [
            ("", "ID@HOST:PORT"),
            ("a:1", "ID@HOST:PORT"),
            ("0@a:1", "ID@HOST:PORT"),
            ("1@a", "ID@HOST:PORT"),
            ("1@a:1,1@b:1", "the id 1"),
            ("1@a:1,2@a:1", "the address a:1"),
        ] {
            assert!(refusal(&config(wrong, None)).contains(why), "{wrong}");
        }
    }

    #[test]
    fn the_largest_odd_number_of_nodes_up_to_five_votes() {
        let voters = |count: i32| {
            let nodes: Vec<_> = (1..=count).map(|id| format!("{id}@h:{id}")).collect();
            config(&nodes.join(","), Some(1)).role().unwrap().voters().len()
        };
        assert_eq!((1..=7).map(voters).collect::<Vec<_>>(), [1, 1, 3, 3, 5, 5, 5]);
        assert_eq!(config("3@c:1,1@a:1,2@b:1", Some(1)).role().unwrap().voters(), [1, 2, 3]);
    }

    #[test]
    fn contradictions_say_what_to_do() {
        assert!(refusal(&config("1@a:1,2@b:1", Some(3))).contains("--join"));
        let joins = Config { join: Some("a:1".into()), ..Config::default() };
        assert!(joins.validate().is_ok());
        let both = Config { cluster: Some("1@a:1".into()), ..joins.clone() };
        assert!(refusal(&both).contains("one of the two"));
        let with_id = Config { node: Some(4), ..joins };
        assert!(refusal(&with_id).contains("leave --node out"));
        let nowhere = Config { join: Some("a".into()), ..Config::default() };
        assert!(refusal(&nowhere).contains("HOST:PORT"));
    }
}
