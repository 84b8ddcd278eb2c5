// What an application does with kgo and kadm.
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func client(opts ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(bootstrap)}, opts...)...)
	check(err, "client")
	return cl
}

func timeout(d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	_ = cancel
	return ctx
}

// oddRecords has null keys and values, empty values, and headers.
func oddRecords(topic string, count int) []*kgo.Record {
	var out []*kgo.Record
	for i := range count {
		r := &kgo.Record{Topic: topic, Key: []byte(fmt.Sprintf("key-%d", i)), Value: bytes.Repeat([]byte{byte(i)}, i%300)}
		switch i % 5 {
		case 1:
			r.Key = nil
		case 2:
			r.Value = nil
		case 3:
			r.Value = []byte{}
		case 4:
			r.Headers = []kgo.RecordHeader{{Key: "h", Value: []byte("v")}, {Key: "h", Value: nil}, {Key: "", Value: []byte{}}}
		}
		out = append(out, r)
	}
	return out
}

func sameBytes(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

func sameRecord(got, want *kgo.Record, offset int64) {
	equal(got.Offset, offset, "offset")
	if !sameBytes(got.Key, want.Key) || !sameBytes(got.Value, want.Value) {
		fail("record %d differs", offset)
	}
	equal(len(got.Headers), len(want.Headers), fmt.Sprintf("headers of record %d", offset))
	for i, h := range want.Headers {
		if got.Headers[i].Key != h.Key || !sameBytes(got.Headers[i].Value, h.Value) {
			fail("header %d of record %d differs", i, offset)
		}
	}
}

func produceAll(cl *kgo.Client, records []*kgo.Record) {
	check(cl.ProduceSync(timeout(60*time.Second), records...).FirstErr(), "produce")
}

func consumeFrom(topic string, from kgo.Offset, count int) []*kgo.Record {
	cl := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: from}}))
	defer cl.Close()
	var got []*kgo.Record
	ctx := timeout(60 * time.Second)
	for len(got) < count {
		f := cl.PollFetches(ctx)
		check(f.Err(), "poll")
		got = append(got, f.Records()...)
	}
	equal(len(got), count, "records read")
	return got
}

func clientTests() {
	for name, codec := range map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	} {
		test("client/codec-"+name, func() { roundTrip(kgo.ProducerBatchCompression(codec)) })
	}
	test("client/acks-0", func() { roundTrip(kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite()) })
	test("client/acks-1", func() { roundTrip(kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite()) })
	test("client/acks-all-not-idempotent", func() { roundTrip(kgo.DisableIdempotentWrite()) })
	test("client/middle-of-batch", middleOfBatch)
	test("client/long-poll", longPoll)
	test("client/large-and-too-large", tooLarge)
	test("client/thousand-partitions", thousandPartitions)
	test("client/unknown-topic", func() {
		cl := client(kgo.RecordRetries(2), kgo.UnknownTopicRetries(1))
		defer cl.Close()
		err := cl.ProduceSync(timeout(30*time.Second), &kgo.Record{Topic: topicName("nope")}).FirstErr()
		if !errors.Is(err, kerr.UnknownTopicOrPartition) {
			fail("got %v", err)
		}
	})
	test("client/auto-create", func() {
		topic := topicName("auto")
		cl := client(kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic(topic))
		defer cl.Close()
		records := oddRecords("", 20)
		produceAll(cl, records)
		for i, r := range consumeFrom(topic, kgo.NewOffset().AtStart(), 20) {
			sameRecord(r, records[i], int64(i))
		}
	})
	test("client/topic-names", topicNames)
	test("client/kadm-create-list-delete", createListDelete)
}

func roundTrip(opts ...kgo.Opt) {
	topic, _ := newTopic("round", 1)
	cl := client(opts...)
	defer cl.Close()
	records := oddRecords(topic, 1000)
	produceAll(cl, records)
	check(cl.Flush(timeout(30*time.Second)), "flush")
	for i, r := range consumeFrom(topic, kgo.NewOffset().AtStart(), len(records)) {
		sameRecord(r, records[i], int64(i))
	}
}

func middleOfBatch() {
	topic, _ := newTopic("middle", 1)
	cl := client(kgo.ProducerLinger(200 * time.Millisecond))
	defer cl.Close()
	records := oddRecords(topic, 500)
	produceAll(cl, records)
	for _, from := range []int64{1, 249, 250, 499} {
		for i, r := range consumeFrom(topic, kgo.NewOffset().At(from), 500-int(from)) {
			sameRecord(r, records[int(from)+i], from+int64(i))
		}
	}
}

