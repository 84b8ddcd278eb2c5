// The sarama suite: producers with every codec, readers, groups, and the cluster admin, each as of several versions of Kafka.
package main

import (
	"context"
	"sync"

	"github.com/IBM/sarama"

	. "jangbu/tests/go/suite"
)

// With a newer version sarama sends newer requests.
var versions = []sarama.KafkaVersion{sarama.V0_11_0_0, sarama.V2_1_0_0, sarama.V4_1_0_0}

func config(version sarama.KafkaVersion) *sarama.Config {
	c := sarama.NewConfig()
	c.Version = version
	c.Producer.Return.Successes = true
	c.Producer.RequiredAcks = sarama.WaitForAll
	c.Consumer.Offsets.Initial = sarama.OffsetOldest
	c.Consumer.Offsets.AutoCommit.Enable = false
	c.Consumer.Group.Session.Timeout = 6e9
	c.Consumer.Group.Heartbeat.Interval = 5e8
	c.Consumer.Group.Rebalance.Retry.Backoff = 2e8
	c.Consumer.Group.Rebalance.GroupStrategies = []sarama.BalanceStrategy{sarama.NewBalanceStrategyRange()}
	return c
}

func newTopic(name string, partitions int32) string {
	topic := Name(name)
	admin := newAdmin(sarama.V2_1_0_0)
	defer admin.Close()
	Check(admin.CreateTopic(topic, &sarama.TopicDetail{NumPartitions: partitions, ReplicationFactor: 1}, false), "create")
	Await("leaders of "+topic, func() bool {
		found, err := admin.DescribeTopics([]string{topic})
		if err != nil || found[0].Err != sarama.ErrNoError || len(found[0].Partitions) != int(partitions) {
			return false
		}
		for _, p := range found[0].Partitions {
			if p.Err != sarama.ErrNoError {
				return false
			}
		}
		return true
	})
	return topic
}

func newAdmin(version sarama.KafkaVersion) sarama.ClusterAdmin {
	admin, err := sarama.NewClusterAdmin([]string{Bootstrap}, config(version))
	Check(err, "admin")
	return admin
}

func produce(topic string, rows []Row, c *sarama.Config) {
	producer, err := sarama.NewSyncProducer([]string{Bootstrap}, c)
	Check(err, "producer")
	defer producer.Close()
	var messages []*sarama.ProducerMessage
	for _, row := range rows {
		messages = append(messages, &sarama.ProducerMessage{
			Topic: topic, Key: sarama.StringEncoder(row.Key), Value: sarama.StringEncoder(row.Value),
			Headers: []sarama.RecordHeader{{Key: []byte("h"), Value: []byte(row.Key)}},
		})
	}
	Check(producer.SendMessages(messages), "send")
}

// consume reads partition 0 from an offset, without a group.
func consume(topic string, from int64, count int, c *sarama.Config) []Row {
	consumer, err := sarama.NewConsumer([]string{Bootstrap}, c)
	Check(err, "consumer")
	defer consumer.Close()
	partition, err := consumer.ConsumePartition(topic, 0, from)
	Check(err, "partition")
	defer partition.Close()
	var got []Row
	for len(got) < count {
		m := <-partition.Messages()
		Equal(m.Offset, from+int64(len(got)), "offset")
		Equal(string(m.Headers[0].Value), string(m.Key), "header")
		got = append(got, Row{Key: string(m.Key), Value: string(m.Value)})
	}
	return got
}

func roundTrip(version sarama.KafkaVersion, change func(*sarama.Config)) {
	topic, rows, c := newTopic("round", 1), Rows("v", 500), config(version)
	change(c)
	produce(topic, rows, c)
	Once(consume(topic, 0, 500, c), rows, "rows")
	Once(consume(topic, 333, 167, c), rows[333:], "rows from the middle of a batch")
}

// member of a group; what it reads waits in `came` until it is taken.
type member struct {
	group sarama.ConsumerGroup
	stop  context.CancelFunc
	came  chan *sarama.ConsumerMessage
	gone  chan struct{}

	lock    sync.Mutex
	session sarama.ConsumerGroupSession
	owned   int
	err     error
}

func join(group, topic string, c *sarama.Config) *member {
	g, err := sarama.NewConsumerGroup([]string{Bootstrap}, group, c)
	Check(err, "group")
	ctx, stop := context.WithCancel(context.Background())
	m := &member{group: g, stop: stop, came: make(chan *sarama.ConsumerMessage), gone: make(chan struct{})}
	go func() {
		defer close(m.gone)
		for ctx.Err() == nil {
			if err := g.Consume(ctx, []string{topic}, m); err != nil {
				m.set(nil, 0, err)
			}
		}
	}()
	return m
}

func (m *member) set(session sarama.ConsumerGroupSession, owned int, err error) {
	m.lock.Lock()
	defer m.lock.Unlock()
	m.session, m.owned, m.err = session, owned, err
}

// Setup is called when the group has settled.
func (m *member) Setup(session sarama.ConsumerGroupSession) error {
	owned := 0
	for _, partitions := range session.Claims() {
		owned += len(partitions)
	}
	m.set(session, owned, nil)
	return nil
}

// Cleanup is called when it settles anew.
func (m *member) Cleanup(sarama.ConsumerGroupSession) error {
	m.set(nil, 0, nil)
	return nil
}

