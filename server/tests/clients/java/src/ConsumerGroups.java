// Groups of the consumer protocol (KIP-848) with the official Java client: sharing, resuming, static members, regular
// expressions, commits in the right epoch, administration.

import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.ListGroupsOptions;
import org.apache.kafka.clients.admin.NewPartitions;
import org.apache.kafka.clients.consumer.CloseOptions;
import org.apache.kafka.clients.consumer.ConsumerRebalanceListener;
import org.apache.kafka.clients.consumer.CooperativeStickyAssignor;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.consumer.RangeAssignor;
import org.apache.kafka.clients.consumer.SubscriptionPattern;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.GroupState;
import org.apache.kafka.common.GroupType;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.errors.GroupNotEmptyException;
import org.apache.kafka.common.errors.InvalidRegularExpression;
import org.apache.kafka.common.errors.UnsupportedAssignorException;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;

final class ConsumerGroups {
    static void tests() {
        Suite.test("consumer-group-uniform", () -> share("uniform"));
        Suite.test("consumer-group-range", () -> share("range"));
        Suite.test("consumer-group-static-members", ConsumerGroups::staticMembers);
        Suite.test("consumer-group-regex", ConsumerGroups::regex);
        Suite.test("consumer-group-topics-that-grow", ConsumerGroups::grows);
        Suite.test("consumer-group-administration", ConsumerGroups::administration);
        Suite.test("consumer-group-from-an-empty-classic-one", ConsumerGroups::offline);
        Suite.test("group-rolls-to-the-consumer-protocol-and-back", () -> rolling(RangeAssignor.class.getName()));
        Suite.test("group-of-cooperative-members-rolls-and-back",
            () -> rolling(CooperativeStickyAssignor.class.getName()));
    }

    static KafkaConsumer<byte[], byte[]> member(String group, Map<String, Object> more) {
        Map<String, Object> config = new HashMap<>(Map.of("bootstrap.servers", Suite.bootstrap, "group.id", group,
            "group.protocol", "consumer", "enable.auto.commit", false, "auto.offset.reset", "earliest",
            "metadata.max.age.ms", 1000));
        config.putAll(more);
        return new KafkaConsumer<>(config, new ByteArrayDeserializer(), new ByteArrayDeserializer());
    }

    static void fill(String topic, int partitions, int records) throws Exception {
        List<ProducerRecord<byte[], byte[]>> all = new ArrayList<>();
        for (int i = 0; i < records; i++) {
            all.add(new ProducerRecord<>(topic, i % partitions, null, Suite.bytes("v" + i)));
        }
        Suite.sendAll(all);
    }

    static void share(String assignor) throws Exception {
        String topic = Suite.newTopic("share", 4, Map.of());
        String group = Suite.topicName("g");
        fill(topic, 4, 200);
        Set<TopicPartition> lost = new HashSet<>();
        var one = member(group, Map.of("group.remote.assignor", assignor));
        var two = member(group, Map.of("group.remote.assignor", assignor));
        one.subscribe(List.of(topic), new ConsumerRebalanceListener() {
            public void onPartitionsRevoked(Collection<TopicPartition> taken) { lost.addAll(taken); }
            public void onPartitionsAssigned(Collection<TopicPartition> given) { }
        });
        Groups.poll(List.of(one), "all records by one member", read -> read == 200);
        one.commitSync();
        two.subscribe(List.of(topic));
        Groups.poll(List.of(one, two), "two partitions each",
            read -> one.assignment().size() == 2 && two.assignment().size() == 2);
        Suite.equal(lost.size(), 2, "partitions that were taken from the first");
        one.close();
        Groups.poll(List.of(two), "the rest goes to the other one", read -> two.assignment().size() == 4);
        Suite.equal(Groups.poll(List.of(two), "nothing comes twice", read -> true), 0, "records that were committed");
        two.close();
    }

