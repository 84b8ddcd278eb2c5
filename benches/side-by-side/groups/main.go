// The load of groups.py: commits, members that join, members that only beat. Prints one line of JSON with what was measured.
//
//	groups commits ADDRESS TOPIC GROUPS SECONDS          each group commits as fast as it is answered; a line before it, when
//	                                                     every group has committed once
//	groups join ADDRESS TOPIC MEMBERS classic|consumer   until each of so many members has its partitions; then one leaves
//	groups idle ADDRESS GROUPS MEMBERS SECONDS           prints a line when all have joined, and another after so many seconds
//
// Members leave before it ends: those that only went away would be thrown out by the broker while something else is measured.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

const patience = 5 * time.Minute

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

func group(number int) string { return fmt.Sprintf("group-%d-%d", os.Getpid(), number) }

func client(address string, options ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append(options, kgo.SeedBrokers(address))...)
	check(err)
	return cl
}

// commits measures how many offsets are committed in a second, one with each request, one request of each group at a time.
func commits(address, topic string, groups, seconds int) {
	var lock sync.Mutex
	var all []time.Duration
	var done sync.WaitGroup
	var warm sync.WaitGroup
	warm.Add(groups)
	start := make(chan struct{})
	for g := range groups {
		done.Go(func() {
			// Newer requests name topics by their ids.
			cl := client(address, kgo.MaxVersions(kversion.V2_8_0()))
			defer cl.Close()
			commit := func(offset int64) int16 {
				req := kmsg.NewPtrOffsetCommitRequest()
				req.Group, req.Generation = group(g), -1
				part := kmsg.NewOffsetCommitRequestTopicPartition()
				part.Offset = offset
				named := kmsg.NewOffsetCommitRequestTopic()
				named.Topic, named.Partitions = topic, append(named.Partitions, part)
				req.Topics = append(req.Topics, named)
				resp, err := req.RequestWith(context.Background(), cl)
				check(err)
				if len(resp.Topics) != 1 || len(resp.Topics[0].Partitions) != 1 {
					check(fmt.Errorf("a commit of one partition was answered with %+v", resp))
				}
				return resp.Topics[0].Partitions[0].ErrorCode
			}
			for end := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
				code := commit(0) // The coordinator may have to be made first.
				if code == 0 {
					break
				}
				if time.Now().After(end) {
					check(fmt.Errorf("a commit was answered with %d for %v", code, patience))
				}
			}
			warm.Done()
			<-start
			var mine []time.Duration
			for end := time.Now().Add(time.Duration(seconds) * time.Second); time.Now().Before(end); {
				began := time.Now()
				if code := commit(int64(len(mine))); code != 0 {
					check(fmt.Errorf("a commit was answered with %d", code))
				}
				mine = append(mine, time.Since(began))
			}
			lock.Lock()
			all = append(all, mine...)
			lock.Unlock()
		})
	}
	warm.Wait()
	tell(nil)
	time.Sleep(100 * time.Millisecond) // Whoever reads that line looks at the clock now.
	close(start)
	done.Wait()
	slices.Sort(all)
	at := func(share float64) float64 { return float64(all[int(share*float64(len(all)-1))].Microseconds()) / 1000 }
	tell(map[string]float64{"commits_per_s": float64(len(all)) / float64(seconds), "p50_ms": at(0.5), "p99_ms": at(0.99), "seconds": float64(seconds)})
}

// join measures how long it takes until every partition of the topic has an owner and every member one or more, and nothing changes any more.
func join(address, topic string, members int, protocol string) {
	options := []kgo.Opt{kgo.ConsumerGroup(group(0)), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(), kgo.Balancers(kgo.RangeBalancer())}
	if protocol == "consumer" {
		options = append(options, kgo.ServerSideBalancer())
	}
	owned := make([]atomic.Int64, members)
	var changed atomic.Int64
	began := time.Now()
	all := make([]*kgo.Client, members)
	count := func(i int, sign int64) func(context.Context, *kgo.Client, map[string][]int32) {
		return func(_ context.Context, _ *kgo.Client, given map[string][]int32) {
			owned[i].Add(sign * int64(len(given[topic])))
			changed.Store(int64(time.Since(began)))
		}
	}
	for i := range all {
		all[i] = client(address, append(slices.Clone(options), kgo.OnPartitionsAssigned(count(i, 1)),
			kgo.OnPartitionsRevoked(count(i, -1)), kgo.OnPartitionsLost(count(i, -1)))...)
	}
	// settled returns when each of these members has had its share of the partitions for a second, and says when it got it.
	settled := func(members int) time.Duration {
		for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			sum, idle := int64(0), 0
			for i := range members {
				sum += owned[i].Load()
				if owned[i].Load() == 0 {
					idle++
				}
			}
			last := time.Duration(changed.Load())
			if sum == int64(len(all)) && idle == 0 && time.Since(began)-last > time.Second {
				return last
			}
		}
		check(fmt.Errorf("not settled within %v", patience))
		return 0
	}
	joined := settled(members)
	leaves := time.Since(began)
	all[members-1].Close()
	moved := settled(members-1) - leaves
	tell(map[string]float64{"joined_s": joined.Seconds(), "moved_s": moved.Seconds()})
	var left sync.WaitGroup
	for _, cl := range all[:members-1] {
		left.Go(cl.Close)
	}
	left.Wait()
}

func main() {
	if len(os.Args) < 6 {
		fmt.Fprintln(os.Stderr, "usage: groups commits|join|idle ADDRESS ...; see main.go")
		os.Exit(2)
	}
	args := os.Args[2:]
	switch os.Args[1] {
	case "commits":
		commits(args[0], args[1], number(args[2]), number(args[3]))
	case "join":
		join(args[0], args[1], number(args[2]), args[3])
	case "idle":
		idle(args[0], number(args[1]), number(args[2]), number(args[3]))
	}
}
