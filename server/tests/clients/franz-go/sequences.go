// Idempotent producers: duplicates, gaps and epochs.
package main

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func newProducerID() (int64, int16) {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.TransactionTimeoutMillis = 60000
	resp := ask[*kmsg.InitProducerIDResponse](req, 4)
	equal(resp.ErrorCode, 0, "init producer id")
	return resp.ProducerID, resp.ProducerEpoch
}

func expect(topic string, b batch, code int16, offset int64) {
	gotCode, gotOffset := produce(topic, b)
	equal(gotCode, code, "error code")
	equal(gotOffset, offset, "base offset")
}

func sequenceTests() {
	test("sequence/duplicate-gets-first-offset", func() {
		topic, _ := newTopic("dup", 1)
		pid, epoch := newProducerID()
		for i := int32(0); i < 5; i++ {
			expect(topic, idempotent(pid, epoch, 2*i, "a", "b"), 0, int64(2*i))
		}
		for i := int32(0); i < 5; i++ {
			expect(topic, idempotent(pid, epoch, 2*i, "a", "b"), 0, int64(2*i))
		}
		offsets, _ := fetchValues(topic, 0, 0)
		equal(len(offsets), 10, "records in the log")
	})
	test("sequence/duplicate-older-than-five-batches", func() {
		topic, _ := newTopic("old", 1)
		pid, epoch := newProducerID()
		for i := int32(0); i < 7; i++ {
			expect(topic, idempotent(pid, epoch, i, "a"), 0, int64(i))
		}
		expect(topic, idempotent(pid, epoch, 0, "a"), 45, -1)
	})
	test("sequence/gap-is-out-of-order", func() {
		topic, _ := newTopic("gap", 1)
		pid, epoch := newProducerID()
		expect(topic, idempotent(pid, epoch, 0, "a"), 0, 0)
		expect(topic, idempotent(pid, epoch, 2, "c"), 45, -1)
		expect(topic, idempotent(pid, epoch, 1, "b"), 0, 1)
	})
	test("sequence/overlapping-is-out-of-order", func() {
		topic, _ := newTopic("overlap", 1)
		pid, epoch := newProducerID()
		expect(topic, idempotent(pid, epoch, 0, "a", "b", "c"), 0, 0)
		expect(topic, idempotent(pid, epoch, 1, "b", "c", "d"), 45, -1)
	})
	test("sequence/unknown-producer-may-start-anywhere", func() {
		topic, _ := newTopic("fresh", 1)
		pid, epoch := newProducerID()
		expect(topic, idempotent(pid, epoch, 7, "a"), 0, 0)
		expect(topic, idempotent(pid, epoch, 8, "b"), 0, 1)
	})
	test("sequence/stale-epoch", func() {
		topic, _ := newTopic("stale", 1)
		pid, epoch := newProducerID()
		expect(topic, idempotent(pid, epoch+1, 0, "a"), 0, 0)
		expect(topic, idempotent(pid, epoch, 1, "b"), 47, -1)
	})
	test("sequence/new-epoch-starts-at-zero", func() {
		topic, _ := newTopic("bump", 1)
		pid, epoch := newProducerID()
		expect(topic, idempotent(pid, epoch, 0, "a"), 0, 0)
		expect(topic, idempotent(pid, epoch+1, 1, "b"), 45, -1)
		expect(topic, idempotent(pid, epoch+1, 0, "b"), 0, 1)
	})
	test("sequence/wraps-after-max-int", func() {
		topic, _ := newTopic("wrap", 1)
		pid, epoch := newProducerID()
		expect(topic, idempotent(pid, epoch, 1<<31-2, "a", "b"), 0, 0)
		expect(topic, idempotent(pid, epoch, 0, "c"), 0, 2)
	})
	test("sequence/refused-neighbour-does-not-harm", sequenceNeighbours)
	test("sequence/producer-ids-are-unique", func() {
		seen := map[int64]bool{}
		for i := 0; i < 50; i++ {
			pid, _ := newProducerID()
			if seen[pid] {
				fail("producer id %d twice", pid)
			}
			seen[pid] = true
		}
	})
}

func sequenceNeighbours() {
	topic, _ := newTopic("neigh", 3)
	pid, epoch := newProducerID()
	first := idempotent(pid, epoch, 0, "a").encode()
	second := idempotent(pid, epoch, 1, "b").encode()
	gap := idempotent(pid, epoch, 5, "x").encode()
	ask[*kmsg.ProduceResponse](produceRequest(topic, [16]byte{}, first, first, first), 9)
	resp := ask[*kmsg.ProduceResponse](produceRequest(topic, [16]byte{}, second, gap, second), 9)
	var got []string
	for i := int32(0); i < 3; i++ {
		for _, p := range resp.Topics[0].Partitions {
			if p.Partition == i {
				got = append(got, fmt.Sprintf("%d@%d", p.ErrorCode, p.BaseOffset))
			}
		}
	}
	equal(strings.Join(got, " "), "0@1 45@-1 0@1", "codes and offsets")
}
