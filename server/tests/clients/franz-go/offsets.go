// ListOffsets by every kind of timestamp, OffsetForLeaderEpoch, epochs in Fetch, byte limits.
package main

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func listOffsetsRequest(topic string, partition int32, timestamp int64) *kmsg.ListOffsetsRequest {
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID, req.TimeoutMillis = -1, 30000
	t := kmsg.NewListOffsetsRequestTopic()
	p := kmsg.NewListOffsetsRequestTopicPartition()
	p.Partition, p.Timestamp, p.MaxNumOffsets = partition, timestamp, 1
	t.Topic, t.Partitions = topic, []kmsg.ListOffsetsRequestTopicPartition{p}
	req.Topics = append(req.Topics, t)
	return req
}

func listOffset(topic string, partition int32, timestamp int64, v int16) kmsg.ListOffsetsResponseTopicPartition {
	return ask[*kmsg.ListOffsetsResponse](listOffsetsRequest(topic, partition, timestamp), v).Topics[0].Partitions[0]
}

func currentEpoch(topic string) int32 { return metadataOf(topic, 12).Partitions[0].LeaderEpoch }

func epochEnd(topic string, partition, current, asked int32, v int16) kmsg.OffsetForLeaderEpochResponseTopicPartition {
	req := kmsg.NewPtrOffsetForLeaderEpochRequest()
	req.ReplicaID = -1
	t := kmsg.NewOffsetForLeaderEpochRequestTopic()
	p := kmsg.NewOffsetForLeaderEpochRequestTopicPartition()
	p.Partition, p.CurrentLeaderEpoch, p.LeaderEpoch = partition, current, asked
	t.Topic, t.Partitions = topic, []kmsg.OffsetForLeaderEpochRequestTopicPartition{p}
	req.Topics = append(req.Topics, t)
	return ask[*kmsg.OffsetForLeaderEpochResponse](req, v).Topics[0].Partitions[0]
}

func at(timestamp int64, values ...string) batch {
	b := plain(values...)
	b.timestamp = timestamp
	return b
}

