// DeleteRecords and DescribeLogDirs in every version.
package main

import "github.com/twmb/franz-go/pkg/kmsg"

func spaceTests() {
	sweep("describe-log-dirs", 1, 5, logDirsVersion)
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

func logDirsVersion(v int16) {
	topic, _ := newTopic("log-dirs", 2)
	one := plain("a", "b")
	expect(topic, one, 0, 0)
	size := logDirSize(topic, v)
	equal(size, int64(len(one.encode())), "size of one batch")
	expect(topic, one, 0, 2)
	equal(logDirSize(topic, v), 2*size, "size of two batches")
	equal(deleteRecords(topic, 2, 2).LowWatermark, 2, "low watermark")
	equal(logDirSize(topic, v), size, "size after deletion")
}

// logDirSize is the size of partition 0, of the two partitions that are asked for by number.
func logDirSize(topic string, v int16) int64 {
	req := kmsg.NewPtrDescribeLogDirsRequest()
	t := kmsg.NewDescribeLogDirsRequestTopic()
	t.Topic, t.Partitions = topic, []int32{0, 1, 7}
	req.Topics = append(req.Topics, t)
	resp := ask[*kmsg.DescribeLogDirsResponse](req, v)
	equal(resp.ErrorCode, 0, "error code")
	equal(len(resp.Dirs), 1, "directories")
	dir := resp.Dirs[0]
	equal(dir.ErrorCode, 0, "error code of the directory")
	if v >= 4 && (dir.UsableBytes <= 0 || dir.TotalBytes < dir.UsableBytes) {
		fail("%d of %d bytes are usable", dir.UsableBytes, dir.TotalBytes)
	}
	equal(len(dir.Topics), 1, "topics")
	equal(len(dir.Topics[0].Partitions), 2, "partitions")
	return dir.Topics[0].Partitions[0].Size
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
