//! The broker that keeps a group, and a connection to it.
//!
//! The connection is shared with nobody: a JoinGroup may be held back for minutes, and what is behind it with it.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use kafka_protocol::messages::{FindCoordinatorRequest, GroupId};
use kafka_protocol::protocol::StrBytes;

use crate::cluster::{BrokerId, Cluster, Scope};
use crate::connection::{Api, Connection};
use crate::error::About;
use crate::{Error, ErrorCode, Result};

/// Where a group is kept.
#[derive(Debug)]
pub(crate) struct Coordinator {
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) group: String,
    open: Mutex<Option<Arc<Connection>>>,
}

impl Coordinator {
    pub(crate) fn new(cluster: Arc<Cluster>, group: String) -> Self {
        Self { cluster, group, open: Mutex::default() }
    }

    pub(crate) fn group_id(&self) -> GroupId {
        GroupId(StrBytes::from_string(self.group.clone()))
    }

    /// A refusal of the coordinator.
    pub(crate) fn check(&self, code: i16, what: &str) -> Result<()> {
        self.check_told(code, None, what)
    }

    /// The same with the coordinator's own words.
    pub(crate) fn check_told(&self, code: i16, message: Option<&str>, what: &str) -> Result<()> {
        Error::check(code, message, || {
            About::from(format!("{what} of group {}", self.group)).group(&self.group)
        })
    }

    /// A refusal of what a partition's committed offset was asked for, or was to be.
    pub(crate) fn check_place(
        &self,
        code: i16,
        what: &str,
        (topic, partition): (&str, i32),
        offset: Option<i64>,
    ) -> Result<()> {
        Error::check(code, None, || {
            let what = format!("{what} {topic}-{partition} of group {}", self.group);
            let about = About::from(what).place(topic, partition).group(&self.group);
            offset.into_iter().fold(about, About::offset)
        })
    }

    /// Asks the coordinator. `extra` is the time for which it may hold the request back.
    pub(crate) async fn call<R: Api>(&self, request: &R, extra: Duration) -> Result<R::Response> {
        let connection = self.connection().await?;
        connection.submit(request, extra)?.answer().await
    }

    /// Looks for the coordinator anew, if `error` may mean that it is elsewhere.
    pub(crate) fn doubt(&self, error: &Error) {
        let moved = match error {
            Error::Broker { code, .. } => {
                matches!(code, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable)
            }
            error => error.is_retriable(),
        };
        if moved {
            *self.open() = None;
        }
    }

    fn open(&self) -> std::sync::MutexGuard<'_, Option<Arc<Connection>>> {
        self.open.lock().expect("no code panics while it holds this lock")
    }

    async fn connection(&self) -> Result<Arc<Connection>> {
        let known = self.open().clone();
        if let Some(open) = known.filter(|open| open.is_alive()) {
            return Ok(open);
        }
        let broker = self.find().await?;
        if !self.cluster.lists(broker) {
            self.cluster.refresh(Scope::All).await?;
        }
        let opened = Arc::new(self.cluster.open_own(broker).await?);
        *self.open() = Some(Arc::clone(&opened));
        Ok(opened)
    }

    async fn find(&self) -> Result<BrokerId> {
        let request =
            FindCoordinatorRequest::default().with_key(StrBytes::from_string(self.group.clone()));
        let answer = self.cluster.any().await?.call(&request).await?;
        let message = answer.error_message.as_deref();
        Error::check(answer.error_code, message, || {
            About::from(format!("coordinator of {}", self.group)).group(&self.group)
        })?;
        Ok(BrokerId(answer.node_id.0))
    }
}
