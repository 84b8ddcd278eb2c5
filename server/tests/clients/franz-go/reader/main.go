// Reads a topic from given offsets, again and again, for compaction.py: what is on standard input is what to read.
//
// Usage: reader BOOTSTRAP TOPIC. A line `OFFSET OFFSET ...`, one for each partition, is answered by `PARTITION OFFSET KEY VALUE` for each
// record from there to the ends, in hexadecimal and `-` for null, and then by a line with a dot. kgo does not tell where it
// is after records that are gone, so the last record of each partition has to stay, or others have to follow.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const quiet = 60 * time.Second

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func text(b []byte) string {
	if b == nil {
		return "-"
	}
	return hex.EncodeToString(b)
}

func client(options ...kgo.Opt) *kgo.Client {
	cl, err := kgo.NewClient(append(options, kgo.SeedBrokers(os.Args[1]))...)
	check(err)
	return cl
}

// passes tells whether a later attempt may do better: the node is killed while it is asked. A topic that is not known is lost.
func passes(err error) bool {
	var code *kerr.Error
	if errors.As(err, &code) {
		return code.Retriable && code != kerr.UnknownTopicOrPartition
	}
	return true
}

// endOffsets asks until it is answered, or told no.
func endOffsets(ctx context.Context, admin *kadm.Client, topic string) (kadm.ListedOffsets, error) {
	for {
		ends, err := admin.ListEndOffsets(ctx, topic)
		if err == nil {
			err = ends.Error()
		}
		if err == nil || !passes(err) || ctx.Err() != nil {
			return ends, err
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// read prints the records from these offsets to the ends.
func read(topic string, starts map[int32]kgo.Offset, out *bufio.Writer) {
	cl := client(kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: starts}), kgo.ConsumeResetOffset(kgo.NoResetOffset()))
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), quiet)
	defer cancel()
	ends, err := endOffsets(ctx, kadm.NewClient(cl), topic)
	check(err)
	left := map[int32]int64{}
	for p, start := range starts {
		if end := ends[topic][p].Offset; start.EpochOffset().Offset < end {
			left[p] = end - 1
		}
	}
	for len(left) > 0 {
		ctx, cancel := context.WithTimeout(context.Background(), quiet)
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err(); err != nil && (ctx.Err() != nil || !passes(err)) {
			check(err)
		}
		cancel()
		fetches.EachRecord(func(r *kgo.Record) {
			fmt.Fprintln(out, r.Partition, r.Offset, text(r.Key), text(r.Value))
			if last, waits := left[r.Partition]; waits && r.Offset >= last {
				delete(left, r.Partition)
			}
		})
	}
}

func main() {
	in, out := bufio.NewScanner(os.Stdin), bufio.NewWriter(os.Stdout)
	for in.Scan() {
		starts := map[int32]kgo.Offset{}
		for p, word := range strings.Fields(in.Text()) {
			var at int64
			_, err := fmt.Sscan(word, &at)
			check(err)
			starts[int32(p)] = kgo.NewOffset().At(at)
		}
		read(os.Args[2], starts, out)
		fmt.Fprintln(out, ".")
		check(out.Flush())
	}
}
