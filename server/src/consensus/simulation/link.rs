//! What is between the nodes of a simulation: requests and answers as the bytes of their frames, late, lost or cut off.
//!
//! Requests of one lane arrive in their order, as over a connection, except those that arrive only after they were given
//! up: such a one was on its way when its connection was lost. Some arrive once more later, which no connection lets happen
//! and Raft has to bear anyhow.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::world::World;
use crate::consensus::ReplicaId;
use crate::peer::{self, Incoming, Lane, Request, Response, loopback};
use crate::proto::peer as proto;

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Arrives,
    /// It never does, and its sender hears of that, or waits in vain.
    Lost {
        silent: bool,
    },
    /// Its sender gives it up before it arrives.
    Late,
    /// It is carried out, and the answer gets lost.
    Unanswered,
}

type Answer = Result<Response, String>;

/// A request on its way.
struct Letter {
    due: Instant,
    from: i32,
    to: i32,
    request: Request,
    payloads: Vec<Bytes>,
    answer: oneshot::Sender<Answer>,
}

/// The lanes between the nodes, each with what is on its way.
#[derive(Default)]
pub(super) struct Lanes(Mutex<BTreeMap<(i32, i32, u8), mpsc::UnboundedSender<Letter>>>);

impl Lanes {
    /// Nothing is carried any more.
    pub(super) fn close(&self) {
        self.0.lock().clear();
    }
}

impl fmt::Debug for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lanes").finish_non_exhaustive()
    }
}

/// The ways from one process to all others.
#[derive(Debug, Clone)]
pub(crate) struct Link {
    world: Arc<World>,
    node: i32,
    dead: CancellationToken,
}

impl Link {
    pub(super) fn new(world: &Arc<World>, node: i32, dead: CancellationToken) -> Self {
        Self { world: Arc::clone(world), node, dead }
    }

    /// See [`peer::Peers::call`].
    pub(crate) async fn call(
        &self,
        to: i32,
        lane: Lane,
        request: Request,
        payloads: Vec<Bytes>,
        timeout: Duration,
    ) -> Result<Response, peer::Error> {
        let unreachable =
            |reason: &str| peer::Error::Unreachable { node: to, reason: reason.into() };
        if self.dead.is_cancelled() {
            return Err(unreachable("this process is dead"));
        }
        let fate = self.fate();
        let delay = self.world.draw(|random| random.millis(self.world.plan.delay_ms.clone()));
        if fate == (Fate::Lost { silent: false }) {
            tokio::time::sleep(delay).await;
            return Err(unreachable("the connection was lost"));
        }
        let (answer, answered) = oneshot::channel();
        let (request, payloads) =
            loopback::arrive(request, payloads).expect("what a node sends is well-formed");
        self.notice(&request);
        let letter =
            Letter { due: Instant::now() + delay, from: self.node, to, request, payloads, answer };
        if self.world.draw(|random| random.chance(self.world.plan.twice)) {
            self.send_again(&letter);
        }
        match fate {
            Fate::Late => {
                let late = self.world.draw(|random| random.millis(10..2000));
                let world = Arc::clone(&self.world);
                tokio::spawn(async move {
                    tokio::time::sleep(late).await;
                    deliver(&world, letter).await;
                });
                return Err(unreachable("the connection was lost, with something on its way"));
            }
            Fate::Lost { .. } => {}
            Fate::Arrives | Fate::Unanswered => self.send(lane, letter),
        }
        let lost = fate != Fate::Arrives;
        match tokio::time::timeout(timeout, answered).await {
            Ok(Ok(Ok(response))) if !lost => Ok(response),
            Ok(Ok(Err(reason))) if !lost => Err(peer::Error::Refused { node: to, reason }),
            Ok(_) => Err(unreachable("the connection was lost")),
            Err(_) => Err(peer::Error::Timeout { node: to }),
        }
    }

    /// Has a request arrive another time, with whatever was sent since before it; nobody waits for that answer.
    fn send_again(&self, letter: &Letter) {
        let due = letter.due + self.world.draw(|random| random.millis(1..2000));
        let (answer, _) = oneshot::channel();
        let (request, payloads) = (letter.request.clone(), letter.payloads.clone());
        let again = Letter { due, request, payloads, answer, ..*letter };
        let world = Arc::clone(&self.world);
        tokio::spawn(async move {
            tokio::time::sleep_until(due).await;
            deliver(&world, again).await;
        });
    }

    fn fate(&self) -> Fate {
        let (lost, late) = (self.world.plan.lost, self.world.plan.late);
        self.world.draw(|random| match random.within(0..1000) {
            dice if dice < lost && random.chance(300) => Fate::Unanswered,
            dice if dice < lost => Fate::Lost { silent: random.chance(200) },
            dice if dice < lost + late => Fate::Late,
            _ => Fate::Arrives,
        })
    }

