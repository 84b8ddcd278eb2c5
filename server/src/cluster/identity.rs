//! What the data directory says about itself: its id, its node, its cluster, and where the other nodes were.
//!
//! Values of the engine, each durable when it is written:
//!
//! ```text
//! directory.id     16 random bytes, drawn at the first start
//! node.id          the node, for ever
//! cluster.nodes    1@host:port,...: the other nodes as known last; absent in a cluster of one
//! cluster.voters   1,2,3: on the node that initializes the metadata group, its voters
//! cluster.forming  the id that this node gives a cluster it forms
//! cluster.id       the cluster, for ever; written last, so that whoever has it has all the others
//! ```
//!
//! A directory from before clusters has a node id alone.

use std::collections::BTreeMap;

use jangbu_engine::{Engine, RetentionClass};
use uuid::Uuid;

use crate::config::{self, Config, Role, parse_nodes, write_nodes};
use crate::error::Error;
use crate::replicas::METADATA;

const DIRECTORY: &str = "directory.id";
const NODE: &str = "node.id";
const NODES: &str = "cluster.nodes";
const VOTERS: &str = "cluster.voters";
const FORMING: &str = "cluster.forming";
const CLUSTER: &str = "cluster.id";

/// A data directory's place in the world.
#[derive(Debug, Clone)]
pub(crate) struct Directory {
    engine: Engine,
    /// Stands for the directory.
    pub(crate) id: [u8; 16],
}

/// Which node of which cluster a directory belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) node: i32,
    /// Empty in a cluster of one that has no id yet.
    pub(crate) cluster_id: String,
    /// The first voters of the metadata group, if it is for this node to initialize it.
    pub(crate) voters: Vec<i32>,
    /// The nodes of the cluster, and where they listen for each other.
    pub(crate) nodes: BTreeMap<i32, String>,
}

impl Directory {
    /// The directory of an engine; one that is new gets its id.
    ///
    /// # Errors
    /// [`Error::Engine`], [`Error::Start`] when stored bytes do not decode.
    pub(crate) fn open(engine: Engine) -> Result<Self, Error> {
        let id = match engine.node_value(DIRECTORY)? {
            Some(stored) => stored.try_into().map_err(|_| undecodable(DIRECTORY))?,
            None => {
                let id = *Uuid::new_v4().as_bytes();
                engine.set_node_value(DIRECTORY, &id)?;
                id
            }
        };
        Ok(Self { engine, id })
    }

    fn text(&self, key: &'static str) -> Result<Option<String>, Error> {
        let decode = |bytes| String::from_utf8(bytes).map_err(|_| undecodable(key));
        self.engine.node_value(key)?.map(decode).transpose()
    }

    fn set(&self, key: &'static str, value: &str) -> Result<(), Error> {
        Ok(self.engine.set_node_value(key, value.as_bytes())?)
    }

    /// The node that the directory belongs to.
    pub(crate) fn node(&self) -> Result<Option<i32>, Error> {
        let parse = |text: String| text.parse().map_err(|_| undecodable(NODE));
        self.text(NODE)?.map(parse).transpose()
    }

    /// The id that the node has or was started with; 0 when the cluster is to give it one.
    ///
    /// # Errors
    /// [`Error::Config`] when the list has no such node.
    pub(crate) fn node_of(&self, config: &Config, role: &Role) -> Result<i32, Error> {
        let node = match (self.node()?, role) {
            (Some(stored), _) => stored,
            (None, Role::Joiner(_)) => 0,
            (None, Role::Alone | Role::Member(_)) => config.node.unwrap_or(1),
        };
        match role {
            Role::Member(nodes) if !nodes.contains_key(&node) => {
                let listed = write_nodes(nodes);
                let text = format!(
                    "this is node {node}, which is not among the nodes of --cluster {listed}: give --node"
                );
                Err(Error::Config(config::Error::Cluster(text)))
            }
            _ => Ok(node),
        }
    }

    /// The nodes of the cluster as known last; `None` in a cluster of one.
    pub(crate) fn nodes(&self) -> Result<Option<BTreeMap<i32, String>>, Error> {
        let parse = |text: String| parse_nodes(&text).map_err(|_| undecodable(NODES));
        self.text(NODES)?.map(parse).transpose()
    }

