// What the admin requests refuse, with Kafka's codes.
package main

import (
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func elapsed(body func()) int64 {
	start := time.Now()
	body()
	return time.Since(start).Milliseconds()
}

func create(change func(*kmsg.CreateTopicsRequest, *kmsg.CreateTopicsRequestTopic)) (string, int16) {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 30000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topicName("refused"), 1, 1
	change(req, &t)
	req.Topics = append(req.Topics, t)
	resp := ask[*kmsg.CreateTopicsResponse](req, 7)
	return t.Topic, resp.Topics[len(resp.Topics)-1].ErrorCode
}

func adminTests() {
	type topic = kmsg.CreateTopicsRequestTopic
	type request = kmsg.CreateTopicsRequest
	config := func(name, value string) func(*request, *topic) {
		return func(_ *request, t *topic) {
			t.Configs = []kmsg.CreateTopicsRequestTopicConfig{{Name: name, Value: &value}}
		}
	}
	for _, c := range []struct {
		name   string
		code   int16
		change func(*request, *topic)
	}{
		{"zero-partitions", 37, func(_ *request, t *topic) { t.NumPartitions = 0 }},
		{"minus-two-partitions", 37, func(_ *request, t *topic) { t.NumPartitions = -2 }},
		{"replication-factor-zero", 38, func(_ *request, t *topic) { t.ReplicationFactor = 0 }},
		{"replication-factor-nine", 38, func(_ *request, t *topic) { t.ReplicationFactor = 9 }},
		{"unknown-config", 40, config("no.such.config", "1")},
		{"bad-config-value", 40, config("retention.ms", "soon")},
		{"config-out-of-range", 40, config("max.message.bytes", "-1")},
		{"twice-in-one-request", 42, func(r *request, t *topic) { r.Topics = append(r.Topics, *t) }},
		{"assignment-and-count", 42, func(_ *request, t *topic) {
			t.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Partition: 0, Replicas: []int32{1}}}
		}},
		{"assignment-to-unknown-broker", 39, func(_ *request, t *topic) {
			t.NumPartitions, t.ReplicationFactor = -1, -1
			t.ReplicaAssignment = []kmsg.CreateTopicsRequestTopicReplicaAssignment{{Partition: 0, Replicas: []int32{4711}}}
		}},
	} {
		test("create-topics/"+c.name, func() {
			name, code := create(c.change)
			equal(code, c.code, "error code")
			equal(metadataOf(name, 12).ErrorCode, 3, "metadata of the refused topic")
		})
	}
	test("create-topics/defaults", func() {
		name, code := create(func(_ *request, t *topic) { t.NumPartitions, t.ReplicationFactor = -1, -1 })
		equal(code, 0, "error code")
		awaitLeaders(name, 1)
	})
	test("create-topics/validate-only", func() {
		name, code := create(func(r *request, _ *topic) { r.ValidateOnly = true })
		equal(code, 0, "error code")
		equal(metadataOf(name, 12).ErrorCode, 3, "metadata")
	})
	test("create-topics/names-that-collide", func() {
		suffix := topicName("collide")
		name, code := create(func(_ *request, t *topic) { t.Topic = suffix + ".a" })
		equal(code, 0, "error code of "+name)
		_, code = create(func(_ *request, t *topic) { t.Topic = suffix + "_a" })
		equal(code, 17, "error code")
	})
	test("create-topics/recreated-has-another-id", recreated)
	test("create-topics/max-message-bytes-of-the-topic", func() {
		name, _ := newTopic("small", 1, "max.message.bytes", "1000")
		code, _ := produce(name, plain(fmt.Sprintf("%2000d", 1)))
		equal(code, 10, "2 kB")
		expect(name, plain("small"), 0, 0)
	})
	test("create-partitions/fewer", func() {
		name, _ := newTopic("fewer", 3)
		req := kmsg.NewPtrCreatePartitionsRequest()
		req.TimeoutMillis = 30000
		req.Topics = []kmsg.CreatePartitionsRequestTopic{{Topic: name, Count: 2}}
		equal(ask[*kmsg.CreatePartitionsResponse](req, 3).Topics[0].ErrorCode, 37, "error code")
	})
	test("metadata/auto-create", func() {
		req := kmsg.NewPtrMetadataRequest()
		name := topicName("auto")
		req.AllowAutoTopicCreation = true
		req.Topics = []kmsg.MetadataRequestTopic{{Topic: &name}}
		code := ask[*kmsg.MetadataResponse](req, 12).Topics[0].ErrorCode
		if code != 0 && code != 3 && code != 5 {
			fail("error code %d", code)
		}
		awaitLeaders(name, 1)
	})
	test("metadata/bad-names", func() {
		for _, name := range []string{"a b", "a/b", ".."} {
			equal(metadataOf(name, 12).ErrorCode, 17, "error code of "+name)
		}
	})
}

func recreated() {
	name, first := newTopic("again", 1)
	expect(name, plain("old"), 0, 0)
	req := kmsg.NewPtrDeleteTopicsRequest()
	req.TimeoutMillis = 30000
	req.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: &name}}
	equal(ask[*kmsg.DeleteTopicsResponse](req, 6).Topics[0].ErrorCode, 0, "delete")
	for start := time.Now(); metadataOf(name, 12).ErrorCode == 0; time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			fail("still there after its deletion")
		}
	}
	_, code := create(func(_ *kmsg.CreateTopicsRequest, t *kmsg.CreateTopicsRequestTopic) { t.Topic = name })
	equal(code, 0, "create again")
	second := awaitLeaders(name, 1)
	if first == second {
		fail("the same topic id")
	}
	expect(name, plain("new"), 0, 0)
	old := ask[*kmsg.FetchResponse](fetchRequest(name, first, 0, 0), 13).Topics[0].Partitions[0]
	equal(old.ErrorCode, 100, "fetch with the old id")
}
