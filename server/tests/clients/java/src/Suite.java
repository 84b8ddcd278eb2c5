// The official Java client: producer, consumer (by assign) and AdminClient; groups are in Groups.java.
//
// Usage: Suite BOOTSTRAP [PATTERN]. One line per test; exits non-zero when one failed.

import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.Set;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Future;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.AlterConfigsOptions;
import org.apache.kafka.clients.admin.Config;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.DescribeClusterResult;
import org.apache.kafka.clients.admin.ListOffsetsResult;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.OffsetSpec;
import org.apache.kafka.clients.admin.TopicDescription;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetOutOfRangeException;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.errors.InvalidConfigurationException;
import org.apache.kafka.common.errors.InvalidPartitionsException;
import org.apache.kafka.common.errors.InvalidReplicationFactorException;
import org.apache.kafka.common.errors.InvalidRequestException;
import org.apache.kafka.common.errors.InvalidTopicException;
import org.apache.kafka.common.errors.RecordTooLargeException;
import org.apache.kafka.common.errors.TimeoutException;
import org.apache.kafka.common.errors.TopicExistsException;
import org.apache.kafka.common.errors.UnknownTopicOrPartitionException;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

public final class Suite {
    interface Body { void run() throws Exception; }

    static final Random RANDOM = new Random();
    static final String RUN = Integer.toHexString(RANDOM.nextInt());
    static String bootstrap;
    static String pattern = "";
    static int failed = 0;
    static Admin admin;

    public static void main(String[] args) {
        bootstrap = args.length > 0 ? args[0] : System.getenv("BOOTSTRAP");
        pattern = args.length > 1 ? args[1] : "";
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        producerTests();
        consumerTests();
        topicTests();
        describeTests();
        Groups.tests();
        ConsumerGroups.tests();
        admin.close(Duration.ofSeconds(5));
        System.exit(failed == 0 ? 0 : 1);
    }

    static void test(String name, Body body) {
        if (!name.contains(pattern)) {
            return;
        }
        try {
            body.run();
            System.out.println("ok " + name);
        } catch (Throwable why) {
            failed++;
            System.out.println("FAIL " + name + ": " + why.toString().replace('\n', ' '));
        }
    }

    static void equal(Object got, Object want, String what) {
        if (!java.util.Objects.deepEquals(got, want)) {
            throw new AssertionError(what + ": got " + got + ", want " + want);
        }
    }

    static void isTrue(boolean condition, String what) {
        equal(condition, true, what);
    }

    static void fails(Class<? extends Throwable> want, String what, Callable<?> action) throws Exception {
        try {
            Object got = action.call();
            throw new AssertionError(what + " was not refused: " + got);
        } catch (ExecutionException error) {
            equal(error.getCause().getClass(), want, what);
        }
    }

    static String topicName(String name) {
        return "java-" + name + "-" + RUN + "-" + Integer.toHexString(RANDOM.nextInt());
    }

    static String newTopic(String name, int partitions, Map<String, String> configs) throws Exception {
        String topic = topicName(name);
        admin.createTopics(List.of(new NewTopic(topic, partitions, (short) 1).configs(configs))).all().get();
        awaitTopic(topic, partitions);
        return topic;
    }

    static String newTopic(String name, int partitions) throws Exception {
        return newTopic(name, partitions, Map.of());
    }

    static void awaitTopic(String topic, int partitions) throws Exception {
        await("leaders of " + topic, () -> {
            try {
                TopicDescription found = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
                return found.partitions().size() == partitions
                    && found.partitions().stream().allMatch(p -> p.leader() != null && !p.leader().isEmpty());
            } catch (ExecutionException notYet) {
                return false;
            }
        });
        // Kafka names a leader a little earlier than that leader serves: this one retries until it does.
        Map<TopicPartition, OffsetSpec> all = new HashMap<>();
        for (int p = 0; p < partitions; p++) {
            all.put(new TopicPartition(topic, p), OffsetSpec.latest());
        }
        admin.listOffsets(all).all().get();
    }

