//! What the group state machine wants done: answers to give, records to store.
//!
//! Invariant: a request's token is answered once.

use std::collections::HashMap;

use bytes::Bytes;
use kafka_protocol::ResponseError;

use super::Token;
use super::consumer::{Heard, Refusal};
use super::group::Group;
use super::member::Member;
use super::records::Record;

/// A member of a group, as its leader is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct JoinedMember {
    pub(crate) id: String,
    pub(crate) instance: Option<String>,
    pub(crate) metadata: Bytes,
}

/// The answer to a join.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Joined {
    pub(crate) code: Option<ResponseError>,
    pub(crate) generation: i32,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) leader: String,
    pub(crate) skip_assignment: bool,
    pub(crate) member_id: String,
    pub(crate) members: Vec<JoinedMember>,
}

impl Joined {
    pub(crate) fn refused(member_id: &str, code: ResponseError) -> Self {
        Self {
            code: Some(code),
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: String::new(),
            skip_assignment: false,
            member_id: member_id.to_owned(),
            members: Vec::new(),
        }
    }
}

/// The answer to a sync.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Synced {
    pub(crate) code: Option<ResponseError>,
    pub(crate) protocol_type: Option<String>,
    pub(crate) protocol: Option<String>,
    pub(crate) assignment: Bytes,
}

impl Synced {
    pub(crate) fn refused(code: ResponseError) -> Self {
        Self { code: Some(code), protocol_type: None, protocol: None, assignment: Bytes::new() }
    }
}

/// The answer to a request that has waited.
#[derive(Debug)]
pub(crate) enum Reply {
    Joined(Joined),
    Synced(Synced),
    Heard(Result<Heard, Refusal>),
    /// What was to be stored is, or why not.
    Stored(Result<(), ResponseError>),
}

impl Reply {
    /// The same to a request that is refused.
    pub(super) fn refused(self, code: ResponseError) -> Self {
        match self {
            Self::Joined(joined) => Self::Joined(Joined::refused(&joined.member_id, code)),
            Self::Synced(_) => Self::Synced(Synced::refused(code)),
            Self::Heard(_) => Self::Heard(Err(code.into())),
            Self::Stored(_) => Self::Stored(Err(code)),
        }
    }
}

/// What a group goes on with once something is stored.
#[derive(Debug)]
pub(crate) enum Then {
    /// Members get their assignments.
    Assign { group: String, generation: i32, assignments: HashMap<String, Bytes> },
    /// A static member has replaced another one; taken back when it cannot be stored.
    Replaced { group: String, replaced: Box<Replaced> },
    /// A request is answered.
    Answer(Token),
    /// A commit to this group is answered.
    Committed { group: String, token: Token },
    /// Somebody is answered by a consumer group, unless something before it was not stored.
    Told { group: String, failures: u64, token: Token, reply: Box<Reply> },
    /// A consumer group knows that it is stored.
    Kept { group: String },
    /// The consumer group of this name becomes this classic one.
    Turned { classic: Box<Group> },
    /// Nothing.
    Nothing,
}

impl Then {
    /// The consumer group whose later writes count on this one.
    pub(super) fn chain(&self) -> Option<&str> {
        match self {
            Self::Told { group, .. } | Self::Kept { group } => Some(group),
            Self::Turned { classic } => Some(&classic.id),
            _ => None,
        }
    }
}

/// How a static member came back while its group was stable.
#[derive(Debug)]
pub(crate) struct Replaced {
    pub(super) token: Token,
    /// The member before.
    pub(super) before: Member,
    pub(super) new_id: String,
    /// Who led the group before.
    pub(super) leader_before: Option<String>,
    pub(super) skips_assignment: bool,
}

/// Records that are to be stored together, and what then.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) records: Vec<Record>,
    pub(crate) then: Then,
}

/// What is to be done.
#[derive(Debug, Default)]
pub(crate) struct Effects {
    pub(crate) replies: Vec<(Token, Reply)>,
    pub(crate) writes: Vec<Write>,
}

impl Effects {
    pub(super) fn joined(&mut self, token: Token, joined: Joined) {
        self.replies.push((token, Reply::Joined(joined)));
    }

    pub(super) fn synced(&mut self, token: Token, synced: Synced) {
        self.replies.push((token, Reply::Synced(synced)));
    }

    pub(super) fn stored(&mut self, token: Token, result: Result<(), ResponseError>) {
        self.replies.push((token, Reply::Stored(result)));
    }

    pub(super) fn heard(&mut self, token: Token, heard: Result<Heard, Refusal>) {
        self.reply(token, Reply::Heard(heard));
    }

    pub(super) fn reply(&mut self, token: Token, reply: Reply) {
        self.replies.push((token, reply));
    }

    pub(super) fn write(&mut self, records: Vec<Record>, then: Then) {
        self.writes.push(Write { records, then });
    }
}