    /// Takes note of where the nodes of the cluster are.
    pub(crate) fn set_nodes(&self, nodes: &BTreeMap<i32, String>) -> Result<(), Error> {
        self.set(NODES, &write_nodes(nodes))
    }

    fn voters(&self) -> Result<Vec<i32>, Error> {
        let stored = self.text(VOTERS)?.unwrap_or_default();
        let ids = stored.split(',').filter(|id| !id.is_empty());
        ids.map(|id| id.parse().map_err(|_| undecodable(VOTERS))).collect()
    }

    /// The id of the cluster that this node forms, the same until it is formed.
    pub(crate) fn forming(&self) -> Result<String, Error> {
        if let Some(id) = self.text(FORMING)? {
            return Ok(id);
        }
        let id = new_cluster_id();
        self.set(FORMING, &id)?;
        Ok(id)
    }

    /// The cluster that the directory belongs to; `None` until it belongs to one.
    pub(crate) fn cluster_id(&self) -> Result<Option<String>, Error> {
        self.text(CLUSTER)
    }

    /// The id of a cluster of one, once it has one.
    pub(crate) fn set_cluster_id(&self, id: &str) -> Result<(), Error> {
        self.set(CLUSTER, id)
    }

    /// The directory belongs to a cluster of several nodes from now on.
    pub(crate) fn settle(&self, standing: &Standing) -> Result<(), Error> {
        self.set_nodes(&standing.nodes)?;
        let voters: Vec<_> = standing.voters.iter().map(ToString::to_string).collect();
        self.set(VOTERS, &voters.join(","))?;
        self.set(NODE, &standing.node.to_string())?;
        self.set(CLUSTER, &standing.cluster_id)
    }

    /// What the directory is already, checked against how the node was started; `None` when it is to become part of a
    /// cluster first.
    ///
    /// # Errors
    /// [`Error::OtherNode`], [`Error::OneNode`], [`Error::NotAlone`].
    pub(crate) fn standing(&self, config: &Config, role: &Role) -> Result<Option<Standing>, Error> {
        let (stored, nodes) = (self.node()?, self.nodes()?);
        if let (Some(stored), Some(given)) = (stored, config.node)
            && stored != given
        {
            return Err(Error::OtherNode { stored: stored.to_string(), given });
        }
        match (nodes, self.cluster_id()?) {
            (Some(nodes), Some(cluster_id)) => {
                let node = stored.ok_or_else(|| undecodable(NODE))?;
                self.known(node, cluster_id, nodes, config, role).map(Some)
            }
            (_, cluster_id) if *role == Role::Alone => {
                let node = stored.or(config.node).unwrap_or(1);
                self.set(NODE, &node.to_string())?;
                let (cluster_id, voters) = (cluster_id.unwrap_or_default(), vec![node]);
                Ok(Some(Standing { node, cluster_id, voters, nodes: BTreeMap::new() }))
            }
            (_, cluster_id) if cluster_id.is_some() || self.has_metadata()? => Err(Error::OneNode),
            _ => Ok(None),
        }
    }

    fn known(
        &self,
        node: i32,
        cluster_id: String,
        mut nodes: BTreeMap<i32, String>,
        config: &Config,
        role: &Role,
    ) -> Result<Standing, Error> {
        if *role == Role::Alone && config.peer_listen.is_none() {
            return Err(Error::NotAlone { node, nodes: write_nodes(&nodes) });
        }
        if let Role::Member(listed) = role {
            if !listed.contains_key(&node) {
                let given = config.node.unwrap_or(1);
                return Err(Error::OtherNode { stored: node.to_string(), given });
            }
            // What the operator says counts until the metadata says otherwise.
            nodes.extend(listed.clone());
        }
        Ok(Standing { node, cluster_id, voters: self.voters()?, nodes })
    }

    fn has_metadata(&self) -> Result<bool, Error> {
        if !self.engine.partitions().contains(&METADATA) {
            return Ok(false);
        }
        let log = self.engine.log(METADATA, RetentionClass::from_retention_ms(-1))?;
        Ok(log.state().last.is_some())
    }
}

fn undecodable(key: &str) -> Error {
    Error::Start(format!(
        "the data directory's {key} does not decode: restore the directory from a copy"
    ))
}

