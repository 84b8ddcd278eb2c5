// Every version of every API: the answer decodes to its last byte and says the right thing.
package main

import (
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// sweep runs body for each version as a test of its own.
func sweep(name string, from, to int16, body func(version int16)) {
	for v := from; v <= to; v++ {
		test(fmt.Sprintf("version/%s-%d", name, v), func() { body(v) })
	}
}

func versionTests() {
	sweep("api-versions", 0, 4, func(v int16) {
		req := kmsg.NewPtrApiVersionsRequest()
		req.ClientSoftwareName, req.ClientSoftwareVersion = "franz-go", "1"
		resp := ask[*kmsg.ApiVersionsResponse](req, v)
		equal(resp.ErrorCode, 0, "error")
		for _, k := range resp.ApiKeys {
			if k.ApiKey == 18 && k.MaxVersion < 4 || k.ApiKey == 0 && k.MinVersion != 0 {
				fail("api key %d is advertised as %d-%d", k.ApiKey, k.MinVersion, k.MaxVersion)
			}
		}
	})
	sweep("metadata", 0, 13, metadataVersion)
	sweep("produce", 3, 13, produceVersion)
	sweep("fetch", 4, 18, fetchVersion)
	sweep("list-offsets", 1, 11, listOffsetsVersion)
	sweep("offset-for-leader-epoch", 2, 4, func(v int16) {
		topic, _ := newTopic("epoch", 1)
		expect(topic, plain("a", "b", "c"), 0, 0)
		p := epochEnd(topic, 0, -1, currentEpoch(topic), v)
		equal(p.ErrorCode, 0, "error")
		equal(p.EndOffset, 3, "end offset")
	})
	sweep("init-producer-id", 0, 5, func(v int16) {
		req := kmsg.NewPtrInitProducerIDRequest()
		req.TransactionTimeoutMillis = 60000
		resp := ask[*kmsg.InitProducerIDResponse](req, v)
		equal(resp.ErrorCode, 0, "error")
		equal(resp.ProducerEpoch, 0, "epoch")
		if resp.ProducerID < 0 {
			fail("producer id %d", resp.ProducerID)
		}
	})
	sweep("create-topics", 2, 7, createTopicsVersion)
	sweep("delete-topics", 1, 6, deleteTopicsVersion)
	sweep("create-partitions", 0, 3, createPartitionsVersion)
	sweep("describe-configs", 1, 4, describeConfigsVersion)
	sweep("describe-cluster", 0, 2, func(v int16) {
		resp := ask[*kmsg.DescribeClusterResponse](kmsg.NewPtrDescribeClusterRequest(), v)
		equal(resp.ErrorCode, 0, "error")
		if len(resp.Brokers) == 0 || resp.ClusterID == "" {
			fail("%d brokers, cluster id %q", len(resp.Brokers), resp.ClusterID)
		}
	})
	test("version/describe-topic-partitions-0", describeTopicPartitions)
	sweep("describe-quorum", 0, 2, describeQuorumVersion)
	sweep("client-quotas", 0, 1, clientQuotasVersion)
	test("version/unsupported-api-versions-answers-v0", func() {
		req := kmsg.NewPtrApiVersionsRequest()
		c := dial()
		defer c.Close()
		raw := []byte{0, 0, 0, 16, 0, 18, 0, 99, 0, 0, 0, 7, 0, 2, 'g', 'o', 0, 2, 'x', 0}
		_, err := c.Write(raw)
		check(err, "write")
		body, err := c.frame()
		check(err, "answer")
		resp := req.ResponseKind().(*kmsg.ApiVersionsResponse)
		check(resp.ReadFrom(body[4:]), "decode as v0")
		equal(resp.ErrorCode, 35, "error")
		equal(len(resp.AppendTo(nil)), len(body)-4, "length")
	})
	if onJangbu {
		sweep("find-coordinator", 0, 6, findCoordinatorVersion)
		sweep("list-offsets-old", 0, 0, func(v int16) { listOffsetsVersion(v) })
		sweep("create-topics-old", 0, 1, createTopicsVersion)
		sweep("delete-topics-old", 0, 0, deleteTopicsVersion)
	}
}

func describeQuorumVersion(v int16) {
	req := kmsg.NewPtrDescribeQuorumRequest()
	topic := kmsg.NewDescribeQuorumRequestTopic()
	topic.Topic, topic.Partitions = "__cluster_metadata", []kmsg.DescribeQuorumRequestTopicPartition{{}}
	req.Topics = append(req.Topics, topic)
	resp := ask[*kmsg.DescribeQuorumResponse](req, v)
	equal(resp.ErrorCode, 0, "error")
	p := resp.Topics[0].Partitions[0]
	equal(p.ErrorCode, 0, "error of the partition")
	for _, voter := range p.CurrentVoters {
		if voter.ReplicaID == p.LeaderID && voter.LogEndOffset >= p.HighWatermark && p.LeaderEpoch > 0 {
			return
		}
	}
	fail("leader %d in epoch %d is no voter with a log up to %d", p.LeaderID, p.LeaderEpoch, p.HighWatermark)
}

func clientQuotasVersion(v int16) {
	name := topicName("client")
	alter := func(remove bool) {
		req := kmsg.NewPtrAlterClientQuotasRequest()
		op := kmsg.NewAlterClientQuotasRequestEntryOp()
		op.Key, op.Value, op.Remove = "producer_byte_rate", 4096, remove
		entity := kmsg.NewAlterClientQuotasRequestEntryEntity()
		entity.Type, entity.Name = "client-id", &name
		entry := kmsg.NewAlterClientQuotasRequestEntry()
		entry.Entity, entry.Ops = append(entry.Entity, entity), append(entry.Ops, op)
		req.Entries = append(req.Entries, entry)
		equal(ask[*kmsg.AlterClientQuotasResponse](req, v).Entries[0].ErrorCode, 0, "alter")
	}
	describe := func() []kmsg.DescribeClientQuotasResponseEntry {
		req := kmsg.NewPtrDescribeClientQuotasRequest()
		component := kmsg.NewDescribeClientQuotasRequestComponent()
		component.EntityType, component.MatchType, component.Match = "client-id", kmsg.QuotasMatchTypeExact, &name
		req.Components, req.Strict = append(req.Components, component), true
		resp := ask[*kmsg.DescribeClientQuotasResponse](req, v)
		equal(resp.ErrorCode, 0, "describe")
		return resp.Entries
	}
	// Kafka answers before its brokers have heard of the change.
	alter(false)
	eventually("the quota is told", func() bool { return len(describe()) == 1 })
	equal(describe()[0].Values[0].Value, 4096.0, "the quota")
	alter(true)
	eventually("the quota is gone", func() bool { return len(describe()) == 0 })
}

func metadataVersion(v int16) {
	topic, id := newTopic("meta", 3)
	t := metadataOf(topic, v)
	equal(t.ErrorCode, 0, "error")
	equal(*t.Topic, topic, "name")
	equal(len(t.Partitions), 3, "partitions")
	all := kmsg.NewPtrMetadataRequest()
	if v > 0 {
		none := kmsg.NewPtrMetadataRequest()
		none.Topics = []kmsg.MetadataRequestTopic{}
		equal(len(ask[*kmsg.MetadataResponse](none, v).Topics), 0, "an empty list asks for none")
	}
	resp := ask[*kmsg.MetadataResponse](all, v)
	brokers, found := map[int32]bool{}, false
	for _, b := range resp.Brokers {
		brokers[b.NodeID] = true
	}
	for _, t := range resp.Topics {
		found = found || *t.Topic == topic
		for _, p := range t.Partitions {
			if p.ErrorCode == 0 && !brokers[p.Leader] {
				fail("leader %d is not among the brokers", p.Leader)
			}
		}
	}
	equal(found, true, "listed among all topics")
	if v >= 10 {
		equal(t.TopicID, id, "topic id")
	}
	if v >= 12 {
		metadataByID(topic, id, v)
	}
	unknown := metadataOf(topicName("unknown"), v)
	if v >= 4 {
		equal(unknown.ErrorCode, 3, "unknown topic")
	}
}

func metadataByID(topic string, id [16]byte, v int16) {
	byID := kmsg.NewPtrMetadataRequest()
	byID.Topics = []kmsg.MetadataRequestTopic{{TopicID: id}, {TopicID: [16]byte{9, 9}}}
	for _, t := range ask[*kmsg.MetadataResponse](byID, v).Topics {
		if t.TopicID == id {
			equal(t.ErrorCode, 0, "by id")
			equal(*t.Topic, topic, "name by id")
		} else {
			equal(t.ErrorCode, 100, "unknown id")
		}
	}
}

func produceVersion(v int16) {
	topic, id := newTopic("produce", 2)
	req := produceRequest(topic, id, plain("a", "b").encode(), plain("c").encode())
	for round := range 2 {
		resp := ask[*kmsg.ProduceResponse](req, v)
		equal(len(resp.Topics[0].Partitions), 2, "partitions")
		for _, p := range resp.Topics[0].Partitions {
			equal(p.ErrorCode, 0, "error")
			equal(p.BaseOffset, int64(round)*int64(2-p.Partition), "base offset")
			equal(p.LogAppendTime, -1, "append time")
		}
	}
}

func fetchVersion(v int16) {
	topic, id := newTopic("fetch", 2)
	ask[*kmsg.ProduceResponse](produceRequest(topic, id, plain("a", "b").encode(), plain("c").encode()), 9)
	resp := ask[*kmsg.FetchResponse](fetchRequest(topic, id, 0, 0, 1), v)
	equal(resp.ErrorCode, 0, "error")
	equal(resp.SessionID, 0, "session")
	for _, p := range resp.Topics[0].Partitions {
		equal(p.ErrorCode, 0, "error")
		want := int64(2 - p.Partition)
		equal(p.HighWatermark, want, "high watermark")
		equal(p.LastStableOffset, want, "last stable offset")
		if v >= 5 {
			equal(p.LogStartOffset, 0, "log start")
		}
		_, values := decodeValues(p.RecordBatches)
		equal(int64(len(values)), want, "records")
	}
	past := ask[*kmsg.FetchResponse](fetchRequest(topic, id, 99, 0), v).Topics[0].Partitions[0]
	equal(past.ErrorCode, 1, "past the end")
	equal(past.HighWatermark, -1, "its high watermark")
	fetchUnknown(topic, id, v)
}

func fetchUnknown(topic string, id [16]byte, v int16) {
	req := fetchRequest(topic, id, 0, 0, 66)
	want := int16(3)
	other := fetchRequest(topicName("unknown"), [16]byte{7, 7}, 0, 0)
	req.Topics = append(req.Topics, other.Topics...)
	if v >= 13 {
		want = 100
	}
	for _, t := range ask[*kmsg.FetchResponse](req, v).Topics {
		for _, p := range t.Partitions {
			switch {
			case p.Partition == 66:
				equal(p.ErrorCode, 3, "unknown partition")
			case t.Topic == topic && v < 13 || t.TopicID == id && v >= 13:
				equal(p.ErrorCode, 0, "the sound partition")
			default:
				equal(p.ErrorCode, want, "unknown topic")
			}
		}
	}
}

func listOffsetsVersion(v int16) {
	topic, _ := newTopic("offsets", 1)
	expect(topic, plain("a", "b", "c"), 0, 0)
	for timestamp, want := range map[int64]int64{-2: 0, -1: 3} {
		p := listOffset(topic, 0, timestamp, v)
		equal(p.ErrorCode, 0, "error")
		if v == 0 {
			if len(p.OldStyleOffsets) == 0 {
				fail("no offsets")
			}
			equal(p.OldStyleOffsets[0], want, "offset")
			continue
		}
		equal(p.Offset, want, fmt.Sprintf("offset for %d", timestamp))
		equal(p.Timestamp, -1, "timestamp")
	}
	if v == 0 {
		return
	}
	req := listOffsetsRequest(topic, 55, -1)
	equal(ask[*kmsg.ListOffsetsResponse](req, v).Topics[0].Partitions[0].ErrorCode, 3, "unknown partition")
}

func createTopicsVersion(v int16) {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 30000
	good := kmsg.NewCreateTopicsRequestTopic()
	good.Topic, good.NumPartitions, good.ReplicationFactor = topicName("create"), 2, 1
	bad := good
	bad.Topic = "not/allowed"
	req.Topics = []kmsg.CreateTopicsRequestTopic{good, bad}
	for _, t := range ask[*kmsg.CreateTopicsResponse](req, v).Topics {
		if t.Topic == bad.Topic {
			equal(t.ErrorCode, 17, "bad name")
			continue
		}
		equal(t.ErrorCode, 0, "error")
		if v >= 5 {
			equal(t.NumPartitions, 2, "partitions")
			equal(t.ReplicationFactor, 1, "replication factor")
			if len(t.Configs) < 10 {
				fail("only %d configs", len(t.Configs))
			}
		}
		if v >= 7 && t.TopicID == [16]byte{} {
			fail("no topic id")
		}
	}
	awaitLeaders(good.Topic, 2)
	req.Topics = req.Topics[:1]
	equal(ask[*kmsg.CreateTopicsResponse](req, v).Topics[0].ErrorCode, 36, "a second time")
}

func deleteTopicsVersion(v int16) {
	topic, id := newTopic("delete", 1)
	other, never := "", topicName("never")
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = 30000
	req.TopicNames = []string{topic, never}
	req.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: &topic}, {Topic: &never}, {TopicID: [16]byte{5, 5}}}
	if v >= 6 {
		var otherID [16]byte
		other, otherID = newTopic("delete-by-id", 1)
		req.Topics = append(req.Topics, kmsg.DeleteTopicsRequestTopic{TopicID: otherID})
	}
	for _, t := range ask[*kmsg.DeleteTopicsResponse](req, v).Topics {
		switch {
		case t.Topic != nil && (*t.Topic == topic || *t.Topic == other):
			equal(t.ErrorCode, 0, "error")
			if v >= 6 && *t.Topic == topic {
				equal(t.TopicID, id, "topic id")
			}
		case t.Topic == nil:
			equal(t.ErrorCode, 100, "unknown id")
		default:
			equal(t.ErrorCode, 3, "unknown topic")
		}
	}
}

