//! Broker configs about logs, compaction, replication and remote storage.
//!
//! Names, kinds, bounds and change rules are those of Apache Kafka 4.3.0.
//!
//! Not here: which defaults differ from Kafka, and the column meanings (`broker.rs`, `table.rs`).

use crate::configs::table::rows;
use crate::configs::value::{ConfigDef, Kind, Valid};

/// How long the cleaner rests between its rounds.
pub(super) const CLEANER_BACKOFF: &str = "log.cleaner.backoff.ms";
/// How much the cleaner reads and writes in a second.
pub(super) const CLEANER_RATE: &str = "log.cleaner.io.max.bytes.per.second";

pub(super) static ROWS: &[ConfigDef] = rows! {
    "compression.gzip.level" Int "-1" (-1 or 1, 9) rw "Level used when the broker itself compresses with gzip.";
    "compression.lz4.level" Int "9" (1, 17) rw "Level used when the broker itself compresses with lz4.";
    "compression.type" String "producer" (one "uncompressed" "zstd" "lz4" "snappy" "gzip" "producer") rw "Codec of stored batches; producer keeps whatever the producer chose.";
    "compression.zstd.level" Int "3" (-131072, 22) rw "Level used when the broker itself compresses with zstd.";
    "cordoned.log.dirs" List "" () rw "Data directories that get no new partitions.";
    "log.cleaner.backoff.ms" Long "15000" (min 0) rw "Pause of a compaction thread that found nothing to do, in ms.";
    "log.cleaner.dedupe.buffer.size" Long "134217728" () rw "Memory of all compaction threads for finding duplicates, in bytes.";
    "log.cleaner.delete.retention.ms" Long "86400000" (min 0) rw "Time tombstones are kept in compacted topics, in ms.";
    "log.cleaner.enable" Boolean "true" () ro "Whether compaction runs.";
    "log.cleaner.io.buffer.load.factor" Double "0.9" () rw "How full the duplicate buffer may get.";
    "log.cleaner.io.buffer.size" Int "524288" (min 0) rw "Memory of all compaction threads for reading and writing, in bytes.";
    "log.cleaner.io.max.bytes.per.second" Double "1.7976931348623157E308" () rw "Most bytes compaction reads and writes per second.";
    "log.cleaner.max.compaction.lag.ms" Long "9223372036854775807" (min 1) rw "Longest time a record may stay uncompacted, in ms.";
    "log.cleaner.min.cleanable.ratio" Double "0.5" (0, 1) rw "Share of uncompacted data at which compaction starts.";
    "log.cleaner.min.compaction.lag.ms" Long "0" (min 0) rw "Shortest time a record stays uncompacted, in ms.";
    "log.cleaner.threads" Int "1" (min 0) rw "Compaction threads.";
    "log.cleanup.policy" List "delete" (list "compact" "delete") rw "What happens to old records: delete, compact, both or none.";
    "log.dir" List _ () ro "Data directory when log.dirs is not set.";
    "log.dir.failure.timeout.ms" Long "30000" (min 1) ro "Wait for the controller to learn of a failed directory before stopping, in ms.";
    "log.dirs" List _ () ro "Data directories.";
    "log.flush.interval.messages" Long "9223372036854775807" (min 1) rw "Messages after which a partition is synced to disk.";
    "log.flush.interval.ms" Long _ () rw "Longest time a message stays unsynced, in ms.";
    "log.flush.offset.checkpoint.interval.ms" Int "60000" (min 0) ro "Time between records of the synced offset, in ms.";
    "log.flush.scheduler.interval.ms" Long "9223372036854775807" () ro "Time between checks whether a partition needs a sync, in ms.";
    "log.flush.start.offset.checkpoint.interval.ms" Int "60000" (min 0) ro "Time between records of the log start offset, in ms.";
    "log.index.interval.bytes" Int "4096" (min 0) rw "Bytes between two entries of the offset index.";
    "log.index.size.max.bytes" Int "10485760" (min 4) rw "Largest offset index of a segment.";
    "log.local.retention.bytes" Long "-2" (min -2) rw "Bytes kept locally when there is remote storage; -2 means as log.retention.bytes.";
    "log.local.retention.ms" Long "-2" (min -2) rw "Time kept locally when there is remote storage, in ms; -2 means as log.retention.ms.";
    "log.message.timestamp.after.max.ms" Long "3600000" (min 0) rw "How far a timestamp may lie in the broker's future, in ms.";
    "log.message.timestamp.before.max.ms" Long "9223372036854775807" (min 0) rw "How far a timestamp may lie in the broker's past, in ms.";
    "log.message.timestamp.type" String "CreateTime" (one "CreateTime" "LogAppendTime") rw "Whether records carry the producer's time or the broker's.";
    "log.preallocate" Boolean "false" () rw "Whether segment files are allocated in advance.";
    "log.retention.bytes" Long "-1" () rw "Bytes kept per partition; -1 means no limit.";
    "log.retention.check.interval.ms" Long "300000" (min 1) ro "Time between searches for records to delete, in ms.";
    "log.retention.hours" Int "168" () ro "Time records are kept, in hours, unless minutes or ms are set.";
    "log.retention.minutes" Int _ () ro "Time records are kept, in minutes, unless ms is set.";
    "log.retention.ms" Long _ () rw "Time records are kept, in ms; -1 means for ever.";
    "log.roll.hours" Int "168" (min 1) ro "Age at which a segment is closed, in hours.";
    "log.roll.jitter.hours" Int "0" (min 0) ro "Random part taken off the segment age, in hours.";
    "log.roll.jitter.ms" Long _ () rw "Random part taken off the segment age, in ms.";
    "log.roll.ms" Long _ () rw "Age at which a segment is closed, in ms.";
    "log.segment.bytes" Int "1073741824" (min 1048576) rw "Size at which a segment is closed.";
    "log.segment.delete.delay.ms" Long "60000" (min 0) rw "Wait before the file of a deleted segment is removed, in ms.";
    "message.max.bytes" Int "1048588" (min 0) rw "Largest record batch that is accepted.";
    "min.insync.replicas" Int "1" (min 1) rw "Replicas that must hold a write before acks=all succeeds.";
    "num.recovery.threads.per.data.dir" Int "2" (min 1) rw "Threads per directory for loading logs at start.";
    "num.replica.alter.log.dirs.threads" Int _ () ro "Threads that move replicas between directories.";
    "num.replica.fetchers" Int "1" (min 1) rw "Threads that fetch from one leader.";
    "remote.fetch.max.wait.ms" Int "500" (min 1) rw "Longest wait for a read from remote storage, in ms.";
    "remote.list.offsets.request.timeout.ms" Long "30000" (min 1) rw "Longest wait for an offset lookup in remote storage, in ms.";
    "remote.log.index.file.cache.total.size.bytes" Long "1073741824" (min 1) rw "Disk space for cached remote indexes.";
    "remote.log.manager.copier.thread.pool.size" Int "10" (min 1) rw "Threads that copy segments to remote storage.";
    "remote.log.manager.copy.max.bytes.per.second" Long "9223372036854775807" (min 1) rw "Most bytes copied to remote storage per second.";
    "remote.log.manager.copy.quota.window.num" Int "11" (min 1) ro "Samples kept to compute the remote copy quota.";
    "remote.log.manager.copy.quota.window.size.seconds" Int "1" (min 1) ro "Length of one sample of the remote copy quota, in s.";
    "remote.log.manager.expiration.thread.pool.size" Int "10" (min 1) rw "Threads that delete expired remote segments.";
    "remote.log.manager.fetch.max.bytes.per.second" Long "9223372036854775807" (min 1) rw "Most bytes read from remote storage per second.";
    "remote.log.manager.fetch.quota.window.num" Int "11" (min 1) ro "Samples kept to compute the remote fetch quota.";
    "remote.log.manager.fetch.quota.window.size.seconds" Int "1" (min 1) ro "Length of one sample of the remote fetch quota, in s.";
    "remote.log.manager.follower.thread.pool.size" Int "2" (min 1) rw "Threads that follow remote metadata on followers.";
    "remote.log.manager.task.interval.ms" Long "30000" (min 1) ro "Time between runs of the remote storage tasks, in ms.";
    "remote.log.manager.thread.pool.size" Int "2" (min 1) ro "Threads of the remote storage manager.";
    "remote.log.metadata.custom.metadata.max.bytes" Int "128" (min 0) ro "Largest custom metadata of a remote segment.";
    "remote.log.metadata.manager.class.name" String _ () ro "Plug-in that keeps the metadata of remote storage.";
    "remote.log.metadata.manager.class.path" String _ () ro "Class path of the remote metadata plug-in.";
    "remote.log.metadata.manager.impl.prefix" String "rlmm.config." () ro "Prefix of the configs passed to the remote metadata plug-in.";
    "remote.log.metadata.manager.listener.name" String _ () ro "Listener the remote metadata plug-in connects to.";
    "remote.log.reader.max.pending.tasks" Int "100" (min 1) ro "Most waiting reads of remote storage.";
    "remote.log.reader.threads" Int "10" (min 1) rw "Threads that read remote storage.";
    "remote.log.storage.manager.class.name" String _ () ro "Plug-in that stores remote segments.";
    "remote.log.storage.manager.class.path" String _ () ro "Class path of the remote storage plug-in.";
    "remote.log.storage.manager.impl.prefix" String "rsm.config." () ro "Prefix of the configs passed to the remote storage plug-in.";
    "remote.log.storage.system.enable" Boolean "false" () ro "Whether tiered storage is available at all.";
    "replica.fetch.backoff.ms" Int "1000" (min 0) ro "Wait after a failed replica fetch, in ms.";
    "replica.fetch.max.bytes" Int "1048576" (min 0) ro "Bytes a follower asks for per partition.";
    "replica.fetch.min.bytes" Int "1" () ro "Fewest bytes a follower waits for.";
    "replica.fetch.response.max.bytes" Int "10485760" (min 0) ro "Bytes a follower asks for in all.";
    "replica.fetch.wait.max.ms" Int "500" () ro "Longest wait of a follower's fetch, in ms.";
    "replica.high.watermark.checkpoint.interval.ms" Long "5000" () ro "Time between records of the high watermark, in ms.";
    "replica.lag.time.max.ms" Long "30000" () ro "Lag after which a follower leaves the in-sync set, in ms.";
    "replica.selector.class" String _ () ro "Plug-in that picks the replica a consumer reads from.";
    "replica.socket.receive.buffer.bytes" Int "65536" () ro "Socket receive buffer of replica fetchers.";
    "replica.socket.timeout.ms" Int "30000" () ro "Socket timeout of replica fetchers, in ms.";
    "replication.quota.window.num" Int "11" (min 1) ro "Samples kept to compute the replication quota.";
    "replication.quota.window.size.seconds" Int "1" (min 1) ro "Length of one sample of the replication quota, in s.";
    "unclean.leader.election.enable" Boolean "false" () rw "Whether a replica that misses writes may become leader and lose them.";
};