/// 16 random bytes in URL-safe base64 without padding, as Kafka writes its ids.
pub(crate) fn new_cluster_id() -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let bits = Uuid::new_v4().as_u128();
    // 128 bits are 21 digits of 6 bits and one of 2, which stand at the top of the last digit.
    let digit = |i: u32| if i < 21 { bits >> (122 - 6 * i) } else { bits << 4 };
    (0..22).map(|i| char::from(ALPHABET[(digit(i) & 0x3f) as usize])).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jangbu_engine::Options;

    use super::*;

    fn with_directory(test: impl FnOnce(&Directory)) {
        let dir = tempfile::tempdir().unwrap();
        let failed = Arc::new(|error: &jangbu_engine::Error| panic!("{error}"));
        let engine = Engine::open(dir.path(), Options::default(), failed).unwrap();
        test(&Directory::open(engine.clone()).unwrap());
        engine.close().unwrap();
    }

    fn standing(directory: &Directory, config: &Config) -> Result<Option<Standing>, Error> {
        directory.standing(config, &config.role().unwrap())
    }

    fn list(node: Option<i32>) -> Config {
        Config { cluster: Some("1@a:1,2@b:2,3@c:3".into()), node, ..Config::default() }
    }

    fn joins() -> Config {
        Config { join: Some("a:1".into()), ..Config::default() }
    }

    #[test]
    fn a_cluster_id_is_22_characters_of_url_safe_base64() {
        let id = new_cluster_id();
        assert_eq!(id.len(), 22);
        assert!(id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
        assert_ne!(id, new_cluster_id());
    }

    #[test]
    fn a_directory_has_one_id_for_ever() {
        with_directory(|directory| {
            let again = Directory::open(directory.engine.clone()).unwrap();
            assert_eq!(again.id, directory.id);
            assert_eq!(again.forming().unwrap(), directory.forming().unwrap());
        });
    }

    #[test]
    fn a_node_alone_keeps_the_id_it_was_first_started_with() {
        with_directory(|directory| {
            let two = Config { node: Some(2), ..Config::default() };
            assert_eq!(standing(directory, &two).unwrap().unwrap().voters, [2]);
            let unsaid = standing(directory, &Config::default()).unwrap().unwrap();
            assert_eq!((unsaid.node, unsaid.cluster_id), (2, String::new()));
            let three = Config { node: Some(3), ..Config::default() };
            assert!(matches!(standing(directory, &three), Err(Error::OtherNode { .. })));
        });
    }

    #[test]
    fn a_cluster_of_one_becomes_part_of_no_other() {
        with_directory(|directory| {
            standing(directory, &Config::default()).unwrap();
            assert_eq!(standing(directory, &list(Some(1))).unwrap(), None, "nothing is in it yet");
            directory.set_cluster_id("c").unwrap();
            assert!(matches!(standing(directory, &list(Some(1))), Err(Error::OneNode)));
            assert!(matches!(standing(directory, &joins()), Err(Error::OneNode)));
        });
    }

    #[test]
    fn a_node_of_a_cluster_is_known_however_it_is_started_again() {
        with_directory(|directory| {
            assert_eq!(standing(directory, &list(Some(2))).unwrap(), None);
            assert_eq!(standing(directory, &joins()).unwrap(), None);
            let nodes = parse_nodes("1@a:1,2@old:2,4@d:4").unwrap();
            let settled =
                Standing { node: 2, cluster_id: "c".into(), voters: vec![1, 2, 3], nodes };
            directory.settle(&settled).unwrap();
            assert_eq!(standing(directory, &joins()).unwrap().unwrap(), settled);
            let listens = Config { peer_listen: "127.0.0.1:0".parse().ok(), ..Config::default() };
            assert_eq!(standing(directory, &listens).unwrap().unwrap(), settled);
            let listed = standing(directory, &list(Some(2))).unwrap().unwrap();
            assert_eq!(write_nodes(&listed.nodes), "1@a:1,2@b:2,3@c:3,4@d:4");
            let alone = standing(directory, &Config::default());
            assert!(matches!(alone, Err(Error::NotAlone { node: 2, .. })));
            assert!(matches!(standing(directory, &list(Some(1))), Err(Error::OtherNode { .. })));
        });
    }
}
