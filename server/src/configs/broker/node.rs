//! Broker configs about the node itself, its controller, quotas and requests.
//!
//! Names, kinds, bounds and change rules are those of Apache Kafka 4.3.0.
//!
//! Not here: which defaults differ from Kafka, and the column meanings (`broker.rs`, `table.rs`).

use crate::configs::table::rows;
use crate::configs::value::{ConfigDef, Kind, Valid};

pub(super) static ROWS: &[ConfigDef] = rows! {
    "alter.log.dirs.replication.quota.window.num" Int "11" (min 1) ro "Samples kept to compute the directory move quota.";
    "alter.log.dirs.replication.quota.window.size.seconds" Int "1" (min 1) ro "Length of one sample of the directory move quota, in s.";
    "auto.create.topics.enable" Boolean "true" () ro "Whether a topic is created when a client first asks for it.";
    "auto.leader.rebalance.enable" Boolean "true" () ro "Whether leadership moves back to preferred replicas by itself.";
    "background.threads" Int "10" (min 1) rw "Threads for background work.";
    "broker.heartbeat.interval.ms" Int "2000" () ro "Time between heartbeats of a broker to the controller, in ms.";
    "broker.id" Int "-1" () ro "Id of this node, under its older name.";
    "broker.rack" String _ () ro "Rack or zone of this node, used to spread replicas.";
    "broker.session.timeout.ms" Int "9000" () ro "Silence after which the controller fences a broker, in ms.";
    "config.providers" List "" () rw "Names of plug-ins that resolve indirect config values.";
    "controlled.shutdown.enable" Boolean "true" () ro "Whether leadership is handed over before a stop.";
    "controller.listener.names" List _ () ro "Listeners that the controller uses.";
    "controller.quorum.append.linger.ms" Int "25" (min 0) ro "Time a controller leader collects writes before syncing them, in ms.";
    "controller.quorum.auto.join.enable" Boolean "false" () ro "Whether a controller joins the voters by itself.";
    "controller.quorum.bootstrap.servers" List "" () ro "Addresses at which the controller quorum is found.";
    "controller.quorum.election.backoff.max.ms" Int "1000" (min 0) ro "Longest wait before a new election is started, in ms.";
    "controller.quorum.election.timeout.ms" Int "1000" (min 0) ro "Time without a leader after which an election starts, in ms.";
    "controller.quorum.fetch.max.bytes" Int "1048576" (min 1) ro "Most bytes of one fetch of the metadata log.";
    "controller.quorum.fetch.snapshot.max.bytes" Int "1048576" (min 1) ro "Most bytes of one piece of a metadata snapshot.";
    "controller.quorum.fetch.timeout.ms" Int "2000" (min 0) ro "Time without a successful fetch after which a follower becomes a candidate, in ms.";
    "controller.quorum.request.timeout.ms" Int "2000" (min 0) ro "Wait for the answer to a quorum request, in ms.";
    "controller.quorum.retry.backoff.ms" Int "20" (min 0) ro "Wait before a failed quorum request is tried again, in ms.";
    "controller.quorum.voters" List "" () ro "Voters of the controller quorum as id@host:port.";
    "controller.quota.window.num" Int "11" (min 1) ro "Samples kept to compute the controller quota.";
    "controller.quota.window.size.seconds" Int "1" (min 1) ro "Length of one sample of the controller quota, in s.";
    "controller.socket.timeout.ms" Int "30000" () ro "Socket timeout towards the controller, in ms.";
    "default.replication.factor" Int "1" () ro "Replication factor of topics created without one.";
    "delete.records.purgatory.purge.interval.requests" Int "1" () ro "Finished DeleteRecords waits kept before they are purged.";
    "delete.topic.enable" Boolean "true" () ro "Whether topics may be deleted.";
    "fetch.max.bytes" Int "57671680" (min 1024) ro "Most bytes the broker returns for one fetch.";
    "fetch.purgatory.purge.interval.requests" Int "1000" () ro "Finished Fetch waits kept before they are purged.";
    "follower.fetch.last.tiered.offset.enable" Boolean "false" () rw "Whether a new follower starts at the last offset in remote storage.";
    "initial.broker.registration.timeout.ms" Int "60000" () ro "Wait for the first registration with the controller, in ms.";
    "kafka.metrics.polling.interval.secs" Int "10" (min 1) ro "Time between two reports of the metrics reporters, in s.";
    "kafka.metrics.reporters" List "" () ro "Older metrics reporter plug-ins.";
    "leader.imbalance.check.interval.seconds" Long "300" (min 1) ro "Time between checks of the leader balance, in s.";
    "max.incremental.fetch.session.cache.slots" Int "1000" (min 0) ro "Most fetch sessions kept.";
    "max.request.partition.size.limit" Int "2000" (min 1) ro "Most partitions in one answer to DescribeTopicPartitions.";
    "metadata.log.dir" String _ () ro "Directory of the metadata log.";
    "metadata.log.max.record.bytes.between.snapshots" Long "20971520" (min 1) ro "Bytes of metadata log after which a snapshot is made.";
    "metadata.log.max.snapshot.interval.ms" Long "3600000" (min 0) ro "Longest time between metadata snapshots, in ms.";
    "metadata.log.segment.bytes" Int "1073741824" (min 8388608) ro "Size at which a metadata segment is closed.";
    "metadata.log.segment.ms" Long "604800000" () ro "Age at which a metadata segment is closed, in ms.";
    "metadata.max.idle.interval.ms" Int "500" (min 0) ro "Time between no-op records in an idle metadata log, in ms.";
    "metadata.max.retention.bytes" Long "104857600" () ro "Bytes of metadata log and snapshots kept.";
    "metadata.max.retention.ms" Long "604800000" () ro "Time metadata log and snapshots are kept, in ms.";
    "metric.reporters" List "" () rw "Metrics reporter plug-ins.";
    "metrics.num.samples" Int "2" (min 1) ro "Samples kept to compute a metric.";
    "metrics.recording.level" String "INFO" () ro "Detail of the recorded metrics.";
    "metrics.sample.window.ms" Long "30000" (min 1) ro "Length of one metrics sample, in ms.";
    "node.id" Int _ (min 0) ro "Id of this node.";
    "num.io.threads" Int "8" (min 1) rw "Threads that handle requests.";
    "num.network.threads" Int "3" (min 1) rw "Threads that read and write sockets.";
    "num.partitions" Int "1" (min 1) ro "Partitions of topics created without a number.";
    "process.roles" List _ (list "broker" "controller") ro "Roles of this process: broker, controller or both.";
    "producer.purgatory.purge.interval.requests" Int "1000" () ro "Finished Produce waits kept before they are purged.";
    "queued.max.request.bytes" Long "-1" () ro "Most bytes of waiting requests; -1 means no limit.";
    "queued.max.requests" Int "500" (min 1) ro "Most waiting requests.";
    "quota.window.num" Int "11" (min 1) ro "Samples kept to compute the client quota.";
    "quota.window.size.seconds" Int "1" (min 1) ro "Length of one sample of the client quota, in s.";
    "request.timeout.ms" Int "30000" () ro "Wait for an answer before a request is tried again, in ms.";
    "telemetry.max.bytes" Int "1048576" (min 1) ro "Largest client metrics message.";
};