// ConsumeClaim hands on what one partition holds.
func (m *member) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	for {
		select {
		case message := <-claim.Messages():
			if message == nil {
				return nil
			}
			select {
			case m.came <- message:
			case <-session.Context().Done():
				return nil
			}
		case <-session.Context().Done():
			return nil
		}
	}
}

func (m *member) owns(count int) func() bool {
	return func() bool {
		m.lock.Lock()
		defer m.lock.Unlock()
		return m.owned == count
	}
}

// take takes so many records from the members and commits them.
func take(count int, members ...*member) []Row {
	var got []Row
	var from *member
	for len(got) < count {
		var message *sarama.ConsumerMessage
		from = members[0]
		select {
		case message = <-members[0].came:
		case message = <-members[len(members)-1].came:
			from = members[len(members)-1]
		}
		got = append(got, Row{Key: string(message.Key), Value: string(message.Value)})
		from.lock.Lock()
		if from.session != nil {
			from.session.MarkMessage(message, "a note")
		}
		from.lock.Unlock()
	}
	for _, each := range members {
		each.lock.Lock()
		if each.session == nil {
			Fail("the group was settled anew meanwhile: %v", each.err)
		}
		each.session.Commit()
		each.lock.Unlock()
	}
	return got
}

func (m *member) leave() {
	m.stop()
	<-m.gone
	Check(m.group.Close(), "close")
}

func group(version sarama.KafkaVersion) {
	topic, name, c := newTopic("group", Partitions), Name("g"), config(version)
	first, second, third := Rows("first", 200), Rows("second", 200), Rows("third", 200)
	produce(topic, first, c)
	one := join(name, topic, c)
	got := take(120, one)
	one.leave()
	one = join(name, topic, c)
	Once(append(got, take(80, one)...), first, "what was read before the restart and after it")
	two := join(name, topic, c)
	Await("two members share the partitions", func() bool { return one.owns(2)() && two.owns(2)() })
	produce(topic, second, c)
	Once(take(200, one, two), second, "what two members read")
	one.leave()
	Await("one has left, the other has all", two.owns(Partitions))
	produce(topic, third, c)
	Once(take(200, two), third, "what is read by the one that is left")
	administer(topic, name, version)
	two.leave()
}

// administer looks at a settled group of one member from outside.
func administer(topic, name string, version sarama.KafkaVersion) {
	admin := newAdmin(version)
	defer admin.Close()
	found, err := admin.DescribeConsumerGroups([]string{name})
	Check(err, "describe")
	Equal(found[0].State, "Stable", "state")
	Equal(len(found[0].Members), 1, "members")
	offsets, err := admin.ListConsumerGroupOffsets(name, map[string][]int32{topic: {0, 1, 2, 3}})
	Check(err, "offsets")
	var committed int64
	for _, block := range offsets.Blocks[topic] {
		committed += block.Offset
	}
	Equal(committed, 600, "records committed")
	all, err := admin.ListConsumerGroups()
	Check(err, "list")
	Equal(all[name], "consumer", "listed as")
	Equal(admin.DeleteConsumerGroup(name) != nil, true, "a group with members was not deleted")
}

func administration(version sarama.KafkaVersion) {
	topic, admin := newTopic("admin", 1), newAdmin(version)
	defer admin.Close()
	Check(admin.CreatePartitions(topic, 3, nil, false), "more partitions")
	value := "12345678"
	Check(admin.AlterConfig(sarama.TopicResource, topic, map[string]*string{"segment.bytes": &value}, false), "alter")
	wanted := sarama.ConfigResource{Type: sarama.TopicResource, Name: topic, ConfigNames: []string{"segment.bytes"}}
	Await("the config is what was set", func() bool {
		entries, err := admin.DescribeConfig(wanted)
		Check(err, "describe")
		return entries[0].Value == value
	})
	produce(topic, Rows("v", 50), config(version))
	Check(admin.DeleteRecords(topic, map[int32]int64{0: 1}), "delete records")
	topics, err := admin.ListTopics()
	Check(err, "list")
	Equal(topics[topic].NumPartitions, 3, "partitions")
	Check(admin.DeleteTopic(topic), "delete")
}

func main() {
	Main(func() {
		codecs := []sarama.CompressionCodec{sarama.CompressionNone, sarama.CompressionGZIP, sarama.CompressionSnappy, sarama.CompressionLZ4, sarama.CompressionZSTD}
		var names []string
		for _, codec := range codecs {
			names = append(names, "codec-"+codec.String())
		}
		Together(names, func(i int) {
			roundTrip(sarama.V2_1_0_0, func(c *sarama.Config) { c.Producer.Compression = codecs[i] })
		})
		Test("idempotence", func() {
			roundTrip(sarama.V2_1_0_0, func(c *sarama.Config) { c.Producer.Idempotent, c.Net.MaxOpenRequests = true, 1 })
		})
		var groups []string
		for _, version := range versions {
			Test("produce-and-fetch-as-of-"+version.String(), func() { roundTrip(version, func(*sarama.Config) {}) })
			groups = append(groups, "group-as-of-"+version.String())
		}
		Together(groups, func(i int) { group(versions[i]) })
		Test("administration", func() { administration(sarama.V4_1_0_0) })
	})
}
