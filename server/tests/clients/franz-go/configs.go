// Changing configs at run time: AlterConfigs and IncrementalAlterConfigs, of topics and brokers.
package main

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	topicConfigs  = kmsg.ConfigResourceTypeTopic
	brokerConfigs = kmsg.ConfigResourceTypeBroker
	opSet         = kmsg.IncrementalAlterConfigOpSet
	opDelete      = kmsg.IncrementalAlterConfigOpDelete
	opAppend      = kmsg.IncrementalAlterConfigOpAppend
	opSubtract    = kmsg.IncrementalAlterConfigOpSubtract
)

// null as a value is Kafka's null.
const null = "\x00null"

type edit struct {
	name  string
	op    kmsg.IncrementalAlterConfigOp
	value string
}

func nullable(value string) *string {
	if value == null {
		return nil
	}
	return &value
}

func editRequest(kind kmsg.ConfigResourceType, name string, edits ...edit) *kmsg.IncrementalAlterConfigsRequest {
	req := kmsg.NewPtrIncrementalAlterConfigsRequest()
	r := kmsg.NewIncrementalAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = kind, name
	for _, e := range edits {
		c := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		c.Name, c.Op, c.Value = e.name, e.op, nullable(e.value)
		r.Configs = append(r.Configs, c)
	}
	req.Resources = append(req.Resources, r)
	return req
}

// alter changes one resource and returns the error code and message.
func alter(kind kmsg.ConfigResourceType, name string, edits ...edit) (int16, string) {
	a := ask[*kmsg.IncrementalAlterConfigsResponse](editRequest(kind, name, edits...), 1).Resources[0]
	if a.ErrorMessage == nil {
		return a.ErrorCode, ""
	}
	return a.ErrorCode, *a.ErrorMessage
}

func set(kind kmsg.ConfigResourceType, name, config, value string) {
	code, message := alter(kind, name, edit{config, opSet, value})
	equal(code, 0, "setting "+config+": "+message)
}

func unset(kind kmsg.ConfigResourceType, name, config string) {
	code, message := alter(kind, name, edit{config, opDelete, null})
	equal(code, 0, "deleting "+config+": "+message)
}

func replaceRequest(name string, pairs ...string) *kmsg.AlterConfigsRequest {
	req := kmsg.NewPtrAlterConfigsRequest()
	r := kmsg.NewAlterConfigsRequestResource()
	r.ResourceType, r.ResourceName = topicConfigs, name
	for i := 0; i+1 < len(pairs); i += 2 {
		c := kmsg.NewAlterConfigsRequestResourceConfig()
		c.Name, c.Value = pairs[i], nullable(pairs[i+1])
		r.Configs = append(r.Configs, c)
	}
	req.Resources = append(req.Resources, r)
	return req
}

// shown is value, source and synonyms of one config as DescribeConfigs tells them.
func shown(kind kmsg.ConfigResourceType, name, config string) string {
	req := kmsg.NewPtrDescribeConfigsRequest()
	r := kmsg.NewDescribeConfigsRequestResource()
	r.ResourceType, r.ResourceName, r.ConfigNames = kind, name, []string{config}
	req.IncludeSynonyms = true
	req.Resources = append(req.Resources, r)
	found := ask[*kmsg.DescribeConfigsResponse](req, 4).Resources[0]
	equal(found.ErrorCode, 0, "describing "+config)
	if len(found.Configs) == 0 {
		return "none"
	}
	c := found.Configs[0]
	text := func(v *string) string {
		if v == nil {
			return "null"
		}
		return *v
	}
	out := fmt.Sprintf("%s/%d", text(c.Value), c.Source)
	for _, s := range c.ConfigSynonyms {
		out += fmt.Sprintf(" %s=%s/%d", s.Name, text(s.Value), s.Source)
	}
	return out
}

func brokerID() string {
	return fmt.Sprint(ask[*kmsg.DescribeClusterResponse](kmsg.NewPtrDescribeClusterRequest(), 0).Brokers[0].NodeID)
}

