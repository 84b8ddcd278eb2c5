// Reads a topic from given offsets, again and again, for compaction.py: what is on standard input is what to read.
//
// Usage: ReadFrom BOOTSTRAP TOPIC. A line `OFFSET OFFSET ...`, one for each partition, is answered by `PARTITION OFFSET KEY VALUE`
// for each record from there to the ends, in hexadecimal and `-` for null, and then by a line with a dot.

import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

public final class ReadFrom {
    static final long QUIET_NANOS = 60_000_000_000L;

    public static void main(String[] args) throws Exception {
        Map<String, Object> config = Map.of("bootstrap.servers", args[0], "auto.offset.reset", "none", "reconnect.backoff.max.ms", 200);
        var consumer = new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
        var in = new BufferedReader(new InputStreamReader(System.in));
        var out = new PrintStream(System.out, false);
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            List<TopicPartition> all = new ArrayList<>();
            String[] starts = line.split(" ");
            for (int p = 0; p < starts.length; p++) {
                all.add(new TopicPartition(args[1], p));
            }
            consumer.assign(all);
            for (TopicPartition p : all) {
                consumer.seek(p, Long.parseLong(starts[p.partition()]));
            }
            read(consumer, all, out);
            out.println(".");
            out.flush();
        }
    }

    static void read(KafkaConsumer<byte[], byte[]> consumer, List<TopicPartition> all, PrintStream out) {
        Map<TopicPartition, Long> ends = consumer.endOffsets(all);
        long quiet = System.nanoTime();
        while (all.stream().anyMatch(p -> consumer.position(p) < ends.get(p))) {
            var records = consumer.poll(Duration.ofMillis(100));
            for (var each : records) {
                out.println(each.partition() + " " + each.offset() + " " + hex(each.key()) + " " + hex(each.value()));
            }
            quiet = records.isEmpty() ? quiet : System.nanoTime();
            if (System.nanoTime() - quiet > QUIET_NANOS) {
                throw new IllegalStateException("nothing came for 60 s");
            }
        }
    }

    static String hex(byte[] bytes) {
        return bytes == null ? "-" : HexFormat.of().formatHex(bytes);
    }
}
