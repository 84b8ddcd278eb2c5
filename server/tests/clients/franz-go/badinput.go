// Bad input in one partition: the error code Kafka 4.3 answers, and nothing else in the request is harmed.
package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// badInput is one case. code is what Kafka 4.3.0 answers. Where Kafka is careless, jangbu may do better:
// either is a list of further codes it may answer (what Kafka lets pass or calls UNKNOWN_SERVER_ERROR), and
// harms says that Kafka refuses the whole request, which jangbu must not.
type badInput struct {
	name    string
	code    int16
	version int16
	data    []byte
	either  []int16
	harms   bool
}

func with(change func(*batch)) []byte {
	b := plain("one", "two")
	change(&b)
	return b.encode()
}

func int32Ptr(v int32) *int32 { return &v }

// legacy is a message set entry of magic 0 or 1.
func legacy(magic int8) []byte {
	b := plain("x")
	b.magic = magic
	return b.encode()
}

func badInputs() []badInput {
	flip := func(d []byte) []byte { d[len(d)-3] ^= 1; return d }
	return []badInput{
		{"wrong-crc", 2, 9, with(func(b *batch) { b.damage = flip }), nil, false},
		{"count-too-high", 87, 9, with(func(b *batch) { b.count = int32Ptr(5); b.lastDelta = int32Ptr(4) }), nil, false},
		{"count-too-high-delta-true", 87, 9, with(func(b *batch) { b.count = int32Ptr(5) }), nil, false},
		{"count-too-low", 87, 9, with(func(b *batch) { b.count = int32Ptr(1); b.lastDelta = int32Ptr(0) }), nil, false},
		{"count-zero", 87, 9, with(func(b *batch) { b.count = int32Ptr(0) }), nil, false},
		{"count-negative", 87, 9, with(func(b *batch) { b.count = int32Ptr(-1) }), nil, false},
		{"count-huge", 87, 9, with(func(b *batch) { b.count = int32Ptr(1<<31 - 1) }), nil, false},
		{"last-offset-delta-too-high", 87, 9, with(func(b *batch) { b.lastDelta = int32Ptr(9) }), nil, false},
		{"last-offset-delta-too-low", 87, 9, with(func(b *batch) { b.lastDelta = int32Ptr(0) }), nil, false},
		{"last-offset-delta-negative", 87, 9, with(func(b *batch) { b.lastDelta = int32Ptr(-5) }), nil, false},
		{"record-offset-deltas-from-one", 0, 9, with(func(b *batch) { b.firstDelta = 1 }), []int16{87}, false},
		{"record-garbage", -1, 9, with(func(b *batch) { b.body = []byte("\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff") }), []int16{2, 87, 76}, false},
		{"record-length-too-long", 87, 9, with(func(b *batch) { b.body = append([]byte{0x7e}, encodeRecords(b.records, 0)[1:]...) }), nil, false},
		{"record-trailing-bytes", 87, 9, with(func(b *batch) { b.body = append(encodeRecords(b.records, 0), 0, 0, 0) }), nil, false},
		{"length-too-long", 87, 9, with(func(b *batch) { b.length = 10 }), nil, false},
		{"length-too-short", 2, 9, with(func(b *batch) { b.length = -10 }), nil, false},
		{"length-tiny", 2, 9, with(func(b *batch) { b.damage = func(d []byte) []byte { copy(d[8:], []byte{0, 0, 0, 1}); return d } }), []int16{87}, true},
		{"length-negative", 2, 9, with(func(b *batch) {
			b.damage = func(d []byte) []byte { copy(d[8:], []byte{0xff, 0xff, 0xff, 0xff}); return d }
		}), []int16{87}, true},
		{"truncated-header", 87, 9, with(func(b *batch) { b.damage = func(d []byte) []byte { return d[:30] } }), nil, false},
		{"truncated-body", 87, 9, with(func(b *batch) { b.damage = func(d []byte) []byte { return d[:len(d)-2] } }), nil, false},
		{"one-byte", 87, 9, []byte{0}, nil, false},
		{"empty-records", 87, 9, []byte{}, nil, false},
		{"two-batches", 87, 9, append(plain("a").encode(), plain("b").encode()...), nil, false},
		{"trailing-garbage", 0, 9, append(plain("a").encode(), "garbage"...), []int16{87, 2}, false},
		{"magic-0", 87, 9, legacy(0), nil, false},
		{"magic-1", 87, 9, legacy(1), nil, false},
		{"magic-3", 2, 9, legacy(3), []int16{87}, true},
		{"unknown-codec", -1, 9, with(func(b *batch) { b.attributes = 5 }), []int16{2, 87, 76}, false},
		{"gzip-that-is-not", -1, 9, with(func(b *batch) { b.attributes = 1 }), []int16{2, 87, 76}, false},
		{"snappy-that-is-not", -1, 9, with(func(b *batch) { b.attributes = 2 }), []int16{2, 87, 76}, false},
		{"lz4-that-is-not", -1, 9, with(func(b *batch) { b.attributes = 3 }), []int16{2, 87, 76}, false},
		{"zstd-that-is-not", -1, 9, with(func(b *batch) { b.attributes = 4 }), []int16{2, 87, 76}, false},
		{"zstd-in-produce-6", 76, 6, with(func(b *batch) { b.attributes = 4 }), nil, false},
		{"control-batch", 87, 9, with(func(b *batch) { b.attributes = 0x20 }), nil, false},
		{"too-large", 10, 9, plain(strings.Repeat("x", 1100000)).encode(), nil, false},
		{"producer-id-with-sequence-minus-1", 87, 9, with(func(b *batch) { b.pid = 1 << 40; b.epoch = 0 }), nil, false},
	}
}