func configTests() {
	sweep("alter-configs", 0, 2, func(v int16) {
		topic, _ := newTopic("alter", 1, "retention.bytes", "5")
		resp := ask[*kmsg.AlterConfigsResponse](replaceRequest(topic, "retention.ms", "12345"), v)
		equal(resp.Resources[0].ErrorCode, 0, "error")
		equal(resp.Resources[0].ResourceName, topic, "name")
		equal(shown(topicConfigs, topic, "retention.ms"), "12345/1 retention.ms=12345/1", "what was set")
		equal(shown(topicConfigs, topic, "retention.bytes"), "-1/5 log.retention.bytes=-1/5", "what was set before")
		dry := replaceRequest(topic)
		dry.ValidateOnly = true
		equal(ask[*kmsg.AlterConfigsResponse](dry, v).Resources[0].ErrorCode, 0, "validate only")
		equal(shown(topicConfigs, topic, "retention.ms"), "12345/1 retention.ms=12345/1", "after validating")
		missing := replaceRequest(topicName("missing"))
		equal(ask[*kmsg.AlterConfigsResponse](missing, v).Resources[0].ErrorCode, 3, "unknown topic")
	})
	sweep("incremental-alter-configs", 0, 1, func(v int16) {
		topic, _ := newTopic("incremental", 1, "retention.bytes", "5")
		req := editRequest(topicConfigs, topic, edit{"retention.ms", opSet, " 12345 "}, edit{"retention.bytes", opDelete, null})
		req.ValidateOnly = true
		equal(ask[*kmsg.IncrementalAlterConfigsResponse](req, v).Resources[0].ErrorCode, 0, "validate only")
		equal(shown(topicConfigs, topic, "retention.bytes"), "5/1 retention.bytes=5/1 log.retention.bytes=-1/5", "after validating")
		req.ValidateOnly = false
		resp := ask[*kmsg.IncrementalAlterConfigsResponse](req, v)
		equal(resp.Resources[0].ErrorCode, 0, "error")
		equal(resp.Resources[0].ResourceName, topic, "name")
		equal(shown(topicConfigs, topic, "retention.ms"), "12345/1 retention.ms=12345/1", "what was set")
		equal(shown(topicConfigs, topic, "retention.bytes"), "-1/5 log.retention.bytes=-1/5", "what was deleted")
	})
	refusedConfigTests()
	test("configs/lists-by-element", func() {
		topic, _ := newTopic("lists", 1)
		name := "leader.replication.throttled.replicas"
		for _, e := range []struct {
			op          kmsg.IncrementalAlterConfigOp
			value, want string
		}{{opAppend, "0:1", "0:1"}, {opAppend, "1:1,2:1", "0:1,1:1,2:1"}, {opAppend, "1:1", "0:1,1:1,2:1"},
			{opSubtract, "1:1,9:9", "0:1,2:1"}, {opSubtract, "0:1,2:1", ""}} {
			code, message := alter(topicConfigs, topic, edit{name, e.op, e.value})
			equal(code, 0, message)
			equal(shown(topicConfigs, topic, name), fmt.Sprintf("%s/1 %s=%s/1", e.want, name, e.want), "after "+e.value)
		}
		set(topicConfigs, topic, "cleanup.policy", "delete,delete")
		equal(strings.Fields(shown(topicConfigs, topic, "cleanup.policy"))[0], "delete/1", "named twice")
	})
	test("configs/brokers-and-their-default", brokerConfigTest)
	test("configs/max-message-bytes-at-run-time", func() {
		topic, _ := newTopic("runtime", 1)
		large := plain(fmt.Sprintf("%2000d", 1))
		expect(topic, large, 0, 0)
		set(topicConfigs, topic, "max.message.bytes", "1000")
		eventually("a smaller limit", func() bool { code, _ := produce(topic, large); return code == 10 })
		unset(topicConfigs, topic, "max.message.bytes")
		eventually("the old limit", func() bool { code, _ := produce(topic, large); return code == 0 })
	})
}