func createPartitionsVersion(v int16) {
	topic, _ := newTopic("grow", 2)
	grow := func(name string, count int32) kmsg.CreatePartitionsRequestTopic {
		t := kmsg.NewCreatePartitionsRequestTopic()
		t.Topic, t.Count = name, count
		return t
	}
	same, _ := newTopic("same", 2)
	never := topicName("never")
	req := kmsg.NewPtrCreatePartitionsRequest()
	req.TimeoutMillis = 30000
	req.Topics = []kmsg.CreatePartitionsRequestTopic{grow(topic, 5), grow(same, 2), grow(never, 3)}
	want := map[string]int16{topic: 0, same: 37, never: 3}
	resp := ask[*kmsg.CreatePartitionsResponse](req, v)
	equal(len(resp.Topics), 3, "answered topics")
	for _, t := range resp.Topics {
		equal(t.ErrorCode, want[t.Topic], "error of "+t.Topic)
	}
	awaitLeaders(topic, 5)
}

func describeConfigsVersion(v int16) {
	topic, _ := newTopic("configs", 1, "retention.ms", "12345")
	req := kmsg.NewPtrDescribeConfigsRequest()
	one := kmsg.NewDescribeConfigsRequestResource()
	one.ResourceType, one.ResourceName = kmsg.ConfigResourceTypeTopic, topic
	unknown := one
	unknown.ResourceName = topicName("unknown")
	req.Resources = []kmsg.DescribeConfigsRequestResource{one, unknown}
	for _, r := range ask[*kmsg.DescribeConfigsResponse](req, v).Resources {
		if r.ResourceName != topic {
			equal(r.ErrorCode, 3, "unknown topic")
			continue
		}
		equal(r.ErrorCode, 0, "error")
		found := map[string]kmsg.DescribeConfigsResponseResourceConfig{}
		for _, c := range r.Configs {
			found[c.Name] = c
		}
		equal(*found["retention.ms"].Value, "12345", "retention.ms")
		equal(found["retention.ms"].Source, kmsg.ConfigSourceDynamicTopicConfig, "source")
		equal(*found["cleanup.policy"].Value, "delete", "cleanup.policy")
		equal(found["cleanup.policy"].Source, kmsg.ConfigSourceDefaultConfig, "its source")
	}
}