    static void staticMembers() throws Exception {
        String topic = Suite.newTopic("static", 2, Map.of());
        String group = Suite.topicName("g");
        var one = member(group, Map.of("group.instance.id", "one"));
        var two = member(group, Map.of("group.instance.id", "two"));
        one.subscribe(List.of(topic));
        two.subscribe(List.of(topic));
        Groups.poll(List.of(one, two), "one partition each",
            read -> one.assignment().size() == 1 && two.assignment().size() == 1);
        Set<TopicPartition> had = Set.copyOf(two.assignment());
        int epoch = one.groupMetadata().generationId();
        two.close();
        var again = member(group, Map.of("group.instance.id", "two"));
        again.subscribe(List.of(topic));
        Groups.poll(List.of(one, again), "the same name is back", read -> again.assignment().size() == 1);
        Suite.equal(again.assignment(), had, "the partition it had");
        Suite.equal(one.groupMetadata().generationId(), epoch, "the epoch");
        again.close(CloseOptions.groupMembershipOperation(CloseOptions.GroupMembershipOperation.LEAVE_GROUP));
        Groups.poll(List.of(one), "it has left for good", read -> one.assignment().size() == 2);
        one.close();
    }

    static void regex() throws Exception {
        String prefix = Suite.topicName("regex");
        String first = prefix + ".a";
        Suite.admin.createTopics(List.of(new org.apache.kafka.clients.admin.NewTopic(first, 2, (short) 1))).all().get();
        fill(first, 2, 10);
        var one = member(Suite.topicName("g"), Map.of());
        one.subscribe(new SubscriptionPattern(prefix + "\\.[ab]"));
        Groups.poll(List.of(one), "the records of the topic that there is", read -> read == 10);
        for (String name : List.of(".b", ".c")) {
            Suite.admin.createTopics(List.of(new org.apache.kafka.clients.admin.NewTopic(prefix + name, 1, (short) 1))).all().get();
        }
        fill(prefix + ".b", 1, 5);
        Groups.poll(List.of(one), "those of a topic that has come", read -> read == 5);
        Suite.equal(one.assignment().size(), 3, "partitions");
        one.close();
        var bad = member(Suite.topicName("g"), Map.of());
        bad.subscribe(new SubscriptionPattern("(a"));
        try {
            Groups.poll(List.of(bad), "half an expression is refused", read -> false);
            throw new AssertionError("half an expression was taken");
        } catch (InvalidRegularExpression expected) {
            // As it should.
        }
        bad.close();
        var odd = member(Suite.topicName("g"), Map.of("group.remote.assignor", "odd"));
        odd.subscribe(List.of(first));
        try {
            Groups.poll(List.of(odd), "an assignor that nobody knows is refused", read -> false);
            throw new AssertionError("an assignor that nobody knows was taken");
        } catch (UnsupportedAssignorException expected) {
            // As it should.
        }
        odd.close();
    }

    static void grows() throws Exception {
        String topic = Suite.newTopic("grows", 1, Map.of());
        var one = member(Suite.topicName("g"), Map.of());
        one.subscribe(List.of(topic));
        Groups.poll(List.of(one), "all there is", read -> one.assignment().size() == 1);
        Suite.admin.createPartitions(Map.of(topic, NewPartitions.increaseTo(3))).all().get();
        Groups.poll(List.of(one), "what has come", read -> one.assignment().size() == 3);
        one.close();
    }

