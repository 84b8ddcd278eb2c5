// What the broker makes of a batch before it stores it: its own time, another codec, or a refusal by record.
package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// timed is a batch of records with these timestamps.
func timed(timestamps ...int64) batch {
	b := plain(make([]string, len(timestamps))...)
	b.timestamp = timestamps[0]
	for i, t := range timestamps {
		one := kbin.AppendVarint(kbin.AppendVarlong([]byte{0}, t-timestamps[0]), int32(i))
		one = append(kbin.AppendVarintBytes(kbin.AppendVarintBytes(one, []byte("k")), []byte("v")), 0)
		b.body = append(kbin.AppendVarint(b.body, int32(len(one))), one...)
	}
	return b
}

func gzipped(b batch) batch {
	if b.body == nil {
		b.body = encodeRecords(b.records, b.firstDelta)
	}
	var packed bytes.Buffer
	w := gzip.NewWriter(&packed)
	_, _ = w.Write(b.body)
	check(w.Close(), "gzip")
	b.body, b.attributes = packed.Bytes(), b.attributes|1
	return b
}

func produceFully(topic string, b batch) kmsg.ProduceResponseTopicPartition {
	return ask[*kmsg.ProduceResponse](produceRequest(topic, [16]byte{}, b.encode()), 9).Topics[0].Partitions[0]
}

// header is attributes, base and largest timestamp of the batch at an offset, and its records' bytes.
type header struct {
	attributes     int16
	base, max      int64
	pid            int64
	sequence       int32
	records        []byte
	lastDelta, num int32
}

func stored(topic string, offset int64) header {
	p := ask[*kmsg.FetchResponse](fetchRequest(topic, [16]byte{}, offset, 0), 12).Topics[0].Partitions[0]
	equal(p.ErrorCode, 0, "fetch")
	d := p.RecordBatches
	r := kbin.Reader{Src: d[21:]}
	h := header{attributes: r.Int16(), lastDelta: r.Int32(), base: r.Int64(), max: r.Int64(), pid: r.Int64()}
	r.Int16()
	h.sequence, h.num = r.Int32(), r.Int32()
	h.records = d[61 : 12+int(binary.BigEndian.Uint32(d[8:]))]
	return h
}

func storedTests() {
	test("stored/log-append-time", func() {
		topic, _ := newTopic("append-time", 1, "message.timestamp.type", "LogAppendTime")
		before := time.Now().UnixMilli()
		for i, b := range []batch{timed(5000, 1000, 9000), gzipped(timed(5000, 1000, 9000)), timed(-1, -1, -1)} {
			p := produceFully(topic, b)
			equal(p.ErrorCode, 0, "error")
			if p.LogAppendTime < before || p.LogAppendTime > time.Now().UnixMilli() {
				fail("append time %d", p.LogAppendTime)
			}
			h := stored(topic, int64(3*i))
			equal(h.attributes, b.attributes|8, "attributes")
			equal(h.base, b.timestamp, "base timestamp")
			equal(h.max, p.LogAppendTime, "largest timestamp")
			max := listOffset(topic, 0, -3, 7)
			equal(max.Timestamp, p.LogAppendTime, "greatest timestamp")
			equal(listOffset(topic, 0, p.LogAppendTime+1, 7).Offset, -1, "offset after it")
			for time.Now().UnixMilli() <= p.LogAppendTime {
			}
		}
		equal(listOffset(topic, 0, -3, 7).Offset, 6, "first record of the last batch")
		equal(listOffset(topic, 0, before, 7).Offset, 0, "offset for the beginning")
		twice := idempotent(4321, 0, 0, "a", "b")
		first := produceFully(topic, twice).LogAppendTime
		for time.Now().UnixMilli() <= first {
		}
		again := produceFully(topic, twice)
		equal(again.BaseOffset, 9, "offset of a batch sent again")
		equal(again.LogAppendTime, first, "its append time")
		claims := timed(before)
		claims.attributes = 8
		p := produceFully(topic, claims)
		equal(p.ErrorCode, 32, "error for a producer that says LogAppendTime")
		equal(len(p.ErrorRecords), 1, "records named")
	})
	test("stored/create-time", func() {
		topic, _ := newTopic("create-time", 1)
		p := produceFully(topic, timed(1000, 5000, 3000))
		equal(p.ErrorCode, 0, "error")
		equal(p.LogAppendTime, -1, "append time")
		h := stored(topic, 0)
		equal(h.attributes, 0, "attributes")
		equal(h.max, 5000, "largest timestamp, where the header said 1000")
		equal(listOffset(topic, 0, 4000, 7).Offset, 1, "found to the record")
		claims := timed(9000)
		claims.attributes = 8
		equal(produceFully(topic, claims).ErrorCode, 0, "error for a producer that says LogAppendTime")
		equal(stored(topic, 3).attributes, 0, "attributes then")
	})
	test("stored/timestamps-out-of-bounds-are-named", func() {
		topic, _ := newTopic("bounds", 1, "message.timestamp.before.max.ms", "1000000", "message.timestamp.after.max.ms", "2000000")
		now := time.Now().UnixMilli()
		for _, b := range []batch{timed(now, now-5000000, now+3, now+5000000), gzipped(timed(now, now-5000000, now+3, now+5000000))} {
			p := produceFully(topic, b)
			equal(p.ErrorCode, 32, "error")
			equal(*p.ErrorMessage, "One or more records have been rejected due to invalid timestamp", "message")
			equal(fmt.Sprint(len(p.ErrorRecords), p.ErrorRecords[0].RelativeOffset, p.ErrorRecords[1].RelativeOffset), "2 1 3", "records named")
			want := fmt.Sprintf("Timestamp %d of message with offset 1 is out of range. The timestamp should be within [", now-5000000)
			if got := *p.ErrorRecords[0].ErrorMessage; len(got) < len(want) || got[:len(want)] != want {
				fail("message %q", got)
			}
		}
		for _, b := range []batch{timed(now, now-5000000, now), gzipped(timed(now, now-5000000, now))} {
			equal(produceFully(topic, b).ErrorCode, 32, "one old record in the middle")
		}
		equal(produceFully(topic, timed(-1, -1)).ErrorCode, 0, "no timestamps")
		equal(produceFully(topic, timed(-5, -1)).ErrorCode, 32, "a negative timestamp")
	})
	test("stored/time-that-runs-backwards", func() {
		topic, _ := newTopic("backwards", 1)
		for i, b := range []batch{gzipped(timed(100, 150, 130, 150)), timed(10, 20), gzipped(timed(170, 110, 180, 180, 140))} {
			if i != 1 {
				b = withMax(b, []int64{150, 0, 180}[i])
			}
			equal(produceFully(topic, b).ErrorCode, 0, "error")
		}
		for _, c := range [][3]int64{{0, 0, 100}, {101, 1, 150}, {150, 1, 150}, {151, 6, 170}, {175, 8, 180}, {181, -1, -1}, {-3, 8, 180}} {
			p := listOffset(topic, 0, c[0], 7)
			equal(fmt.Sprint(p.Offset, p.Timestamp), fmt.Sprint(c[1], c[2]), fmt.Sprint("found for ", c[0]))
		}
	})
	for timestamp, first := range map[int64]int16{-3: 7, -4: 8, -5: 9, -6: 11, -7: 12} {
		test(fmt.Sprintf("stored/timestamp%d-since-version-%d", timestamp, first), func() {
			topic, _ := newTopic("since", 1)
			for v := int16(1); v <= 11; v++ {
				want := int16(0)
				if v < first {
					want = 35
				}
				equal(listOffset(topic, 0, timestamp, v).ErrorCode, want, fmt.Sprint("error of version ", v))
			}
		})
	}
	compressionTests()
}

