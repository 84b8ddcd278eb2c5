// Consumer groups with the official Java client: eager, cooperative and static members, commits, administration.

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ListConsumerGroupOffsetsSpec;
import org.apache.kafka.clients.admin.MemberToRemove;
import org.apache.kafka.clients.admin.RemoveMembersFromConsumerGroupOptions;
import org.apache.kafka.clients.consumer.CommitFailedException;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.FencedInstanceIdException;
import org.apache.kafka.common.errors.GroupIdNotFoundException;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

final class Groups {
    static void tests() {
        Suite.test("group-eager-members", () -> share(RangeAssignor.class.getName()));
        Suite.test("group-cooperative-members", () -> share(CooperativeStickyAssignor.class.getName()));
        Suite.test("group-static-members", Groups::staticMembers);
        Suite.test("group-commits-and-metadata", Groups::commits);
        Suite.test("group-administration", Groups::administration);
    }

    static KafkaConsumer<byte[], byte[]> member(String group, String assignor, String instance) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", Suite.bootstrap, "group.id", group,
            "enable.auto.commit", false, "auto.offset.reset", "earliest", "session.timeout.ms", 6000,
            "heartbeat.interval.ms", 500, "partition.assignment.strategy", assignor));
        if (instance != null) {
            config.put("group.instance.id", instance);
            config.put("session.timeout.ms", 30000);
        }
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    /** Polls the members in turn until it is so; how many records came. */
    static int poll(List<KafkaConsumer<byte[], byte[]>> members, String what, java.util.function.IntPredicate until) {
        long end = System.currentTimeMillis() + 60_000;
        int read = 0;
        while (!until.test(read)) {
            if (System.currentTimeMillis() > end) {
                throw new AssertionError("timed out: " + what);
            }
            for (KafkaConsumer<byte[], byte[]> each : members) {
                read += each.poll(Duration.ofMillis(50)).count();
            }
        }
        return read;
    }

    static void share(String assignor) throws Exception {
        String topic = Suite.newTopic("group", 4, Map.of());
        String group = Suite.topicName("g");
        List<ProducerRecord<byte[], byte[]>> records = new ArrayList<>();
        for (int i = 0; i < 200; i++) {
            records.add(new ProducerRecord<>(topic, i % 4, null, Suite.bytes("v" + i)));
        }
        Suite.sendAll(records);
        Set<TopicPartition> lost = new HashSet<>();
        var one = member(group, assignor, null);
        var two = member(group, assignor, null);
        one.subscribe(List.of(topic), new ConsumerRebalanceListener() {
            public void onPartitionsRevoked(Collection<TopicPartition> taken) { lost.addAll(taken); }
            public void onPartitionsAssigned(Collection<TopicPartition> given) { }
        });
        poll(List.of(one), "all records by one member", read -> read == 200);
        one.commitSync();
        two.subscribe(List.of(topic));
        poll(List.of(one, two), "two partitions each",
            read -> one.assignment().size() == 2 && two.assignment().size() == 2);
        boolean cooperative = assignor.contains("Cooperative");
        Suite.equal(lost.size(), cooperative ? 2 : 4, "partitions that were taken from the first for a while");
        one.close();
        poll(List.of(two), "the rest goes to the other one", read -> two.assignment().size() == 4);
        Suite.equal(poll(List.of(two), "nothing comes twice", read -> true), 0, "records that were committed");
        two.close();
    }

    static void staticMembers() throws Exception {
        String topic = Suite.newTopic("static", 2, Map.of());
        String group = Suite.topicName("g");
        String assignor = RangeAssignor.class.getName();
        var one = member(group, assignor, "one");
        var two = member(group, assignor, "two");
        one.subscribe(List.of(topic));
        two.subscribe(List.of(topic));
        poll(List.of(one, two), "one partition each",
            read -> one.assignment().size() == 1 && two.assignment().size() == 1);
        Set<TopicPartition> had = two.assignment();
        int generation = one.groupMetadata().generationId();
        two.close();
        var again = member(group, assignor, "two");
        again.subscribe(List.of(topic));
        poll(List.of(one, again), "the same name is back", read -> again.assignment().size() == 1);
        Suite.equal(again.assignment(), had, "the partition it had");
        Suite.equal(one.groupMetadata().generationId(), generation, "the generation");
        var twin = member(group, assignor, "two");
        twin.subscribe(List.of(topic));
        poll(List.of(one, twin), "another one with the same name", read -> twin.assignment().size() == 1);
        try {
            again.commitSync(Map.of(had.iterator().next(), new OffsetAndMetadata(1)));
            throw new AssertionError("the one before may still commit");
        } catch (FencedInstanceIdException | CommitFailedException expected) {
            // It is fenced.
        }
        var leave = new RemoveMembersFromConsumerGroupOptions(Set.of(new MemberToRemove("two")));
        Suite.admin.removeMembersFromConsumerGroup(group, leave).all().get();
        poll(List.of(one), "an administrator has removed it", read -> one.assignment().size() == 2);
        one.close();
        again.close(Duration.ZERO);
        twin.close(Duration.ZERO);
    }

    static void commits() throws Exception {
        String topic = Suite.newTopic("commits", 2, Map.of());
        String group = Suite.topicName("g");
        TopicPartition p = new TopicPartition(topic, 0);
        var alone = member(group, RangeAssignor.class.getName(), null);
        alone.assign(List.of(p));
        var note = new OffsetAndMetadata(17, java.util.Optional.of(2), "bis hier ä");
        alone.commitSync(Map.of(p, note));
        Suite.equal(alone.committed(Set.of(p)).get(p), note, "what was committed");
        Suite.equal(alone.committed(Set.of(new TopicPartition(topic, 1))).values().iterator().next(), null, "nothing");
        alone.close();
    }

    static void administration() throws Exception {
        String topic = Suite.newTopic("group-admin", 2, Map.of());
        String group = Suite.topicName("g");
        var one = member(group, RangeAssignor.class.getName(), null);
        one.subscribe(List.of(topic));
        poll(List.of(one), "a member", read -> one.assignment().size() == 2);
        one.commitSync(Map.of(new TopicPartition(topic, 0), new OffsetAndMetadata(3)));
        ConsumerGroupDescription found = Suite.admin.describeConsumerGroups(List.of(group)).all().get().get(group);
        Suite.equal(found.groupState(), GroupState.STABLE, "state");
        Suite.equal(found.members().iterator().next().assignment().topicPartitions().size(), 2, "assignment");
        Suite.equal(found.coordinator().isEmpty(), false, "coordinator");
        Suite.fails(GroupNotEmptyException.class, "a group with members",
            () -> Suite.admin.deleteConsumerGroups(List.of(group)).all().get());
        one.close();
        Map<TopicPartition, OffsetAndMetadata> at = Map.of(new TopicPartition(topic, 1), new OffsetAndMetadata(9));
        Suite.admin.alterConsumerGroupOffsets(group, at).all().get();
        var all = Map.of(group, new ListConsumerGroupOffsetsSpec());
        var offsets = Suite.admin.listConsumerGroupOffsets(all).partitionsToOffsetAndMetadata(group).get();
        Suite.equal(offsets.size(), 2, "offsets");
        Suite.equal(offsets.get(new TopicPartition(topic, 1)).offset(), 9L, "what was set");
        Suite.admin.deleteConsumerGroupOffsets(group, Set.of(new TopicPartition(topic, 0))).all().get();
        offsets = Suite.admin.listConsumerGroupOffsets(all).partitionsToOffsetAndMetadata(group).get();
        Suite.equal(offsets.keySet(), Set.of(new TopicPartition(topic, 1)), "what is left");
        Suite.admin.deleteConsumerGroups(List.of(group)).all().get();
        Suite.fails(GroupIdNotFoundException.class, "a group that is gone",
            () -> Suite.admin.deleteConsumerGroups(List.of(group)).all().get());
    }
}
