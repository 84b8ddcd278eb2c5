//! The one task that sends what the queues hold: finds leaders, connects, keeps requests in flight,
//! and files their answers.
//!
//! Invariant: a request is submitted inside [`Sender::drive`], so batches of a partition go out in order.
//! Everything that takes time runs in tasks of its own and comes back as an [`Event`].

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_protocol::messages::{InitProducerIdRequest, ProduceResponse};
use tokio::sync::mpsc;

use super::outgoing::Outcome;
use super::queue::{Answer, Due, Lease, Limits};
use super::request::{Load, Sent, failed, read_answer};
use super::{Shared, add};
use crate::batch::{Identity, Sealed};
use crate::client::millis;
use crate::cluster::{BrokerId, Cluster, Lane, Scope};
use crate::metrics::Count;
use crate::{Error, Result};

/// Time that the network may add to what the broker is allowed for one Produce.
const GRACE: Duration = Duration::from_secs(5);

pub(super) struct Sender {
    shared: Arc<Shared>,
    events: mpsc::UnboundedReceiver<Event>,
    notify: mpsc::UnboundedSender<Event>,
    brokers: HashMap<BrokerId, Broker>,
    lease: Option<Lease>,
    generation: u64,
    identifying: Attempts,
    refreshing: Attempts,
    stale: BTreeSet<Arc<str>>,
    turn: usize,
}

/// How something that may fail and is done one at a time stands.
#[derive(Debug, Default)]
struct Attempts {
    running: bool,
    failures: u32,
    not_before: Option<Instant>,
}

#[derive(Debug, Default)]
struct Broker {
    in_flight: usize,
    connecting: Attempts,
}

enum Event {
    Sealed { index: usize, id: u64, result: Result<Sealed> },
    Produced { broker: BrokerId, batches: Vec<Sent>, result: Result<ProduceResponse> },
    Connected { broker: BrokerId, result: Result<()> },
    Identified(Result<Identity>),
    Refreshed(Result<()>),
}

impl Attempts {
    /// Whether it may be started now; otherwise `wake` is set to when it may be.
    fn start(&mut self, now: Instant, wake: &mut Option<Instant>) -> bool {
        if self.running {
            return false;
        }
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            sooner(wake, at);
            return false;
        }
        self.running = true;
        true
    }

    fn ended(&mut self, worked: bool, cluster: &Cluster) {
        self.running = false;
        self.failures = if worked { 0 } else { self.failures + 1 };
        let pause = || Instant::now() + cluster.config.backoff(self.failures);
        self.not_before = (!worked).then(pause);
    }
}

fn sooner(wake: &mut Option<Instant>, at: Instant) {
    *wake = Some(wake.map_or(at, |wake| wake.min(at)));
}