    /// Who sends to others what only a leader does leads.
    fn notice(&self, request: &Request) {
        let vote = match request {
            Request::Append(append) => append.vote,
            Request::Heartbeats(beats) => beats.appends.first().and_then(|append| append.vote),
            Request::Snapshot(snapshot) => snapshot.vote,
            Request::Stage(stage) => stage.vote,
            _ => None,
        };
        if let Some(proto::RaftVote { term, replica, committed: true }) = vote {
            self.world.judge(|oracle| oracle.leads(term, ReplicaId(replica)));
        }
    }

    /// Puts a request behind those of its lane.
    fn send(&self, lane: Lane, letter: Letter) {
        let key = (letter.from, letter.to, lane as u8);
        let mut lanes = self.world.lanes.0.lock();
        let lane = lanes.entry(key).or_insert_with(|| {
            let (letters, waiting) = mpsc::unbounded_channel();
            tokio::spawn(carry(Arc::clone(&self.world), waiting));
            letters
        });
        // A lane lasts as long as the simulation.
        let _ = lane.send(letter);
    }
}

async fn carry(world: Arc<World>, mut letters: mpsc::UnboundedReceiver<Letter>) {
    while let Some(letter) = letters.recv().await {
        tokio::time::sleep_until(letter.due).await;
        deliver(&world, letter).await;
    }
}

/// Hands a request to whoever runs on its node, and sees to it that the answer gets back.
async fn deliver(world: &Arc<World>, letter: Letter) {
    let Letter { from, to, request, payloads, answer, .. } = letter;
    let Some(process) = world.process(to) else { return };
    if world.is_cut(from, to) {
        return lose(world, answer);
    }
    let asked = Asked::of(&request);
    let (reply, answered) = loopback::reply().await;
    process.network.router().serve(Incoming { from, request, payloads, reply });
    let world = Arc::clone(world);
    tokio::spawn(async move {
        let given = tokio::select! {
            biased;
            () = process.dead.cancelled() => return,
            given = answered.get() => given,
        };
        if let Some(asked) = asked {
            asked.answered(&world, from, to, &given);
        }
        tokio::time::sleep(world.draw(|random| random.millis(world.plan.delay_ms.clone()))).await;
        if world.is_cut(to, from) {
            return lose(&world, answer);
        }
        let _ = answer.send(given);
    });
}

/// A request that is seldom, and so is told of in the trace.
enum Asked {
    Vote { voter: ReplicaId, vote: proto::RaftVote, pre: bool },
    Stage { piece: u64, complete: bool },
    Snapshot { staged: bool },
    Transfer,
}

impl Asked {
    fn of(request: &Request) -> Option<Self> {
        let vote = |vote: &proto::Vote, pre| {
            Some(Self::Vote { voter: ReplicaId(vote.replica), vote: vote.vote?, pre })
        };
        match request {
            Request::Vote(asked) => vote(asked, false),
            Request::PreVote(asked) => vote(asked, true),
            Request::Stage(stage) => {
                Some(Self::Stage { piece: stage.piece, complete: stage.complete })
            }
            Request::Snapshot(asked) => Some(Self::Snapshot { staged: asked.staged }),
            Request::Transfer(_) => Some(Self::Transfer),
            _ => None,
        }
    }

    fn answered(&self, world: &World, from: i32, to: i32, given: &Answer) {
        match (self, given) {
            (Self::Vote { voter, vote, pre }, Ok(Response::Voted(voted))) => {
                let proto::RaftVote { term, replica, .. } = *vote;
                let kind = if *pre { "would vote" } else { "votes" };
                world.note(format_args!(
                    "{:#x} {kind} for {replica:#x} in term {term}: {}",
                    voter.0, voted.granted
                ));
                if voted.granted && !pre {
                    world.judge(|oracle| oracle.granted(*voter, term, replica));
                }
            }
            (Self::Stage { piece, complete }, _) => world.note(format_args!(
                "{to} got piece {piece} of {from}, the last: {complete}: {given:?}"
            )),
            (Self::Snapshot { staged }, _) => world.note(format_args!(
                "{to} got a snapshot of {from}, on what is staged: {staged}: {given:?}"
            )),
            (Self::Transfer, _) => world.note(format_args!("{to} is to follow {from}: {given:?}")),
            (Self::Vote { .. }, _) => world.note(format_args!("{to} did not vote: {given:?}")),
        }
    }
}

/// Half of what is lost its sender hears of; for the rest it waits.
fn lose(world: &World, answer: oneshot::Sender<Answer>) {
    if world.draw(|random| random.chance(500)) {
        tokio::spawn(async move {
            let mut answer = answer;
            answer.closed().await;
        });
    }
}
