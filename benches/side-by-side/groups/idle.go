// Members of classic groups in great number: each has a connection of its own, and nothing but it. A client library would need
// more memory for them than the broker.
package main

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	beat       = 3 * time.Second // heartbeat.interval.ms of Kafka's clients
	sessionMs  = 45_000          // session.timeout.ms
	rebalance  = 60_000          // how long a rebalance waits for a member
	atOnce     = 500             // so many join at the same time; each waits for a beat of those before it
	unknown    = 25              // UNKNOWN_MEMBER_ID
	rebalances = 27              // REBALANCE_IN_PROGRESS
)

type member struct {
	conn       net.Conn
	group, id  string
	generation int32
}

var formatter = kmsg.NewRequestFormatter(kmsg.FormatterClientID("groups"))

// ask sends a request in a version whose headers have no tags, and reads the answer.
func (m *member) ask(req kmsg.Request, version int16) kmsg.Response {
	req.SetVersion(version)
	_, err := m.conn.Write(formatter.AppendRequest(nil, req, 1))
	check(err)
	var size [4]byte
	_, err = io.ReadFull(m.conn, size[:])
	check(err)
	body := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err = io.ReadFull(m.conn, body)
	check(err)
	resp := req.ResponseKind()
	check(resp.ReadFrom(body[4:]))
	return resp
}

// settle joins until the member belongs to a generation that lasts.
func (m *member) settle() {
	for {
		join := kmsg.NewPtrJoinGroupRequest()
		join.Group, join.MemberID, join.ProtocolType = m.group, m.id, "consumer"
		join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = sessionMs, rebalance
		protocol := kmsg.NewJoinGroupRequestProtocol()
		protocol.Name = "range"
		join.Protocols = append(join.Protocols, protocol)
		joined := m.ask(join, 3).(*kmsg.JoinGroupResponse)
		if joined.ErrorCode != 0 {
			if joined.ErrorCode == unknown {
				m.id = ""
			}
			time.Sleep(100 * time.Millisecond)
			continue
		}
		m.id, m.generation = joined.MemberID, joined.Generation
		sync := kmsg.NewPtrSyncGroupRequest()
		sync.Group, sync.MemberID, sync.Generation = m.group, m.id, m.generation
		for _, each := range joined.Members {
			given := kmsg.NewSyncGroupRequestGroupAssignment()
			given.MemberID = each.MemberID
			sync.GroupAssignment = append(sync.GroupAssignment, given)
		}
		if m.ask(sync, 3).(*kmsg.SyncGroupResponse).ErrorCode == 0 {
			return
		}
	}
}

// leave has the broker forget the member.
func (m *member) leave() {
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group, req.MemberID = m.group, m.id
	m.ask(req, 2)
}

// live beats until it is to leave; `settled` counts the members that need not join at the moment.
func (m *member) live(settled *atomic.Int64, slot <-chan struct{}, over <-chan struct{}) {
	m.settle()
	<-slot
	settled.Add(1)
	for {
		select {
		case <-over:
			m.leave()
			return
		case <-time.After(beat):
		}
		req := kmsg.NewPtrHeartbeatRequest()
		req.Group, req.MemberID, req.Generation = m.group, m.id, m.generation
		switch code := m.ask(req, 3).(*kmsg.HeartbeatResponse).ErrorCode; code {
		case 0:
		case rebalances:
			settled.Add(-1)
			m.settle()
			settled.Add(1)
		default:
			check(fmt.Errorf("a heartbeat was answered with %d", code))
		}
	}
}

func idle(address string, groups, members, seconds int) {
	var settled atomic.Int64
	var living sync.WaitGroup
	late := time.AfterFunc(patience, func() {
		check(fmt.Errorf("%d of %d members have joined within %v", settled.Load(), groups*members, patience))
	})
	began, slots, over := time.Now(), make(chan struct{}, atOnce), make(chan struct{})
	for g := range groups {
		for range members {
			slots <- struct{}{}
			conn, err := net.Dial("tcp", address)
			check(err)
			living.Go(func() { (&member{conn: conn, group: group(g)}).live(&settled, slots, over) })
		}
	}
	quiet := time.Now()
	for time.Since(quiet) < 2*beat {
		if settled.Load() < int64(groups*members) {
			quiet = time.Now()
		}
		time.Sleep(20 * time.Millisecond)
	}
	late.Stop()
	tell(map[string]float64{"joined_s": quiet.Sub(began).Seconds()})
	time.Sleep(time.Duration(seconds) * time.Second)
	tell(map[string]float64{"seconds": float64(seconds)})
	close(over)
	living.Wait()
}
