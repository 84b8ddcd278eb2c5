// The load of the NATS sides: the verbs of load.c on nats.go and JetStream. A partition is a stream with files and one replica.
//
//	load create  ADDRESS TOPIC STREAMS [REPLICAS]
//	load delete  ADDRESS TOPIC
//	load produce ADDRESS TOPIC STREAMS SIZE COUNT BATCH     as fast as it goes; BATCH has no meaning here
//	load latency ADDRESS TOPIC STREAMS SIZE COUNT RATE      RATE records a second, after a second that is not counted
//	load consume ADDRESS TOPIC STREAMS COUNT                from the beginning, by an ordered consumer of each stream
//
// Each record is published by itself and acknowledged by itself: the protocol has no batches. Up to 4,096 may be without an
// acknowledgement. Record i goes to stream i % STREAMS. Prints one line of JSON, as load.c does.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

const (
	window   = 4096
	patience = 5 * time.Minute
)

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func number(text string) int {
	n, err := strconv.Atoi(text)
	check(err)
	return n
}

func tell(values map[string]float64) { check(json.NewEncoder(os.Stdout).Encode(values)) }

func cpu() float64 {
	var used syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &used))
	return time.Duration(used.Utime.Nano() + used.Stime.Nano()).Seconds()
}

func name(topic string, stream int) string { return fmt.Sprintf("%s-%d", topic, stream) }

func connect(address string) jetstream.JetStream {
	conn, err := nats.Connect("nats://" + address)
	check(err)
	failed := func(_ jetstream.JetStream, _ *nats.Msg, err error) { check(err) }
	js, err := jetstream.New(conn, jetstream.WithPublishAsyncMaxPending(window), jetstream.WithPublishAsyncErrHandler(failed))
	check(err)
	return js
}

func create(ctx context.Context, js jetstream.JetStream, topic string, streams int) {
	for s := range streams {
		config := jetstream.StreamConfig{Name: name(topic, s), Subjects: []string{name(topic, s)}, Storage: jetstream.FileStorage, Replicas: 1}
		_, err := js.CreateStream(ctx, config)
		check(err)
	}
	tell(nil)
}

func remove(ctx context.Context, js jetstream.JetStream, topic string) {
	all := js.StreamNames(ctx)
	var found []string
	for stream := range all.Name() {
		if strings.HasPrefix(stream, topic+"-") {
			found = append(found, stream)
		}
	}
	check(all.Err())
	for _, stream := range found {
		check(js.DeleteStream(ctx, stream))
	}
	tell(nil)
}

func publish(js jetstream.JetStream, topic string, streams, i int, value []byte) jetstream.PubAckFuture {
	future, err := js.PublishAsync(name(topic, i%streams), value, jetstream.WithStallWait(patience))
	check(err)
	return future
}

// random bytes as those of load.c: seven bits of each.
func random(size int) []byte {
	value := make([]byte, size)
	for i := range value {
		value[i] = byte(rand.IntN(128))
	}
	return value
}

func acknowledged(js jetstream.JetStream) {
	select {
	case <-js.PublishAsyncComplete():
	case <-time.After(patience):
		check(fmt.Errorf("%d records are without an acknowledgement after %v", js.PublishAsyncPending(), patience))
	}
}

func rate(began time.Time, cpuBefore float64, count, bytes int) {
	seconds := time.Since(began).Seconds()
	tell(map[string]float64{
		"seconds": seconds, "records": float64(count), "records_per_s": float64(count) / seconds,
		"mb_per_s": float64(bytes) / seconds / 1e6, "client_cpu_s": cpu() - cpuBefore,
	})
}

func produce(js jetstream.JetStream, topic string, streams, size, count int) {
	value, began, before := random(size), time.Now(), cpu()
	for i := range count {
		publish(js, topic, streams, i, value)
	}
	acknowledged(js)
	rate(began, before, count, count*size)
}

// latency counts from the moment a record was due.
func latency(js jetstream.JetStream, topic string, streams, size, count, perSecond int) {
	value, total := make([]byte, size), perSecond+count
	took := make([]time.Duration, total)
	var answers sync.WaitGroup
	began := time.Now()
	for i := range total {
		due := began.Add(time.Duration(i) * time.Second / time.Duration(perSecond))
		time.Sleep(time.Until(due))
		future := publish(js, topic, streams, i, value)
		answers.Go(func() {
			select {
			case <-future.Ok():
				took[i] = time.Since(due)
			case err := <-future.Err():
				check(err)
			}
		})
	}
	answers.Wait()
	seconds, counted := time.Since(began).Seconds(), took[perSecond:]
	slices.Sort(counted)
	at := func(share float64) float64 { return counted[int(share*float64(len(counted)-1))].Seconds() * 1e3 }
	tell(map[string]float64{
		"seconds": seconds, "records_per_s": float64(total) / seconds, "p50_ms": at(0.5), "p99_ms": at(0.99), "p999_ms": at(0.999),
	})
}

func consume(ctx context.Context, js jetstream.JetStream, topic string, streams, count int) {
	var got, bytes atomic.Int64
	all, began, before := make(chan struct{}), time.Now(), cpu()
	for s := range streams {
		consumer, err := js.OrderedConsumer(ctx, name(topic, s), jetstream.OrderedConsumerConfig{})
		check(err)
		_, err = consumer.Consume(func(message jetstream.Msg) {
			bytes.Add(int64(len(message.Data())))
			if got.Add(1) == int64(count) {
				close(all)
			}
		}, jetstream.PullMaxMessages(window))
		check(err)
	}
	select {
	case <-all:
	case <-time.After(patience):
		check(fmt.Errorf("%d of %d records were read within %v", got.Load(), count, patience))
	}
	rate(began, before, count, int(bytes.Load()))
}

func main() {
	if len(os.Args) < 4 {
		fmt.Fprintln(os.Stderr, "usage: load VERB ADDRESS TOPIC ...; see main.go")
		os.Exit(2)
	}
	verb, topic, js, ctx := os.Args[1], os.Args[3], connect(os.Args[2]), context.Background()
	var n []int
	for _, text := range os.Args[4:] {
		n = append(n, number(text))
	}
	switch {
	case verb == "create" && len(n) >= 1:
		create(ctx, js, topic, n[0])
	case verb == "delete" && len(n) == 0:
		remove(ctx, js, topic)
	case verb == "produce" && len(n) == 4:
		produce(js, topic, n[0], n[1], n[2])
	case verb == "latency" && len(n) == 4:
		latency(js, topic, n[0], n[1], n[2], n[3])
	case verb == "consume" && len(n) == 2:
		consume(ctx, js, topic, n[0], n[1])
	default:
		check(fmt.Errorf("%s %v: see the head of main.go", verb, os.Args[4:]))
	}
}