func longPoll() {
	topic, id := newTopic("poll", 1)
	c := dial()
	defer c.Close()
	req := fetchRequest(topic, id, 0, 0)
	req.MaxWaitMillis = 1000
	start := time.Now()
	c.send(req, 13)
	c.receive(req)
	if waited := time.Since(start); waited < 900*time.Millisecond || waited > 3*time.Second {
		fail("an empty poll of 1 s waited %v", waited)
	}
	req.MaxWaitMillis = 20000
	start = time.Now()
	c.send(req, 13)
	time.Sleep(300 * time.Millisecond)
	produce(topic, plain("late"))
	c.receive(req)
	if waited := time.Since(start); waited > 5*time.Second {
		fail("a record came after %v", waited)
	}
	_, values := fetchValues(topic, 0, 0)
	equal(len(values), 1, "records")
}

func tooLarge() {
	topic, _ := newTopic("large", 1)
	cl := client(kgo.ProducerBatchMaxBytes(4<<20), kgo.ProducerBatchCompression(kgo.NoCompression()))
	defer cl.Close()
	fits := &kgo.Record{Topic: topic, Value: bytes.Repeat([]byte("m"), 1000000)}
	produceAll(cl, []*kgo.Record{fits})
	err := cl.ProduceSync(timeout(30*time.Second), &kgo.Record{Topic: topic, Value: make([]byte, 2000000)}).FirstErr()
	if !errors.Is(err, kerr.MessageTooLarge) {
		fail("2 MB: got %v", err)
	}
	after := &kgo.Record{Topic: topic, Value: []byte("after")}
	produceAll(cl, []*kgo.Record{after})
	got := consumeFrom(topic, kgo.NewOffset().AtStart(), 2)
	sameRecord(got[0], fits, 0)
	sameRecord(got[1], after, 1)
}

func thousandPartitions() {
	const partitions = 1000
	topic, _ := newTopic("thousand", partitions)
	cl := client(kgo.RecordPartitioner(kgo.ManualPartitioner()))
	defer cl.Close()
	offsets := map[int32]kgo.Offset{}
	var records []*kgo.Record
	for p := range int32(partitions) {
		offsets[p] = kgo.NewOffset().AtStart()
		for range 3 {
			records = append(records, &kgo.Record{Topic: topic, Partition: p, Value: []byte(fmt.Sprint(p))})
		}
	}
	produceAll(cl, records)
	reader := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: offsets}))
	defer reader.Close()
	next := map[int32]int64{}
	for got := 0; got < len(records); {
		f := reader.PollFetches(timeout(60 * time.Second))
		check(f.Err(), "poll")
		for _, r := range f.Records() {
			equal(r.Offset, next[r.Partition], "offset")
			equal(string(r.Value), fmt.Sprint(r.Partition), "value")
			next[r.Partition]++
			got++
		}
	}
	_, err := kadm.NewClient(cl).DeleteTopic(timeout(60*time.Second), topic)
	check(err, "delete")
}

func topicNames() {
	cl := client()
	defer cl.Close()
	adm := kadm.NewClient(cl)
	long := string(bytes.Repeat([]byte("x"), 250))
	for _, bad := range []string{"", ".", "..", "a b", "a/b", "ü", long, "a\nb", "a:b"} {
		r, err := adm.CreateTopic(timeout(30*time.Second), 1, 1, nil, bad)
		if err == nil {
			err = r.Err
		}
		if !errors.Is(err, kerr.InvalidTopicException) {
			fail("name %q: got %v", bad, err)
		}
	}
	for _, good := range []string{"a.b_c-D9" + randomSuffix(), long[:241] + randomSuffix()} {
		_, err := adm.CreateTopic(timeout(30*time.Second), 1, 1, nil, good)
		check(err, "name "+good)
	}
}

func createListDelete() {
	cl := client()
	defer cl.Close()
	adm := kadm.NewClient(cl)
	topic, ctx := topicName("admin"), timeout(60*time.Second)
	_, err := adm.CreateTopic(ctx, 3, 1, nil, topic)
	check(err, "create")
	_, err = adm.CreateTopic(ctx, 3, 1, nil, topic)
	if !errors.Is(err, kerr.TopicAlreadyExists) {
		fail("a second create: %v", err)
	}
	awaitLeaders(topic, 3)
	list, err := adm.ListTopics(ctx, topic)
	check(err, "list")
	equal(len(list[topic].Partitions), 3, "partitions")
	_, err = adm.DeleteTopic(ctx, topic)
	check(err, "delete")
	for start := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		list, err := adm.ListTopics(ctx)
		check(err, "list")
		if !list.Has(topic) {
			return
		}
		if time.Since(start) > 20*time.Second {
			fail("a deleted topic is still listed")
		}
	}
}