// withMax is a batch whose header states the largest timestamp, which encode() takes from the first.
func withMax(b batch, max int64) batch {
	b.damage = func(d []byte) []byte {
		binary.BigEndian.PutUint64(d[35:], uint64(max))
		binary.BigEndian.PutUint32(d[17:], checksum(d[21:]))
		return d
	}
	return b
}

func compressionTests() {
	for number, codec := range []string{"uncompressed", "gzip", "snappy", "lz4", "zstd"} {
		test("stored/compression-"+codec, func() {
			topic, _ := newTopic("codec", 1, "compression.type", codec)
			for i, b := range []batch{idempotent(99, 0, 0, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "b"), gzipped(idempotent(99, 0, 2, "c", "d"))} {
				p := produceFully(topic, b)
				equal(p.ErrorCode, 0, "error")
				equal(p.BaseOffset, int64(2*i), "offset")
				h := stored(topic, p.BaseOffset)
				equal(h.attributes, int16(number), "codec")
				equal(fmt.Sprint(h.pid, h.sequence, h.num, h.lastDelta, h.max), fmt.Sprint(99, 2*i, 2, 1, b.timestamp), "header")
				equal(produceFully(topic, b).BaseOffset, int64(2*i), "sent again")
			}
			if codec == "gzip" {
				r, err := gzip.NewReader(bytes.NewReader(stored(topic, 0).records))
				check(err, "gzip")
				plain, err := io.ReadAll(r)
				check(err, "gzip")
				want := encodeRecords([]record{{[]byte("k"), []byte("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")}, {[]byte("k"), []byte("b")}}, 0)
				equal(bytes.Equal(plain, want), true, "the records")
			}
			if codec != "uncompressed" {
				return
			}
			for _, count := range []int32{1, 3} {
				lie, last := gzipped(plain("a", "b")), count-1
				lie.count, lie.lastDelta = &count, &last
				equal(produceFully(topic, lie).ErrorCode, 87, fmt.Sprint("2 records that say ", count))
			}
		})
	}
	test("stored/too-large-once-unpacked", func() {
		topic, _ := newTopic("unpacked", 1, "compression.type", "uncompressed", "max.message.bytes", "500")
		equal(produceFully(topic, gzipped(plain(fmt.Sprintf("%2000d", 1)))).ErrorCode, 10, "error")
	})
}
