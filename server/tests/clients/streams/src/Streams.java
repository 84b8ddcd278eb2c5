// Kafka Streams: a word count at least once, and tables of compacted topics; each is restarted in the middle, without its state.
//
// Usage: Streams BOOTSTRAP [PATTERN]. One line per test; exits non-zero when one failed. Without its state directory a
// program reads its tables again: from the changelog that Streams created, or from the topic itself.

import java.nio.file.Files;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Random;
import java.util.TreeMap;
import java.util.concurrent.Callable;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.AlterConfigOp;
import org.apache.kafka.clients.admin.ConfigEntry;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.config.ConfigResource;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.common.serialization.StringDeserializer;
import org.apache.kafka.common.serialization.StringSerializer;
import org.apache.kafka.streams.CloseOptions;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StoreQueryParameters;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.InvalidStateStoreException;
import org.apache.kafka.streams.kstream.Materialized;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.state.KeyValueIterator;
import org.apache.kafka.streams.state.QueryableStoreTypes;

public final class Streams {
    interface Body { void run() throws Exception; }

    static final Random RANDOM = new Random();
    static final String[] WORDS = "one log to write it all and any number of readers at their own pace".split(" ");
    static final long WAIT_NANOS = 60_000_000_000L;
    static final int PARTITIONS = 4;
    static String bootstrap;
    static int failed = 0;
    static Admin admin;
    static KafkaProducer<String, String> producer;

    public static void main(String[] args) {
        bootstrap = args[0];
        String pattern = args.length > 1 ? args[1] : "";
        admin = Admin.create(Map.of("bootstrap.servers", bootstrap));
        producer = new KafkaProducer<>(Map.of("bootstrap.servers", bootstrap, "linger.ms", 5), new StringSerializer(), new StringSerializer());
        test(pattern, "word-count-of-two-members-and-a-restart", Streams::wordCount);
        test(pattern, "table-of-a-compacted-topic", Streams::table);
        System.exit(failed == 0 ? 0 : 1);
    }

    static void test(String pattern, String name, Body body) {
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
        if (!got.equals(want)) {
            throw new AssertionError(what + ": got " + got + ", want " + want);
        }
    }

    static void await(String what, Callable<Boolean> condition) throws Exception {
        for (long end = System.nanoTime() + WAIT_NANOS; !condition.call(); Thread.sleep(50)) {
            if (System.nanoTime() > end) {
                throw new AssertionError("timed out: " + what);
            }
        }
    }

    static String newTopic(String name, Map<String, String> configs) throws Exception {
        String topic = "streams-" + name + "-" + Long.toHexString(RANDOM.nextLong());
        admin.createTopics(List.of(new NewTopic(topic, PARTITIONS, (short) 1).configs(configs))).all().get();
        await("leaders of " + topic, () -> {
            try {
                return admin.describeTopics(List.of(topic)).allTopicNames().get().get(topic).partitions().stream()
                    .allMatch(p -> p.leader() != null && !p.leader().isEmpty());
            } catch (ExecutionException notYet) {
                return false;
            }
        });
        return topic;
    }

    /** One program of an application; each has a state directory of its own that is new. */
    static KafkaStreams program(String application, Topology topology) throws Exception {
        Properties config = new Properties();
        config.put("bootstrap.servers", bootstrap);
        config.put("application.id", application);
        config.put("processing.guarantee", "at_least_once");
        config.put("state.dir", Files.createTempDirectory("streams").toString());
        config.put("num.stream.threads", 2);
        config.put("commit.interval.ms", 200);
        config.put("statestore.cache.max.bytes", 0);
        config.put("topology.optimization", "all");
        config.put("default.key.serde", Serdes.StringSerde.class);
        config.put("default.value.serde", Serdes.StringSerde.class);
        config.put("consumer.auto.offset.reset", "earliest");
        config.put("consumer.session.timeout.ms", 6000);
        config.put("consumer.heartbeat.interval.ms", 500);
        KafkaStreams streams = new KafkaStreams(topology, config);
        streams.start();
        return streams;
    }

