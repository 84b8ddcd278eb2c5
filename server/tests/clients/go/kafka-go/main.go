// The kafka-go suite: a writer with every codec, readers of one partition and of a group, and its administrative requests.
package main

import (
	"context"
	"io"
	"time"

	"github.com/segmentio/kafka-go"

	. "jangbu/tests/go/suite"
)

func client() *kafka.Client {
	return &kafka.Client{Addr: kafka.TCP(Bootstrap), Timeout: 30 * time.Second}
}

func within(limit time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	time.AfterFunc(limit, cancel)
	return ctx
}

func newTopic(name string, partitions int) string {
	topic := Name(name)
	made, err := client().CreateTopics(within(30*time.Second), &kafka.CreateTopicsRequest{
		Topics: []kafka.TopicConfig{{Topic: topic, NumPartitions: partitions, ReplicationFactor: 1}},
	})
	Check(err, "create")
	Check(made.Errors[topic], "create "+topic)
	Await("leaders of "+topic, func() bool {
		found, err := client().Metadata(within(30*time.Second), &kafka.MetadataRequest{Topics: []string{topic}})
		Check(err, "metadata")
		if found.Topics[0].Error != nil || len(found.Topics[0].Partitions) != partitions {
			return false
		}
		for _, p := range found.Topics[0].Partitions {
			if p.Error != nil || p.Leader.Host == "" {
				return false
			}
		}
		return true
	})
	return topic
}

func produce(topic string, rows []Row, codec kafka.Compression) {
	writer := &kafka.Writer{Addr: kafka.TCP(Bootstrap), Topic: topic, Balancer: kafka.Murmur2Balancer{},
		RequiredAcks: kafka.RequireAll, Compression: codec, BatchSize: 200, BatchTimeout: 20 * time.Millisecond}
	defer writer.Close()
	var messages []kafka.Message
	for _, row := range rows {
		messages = append(messages, kafka.Message{Key: []byte(row.Key), Value: []byte(row.Value),
			Headers: []kafka.Header{{Key: "h", Value: []byte(row.Key)}}})
	}
	Check(writer.WriteMessages(within(60*time.Second), messages...), "write")
}

func row(m kafka.Message) Row {
	Equal(string(m.Headers[0].Value), string(m.Key), "header")
	return Row{Key: string(m.Key), Value: string(m.Value)}
}

func roundTrip(codec kafka.Compression) {
	topic, rows := newTopic("round", 1), Rows("v", 500)
	produce(topic, rows, codec)
	for _, from := range []int{0, 333} {
		reader := kafka.NewReader(kafka.ReaderConfig{Brokers: []string{Bootstrap}, Topic: topic, MaxWait: 500 * time.Millisecond})
		Check(reader.SetOffset(int64(from)), "seek")
		var got []Row
		for len(got) < len(rows)-from {
			m, err := reader.ReadMessage(within(30 * time.Second))
			Check(err, "read")
			Equal(m.Offset, int64(from+len(got)), "offset")
			got = append(got, row(m))
		}
		Once(got, rows[from:], "rows")
		Check(reader.Close(), "close")
	}
}

func member(group, topic string) *kafka.Reader {
	return kafka.NewReader(kafka.ReaderConfig{Brokers: []string{Bootstrap}, GroupID: group, Topic: topic,
		StartOffset: kafka.FirstOffset, MaxWait: 500 * time.Millisecond, HeartbeatInterval: 500 * time.Millisecond,
		SessionTimeout: 6 * time.Second, RebalanceTimeout: 6 * time.Second, JoinGroupBackoff: 200 * time.Millisecond})
}

// fetch hands on what a member reads until it is closed.
func fetch(reader *kafka.Reader) <-chan kafka.Message {
	came := make(chan kafka.Message)
	go func() {
		defer close(came)
		for {
			m, err := reader.FetchMessage(context.Background())
			if err == io.EOF {
				return
			}
			if err == nil {
				came <- m
			}
		}
	}()
	return came
}

// take reads so many records of one member and commits each.
func take(reader *kafka.Reader, count int) []Row {
	var got []Row
	for len(got) < count {
		m, err := reader.FetchMessage(within(60 * time.Second))
		Check(err, "fetch")
		Check(reader.CommitMessages(within(30*time.Second), m), "commit")
		got = append(got, row(m))
	}
	return got
}

// owned is how many partitions each member of a settled group has.
func owned(group string) []int {
	found, err := client().DescribeGroups(within(30*time.Second), &kafka.DescribeGroupsRequest{GroupIDs: []string{group}})
	Check(err, "describe")
	if found.Groups[0].GroupState != "Stable" {
		return nil
	}
	var counts []int
	for _, each := range found.Groups[0].Members {
		count := 0
		for _, topic := range each.MemberAssignments.Topics {
			count += len(topic.Partitions)
		}
		counts = append(counts, count)
	}
	return counts
}

