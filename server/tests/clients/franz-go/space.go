// DeleteRecords in every version.
package main

import "github.com/twmb/franz-go/pkg/kmsg"

func spaceTests() {
	sweep("delete-records", 0, 2, func(v int16) {
		topic, _ := newTopic("delete-records", 1)
		expect(topic, plain("a", "b"), 0, 0)
		expect(topic, plain("c"), 0, 2)
		for _, c := range []struct {
			offset, low int64
			code        int16
		}{{1, 1, 0}, {0, 1, 0}, {4, -1, 1}, {-2, -1, 1}, {-1, 3, 0}} {
			p := deleteRecords(topic, c.offset, v)
			equal(p.ErrorCode, c.code, "error code")
			equal(p.LowWatermark, c.low, "low watermark")
		}
		equal(listOffset(topic, 0, -2, 7).Offset, 3, "earliest offset")
		expect(topic, plain("d"), 0, 3)
		equal(deleteRecords(topicName("never"), 0, v).ErrorCode, 3, "unknown topic")
	})
}

func deleteRecords(topic string, offset int64, v int16) kmsg.DeleteRecordsResponseTopicPartition {
	req := kmsg.NewPtrDeleteRecordsRequest()
	req.TimeoutMillis = 30000
	t := kmsg.NewDeleteRecordsRequestTopic()
	p := kmsg.NewDeleteRecordsRequestTopicPartition()
	p.Partition, p.Offset = 0, offset
	t.Topic, t.Partitions = topic, []kmsg.DeleteRecordsRequestTopicPartition{p}
	req.Topics = append(req.Topics, t)
	return ask[*kmsg.DeleteRecordsResponse](req, v).Topics[0].Partitions[0]
}