func badInputTests() {
	for _, b := range badInputs() {
		test("bad-input/"+b.name, func() { oneBadInput(b) })
	}
	test("bad-input/unknown-partition", func() { unknownPartition() })
	test("bad-input/unknown-topic", func() { unknownTopic() })
	test("bad-input/unknown-topic-id", func() { unknownTopicID() })
	test("bad-input/keyless-on-compacted-topic", func() {
		topic, _ := newTopic("compacted", 1, "cleanup.policy", "compact")
		b := plain("x", "y", "z")
		b.records[0].key, b.records[2].key = nil, nil
		want := fmt.Sprintf("Compacted topic cannot accept message without key in topic partition %s-0", topic)
		for _, b := range []batch{b, gzipped(b)} {
			p := produceFully(topic, b)
			equal(p.ErrorCode, 87, "error code")
			equal(*p.ErrorMessage, "One or more records have been rejected due to 2 record errors in total, and only showing the first three errors at most: "+
				fmt.Sprintf("[RecordError(batchIndex=0, message='%s'), RecordError(batchIndex=2, message='%s')]", want, want), "message")
			equal(fmt.Sprint(len(p.ErrorRecords), p.ErrorRecords[0].RelativeOffset, p.ErrorRecords[1].RelativeOffset), "2 0 2", "records named")
			equal(*p.ErrorRecords[1].ErrorMessage, want, "message of a record")
		}
		b.records[0].key, b.records[2].key = []byte{}, []byte("k")
		equal(produceFully(topic, b).ErrorCode, 0, "an empty key is one")
	})
	test("bad-input/acks-2", func() {
		topic, _ := newTopic("acks2", 1)
		req := produceRequest(topic, [16]byte{}, plain("x").encode())
		req.Acks = 2
		equal(ask[*kmsg.ProduceResponse](req, 9).Topics[0].Partitions[0].ErrorCode, 21, "error code")
	})
	test("bad-input/acks-0-wrong-crc-closes-or-ignores", func() { acksZeroWrongCRC() })
}

