// Fetch sessions (KIP-227), by topic name (Fetch 12) and by topic id (Fetch 17).
package main

import (
	"fmt"
	"strings"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func sessionTests() {
	for _, v := range []int16{7, 12, 13, 17, 18} {
		test(fmt.Sprintf("session/incremental-v%d", v), func() { incremental(v) })
		test(fmt.Sprintf("session/forget-v%d", v), func() { forget(v) })
	}
	test("session/errors", sessionErrors)
	test("session/closed-by-final-epoch", closed)
	test("session/error-partition-is-repeated", repeatedError)
}

func partitionsIn(resp *kmsg.FetchResponse) string {
	var out []string
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			out = append(out, fmt.Sprint(p.Partition))
		}
	}
	return strings.Join(out, " ")
}

// open starts a session over partitions 0..2 and returns its id.
func open(c *conn, topic string, id [16]byte, v int16) int32 {
	req := fetchRequest(topic, id, 0, 0, 1, 2)
	req.SessionID, req.SessionEpoch = 0, 0
	resp := askOn[*kmsg.FetchResponse](c, req, v)
	equal(resp.ErrorCode, 0, "error")
	equal(partitionsIn(resp), "0 1 2", "partitions of the first answer")
	if resp.SessionID == 0 {
		fail("no session")
	}
	return resp.SessionID
}

func next(session, epoch int32) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.MaxWaitMillis, req.MinBytes, req.MaxBytes = 100, 1, 50<<20
	req.SessionID, req.SessionEpoch = session, epoch
	return req
}

func incremental(v int16) {
	topic, id := newTopic("session", 3)
	c := dial()
	defer c.Close()
	session := open(c, topic, id, v)
	quiet := askOn[*kmsg.FetchResponse](c, next(session, 1), v)
	equal(fmt.Sprint(quiet.ErrorCode, quiet.SessionID, partitionsIn(quiet)), fmt.Sprint(0, session, ""), "nothing new")
	ask[*kmsg.ProduceResponse](produceRequest(topic, id, plain("a").encode()), 9)
	news := askOn[*kmsg.FetchResponse](c, next(session, 2), v)
	equal(partitionsIn(news), "0", "only the changed partition")
	_, values := decodeValues(news.Topics[0].Partitions[0].RecordBatches)
	equal(strings.Join(values, ""), "a", "content")
	moved := next(session, 3)
	moved.Topics = fetchRequest(topic, id, 1, 0).Topics
	equal(partitionsIn(askOn[*kmsg.FetchResponse](c, moved, v)), "", "after moving on")
	ask[*kmsg.ProduceResponse](produceRequest(topic, id, plain("b").encode(), plain("c").encode()), 9)
	both := askOn[*kmsg.FetchResponse](c, next(session, 4), v)
	got := partitionsIn(both)
	if got != "0 1" && got != "1 0" {
		fail("changed partitions %q", got)
	}
}

func forget(v int16) {
	topic, id := newTopic("forget", 3)
	c := dial()
	defer c.Close()
	session := open(c, topic, id, v)
	req := next(session, 1)
	gone := kmsg.NewFetchRequestForgottenTopic()
	gone.Topic, gone.TopicID, gone.Partitions = topic, id, []int32{0, 2}
	req.ForgottenTopics = append(req.ForgottenTopics, gone)
	askOn[*kmsg.FetchResponse](c, req, v)
	one := plain("a").encode()
	ask[*kmsg.ProduceResponse](produceRequest(topic, id, one, one, one), 9)
	equal(partitionsIn(askOn[*kmsg.FetchResponse](c, next(session, 2), v)), "1", "partitions left")
}

func sessionErrors() {
	topic, id := newTopic("serrors", 3)
	c := dial()
	defer c.Close()
	session := open(c, topic, id, 17)
	equal(askOn[*kmsg.FetchResponse](c, next(session, 5), 17).ErrorCode, 71, "a wrong epoch")
	equal(askOn[*kmsg.FetchResponse](c, next(session, 1), 17).ErrorCode, 0, "the right one afterwards")
	equal(askOn[*kmsg.FetchResponse](c, next(session^0x5555, 1), 17).ErrorCode, 70, "an unknown session")
	old := next(session, 2)
	equal(askOn[*kmsg.FetchResponse](c, old, 12).ErrorCode, 106, "names in a session of ids")
}

func closed() {
	topic, id := newTopic("sclosed", 3)
	c := dial()
	defer c.Close()
	session := open(c, topic, id, 17)
	last := next(session, -1)
	last.Topics = fetchRequest(topic, id, 0, 0).Topics
	resp := askOn[*kmsg.FetchResponse](c, last, 17)
	equal(fmt.Sprint(resp.ErrorCode, resp.SessionID), "0 0", "closing")
	equal(askOn[*kmsg.FetchResponse](c, next(session, 1), 17).ErrorCode, 70, "afterwards")
}

func repeatedError() {
	topic, id := newTopic("srepeat", 3)
	c := dial()
	defer c.Close()
	req := fetchRequest(topic, id, 0, 0, 9)
	req.SessionID, req.SessionEpoch = 0, 0
	session := askOn[*kmsg.FetchResponse](c, req, 17).SessionID
	for epoch := int32(1); epoch < 4; epoch++ {
		resp := askOn[*kmsg.FetchResponse](c, next(session, epoch), 17)
		equal(partitionsIn(resp), "9", "partitions with an error")
	}
}