    static void administration() throws Exception {
        String topic = Suite.newTopic("admin", 2, Map.of());
        String group = Suite.topicName("g");
        var one = member(group, Map.of("client.id", "somebody"));
        one.subscribe(List.of(topic));
        Groups.poll(List.of(one), "a member", read -> one.assignment().size() == 2);
        TopicPartition p = new TopicPartition(topic, 0);
        one.commitSync(Map.of(p, new OffsetAndMetadata(3, "note")));
        Suite.equal(one.committed(Set.of(p)).get(p).offset(), 3L, "committed");
        ConsumerGroupDescription found = Suite.admin.describeConsumerGroups(List.of(group)).all().get().get(group);
        Suite.equal(found.type(), GroupType.CONSUMER, "type");
        Suite.equal(found.groupState(), GroupState.STABLE, "state");
        Suite.equal(found.partitionAssignor(), "uniform", "assignor");
        var described = found.members().iterator().next();
        Suite.equal(described.clientId(), "somebody", "client id");
        Suite.equal(described.assignment().topicPartitions().size(), 2, "assignment");
        Suite.equal(described.targetAssignment().get().topicPartitions().size(), 2, "target assignment");
        Suite.equal(described.memberEpoch().get(), found.groupEpoch().get(), "epochs");
        var listed = Suite.admin.listGroups(new ListGroupsOptions().withTypes(Set.of(GroupType.CONSUMER))).all().get();
        Suite.equal(listed.stream().filter(g -> g.groupId().equals(group)).count(), 1L, "listed");
        var classic = Suite.admin.listGroups(new ListGroupsOptions().withTypes(Set.of(GroupType.CLASSIC))).all().get();
        Suite.equal(classic.stream().filter(g -> g.groupId().equals(group)).count(), 0L, "listed as classic");
        try {
            Suite.admin.deleteConsumerGroups(List.of(group)).all().get();
            throw new AssertionError("a group with members was deleted");
        } catch (ExecutionException refused) {
            Suite.equal(refused.getCause().getClass(), GroupNotEmptyException.class, "the refusal");
        }
        one.close();
        Suite.admin.alterConsumerGroupOffsets(group, Map.of(p, new OffsetAndMetadata(1))).all().get();
        Suite.equal(Suite.admin.listConsumerGroupOffsets(group).partitionsToOffsetAndMetadata().get().get(p).offset(), 1L, "altered");
        Suite.admin.deleteConsumerGroups(List.of(group)).all().get();
        var features = Suite.admin.describeFeatures().featureMetadata().get().finalizedFeatures();
        Suite.equal(features.get("group.version").maxVersionLevel(), (short) 1, "group.version");
    }

    static void offline() throws Exception {
        String topic = Suite.newTopic("offline", 2, Map.of());
        String group = Suite.topicName("g");
        fill(topic, 2, 20);
        var classic = Groups.member(group, RangeAssignor.class.getName(), null);
        classic.subscribe(List.of(topic));
        Groups.poll(List.of(classic), "by the classic protocol", read -> read == 20);
        classic.commitSync();
        classic.close();
        fill(topic, 2, 6);
        var newer = member(group, Map.of());
        newer.subscribe(List.of(topic));
        Groups.poll(List.of(newer), "what came later, by the consumer protocol", read -> read == 6);
        newer.commitSync();
        newer.close(Duration.ofSeconds(10));
        fill(topic, 2, 4);
        var back = Groups.member(group, RangeAssignor.class.getName(), null);
        back.subscribe(List.of(topic));
        Groups.poll(List.of(back), "and back", read -> read == 4);
        back.close();
    }

    /** Members of one protocol are replaced by ones of the other and back, while the others go on. */
    static void rolling(String assignor) throws Exception {
        String topic = Suite.newTopic("rolling", 4, Map.of());
        String group = Suite.topicName("g");
        var members = new ArrayList<KafkaConsumer<byte[], byte[]>>();
        boolean[] steps = {false, false, true, true, false, false};
        for (int step = 0; step < steps.length; step++) {
            var next = steps[step] ? member(group, Map.of()) : Groups.member(group, assignor, null);
            next.subscribe(List.of(topic));
            members.add(next);
            settle(members, "somebody has come in step " + step);
            if (members.size() == 3) {
                members.remove(0).close();
                settle(members, "somebody has gone in step " + step);
            }
            boolean[] protocols = {steps[Math.max(step - 1, 0)], steps[step]};
            var kind = protocols[0] || protocols[1] ? GroupType.CONSUMER : GroupType.CLASSIC;
            var listed = Suite.admin.listGroups(new ListGroupsOptions().withTypes(Set.of(kind))).all().get();
            Suite.equal(listed.stream().filter(g -> g.groupId().equals(group)).count(), 1L, "listed in step " + step);
            fill(topic, 4, 40);
            // Each record is read once: nobody was lost on the way, and what was read is committed.
            Groups.poll(members, "what came in step " + step, read -> read == 40);
            for (var each : members) {
                each.commitSync();
            }
        }
        for (var each : members) {
            each.close();
        }
    }

    /** Polls until all four partitions are shared out evenly. */
    static void settle(List<KafkaConsumer<byte[], byte[]>> members, String what) {
        int read = Groups.poll(members, what, __ -> {
            var counts = members.stream().mapToInt(each -> each.assignment().size());
            var all = counts.summaryStatistics();
            return all.getSum() == 4 && all.getMax() - all.getMin() <= 1;
        });
        Suite.equal(read, 0, "records before there are any");
    }
}