func goodNeighbours(topic string, resp *kmsg.ProduceResponse) {
	for _, p := range resp.Topics[0].Partitions {
		if p.Partition == 1 {
			continue
		}
		equal(p.ErrorCode, 0, fmt.Sprintf("error of good partition %d", p.Partition))
		equal(p.BaseOffset, 0, "its base offset")
		_, values := fetchValues(topic, p.Partition, 0)
		equal(strings.Join(values, " "), fmt.Sprintf("good%d", p.Partition), "its content")
	}
}

func oneBadInput(b badInput) {
	topic, _ := newTopic("bad", 3)
	req := produceRequest(topic, [16]byte{}, plain("good0").encode(), b.data, plain("good2").encode())
	resp := ask[*kmsg.ProduceResponse](req, b.version)
	equal(len(resp.Topics[0].Partitions), 3, "answered partitions")
	var code int16
	for _, p := range resp.Topics[0].Partitions {
		if p.Partition == 1 {
			code = p.ErrorCode
			if code != 0 {
				equal(p.BaseOffset, -1, "base offset of the refused batch")
			}
		}
	}
	if onJangbu || !b.harms {
		goodNeighbours(topic, resp)
	}
	if !onJangbu || !slices.Contains(b.either, code) {
		equal(code, b.code, "error code")
	}
	if code != 0 {
		offsets, _ := fetchValues(topic, 1, 0)
		equal(len(offsets), 0, "records of the refused batch in the log")
	}
}

func unknownPartition() {
	topic, _ := newTopic("nopart", 3)
	req := produceRequest(topic, [16]byte{}, plain("good0").encode(), plain("x").encode(), plain("good2").encode())
	req.Topics[0].Partitions[1].Partition = 77
	resp := ask[*kmsg.ProduceResponse](req, 9)
	for _, p := range resp.Topics[0].Partitions {
		if p.Partition == 77 {
			equal(p.ErrorCode, 3, "error code")
		}
	}
	resp.Topics[0].Partitions = keepBelow(resp.Topics[0].Partitions, 77)
	goodNeighbours(topic, resp)
}

func keepBelow(in []kmsg.ProduceResponseTopicPartition, limit int32) (out []kmsg.ProduceResponseTopicPartition) {
	for _, p := range in {
		if p.Partition < limit {
			out = append(out, p)
		}
	}
	return
}

func unknownTopic() {
	topic, _ := newTopic("known", 1)
	req := produceRequest(topic, [16]byte{}, plain("good0").encode())
	other := produceRequest(topicName("never"), [16]byte{}, plain("x").encode())
	req.Topics = append(req.Topics, other.Topics...)
	resp := ask[*kmsg.ProduceResponse](req, 9)
	for _, t := range resp.Topics {
		want := int16(3)
		if t.Topic == topic {
			want = 0
		}
		equal(t.Partitions[0].ErrorCode, want, "error code")
	}
	equal(len(resp.Topics), 2, "topics answered")
}

func unknownTopicID() {
	topic, id := newTopic("knownid", 1)
	req := produceRequest("", id, plain("good0").encode())
	other := produceRequest("", [16]byte{1, 2, 3}, plain("x").encode())
	req.Topics = append(req.Topics, other.Topics...)
	resp := ask[*kmsg.ProduceResponse](req, 13)
	for _, t := range resp.Topics {
		want := int16(100)
		if t.TopicID == id {
			want = 0
		}
		equal(t.Partitions[0].ErrorCode, want, "error code")
	}
	_, values := fetchValues(topic, 0, 0)
	equal(strings.Join(values, " "), "good0", "content")
}

// With acks=0 there is no answer to carry an error: Kafka closes the connection so that the client notices.
func acksZeroWrongCRC() {
	topic, _ := newTopic("acks0crc", 1)
	c := dial()
	defer c.Close()
	b := plain("x")
	b.damage = func(d []byte) []byte { d[len(d)-3] ^= 1; return d }
	req := produceRequest(topic, [16]byte{}, b.encode())
	req.Acks = 0
	c.send(req, 9)
	_, err := c.frame()
	if err == nil {
		fail("an answer to acks=0")
	}
}