func offsetTests() {
	test("offsets/by-timestamp", func() {
		topic, _ := newTopic("time", 1)
		base := plain().timestamp - 100000
		for i, t := range []int64{1000, 3000, 2000, 5000} {
			expect(topic, at(base+t, "a", "b"), 0, int64(2*i))
		}
		for _, c := range []struct{ ask, offset, timestamp int64 }{
			{0, 0, 1000}, {1000, 0, 1000}, {1001, 2, 3000}, {2500, 2, 3000}, {3000, 2, 3000},
			{3001, 6, 5000}, {5000, 6, 5000},
		} {
			p := listOffset(topic, 0, base+c.ask, 7)
			equal(p.Offset, c.offset, fmt.Sprintf("offset for %d", c.ask))
			equal(p.Timestamp, base+c.timestamp, fmt.Sprintf("timestamp for %d", c.ask))
		}
		p := listOffset(topic, 0, base+5001, 7)
		equal(p.Offset, -1, "offset after the last record")
		equal(p.Timestamp, -1, "timestamp after the last record")
		max := listOffset(topic, 0, -3, 7)
		equal(max.Offset, 6, "offset of the greatest timestamp")
		equal(max.Timestamp, base+5000, "greatest timestamp")
	})
	test("offsets/special-timestamps", func() {
		topic, _ := newTopic("special", 1)
		equal(listOffset(topic, 0, -3, 7).Offset, -1, "max timestamp of an empty log")
		expect(topic, plain("a", "b"), 0, 0)
		equal(listOffset(topic, 0, -4, 8).Offset, 0, "earliest local")
		p := listOffset(topic, 0, -5, 9)
		equal(p.ErrorCode, 0, "latest tiered error")
		equal(p.Offset, -1, "latest tiered")
		equal(listOffset(topic, 0, -6, 11).Offset, earliestPendingUpload, "earliest pending upload")
	})
	test("offsets/leader-epochs", func() {
		topic, _ := newTopic("epochs", 1)
		expect(topic, plain("a", "b"), 0, 0)
		now := currentEpoch(topic)
		p := epochEnd(topic, 0, now, now, 4)
		equal(fmt.Sprint(p.ErrorCode, p.LeaderEpoch, p.EndOffset), fmt.Sprint(0, now, 2), "of the current epoch")
		p = epochEnd(topic, 0, -1, now+5, 4)
		equal(fmt.Sprint(p.ErrorCode, p.LeaderEpoch, p.EndOffset), "0 -1 -1", "of an epoch to come")
		equal(epochEnd(topic, 0, now+1, now, 4).ErrorCode, 75, "unknown current epoch")
		equal(epochEnd(topic, 44, -1, 0, 4).ErrorCode, 3, "unknown partition")
		req := fetchRequest(topic, [16]byte{}, 0, 0)
		req.Topics[0].Partitions[0].CurrentLeaderEpoch = now + 1
		equal(ask[*kmsg.FetchResponse](req, 12).Topics[0].Partitions[0].ErrorCode, 75, "fetch with an unknown epoch")
		list := listOffsetsRequest(topic, 0, -1)
		list.Topics[0].Partitions[0].CurrentLeaderEpoch = now + 1
		equal(ask[*kmsg.ListOffsetsResponse](list, 7).Topics[0].Partitions[0].ErrorCode, 75, "list with an unknown epoch")
		equal(listOffset(topic, 0, -1, 7).LeaderEpoch, now, "epoch in ListOffsets")
	})
	test("fetch/whole-batch-for-middle-offset", func() {
		topic, _ := newTopic("whole", 1)
		expect(topic, plain("a", "b", "c"), 0, 0)
		expect(topic, plain("d"), 0, 3)
		offsets, values := fetchValues(topic, 0, 1)
		equal(fmt.Sprint(offsets), "[0 1 2 3]", "offsets")
		equal(strings.Join(values, ""), "abcd", "values")
	})
	test("fetch/first-batch-even-above-the-limits", func() {
		topic, _ := newTopic("limits", 2)
		for range 3 {
			expect(topic, plain(strings.Repeat("x", 10000)), 0, int64(len(fetched(topic, 10<<20))))
		}
		equal(len(fetched(topic, 1)), 1, "batches within one byte")
		equal(len(fetched(topic, 25000)), 2, "batches within 25 kB")
	})
	test("fetch/offset-at-end-is-empty", func() {
		topic, _ := newTopic("end", 1)
		expect(topic, plain("a"), 0, 0)
		offsets, _ := fetchValues(topic, 0, 1)
		equal(len(offsets), 0, "records")
		req := fetchRequest(topic, [16]byte{}, -1, 0)
		equal(ask[*kmsg.FetchResponse](req, 12).Topics[0].Partitions[0].ErrorCode, 1, "offset -1")
	})
	test("fetch/min-bytes-waits", func() {
		topic, _ := newTopic("minbytes", 1)
		expect(topic, plain("a"), 0, 0)
		req := fetchRequest(topic, [16]byte{}, 0, 0)
		req.MinBytes, req.MaxWaitMillis = 100000, 700
		waited := elapsed(func() {
			_, values := decodeValues(ask[*kmsg.FetchResponse](req, 12).Topics[0].Partitions[0].RecordBatches)
			equal(len(values), 1, "records after the wait")
		})
		if waited < 600 {
			fail("waited only %d ms", waited)
		}
	})
	test("fetch/error-answers-at-once", func() {
		topic, _ := newTopic("aterror", 1)
		req := fetchRequest(topic, [16]byte{}, 99, 0)
		req.MaxWaitMillis = 20000
		if waited := elapsed(func() { ask[*kmsg.FetchResponse](req, 12) }); waited > 5000 {
			fail("waited %d ms", waited)
		}
	})
	test("fetch/thousand-partitions-in-one-request", thousandInOne)
}

const earliestPendingUpload = int64(-1)

func fetched(topic string, bytes int32) []string {
	req := fetchRequest(topic, [16]byte{}, 0, 0)
	req.MaxBytes, req.Topics[0].Partitions[0].PartitionMaxBytes = bytes, bytes
	req.MaxWaitMillis = 0
	_, values := decodeValues(ask[*kmsg.FetchResponse](req, 12).Topics[0].Partitions[0].RecordBatches)
	return values
}

func thousandInOne() {
	topic, id := newTopic("kilo", 1000)
	var data [][]byte
	var all []int32
	for i := range 1000 {
		data = append(data, plain(fmt.Sprint(i)).encode())
		all = append(all, int32(i))
	}
	for _, p := range ask[*kmsg.ProduceResponse](produceRequest(topic, id, data...), 13).Topics[0].Partitions {
		equal(p.ErrorCode, 0, "produce error")
	}
	resp := ask[*kmsg.FetchResponse](fetchRequest(topic, id, 0, all...), 17)
	equal(len(resp.Topics[0].Partitions), 1000, "partitions")
	for _, p := range resp.Topics[0].Partitions {
		_, values := decodeValues(p.RecordBatches)
		equal(strings.Join(values, " "), fmt.Sprint(p.Partition), "content")
	}
	gone := kmsg.NewPtrDeleteTopicsRequest()
	gone.TimeoutMillis = 60000
	gone.Topics = []kmsg.DeleteTopicsRequestTopic{{Topic: &topic}}
	equal(ask[*kmsg.DeleteTopicsResponse](gone, 6).Topics[0].ErrorCode, 0, "delete")
}