func shared(group string, want ...int) func() bool {
	return func() bool {
		got := owned(group)
		if len(got) != len(want) {
			return false
		}
		for i := range got {
			if got[i] != want[i] {
				return false
			}
		}
		return true
	}
}

func group() {
	topic, name := newTopic("group", Partitions), Name("g")
	first, second, third := Rows("first", 100), Rows("second", 200), Rows("third", 100)
	produce(topic, first, kafka.Gzip)
	one := member(name, topic)
	got := take(one, 60)
	Check(one.Close(), "leave")
	one = member(name, topic)
	Once(append(got, take(one, 40)...), first, "what was read before the restart and after it")
	two := member(name, topic)
	a, b := fetch(one), fetch(two)
	Await("two members share the partitions", shared(name, 2, 2))
	produce(topic, second, kafka.Snappy)
	got = nil
	for len(got) < len(second) {
		from, m := one, kafka.Message{}
		select {
		case m = <-a:
		case m = <-b:
			from = two
		case <-time.After(30 * time.Second):
			Fail("%d of %d records came", len(got), len(second))
		}
		Check(from.CommitMessages(within(30*time.Second), m), "commit")
		got = append(got, row(m))
	}
	Once(got, second, "what two members read")
	Check(one.Close(), "leave")
	Await("one has left, the other has all", shared(name, Partitions))
	produce(topic, third, kafka.Lz4)
	got = nil
	for len(got) < len(third) {
		m := <-b
		Check(two.CommitMessages(within(30*time.Second), m), "commit")
		got = append(got, row(m))
	}
	Once(got, third, "what is read by the one that is left")
	administer(topic, name)
	Check(two.Close(), "leave")
	removed, err := client().DeleteGroups(within(30*time.Second), &kafka.DeleteGroupsRequest{GroupIDs: []string{name}})
	Check(err, "delete")
	Check(removed.Errors[name], "delete "+name)
}

// administer looks at a settled group from outside.
func administer(topic, name string) {
	offsets, err := client().OffsetFetch(within(30*time.Second), &kafka.OffsetFetchRequest{
		GroupID: name, Topics: map[string][]int{topic: {0, 1, 2, 3}}})
	Check(err, "offsets")
	var committed int64
	for _, p := range offsets.Topics[topic] {
		committed += p.CommittedOffset
	}
	Equal(committed, 400, "records committed")
	listed, err := client().ListGroups(within(30*time.Second), &kafka.ListGroupsRequest{})
	Check(err, "list")
	here := false
	for _, each := range listed.Groups {
		here = here || each.GroupID == name
	}
	Equal(here, true, "listed")
}

func administration() {
	topic := newTopic("admin", 1)
	produce(topic, Rows("v", 50), kafka.Zstd)
	more, err := client().CreatePartitions(within(30*time.Second), &kafka.CreatePartitionsRequest{
		Topics: []kafka.TopicPartitionsConfig{{Name: topic, Count: 3}}})
	Check(err, "more partitions")
	Check(more.Errors[topic], "more partitions")
	ends, err := client().ListOffsets(within(30*time.Second), &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{topic: {kafka.FirstOffsetOf(0), kafka.LastOffsetOf(0)}}})
	Check(err, "ends")
	Equal(ends.Topics[topic][0].LastOffset, 50, "end")
	_, err = client().IncrementalAlterConfigs(within(30*time.Second), &kafka.IncrementalAlterConfigsRequest{
		Resources: []kafka.IncrementalAlterConfigsRequestResource{{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic,
			Configs: []kafka.IncrementalAlterConfigsRequestConfig{{Name: "segment.bytes", Value: "12345678", ConfigOperation: kafka.ConfigOperationSet}}}}})
	Check(err, "alter")
	wanted := kafka.DescribeConfigRequestResource{ResourceType: kafka.ResourceTypeTopic, ResourceName: topic, ConfigNames: []string{"segment.bytes"}}
	Await("the config is what was set", func() bool {
		found, err := client().DescribeConfigs(within(30*time.Second), &kafka.DescribeConfigsRequest{
			Resources: []kafka.DescribeConfigRequestResource{wanted}})
		Check(err, "describe")
		return found.Resources[0].ConfigEntries[0].ConfigValue == "12345678"
	})
	gone, err := client().DeleteTopics(within(30*time.Second), &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	Check(err, "delete")
	Check(gone.Errors[topic], "delete")
}

func main() {
	Main(func() {
		codecs := []kafka.Compression{0, kafka.Gzip, kafka.Snappy, kafka.Lz4, kafka.Zstd}
		names := []string{"codec-none", "codec-gzip", "codec-snappy", "codec-lz4", "codec-zstd"}
		Together(names, func(i int) { roundTrip(codecs[i]) })
		Test("group", group)
		Test("administration", administration)
	})
}