impl Sender {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let (notify, events) = mpsc::unbounded_channel();
        let lease = Lease { identity: Identity::NONE, generation: u64::MAX };
        Self {
            lease: (!shared.config.idempotent).then_some(lease),
            shared,
            events,
            notify,
            brokers: HashMap::new(),
            generation: 0,
            identifying: Attempts::default(),
            refreshing: Attempts::default(),
            stale: BTreeSet::new(),
            turn: 0,
        }
    }

    /// Sends until the producer is closed and everything is answered.
    pub(super) async fn run(mut self) {
        loop {
            let wake = self.drive(Instant::now());
            if self.shared.queues().is_drained() {
                return;
            }
            let sleep = async {
                match wake {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                event = self.events.recv() => {
                    let Some(event) = event else { return };
                    self.handle(event);
                    while let Ok(event) = self.events.try_recv() {
                        self.handle(event);
                    }
                }
                () = self.shared.wake.notified() => {}
                () = sleep => {}
            }
        }
    }

    /// Sends what is due and can be sent. Returns when to come back if nothing happens before.
    fn drive(&mut self, now: Instant) -> Option<Instant> {
        let mut outcome = Outcome::default();
        let mut wake = self.expire(now, &mut outcome);
        loop {
            let (loads, full) = self.collect(now, &mut wake, &mut outcome);
            self.compress();
            let none = loads.is_empty();
            for (broker, load) in loads {
                self.send(broker, load);
            }
            if !full || none {
                break;
            }
        }
        self.refresh_stale(now, &mut wake);
        self.settle(&outcome);
        wake
    }

    /// Has closed batches compressed, each on a thread for such work, while others are sent.
    fn compress(&self) {
        for job in self.shared.queues().take_jobs() {
            let config = &self.shared.config;
            let (codec, level) = (config.compression, config.compression_level);
            let notify = self.notify.clone();
            tokio::task::spawn_blocking(move || {
                let span = tracing::debug_span!("seal", ?codec, records = job.builder.count());
                let result = span.in_scope(|| job.builder.seal(codec, level));
                let _ = notify.send(Event::Sealed { index: job.index, id: job.id, result });
            });
        }
    }

    fn expire(&self, now: Instant, outcome: &mut Outcome) -> Option<Instant> {
        let backoff = |failures| self.shared.cluster.config.backoff(failures);
        let limits = self.limits(now, &backoff);
        self.shared.queues().expire(&limits, outcome)
    }

    fn limits<'a>(&self, now: Instant, backoff: &'a dyn Fn(u32) -> Duration) -> Limits<'a> {
        Limits { now, delivery_timeout: self.shared.config.delivery_timeout, backoff }
    }

    /// Takes at most one batch of each partition. True if a request became full.
    fn collect(
        &mut self,
        now: Instant,
        wake: &mut Option<Instant>,
        outcome: &mut Outcome,
    ) -> (HashMap<BrokerId, Load>, bool) {
        let shared = Arc::clone(&self.shared);
        let mut queues = shared.queues();
        let count = queues.all.len();
        let mut loads: HashMap<BrokerId, Load> = HashMap::new();
        let mut full = false;
        self.turn = self.turn.wrapping_add(1);
        for step in 0..count {
            let index = (self.turn % count + step) % count;
            let (bytes, generation) = match queues.due(index, now) {
                Due::Never => continue,
                Due::At(at) => {
                    sooner(wake, at);
                    continue;
                }
                Due::Now { bytes, generation } => (bytes, generation),
            };
            let Some(lease) = self.lease_from(generation, now, wake) else { continue };
            let queue = &queues.all[index];
            let (topic, partition) = (Arc::clone(&queue.topic), queue.partition);
            let Some(broker) = shared.cluster.leader(&topic, partition) else {
                self.stale.insert(topic);
                continue;
            };
            let Some(load) = self.load_for(broker, &mut loads, now, wake) else { continue };
            if !load.batches.is_empty() && load.bytes + bytes > shared.config.request_bytes_max {
                full = true;
                continue;
            }
            if let Some(taken) = queues.take(index, broker, lease, outcome) {
                if taken.repeated {
                    add(&shared.counters.retries, 1);
                    shared.cluster.config.metrics.count(Count::ProduceRetries, 1);
                }
                load.add(topic, partition, index, taken);
            }
        }
        loads.retain(|_, load| !load.batches.is_empty());
        (loads, full)
    }

    /// The identity to send under, if there is one of at least `generation`.
    fn lease_from(
        &mut self,
        generation: u64,
        now: Instant,
        wake: &mut Option<Instant>,
    ) -> Option<Lease> {
        if let Some(lease) = self.lease.filter(|lease| lease.generation >= generation) {
            return Some(lease);
        }
        if self.identifying.start(now, wake) {
            let (cluster, notify) = (Arc::clone(&self.shared.cluster), self.notify.clone());
            tokio::spawn(async move {
                let _ = notify.send(Event::Identified(identify(&cluster).await));
            });
        }
        None
    }

    /// The request being filled for a broker, if it is connected and may be sent another one.
    fn load_for<'a>(
        &mut self,
        id: BrokerId,
        loads: &'a mut HashMap<BrokerId, Load>,
        now: Instant,
        wake: &mut Option<Instant>,
    ) -> Option<&'a mut Load> {
        let broker = self.brokers.entry(id).or_default();
        if broker.in_flight >= self.shared.config.in_flight_max {
            return None;
        }
        if let std::collections::hash_map::Entry::Vacant(vacant) = loads.entry(id) {
            let Some(connection) = self.shared.cluster.open_connection(id, Lane::Quick) else {
                if broker.connecting.start(now, wake) {
                    let (cluster, notify) = (Arc::clone(&self.shared.cluster), self.notify.clone());
                    tokio::spawn(async move {
                        let result = cluster.connection(id).await.map(|_| ());
                        let _ = notify.send(Event::Connected { broker: id, result });
                    });
                }
                return None;
            };
            vacant.insert(Load::new(connection));
        }
        loads.get_mut(&id)
    }

    fn send(&mut self, broker: BrokerId, load: Load) {
        let timeout_ms = millis(self.shared.cluster.config.request_timeout);
        let (pending, batches) = load.submit(timeout_ms, GRACE);
        self.brokers.entry(broker).or_default().in_flight += 1;
        let notify = self.notify.clone();
        tokio::spawn(async move {
            let result = match pending {
                Ok(pending) => pending.answer().await,
                Err(error) => Err(error),
            };
            let _ = notify.send(Event::Produced { broker, batches, result });
        });
    }

    fn refresh_stale(&mut self, now: Instant, wake: &mut Option<Instant>) {
        if self.stale.is_empty() || !self.refreshing.start(now, wake) {
            return;
        }
        let topics = std::mem::take(&mut self.stale);
        let (cluster, notify) = (Arc::clone(&self.shared.cluster), self.notify.clone());
        tokio::spawn(async move {
            let mut result = Ok(());
            for topic in topics {
                result = cluster.refresh(Scope::OrCreate(&topic)).await.and(result);
            }
            let _ = notify.send(Event::Refreshed(result));
        });
    }

    fn handle(&mut self, event: Event) {
        let cluster = Arc::clone(&self.shared.cluster);
        match event {
            Event::Connected { broker, result } => {
                if let Err(error) = &result {
                    tracing::warn!(broker = broker.0, %error, "cannot connect, will try again");
                    self.mark_all_stale(broker);
                }
                let broker = self.brokers.entry(broker).or_default();
                broker.connecting.ended(result.is_ok(), &cluster);
            }
            Event::Identified(result) => {
                if let Err(error) = &result {
                    tracing::warn!(%error, "no producer id, will try again");
                }
                self.identifying.ended(result.is_ok(), &cluster);
                if let Ok(identity) = result {
                    self.generation += 1;
                    self.lease = Some(Lease { identity, generation: self.generation });
                }
            }
            Event::Refreshed(result) => {
                self.refreshing.ended(result.is_ok(), &cluster);
                self.learn_growth();
            }
            Event::Sealed { index, id, result } => {
                let mut outcome = Outcome::default();
                self.shared.queues().sealed(index, id, result, &mut outcome);
                self.settle(&outcome);
            }
            Event::Produced { broker, batches, result } => {
                let broker_state = self.brokers.entry(broker).or_default();
                broker_state.in_flight = broker_state.in_flight.saturating_sub(1);
                self.produced(&batches, result);
            }
        }
    }

    /// The leader of these partitions may be elsewhere by now.
    fn mark_all_stale(&mut self, broker: BrokerId) {
        let shared = Arc::clone(&self.shared);
        let queues = shared.queues();
        let topics = queues
            .all
            .iter()
            .filter(|queue| shared.cluster.leader(&queue.topic, queue.partition) == Some(broker));
        self.stale.extend(topics.map(|queue| Arc::clone(&queue.topic)));
    }

    /// Topics may have got more partitions.
    fn learn_growth(&self) {
        let mut queues = self.shared.queues();
        for topic in queues.topics() {
            if let Some(known) = self.shared.cluster.cached(&topic) {
                queues.learn(&topic, known.partitions.len());
            }
        }
    }

    /// Files the answer to one request.
    fn produced(&mut self, batches: &[Sent], result: Result<ProduceResponse>) {
        if let Err(error) = &result {
            tracing::warn!(%error, batches = batches.len(), "a produce request failed");
        }
        let shared = Arc::clone(&self.shared);
        let mut queues = shared.queues();
        let backoff = |failures| shared.cluster.config.backoff(failures);
        let mut outcome = Outcome::default();
        for (index, id) in batches {
            let Some(queue) = queues.all.get(*index) else { continue };
            let topic = Arc::clone(&queue.topic);
            let answer = match &result {
                Ok(response) => read_answer(response, &topic, queue.partition),
                Err(error) => failed(error.clone()),
            };
            if !matches!(answer, Answer::Acknowledged(_)) {
                self.stale.insert(topic);
            }
            let limits = self.limits(Instant::now(), &backoff);
            queues.answer(*index, *id, answer, &limits, &mut outcome);
        }
        drop(queues);
        self.settle(&outcome);
    }

    /// Counts what has ended and gives its bytes back.
    fn settle(&self, outcome: &Outcome) {
        if outcome.delivered + outcome.failed == 0 {
            return;
        }
        let counters = &self.shared.counters;
        add(&counters.records, outcome.delivered);
        add(&counters.batches, outcome.batches);
        add(&counters.bytes, outcome.bytes);
        add(&counters.failed, outcome.failed);
        let metrics = &self.shared.cluster.config.metrics;
        for (what, by) in [
            (Count::RecordsProduced, outcome.delivered),
            (Count::BatchesProduced, outcome.batches),
            (Count::BytesProduced, outcome.bytes),
            (Count::RecordsGivenUp, outcome.failed),
        ] {
            if by > 0 {
                metrics.count(what, by as u64);
            }
        }
        outcome.took.iter().for_each(|took| metrics.delivered(*took));
        self.shared.budget.add_permits(outcome.released);
        self.shared.settled.notify_waiters();
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.shared.budget.close();
        let mut queues = self.shared.queues();
        let lost = queues.unanswered();
        if lost > 0 {
            tracing::error!(
                records = lost,
                "the runtime ended before these records were acknowledged"
            );
        }
        queues.close();
        drop(queues);
        self.shared.settled.notify_waiters();
    }
}

async fn identify(cluster: &Cluster) -> Result<Identity> {
    let request = InitProducerIdRequest::default()
        .with_transactional_id(None)
        .with_transaction_timeout_ms(i32::MAX)
        .with_producer_id((-1).into())
        .with_producer_epoch(-1);
    let answer = cluster.any().await?.call(&request).await?;
    Error::check(answer.error_code, None, || "a producer id")?;
    Ok(Identity { producer_id: answer.producer_id.0, epoch: answer.producer_epoch })
}