    static void end(KafkaStreams program) {
        equal(program.close(CloseOptions.timeout(Duration.ofSeconds(30)).withGroupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP)), true, "closed in time");
        program.cleanUp();
    }

    static long tasks(KafkaStreams program) {
        return program.metadataForLocalThreads().stream().mapToLong(thread -> thread.activeTasks().size()).sum();
    }

    /** Everything in the topic now. */
    static List<ConsumerRecord<String, String>> read(String topic) {
        var consumer = new KafkaConsumer<>(Map.of("bootstrap.servers", bootstrap), new StringDeserializer(), new StringDeserializer());
        List<TopicPartition> all = new ArrayList<>();
        for (int p = 0; p < PARTITIONS; p++) {
            all.add(new TopicPartition(topic, p));
        }
        consumer.assign(all);
        consumer.seekToBeginning(all);
        var ends = consumer.endOffsets(all);
        List<ConsumerRecord<String, String>> found = new ArrayList<>();
        while (all.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
            consumer.poll(Duration.ofMillis(200)).forEach(found::add);
        }
        consumer.close();
        return found;
    }

    static Map<String, String> last(String topic) {
        Map<String, String> last = new TreeMap<>();
        for (ConsumerRecord<String, String> each : read(topic)) {
            if (each.value() == null) {
                last.remove(each.key());
            } else {
                last.put(each.key(), each.value());
            }
        }
        return last;
    }

    static void writeLines(String topic, int count, Map<String, String> counts) {
        for (int i = 0; i < count; i++) {
            List<String> line = new ArrayList<>();
            for (int word = 0; word < 8; word++) {
                line.add(WORDS[RANDOM.nextInt(WORDS.length)]);
            }
            line.forEach(word -> counts.merge(word, "1", (had, one) -> String.valueOf(Long.parseLong(had) + 1)));
            producer.send(new ProducerRecord<>(topic, "line " + i, String.join(" ", line)));
        }
        producer.flush();
    }

    static void wordCount() throws Exception {
        String lines = newTopic("lines", Map.of());
        String counts = newTopic("counts", Map.of("cleanup.policy", "compact"));
        StreamsBuilder builder = new StreamsBuilder();
        builder.<String, String>stream(lines)
            .flatMapValues(line -> List.of(line.split(" ")))
            .groupBy((key, word) -> word)
            .count(Materialized.as("counts"))
            .toStream()
            .mapValues(count -> String.valueOf(count))
            .to(counts, Produced.with(Serdes.String(), Serdes.String()));
        Topology topology = builder.build();
        Map<String, String> want = new TreeMap<>();
        KafkaStreams one = program(lines, topology);
        writeLines(lines, 1000, want);
        await("all words are counted", () -> last(counts).equals(want));
        KafkaStreams two = program(lines, topology);
        await("two members share the work", () -> tasks(one) == PARTITIONS && tasks(two) == PARTITIONS);
        writeLines(lines, 1000, want);
        await("two members count", () -> last(counts).equals(want));
        writeLines(lines, 1000, want);
        end(one);
        await("one has left, the other has all", () -> tasks(two) == 2 * PARTITIONS);
        await("it counts what the other one has begun", () -> last(counts).equals(want));
        end(two);
        writeLines(lines, 1000, want);
        KafkaStreams again = program(lines, topology);
        await("it goes on from the changelog", () -> last(counts).equals(want));
        Map<String, String> table = new TreeMap<>();
        contents(again, "counts").forEach((word, count) -> table.put(word, count.toString()));
        equal(table, want, "the table");
        end(again);
    }

    /** What a program has in a table, as anyone may ask for it. */
    static Map<String, Object> contents(KafkaStreams program, String store) throws Exception {
        Map<String, Object> found = new TreeMap<>();
        await("the table can be asked", () -> {
            found.clear();
            try (KeyValueIterator<String, Object> all = program.store(StoreQueryParameters.fromNameAndType(store,
                    QueryableStoreTypes.<String, Object>keyValueStore())).all()) {
                all.forEachRemaining(row -> found.put(row.key, row.value));
                return true;
            } catch (InvalidStateStoreException notYet) {
                return false;
            }
        });
        return found;
    }

    static void writeUpdates(String topic, int count, Map<String, Object> state) {
        for (int i = 0; i < count; i++) {
            String key = "key " + RANDOM.nextInt(100);
            String value = RANDOM.nextInt(5) == 0 ? null : "value " + RANDOM.nextLong();
            if (value == null) {
                state.remove(key);
            } else {
                state.put(key, value);
            }
            producer.send(new ProducerRecord<>(topic, key, value));
        }
        producer.flush();
    }

    /** Lets the node clean without waiting long, or as it does by itself. */
    static void cleanSoon(boolean soon) throws Exception {
        String node = admin.describeCluster().nodes().get().iterator().next().idString();
        var change = new AlterConfigOp(new ConfigEntry("log.cleaner.backoff.ms", "100"),
            soon ? AlterConfigOp.OpType.SET : AlterConfigOp.OpType.DELETE);
        admin.incrementalAlterConfigs(Map.of(new ConfigResource(ConfigResource.Type.BROKER, node), List.of(change))).all().get();
    }

    static void table() throws Exception {
        cleanSoon(true);
        String topic = newTopic("table", Map.of("cleanup.policy", "compact", "min.cleanable.dirty.ratio", "0.01",
            "segment.ms", "200", "delete.retention.ms", "100"));
        StreamsBuilder builder = new StreamsBuilder();
        builder.table(topic, Materialized.as("table"));
        Properties optimized = new Properties();
        optimized.put("topology.optimization", "all");
        Topology topology = builder.build(optimized);
        Map<String, Object> want = new TreeMap<>();
        writeUpdates(topic, 5000, want);
        KafkaStreams one = program(topic, topology);
        await("the table has every last value", () -> contents(one, "table").equals(want));
        writeUpdates(topic, 5000, want);
        await("it follows", () -> contents(one, "table").equals(want));
        end(one);
        await("most updates are cleaned away", () -> {
            writeUpdates(topic, 10, want);
            return read(topic).size() < 5000;
        });
        KafkaStreams again = program(topic, topology);
        await("a new table of what is left", () -> contents(again, "table").equals(want));
        end(again);
        cleanSoon(false);
    }
}