func describeTopicPartitions() {
	topic, id := newTopic("describe", 5)
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	t := kmsg.NewDescribeTopicPartitionsRequestTopic()
	t.Topic = topic
	unknown := t
	unknown.Topic = topicName("unknown")
	req.Topics = []kmsg.DescribeTopicPartitionsRequestTopic{t, unknown}
	req.ResponsePartitionLimit = 2000
	for _, t := range ask[*kmsg.DescribeTopicPartitionsResponse](req, 0).Topics {
		if *t.Topic != topic {
			equal(t.ErrorCode, 3, "unknown topic")
			continue
		}
		equal(t.TopicID, id, "topic id")
		equal(len(t.Partitions), 5, "partitions")
	}
	req.Topics, req.ResponsePartitionLimit = req.Topics[:1], 2
	seen := 0
	for rounds := 0; rounds < 10; rounds++ {
		resp := ask[*kmsg.DescribeTopicPartitionsResponse](req, 0)
		for _, t := range resp.Topics {
			seen += len(t.Partitions)
		}
		if resp.NextCursor == nil {
			break
		}
		cursor := kmsg.NewDescribeTopicPartitionsRequestCursor()
		cursor.Topic, cursor.Partition = resp.NextCursor.Topic, resp.NextCursor.Partition
		req.Cursor = &cursor
	}
	equal(seen, 5, "partitions over pages of two")
}

func findCoordinatorVersion(v int16) {
	waitForCoordinator("group")
	req := kmsg.NewPtrFindCoordinatorRequest()
	req.CoordinatorKey, req.CoordinatorKeys = "group", []string{"group", "other"}
	resp := ask[*kmsg.FindCoordinatorResponse](req, v)
	if v < 4 {
		equal(resp.ErrorCode, 0, "error")
		equal(resp.Port > 0 && resp.Host != "", true, "an address")
	} else {
		equal(len(resp.Coordinators), 2, "coordinators")
	}
	for _, c := range resp.Coordinators {
		equal(c.ErrorCode, 0, "error")
		equal(c.Port > 0 && c.Host != "", true, "an address")
	}
	if v == 0 {
		return
	}
	req.CoordinatorType = 1
	resp = ask[*kmsg.FindCoordinatorResponse](req, v)
	if v < 4 {
		equal(resp.ErrorCode, 15, "no transactions yet")
		return
	}
	equal(resp.Coordinators[0].ErrorCode, 15, "no transactions yet")
}