    static void await(String what, Callable<Boolean> condition) throws Exception {
        long end = System.nanoTime() + 30_000_000_000L;
        while (!condition.call()) {
            isTrue(System.nanoTime() < end, "in time: " + what);
            Thread.sleep(20);
        }
    }

    static KafkaProducer<byte[], byte[]> producer(Object... settings) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap, "max.block.ms", 30000,
            "linger.ms", 50, "delivery.timeout.ms", 60000));
        for (int i = 0; i < settings.length; i += 2) {
            config.put((String) settings[i], settings[i + 1]);
        }
        return new KafkaProducer<>(config, new ByteArraySerializer(), new ByteArraySerializer());
    }

    static KafkaConsumer<byte[], byte[]> consumer(Object... settings) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", bootstrap,
            "enable.auto.commit", false, "auto.offset.reset", "earliest"));
        for (int i = 0; i < settings.length; i += 2) {
            config.put((String) settings[i], settings[i + 1]);
        }
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static byte[] bytes(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static List<ProducerRecord<byte[], byte[]>> oddRecords(String topic, int count) {
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = 0; i < count; i++) {
            byte[] key = i % 5 == 1 ? null : bytes("key-" + i);
            byte[] value = i % 5 == 2 ? null : new byte[i % 5 == 3 ? 0 : i % 300];
            if (value != null) {
                Arrays.fill(value, (byte) i);
            }
            ProducerRecord<byte[], byte[]> record = new ProducerRecord<>(topic, 0, key, value);
            if (i % 5 == 4) {
                record.headers().add("h", bytes("v")).add("h", null).add("", new byte[0]);
            }
            records.add(record);
        }
        return records;
    }

    static void sendAll(List<ProducerRecord<byte[], byte[]>> records, Object... settings) throws Exception {
        try (KafkaProducer<byte[], byte[]> producer = producer(settings)) {
            List<Future<RecordMetadata>> sent = new ArrayList<>();
            records.forEach(r -> sent.add(producer.send(r)));
            for (Future<RecordMetadata> f : sent) {
                f.get();
            }
        }
    }

    static void readBack(List<ProducerRecord<byte[], byte[]>> want, int from) {
        TopicPartition partition = new TopicPartition(want.get(0).topic(), 0);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
            consumer.assign(List.of(partition));
            consumer.seek(partition, from);
            int next = from;
            long end = System.nanoTime() + 60_000_000_000L;
            while (next < want.size()) {
                isTrue(System.nanoTime() < end, "read in time, at " + next);
                for (ConsumerRecord<byte[], byte[]> got : consumer.poll(Duration.ofMillis(500))) {
                    sameRecord(got, want.get(next), next);
                    next++;
                }
            }
        }
    }

    static void sameRecord(ConsumerRecord<byte[], byte[]> got, ProducerRecord<byte[], byte[]> want, long offset) {
        equal(got.offset(), offset, "offset");
        equal(got.key(), want.key(), "key of " + offset);
        equal(got.value(), want.value(), "value of " + offset);
        Header[] gotHeaders = got.headers().toArray();
        Header[] wantHeaders = want.headers().toArray();
        equal(gotHeaders.length, wantHeaders.length, "headers of " + offset);
        for (int i = 0; i < gotHeaders.length; i++) {
            equal(gotHeaders[i].key(), wantHeaders[i].key(), "header key of " + offset);
            equal(gotHeaders[i].value(), wantHeaders[i].value(), "header value of " + offset);
        }
    }

    static void roundTrip(Object... settings) throws Exception {
        List<ProducerRecord<byte[], byte[]>> records = oddRecords(newTopic("round", 1), 1000);
        sendAll(records, settings);
        readBack(records, 0);
    }

    static void producerTests() {
        for (String codec : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            test("codec-" + codec, () -> roundTrip("compression.type", codec));
        }
        for (String acks : List.of("0", "1", "all")) {
            test("acks-" + acks, () -> roundTrip("acks", acks, "enable.idempotence", false));
        }
        test("idempotence", () -> roundTrip("enable.idempotence", true, "acks", "all"));
        test("large-and-too-large", Suite::large);
        test("auto-create", () -> {
            List<ProducerRecord<byte[], byte[]>> records = oddRecords(topicName("auto"), 20);
            sendAll(records);
            readBack(records, 0);
        });
        test("unknown-partition", () -> {
            String topic = newTopic("unknown-partition", 2);
            try (KafkaProducer<byte[], byte[]> producer = producer("max.block.ms", 2000)) {
                fails(TimeoutException.class, "partition 7 of 2",
                    () -> producer.send(new ProducerRecord<>(topic, 7, null, bytes("x"))).get());
            }
        });
        test("bad-topic-name", () -> {
            try (KafkaProducer<byte[], byte[]> producer = producer()) {
                fails(InvalidTopicException.class, "a/b",
                    () -> producer.send(new ProducerRecord<>("a/b", bytes("x"))).get());
            }
        });
    }

    static void large() throws Exception {
        String topic = newTopic("large", 1);
        ProducerRecord<byte[], byte[]> fits = new ProducerRecord<>(topic, 0, null, new byte[1_000_000]);
        ProducerRecord<byte[], byte[]> after = new ProducerRecord<>(topic, 0, null, bytes("after"));
        try (KafkaProducer<byte[], byte[]> producer =
                 producer("max.request.size", 4_000_000, "buffer.memory", 8_000_000)) {
            producer.send(fits).get();
            fails(RecordTooLargeException.class, "2 MB",
                () -> producer.send(new ProducerRecord<>(topic, 0, null, new byte[2_000_000])).get());
            producer.send(after).get();
        }
        readBack(List.of(fits, after), 0);
    }

    static void consumerTests() {
        test("middle-of-batch", () -> {
            List<ProducerRecord<byte[], byte[]>> records = oddRecords(newTopic("middle", 1), 500);
            sendAll(records, "linger.ms", 300);
            for (int from : new int[] {1, 249, 250, 499}) {
                readBack(records, from);
            }
        });
        test("long-poll", Suite::longPoll);
        test("thousand-partitions", Suite::thousandPartitions);
        test("offset-out-of-range", () -> {
            TopicPartition p = new TopicPartition(newTopic("range", 1), 0);
            try (KafkaConsumer<byte[], byte[]> consumer = consumer("auto.offset.reset", "none")) {
                consumer.assign(List.of(p));
                consumer.seek(p, 99);
                try {
                    consumer.poll(Duration.ofSeconds(10));
                    throw new AssertionError("offset 99 of an empty log was read");
                } catch (OffsetOutOfRangeException expected) {
                    equal(expected.offsetOutOfRangePartitions(), Map.of(p, 99L), "partitions");
                }
            }
        });
        test("offsets-for-times", () -> {
            String topic = newTopic("times", 1);
            long base = System.currentTimeMillis() - 100_000;
            for (int i = 0; i < 3; i++) {
                sendAll(List.of(new ProducerRecord<>(topic, 0, base + 1000 * i, null, bytes("v" + i))));
            }
            TopicPartition p = new TopicPartition(topic, 0);
            try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
                equal(consumer.offsetsForTimes(Map.of(p, base + 1)).get(p).offset(), 1L, "just after the first");
                equal(consumer.offsetsForTimes(Map.of(p, base + 1)).get(p).timestamp(), base + 1000, "timestamp");
                equal(consumer.offsetsForTimes(Map.of(p, base + 2001)).get(p), null, "after the last");
                equal(consumer.beginningOffsets(List.of(p)), Map.of(p, 0L), "beginning");
                equal(consumer.endOffsets(List.of(p)), Map.of(p, 3L), "end");
                equal(consumer.partitionsFor(topic).size(), 1, "partitions");
                isTrue(consumer.listTopics().containsKey(topic), "listed");
            }
        });
        test("read-committed-sees-plain-records", () -> {
            String topic = newTopic("committed", 1);
            sendAll(oddRecords(topic, 10));
            TopicPartition p = new TopicPartition(topic, 0);
            try (KafkaConsumer<byte[], byte[]> consumer = consumer("isolation.level", "read_committed")) {
                consumer.assign(List.of(p));
                consumer.seekToBeginning(List.of(p));
                equal(consumer.poll(Duration.ofSeconds(10)).count(), 10, "records");
                equal(consumer.endOffsets(List.of(p)), Map.of(p, 10L), "last stable offset");
            }
        });
    }

    static void longPoll() throws Exception {
        String topic = newTopic("poll", 1);
        TopicPartition p = new TopicPartition(topic, 0);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("fetch.max.wait.ms", 20_000)) {
            consumer.assign(List.of(p));
            consumer.seekToBeginning(List.of(p));
            equal(consumer.poll(Duration.ofMillis(1500)).count(), 0, "records in an empty log");
            sendAll(List.of(new ProducerRecord<>(topic, 0, null, bytes("late"))));
            long start = System.nanoTime();
            equal(consumer.poll(Duration.ofSeconds(15)).count(), 1, "the late record");
            isTrue(System.nanoTime() - start < 8_000_000_000L, "within 8 s");
        }
    }

    static void thousandPartitions() throws Exception {
        int count = 1000;
        String topic = newTopic("thousand", count);
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        List<TopicPartition> all = new ArrayList<>();
        for (int i = 0; i < 3 * count; i++) {
            records.add(new ProducerRecord<>(topic, i % count, null, bytes("" + i / count)));
        }
        for (int p = 0; p < count; p++) {
            all.add(new TopicPartition(topic, p));
        }
        sendAll(records);
        try (KafkaConsumer<byte[], byte[]> consumer = consumer("max.poll.records", 5000)) {
            consumer.assign(all);
            consumer.seekToBeginning(all);
            long[] next = new long[count];
            long end = System.nanoTime() + 60_000_000_000L;
            for (int got = 0; got < 3 * count; ) {
                isTrue(System.nanoTime() < end, "read in time, got " + got);
                for (ConsumerRecord<byte[], byte[]> r : consumer.poll(Duration.ofMillis(500))) {
                    equal(r.offset(), next[r.partition()]++, "offset");
                    equal(new String(r.value()), "" + r.offset(), "value");
                    got++;
                }
            }
        }
        admin.deleteTopics(List.of(topic)).all().get();
    }

    static void topicTests() {
        test("admin-create-list-delete", () -> {
            String topic = newTopic("admin", 3);
            isTrue(admin.listTopics().names().get().contains(topic), "listed");
            fails(TopicExistsException.class, "a second create",
                () -> admin.createTopics(List.of(new NewTopic(topic, 3, (short) 1))).all().get());
            admin.deleteTopics(List.of(topic)).all().get();
            await("gone", () -> !admin.listTopics().names().get().contains(topic));
            fails(UnknownTopicOrPartitionException.class, "a second delete",
                () -> admin.deleteTopics(List.of(topic)).all().get());
        });
        test("admin-create-result", () -> {
            String topic = topicName("result");
            var result = admin.createTopics(List.of(new NewTopic(topic, 3, (short) 1)
                .configs(Map.of("retention.ms", "12345"))));
            equal(result.numPartitions(topic).get(), 3, "partitions");
            equal(result.replicationFactor(topic).get(), 1, "replication factor");
            equal(result.config(topic).get().get("retention.ms").value(), "12345", "retention.ms");
            awaitTopic(topic, 3);
            var found = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic);
            equal(found.topicId(), result.topicId(topic).get(), "topic id");
        });
        test("admin-delete-by-id", () -> {
            String topic = newTopic("by-id", 1);
            var id = admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).topicId();
            admin.deleteTopics(org.apache.kafka.common.TopicCollection.ofTopicIds(List.of(id))).all().get();
            await("gone", () -> !admin.listTopics().names().get().contains(topic));
        });
        test("admin-refusals", () -> {
            Map<NewTopic, Class<? extends Throwable>> refused = Map.of(
                new NewTopic("a b", 1, (short) 1), InvalidTopicException.class,
                new NewTopic("x".repeat(250), 1, (short) 1), InvalidTopicException.class,
                new NewTopic(topicName("p"), 0, (short) 1), InvalidPartitionsException.class,
                new NewTopic(topicName("r"), 1, (short) 9), InvalidReplicationFactorException.class,
                new NewTopic(topicName("c"), 1, (short) 1).configs(Map.of("no.such", "1")),
                InvalidConfigurationException.class,
                new NewTopic(topicName("v"), 1, (short) 1).configs(Map.of("retention.ms", "soon")),
                InvalidConfigurationException.class);
            for (var entry : refused.entrySet()) {
                fails(entry.getValue(), entry.getKey().toString(),
                    () -> admin.createTopics(List.of(entry.getKey())).all().get());
            }
        });
        test("admin-create-partitions", () -> {
            String topic = newTopic("grow", 2);
            admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(5))).all().get();
            awaitTopic(topic, 5);
            fails(InvalidPartitionsException.class, "fewer",
                () -> admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get());
        });
        test("admin-unknown-topic", () -> fails(UnknownTopicOrPartitionException.class, "describe",
            () -> admin.describeTopics(List.of(topicName("never"))).allTopicNames().get()));
    }

    static void describeTests() {
        test("admin-describe-cluster", () -> {
            DescribeClusterResult cluster = admin.describeCluster();
            equal(cluster.nodes().get().size(), 1, "nodes");
            isTrue(!cluster.clusterId().get().isEmpty(), "cluster id");
            isTrue(cluster.controller().get() != null, "controller");
        });
        test("admin-topic-configs", Suite::topicConfigs);
        test("admin-broker-configs", Suite::brokerConfigs);
        test("admin-alter-configs", Suite::alterConfigs);
        for (String stored : List.of("uncompressed", "gzip", "snappy", "lz4", "zstd")) {
            test("stored-in-" + stored, () -> storedIn(stored));
        }
        test("log-append-time", Suite::logAppendTime);
        test("keyless-on-compacted-topic", Suite::keyless);
        test("admin-list-offsets", Suite::listOffsets);
    }

    /** The record is named, and the producer goes on with those that have a key. */
    static void keyless() throws Exception {
        String topic = newTopic("compacted", 1, Map.of("cleanup.policy", "compact"));
        try (var producer = producer()) {
            Future<RecordMetadata> sent = producer.send(new ProducerRecord<>(topic, 0, null, "x".getBytes()));
            try {
                throw new AssertionError("taken without a key: " + sent.get());
            } catch (ExecutionException error) {
                equal(error.getCause().getClass(), org.apache.kafka.common.InvalidRecordException.class, "error");
                equal(error.getCause().getMessage(),
                    "Compacted topic cannot accept message without key in topic partition " + topic + "-0", "message");
            }
            producer.send(new ProducerRecord<>(topic, 0, "k".getBytes(), "y".getBytes())).get();
        }
    }

    /** Every topic key of Kafka 4.3 with its default, for a fresh topic with one override. */
    static final String TOPIC_DEFAULTS = """
        cleanup.policy=delete compression.gzip.level=-1 compression.lz4.level=9 compression.type=producer
        compression.zstd.level=3 delete.retention.ms=86400000 file.delete.delay.ms=60000
        flush.messages=9223372036854775807 flush.ms=9223372036854775807 index.interval.bytes=4096
        local.retention.bytes=-2 local.retention.ms=-2 max.compaction.lag.ms=9223372036854775807
        max.message.bytes=1048588 message.timestamp.after.max.ms=3600000
        message.timestamp.before.max.ms=9223372036854775807 message.timestamp.type=CreateTime
        min.cleanable.dirty.ratio=0.5 min.compaction.lag.ms=0 min.insync.replicas=1 preallocate=false
        remote.storage.enable=false retention.bytes=-1 segment.bytes=1073741824
        segment.index.bytes=10485760 segment.jitter.ms=0 segment.ms=604800000
        unclean.leader.election.enable=false""";

    static void topicConfigs() throws Exception {
        String topic = newTopic("configs", 1, Map.of("retention.ms", "12345"));
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        Config found = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        equal(found.get("retention.ms").value(), "12345", "retention.ms");
        equal(found.get("retention.ms").source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "its source");
        for (String pair : TOPIC_DEFAULTS.trim().split("\\s+")) {
            String key = pair.split("=")[0];
            isTrue(found.get(key) != null, key + " is listed");
            equal(found.get(key).value(), pair.split("=")[1], key);
            isTrue(found.get(key).isDefault() || !found.get(key).source().name().startsWith("DYNAMIC_TOPIC"),
                key + " is not the topic's own");
        }
    }

    /** The consumer reads what the broker compressed anew, whatever the producer sent. */
    static void storedIn(String codec) throws Exception {
        String topic = newTopic("stored", 1, Map.of("compression.type", codec));
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (String sent : List.of("none", "gzip", "snappy", "lz4", "zstd")) {
            List<ProducerRecord<byte[], byte[]>> some = oddRecords(topic, 500);
            some.add(new ProducerRecord<>(topic, 0, null, new byte[300_000]));
            sendAll(some, "compression.type", sent, "linger.ms", 300, "batch.size", 1_000_000);
            records.addAll(some);
        }
        readBack(records, 0);
        readBack(records, 777);
    }

    static void logAppendTime() throws Exception {
        String topic = newTopic("append-time", 1, Map.of("message.timestamp.type", "LogAppendTime"));
        long before = System.currentTimeMillis();
        try (KafkaProducer<byte[], byte[]> producer = producer()) {
            RecordMetadata sent = producer.send(new ProducerRecord<>(topic, 0, 5L, null, bytes("x"))).get();
            isTrue(sent.timestamp() >= before, "the producer is told the broker's time");
            try (KafkaConsumer<byte[], byte[]> consumer = consumer()) {
                TopicPartition partition = new TopicPartition(topic, 0);
                consumer.assign(List.of(partition));
                ConsumerRecord<byte[], byte[]> got = null;
                for (int i = 0; got == null && i < 100; i++) {
                    for (ConsumerRecord<byte[], byte[]> record : consumer.poll(Duration.ofMillis(200))) {
                        got = record;
                    }
                }
                equal(got.timestamp(), sent.timestamp(), "the consumer's timestamp");
                equal(got.timestampType(), TimestampType.LOG_APPEND_TIME, "its type");
                equal(consumer.offsetsForTimes(Map.of(partition, sent.timestamp())).get(partition).offset(), 0L, "found");
            }
        }
    }

    static AlterConfigOp op(String name, String value, AlterConfigOp.OpType type) {
        return new AlterConfigOp(new ConfigEntry(name, value), type);
    }

    static ConfigEntry config(ConfigResource resource, String name) throws Exception {
        return admin.describeConfigs(List.of(resource)).all().get().get(resource).get(name);
    }

    static void alterConfigs() throws Exception {
        String topic = newTopic("alter", 1, Map.of("retention.bytes", "5"));
        ConfigResource resource = new ConfigResource(ConfigResource.Type.TOPIC, topic);
        List<AlterConfigOp> ops = List.of(op("retention.ms", "7", AlterConfigOp.OpType.SET),
            op("retention.bytes", null, AlterConfigOp.OpType.DELETE),
            op("leader.replication.throttled.replicas", "0:1,1:1", AlterConfigOp.OpType.APPEND));
        AlterConfigsOptions dry = new AlterConfigsOptions().validateOnly(true);
        admin.incrementalAlterConfigs(Map.of(resource, ops), dry).all().get();
        equal(config(resource, "retention.bytes").value(), "5", "after validating");
        admin.incrementalAlterConfigs(Map.of(resource, ops)).all().get();
        equal(config(resource, "retention.ms").value(), "7", "what was set");
        equal(config(resource, "retention.ms").source(), ConfigEntry.ConfigSource.DYNAMIC_TOPIC_CONFIG, "its source");
        equal(config(resource, "retention.bytes").source(), ConfigEntry.ConfigSource.DEFAULT_CONFIG, "what was deleted");
        admin.incrementalAlterConfigs(Map.of(resource, List.of(
            op("leader.replication.throttled.replicas", "0:1", AlterConfigOp.OpType.SUBTRACT)))).all().get();
        equal(config(resource, "leader.replication.throttled.replicas").value(), "1:1", "what was subtracted");
        fails(InvalidConfigurationException.class, "a bad value", () -> admin.incrementalAlterConfigs(
            Map.of(resource, List.of(op("retention.ms", "soon", AlterConfigOp.OpType.SET)))).all().get());
        ConfigResource missing = new ConfigResource(ConfigResource.Type.TOPIC, topicName("missing"));
        fails(UnknownTopicOrPartitionException.class, "a missing topic", () -> admin.incrementalAlterConfigs(
            Map.of(missing, List.of(op("retention.ms", "1", AlterConfigOp.OpType.SET)))).all().get());
        ConfigResource broker = new ConfigResource(ConfigResource.Type.BROKER, "1");
        admin.incrementalAlterConfigs(
            Map.of(broker, List.of(op("log.retention.bytes", "8000000000", AlterConfigOp.OpType.SET)))).all().get();
        await("the broker's value", () -> "8000000000".equals(config(resource, "retention.bytes").value()));
        equal(config(resource, "retention.bytes").source(), ConfigEntry.ConfigSource.DYNAMIC_BROKER_CONFIG, "its source");
        admin.incrementalAlterConfigs(
            Map.of(broker, List.of(op("log.retention.bytes", null, AlterConfigOp.OpType.DELETE)))).all().get();
        fails(InvalidRequestException.class, "a read-only config", () -> admin.incrementalAlterConfigs(
            Map.of(broker, List.of(op("node.id", "9", AlterConfigOp.OpType.SET)))).all().get());
    }

    static void brokerConfigs() throws Exception {
        String id = "" + admin.describeCluster().nodes().get().iterator().next().id();
        ConfigResource resource = new ConfigResource(ConfigResource.Type.BROKER, id);
        Config found = admin.describeConfigs(List.of(resource)).all().get().get(resource);
        for (String key : Set.of("log.retention.ms", "log.retention.bytes", "message.max.bytes", "num.partitions",
                "auto.create.topics.enable", "default.replication.factor", "min.insync.replicas",
                "log.cleanup.policy", "log.segment.bytes", "offsets.topic.num.partitions", "compression.type",
                "fetch.max.bytes", "socket.request.max.bytes", "connections.max.idle.ms")) {
            isTrue(found.get(key) != null, key + " is listed");
        }
        equal(found.get("message.max.bytes").value(), "1048588", "message.max.bytes");
        equal(found.get("message.max.bytes").source(), ConfigEntry.ConfigSource.DEFAULT_CONFIG, "its source");
        equal(found.get("auto.create.topics.enable").type(), ConfigEntry.ConfigType.BOOLEAN, "a type");
    }

    static long offset(TopicPartition p, OffsetSpec spec) throws Exception {
        ListOffsetsResult result = admin.listOffsets(Map.of(p, spec));
        return result.partitionResult(p).get().offset();
    }

    static void listOffsets() throws Exception {
        String topic = newTopic("offsets", 1);
        TopicPartition p = new TopicPartition(topic, 0);
        long base = System.currentTimeMillis() - 100_000;
        for (long at : new long[] {1000, 3000, 2000}) {
            sendAll(List.of(new ProducerRecord<>(topic, 0, base + at, null, bytes("v"))));
        }
        equal(offset(p, OffsetSpec.earliest()), 0L, "earliest");
        equal(offset(p, OffsetSpec.latest()), 3L, "latest");
        equal(offset(p, OffsetSpec.maxTimestamp()), 1L, "max timestamp");
        equal(offset(p, OffsetSpec.forTimestamp(base + 1500)), 1L, "by timestamp");
        equal(offset(p, OffsetSpec.forTimestamp(base + 3001)), -1L, "after the last timestamp");
        equal(offset(p, OffsetSpec.earliestLocal()), 0L, "earliest local");
        equal(offset(p, OffsetSpec.latestTiered()), -1L, "latest tiered");
        equal(offset(p, OffsetSpec.earliestPendingUpload()), -1L, "earliest pending upload");
    }
}
