// One raw connection, and record batches made by hand so that they can also be made wrong.
package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type conn struct {
	net.Conn
	correlation int32
}

func dial() *conn {
	c, err := net.DialTimeout("tcp", bootstrap, 10*time.Second)
	check(err, "connect")
	return &conn{Conn: c}
}

var formatter = kmsg.NewRequestFormatter(kmsg.FormatterClientID("franz-go-raw"))

// send writes one request in the given version.
func (c *conn) send(req kmsg.Request, version int16) {
	req.SetVersion(version)
	c.correlation++
	_ = c.SetDeadline(time.Now().Add(60 * time.Second))
	_, err := c.Write(formatter.AppendRequest(nil, req, c.correlation))
	check(err, "write")
}

// receive reads the answer to req. The body must hold exactly what the version's schema says: it is
// encoded again and compared in length, so missing and surplus bytes both fail.
func (c *conn) receive(req kmsg.Request) kmsg.Response {
	body, err := c.frame()
	check(err, fmt.Sprintf("answer to %s v%d", kmsg.NameForKey(req.Key()), req.GetVersion()))
	equal(int32(binary.BigEndian.Uint32(body)), c.correlation, "correlation id")
	body = body[4:]
	resp := req.ResponseKind()
	if resp.IsFlexible() && req.Key() != 18 {
		r := kbin.Reader{Src: body}
		kmsg.SkipTags(&r)
		check(r.Complete(), "response header")
		body = r.Src
	}
	what := fmt.Sprintf("%s v%d", kmsg.NameForKey(req.Key()), req.GetVersion())
	check(resp.ReadFrom(body), "decode "+what)
	equal(len(resp.AppendTo(nil)), len(body), "length of the body of "+what)
	return resp
}

func (c *conn) frame() ([]byte, error) {
	size := make([]byte, 4)
	if _, err := io.ReadFull(c, size); err != nil {
		return nil, err
	}
	n := int32(binary.BigEndian.Uint32(size))
	if n < 4 || n > 200<<20 {
		return nil, errors.New("frame size out of range")
	}
	body := make([]byte, n)
	_, err := io.ReadFull(c, body)
	return body, err
}

// ask sends on a fresh connection and returns the typed answer.
func ask[R kmsg.Response](req kmsg.Request, version int16) R {
	c := dial()
	defer c.Close()
	return askOn[R](c, req, version)
}

func askOn[R kmsg.Response](c *conn, req kmsg.Request, version int16) R {
	c.send(req, version)
	return c.receive(req).(R)
}

type record struct{ key, value []byte }

// batch is a record batch v2; zero values give a sound one. Set a field to make it lie.
type batch struct {
	records    []record
	attributes int16
	timestamp  int64
	pid        int64
	epoch      int16
	sequence   int32
	count      *int32
	lastDelta  *int32
	body       []byte // instead of the encoded records
	magic      int8
	damage     func([]byte) []byte // after the CRC
	length     int32               // added to the true length
	firstDelta int                 // offset delta of the first record
}

func plain(values ...string) batch {
	b := batch{pid: -1, epoch: -1, sequence: -1, magic: 2, timestamp: time.Now().UnixMilli()}
	for _, v := range values {
		b.records = append(b.records, record{[]byte("k"), []byte(v)})
	}
	return b
}

func idempotent(pid int64, epoch int16, sequence int32, values ...string) batch {
	b := plain(values...)
	b.pid, b.epoch, b.sequence = pid, epoch, sequence
	return b
}

func encodeRecords(records []record, firstDelta int) []byte {
	var out []byte
	for i, r := range records {
		one := []byte{0}
		one = kbin.AppendVarlong(one, 0)
		one = kbin.AppendVarint(one, int32(i+firstDelta))
		one = kbin.AppendVarintBytes(one, r.key)
		one = kbin.AppendVarintBytes(one, r.value)
		one = kbin.AppendVarint(one, 0)
		out = kbin.AppendVarint(out, int32(len(one)))
		out = append(out, one...)
	}
	return out
}

func checksum(covered []byte) uint32 {
	return crc32.Checksum(covered, crc32.MakeTable(crc32.Castagnoli))
}

func (b batch) encode() []byte {
	n := int32(len(b.records))
	count, last := n, n-1
	if b.count != nil {
		count = *b.count
	}
	if b.lastDelta != nil {
		last = *b.lastDelta
	}
	body := b.body
	if body == nil {
		body = encodeRecords(b.records, b.firstDelta)
	}
	var t []byte
	t = kbin.AppendInt16(t, b.attributes)
	t = kbin.AppendInt32(t, last)
	t = kbin.AppendInt64(t, b.timestamp)
	t = kbin.AppendInt64(t, b.timestamp)
	t = kbin.AppendInt64(t, b.pid)
	t = kbin.AppendInt16(t, b.epoch)
	t = kbin.AppendInt32(t, b.sequence)
	t = kbin.AppendInt32(t, count)
	t = append(t, body...)
	var out []byte
	out = kbin.AppendInt64(out, 0)
	out = kbin.AppendInt32(out, int32(len(t))+9+b.length)
	out = kbin.AppendInt32(out, -1)
	out = kbin.AppendInt8(out, b.magic)
	out = kbin.AppendUint32(out, checksum(t))
	out = append(out, t...)
	if b.damage != nil {
		out = b.damage(out)
	}
	return out
}