func refusedConfigTests() {
	broker := brokerID()
	refusal := func(name string, kind kmsg.ConfigResourceType, code int16, message string, edits ...edit) {
		test("configs/refused-"+name, func() {
			resource := broker
			if kind == topicConfigs {
				resource, _ = newTopic("refused", 1)
			}
			got, text := alter(kind, resource, edits...)
			equal(got, code, "code of "+text)
			equal(text, message, "message")
		})
	}
	retention := func(op kmsg.IncrementalAlterConfigOp, value string) edit { return edit{"retention.ms", op, value} }
	refusal("unknown", topicConfigs, 40, "Unknown topic config name: foo", edit{"foo", opSet, "1"})
	refusal("bad-value", topicConfigs, 40, "Invalid value soon for configuration retention.ms: Not a number of type LONG", retention(opSet, "soon"))
	refusal("out-of-range", topicConfigs, 40, "Invalid value -1 for configuration max.message.bytes: Value must be at least 0", edit{"max.message.bytes", opSet, "-1"})
	refusal("null", topicConfigs, 42, "Null value not supported for : retention.ms", retention(opSet, null))
	refusal("twice", topicConfigs, 42, "Error due to duplicate config keys", retention(opSet, "1"), retention(opDelete, null))
	refusal("append", topicConfigs, 40, "Can't APPEND to key retention.ms because its type is not LIST.", retention(opAppend, "1"))
	refusal("subtract", topicConfigs, 40, "Can't SUBTRACT to key retention.ms because its type is not LIST.", retention(opSubtract, "1"))
	refusal("conflict", topicConfigs, 40, "conflict topic config setting min.compaction.lag.ms (10) > max.compaction.lag.ms (5)",
		edit{"min.compaction.lag.ms", opSet, "10"}, edit{"max.compaction.lag.ms", opSet, "5"})
	refusal("read-only", brokerConfigs, 42, "Cannot update these configs dynamically: [node.id]", edit{"node.id", opSet, "5"})
	refusal("broker-value", brokerConfigs, 42, "Invalid value x for configuration log.retention.ms: Not a number of type LONG", edit{"log.retention.ms", opSet, "x"})
	refusal("broker-append", brokerConfigs, 40, "Config value append is not allowed for config key: log.retention.ms", edit{"log.retention.ms", opAppend, "3"})
	for name, c := range map[string]struct {
		kind     kmsg.ConfigResourceType
		resource string
		code     int16
	}{
		"unknown-topic": {topicConfigs, topicName("missing"), 3}, "bad-topic-name": {topicConfigs, "a b", 17}, "no-topic-name": {topicConfigs, "", 42},
		"other-broker": {brokerConfigs, "4711", 42}, "broker-not-a-number": {brokerConfigs, "one", 42}, "resource-type-7": {7, "x", 42},
	} {
		test("configs/refused-"+name, func() {
			code, message := alter(c.kind, c.resource, edit{"retention.ms", opSet, "1"})
			equal(code, c.code, "code of "+message)
		})
	}
	test("configs/refused-resource-twice", func() {
		topic, _ := newTopic("twice", 1)
		req := editRequest(topicConfigs, topic, retention(opSet, "1"))
		req.Resources = append(req.Resources, req.Resources[0])
		for _, a := range ask[*kmsg.IncrementalAlterConfigsResponse](req, 1).Resources {
			equal(a.ErrorCode, 42, "error code")
		}
	})
	test("configs/deleting-what-is-not-there", func() {
		topic, _ := newTopic("nothing", 1)
		unset(topicConfigs, topic, "retention.ms")
		unset(topicConfigs, topic, "no.such.config")
		unset(brokerConfigs, broker, "node.id")
	})
	test("configs/compaction-on-and-off-at-run-time", func() {
		topic, _ := newTopic("compact", 1)
		for _, e := range []edit{{"cleanup.policy", opSet, "compact"}, {"cleanup.policy", opAppend, "delete"},
			{"cleanup.policy", opSubtract, "compact"}, {"cleanup.policy", opAppend, "compact"}} {
			code, message := alter(topicConfigs, topic, e)
			equal(code, 0, "error code of "+message)
		}
		want := "delete,compact/1 cleanup.policy=delete,compact/1 log.cleanup.policy=delete/5"
		eventually("cleanup.policy is "+want, func() bool { return shown(topicConfigs, topic, "cleanup.policy") == want })
	})
}

func brokerConfigTest() {
	broker, name, value := brokerID(), "log.retention.bytes", "1234567890123"
	topic, _ := newTopic("broker", 1)
	defer unset(brokerConfigs, broker, name)
	defer unset(brokerConfigs, "", name)
	expectShown := func(kind kmsg.ConfigResourceType, resource, config, want string) {
		got := ""
		eventually(config+" of "+resource+" is "+want+", not "+got, func() bool {
			got = shown(kind, resource, config)
			return got == want
		})
	}
	set(brokerConfigs, "", name, value)
	expectShown(topicConfigs, topic, "retention.bytes", "1234567890123/3 log.retention.bytes=1234567890123/3 log.retention.bytes=-1/5")
	expectShown(brokerConfigs, broker, name, "1234567890123/3 log.retention.bytes=1234567890123/3 log.retention.bytes=-1/5")
	expectShown(brokerConfigs, "", name, "1234567890123/3 log.retention.bytes=1234567890123/3")
	expectShown(brokerConfigs, "", "log.roll.ms", "none")
	set(brokerConfigs, broker, name, "77000000000")
	expectShown(topicConfigs, topic, "retention.bytes", "77000000000/2 log.retention.bytes=77000000000/2 log.retention.bytes=1234567890123/3 log.retention.bytes=-1/5")
	set(topicConfigs, topic, "retention.bytes", "88000000000")
	expectShown(topicConfigs, topic, "retention.bytes",
		"88000000000/1 retention.bytes=88000000000/1 log.retention.bytes=77000000000/2 log.retention.bytes=1234567890123/3 log.retention.bytes=-1/5")
}