// decodeValues lists (offset, value) of the uncompressed batches in what a fetch returned.
func decodeValues(data []byte) (offsets []int64, values []string) {
	for len(data) >= 61 {
		length := int(binary.BigEndian.Uint32(data[8:]))
		if len(data) < 12+length {
			return
		}
		base := int64(binary.BigEndian.Uint64(data))
		r := kbin.Reader{Src: data[61 : 12+length]}
		for i := 0; i < int(binary.BigEndian.Uint32(data[57:])); i++ {
			one := kbin.Reader{Src: r.Span(int(r.Varint()))}
			one.Int8()
			one.Varlong()
			offsets = append(offsets, base+int64(one.Varint()))
			one.VarintBytes()
			values = append(values, string(bytes.Clone(one.VarintBytes())))
		}
		data = data[12+length:]
	}
	return
}

// newTopic creates a topic and returns its name and id once every partition has a leader.
func newTopic(name string, partitions int32, configs ...string) (string, [16]byte) {
	topic, code := createTopic(name, partitions, configs...)
	equal(code, 0, "create "+topic)
	return topic, awaitLeaders(topic, int(partitions))
}

func createTopic(name string, partitions int32, configs ...string) (string, int16) {
	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = 30000
	t := kmsg.NewCreateTopicsRequestTopic()
	t.Topic, t.NumPartitions, t.ReplicationFactor = topicName(name), partitions, 1
	for i := 0; i+1 < len(configs); i += 2 {
		c := kmsg.NewCreateTopicsRequestTopicConfig()
		c.Name, c.Value = configs[i], kmsg.StringPtr(configs[i+1])
		t.Configs = append(t.Configs, c)
	}
	req.Topics = append(req.Topics, t)
	return t.Topic, ask[*kmsg.CreateTopicsResponse](req, 7).Topics[0].ErrorCode
}

func awaitLeaders(topic string, partitions int) [16]byte {
	for start := time.Now(); time.Since(start) < 30*time.Second; time.Sleep(20 * time.Millisecond) {
		t := metadataOf(topic, 12)
		ready := t.ErrorCode == 0 && len(t.Partitions) == partitions
		for _, p := range t.Partitions {
			ready = ready && p.ErrorCode == 0 && p.Leader >= 0
		}
		if ready && answering(topic, partitions) {
			return t.TopicID
		}
	}
	fail("%s has no leaders", topic)
	return [16]byte{}
}

// eventually waits until a change has reached every thread of a broker: Kafka answers before that.
func eventually(what string, condition func() bool) {
	for start := time.Now(); !condition(); time.Sleep(20 * time.Millisecond) {
		if time.Since(start) > 20*time.Second {
			fail("not in time: %s", what)
		}
	}
}

// answering is whether every partition serves requests: Kafka names a leader a little earlier.
func answering(topic string, partitions int) bool {
	req := listOffsetsRequest(topic, 0, -1)
	for p := 1; p < partitions; p++ {
		one := req.Topics[0].Partitions[0]
		one.Partition = int32(p)
		req.Topics[0].Partitions = append(req.Topics[0].Partitions, one)
	}
	for _, p := range ask[*kmsg.ListOffsetsResponse](req, 7).Topics[0].Partitions {
		if p.ErrorCode != 0 {
			return false
		}
	}
	return true
}

func metadataOf(topic string, version int16) kmsg.MetadataResponseTopic {
	req := kmsg.NewPtrMetadataRequest()
	t := kmsg.NewMetadataRequestTopic()
	t.Topic = kmsg.StringPtr(topic)
	req.Topics = []kmsg.MetadataRequestTopic{t}
	resp := ask[*kmsg.MetadataResponse](req, version)
	equal(len(resp.Topics), 1, "topics in metadata")
	return resp.Topics[0]
}

// produceRequest puts data[i] into partition i of a topic.
func produceRequest(topic string, id [16]byte, data ...[]byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 30000
	t := kmsg.NewProduceRequestTopic()
	t.Topic, t.TopicID = topic, id
	for i, d := range data {
		p := kmsg.NewProduceRequestTopicPartition()
		p.Partition, p.Records = int32(i), d
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	return req
}

// produce writes one batch to partition 0 and returns (error code, base offset).
func produce(topic string, b batch) (int16, int64) {
	resp := ask[*kmsg.ProduceResponse](produceRequest(topic, [16]byte{}, b.encode()), 9)
	p := resp.Topics[0].Partitions[0]
	return p.ErrorCode, p.BaseOffset
}

func fetchRequest(topic string, id [16]byte, offset int64, partitions ...int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 500, 1, 50<<20
	req.SessionEpoch = -1
	t := kmsg.NewFetchRequestTopic()
	t.Topic, t.TopicID = topic, id
	for _, n := range partitions {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition, p.FetchOffset, p.PartitionMaxBytes = n, offset, 10<<20
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	return req
}

func fetchValues(topic string, partition int32, offset int64) (offsets []int64, values []string) {
	resp := ask[*kmsg.FetchResponse](fetchRequest(topic, [16]byte{}, offset, partition), 12)
	p := resp.Topics[0].Partitions[0]
	equal(p.ErrorCode, 0, "fetch error")
	return decodeValues(p.RecordBatches)
}
