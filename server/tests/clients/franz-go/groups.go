// Consumer groups: every version of every request about them, what is refused, and kgo's own group consumer.
package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

const (
	unknownMember     = 25
	illegalGeneration = 22
	invalidGroup      = 24
	inconsistent      = 23
	invalidTimeout    = 26
	memberIDRequired  = 79
	fencedInstance    = 82
	nonEmpty          = 68
	notFound          = 69
	metadataTooLarge  = 12
	noSuchPartition   = 3
	subscribedToTopic = 86
	noSuchTopicID     = 100
)

func groupTests() {
	test("group/first-use-finds-a-coordinator", func() { waitForCoordinator(topicName("first")) })
	sweep("join-sync-heartbeat-leave", 0, 9, groupLife)
	sweep("offset-commit-fetch", 1, 10, commitAndFetch)
	test("version/offset-fetch-10-of-all", fetchAllByID)
	if onJangbu {
		test("version/offset-commit-old-1", commitWithTimes)
	}
	sweep("list-groups", 0, 5, listGroupsVersion)
	sweep("describe-groups", 0, 6, describeGroupsVersion)
	sweep("delete-groups", 0, 2, deleteGroupsVersion)
	test("version/offset-delete-0", offsetDelete)
	test("group/bad-input", groupBadInput)
	test("group/static-members", staticMembers)
	test("group/kgo-cooperative-sticky", kgoGroup)
}

func waitForCoordinator(group string) {
	end := time.Now().Add(30 * time.Second)
	for {
		req := kmsg.NewPtrFindCoordinatorRequest()
		req.CoordinatorKeys = []string{group}
		resp := ask[*kmsg.FindCoordinatorResponse](req, 4)
		// Whoever coordinates may still have to read what is stored.
		if resp.Coordinators[0].ErrorCode == 0 && isLoaded(group) {
			return
		}
		if time.Now().After(end) {
			fail("no coordinator: %d", resp.Coordinators[0].ErrorCode)
		}
		time.Sleep(50 * time.Millisecond)
	}
}

func isLoaded(group string) bool {
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Group = group
	return ask[*kmsg.OffsetFetchResponse](req, 7).ErrorCode == 0
}

func joinRequest(group, member string) *kmsg.JoinGroupRequest {
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType = group, member, "consumer"
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 10_000, 60_000
	protocol := kmsg.NewJoinGroupRequestProtocol()
	protocol.Name, protocol.Metadata = "range", []byte("\x00\x00\x00\x00\x00\x01\x00\x05topic\x00\x00\x00\x00")
	req.Protocols = append(req.Protocols, protocol)
	return req
}

// join comes back with the id it is given, where the version asks for that.
func join(group string, v int16) *kmsg.JoinGroupResponse {
	resp := ask[*kmsg.JoinGroupResponse](joinRequest(group, ""), v)
	if v >= 4 {
		equal(resp.ErrorCode, memberIDRequired, "the first join")
		resp = ask[*kmsg.JoinGroupResponse](joinRequest(group, resp.MemberID), v)
	}
	equal(resp.ErrorCode, 0, "join")
	return resp
}

func syncRequest(group, member string, generation int32) *kmsg.SyncGroupRequest {
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation = group, member, generation
	given := kmsg.NewSyncGroupRequestGroupAssignment()
	given.MemberID, given.MemberAssignment = member, []byte("everything")
	req.GroupAssignment = append(req.GroupAssignment, given)
	return req
}

// settled is a group of one member.
func settled(group string) *kmsg.JoinGroupResponse {
	waitForCoordinator(group)
	resp := join(group, 5)
	equal(ask[*kmsg.SyncGroupResponse](syncRequest(group, resp.MemberID, resp.Generation), 3).ErrorCode, 0, "sync")
	return resp
}

func groupLife(v int16) {
	group := topicName("life")
	waitForCoordinator(group)
	joined := join(group, v)
	equal(joined.LeaderID, joined.MemberID, "leader")
	equal(joined.Generation, 1, "generation")
	equal(len(joined.Members), 1, "members")
	equal(*joined.Protocol, "range", "protocol")
	if v >= 7 {
		equal(*joined.ProtocolType, "consumer", "protocol type")
	}
	sync := syncRequest(group, joined.MemberID, 1)
	kind, name := "consumer", "range"
	sync.ProtocolType, sync.Protocol = &kind, &name
	synced := ask[*kmsg.SyncGroupResponse](sync, min(v, 5))
	equal(synced.ErrorCode, 0, "sync")
	equal(string(synced.MemberAssignment), "everything", "assignment")
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group, beat.MemberID, beat.Generation = group, joined.MemberID, 1
	equal(ask[*kmsg.HeartbeatResponse](beat, min(v, 4)).ErrorCode, 0, "heartbeat")
	beat.Generation = 2
	equal(ask[*kmsg.HeartbeatResponse](beat, min(v, 4)).ErrorCode, illegalGeneration, "another generation")
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group, leave.MemberID = group, joined.MemberID
	one := kmsg.NewLeaveGroupRequestMember()
	one.MemberID = joined.MemberID
	leave.Members = append(leave.Members, one)
	left := ask[*kmsg.LeaveGroupResponse](leave, min(v, 5))
	equal(left.ErrorCode, 0, "leave")
	if v >= 3 {
		equal(left.Members[0].ErrorCode, 0, "the member")
	}
	beat.Generation = 1
	equal(ask[*kmsg.HeartbeatResponse](beat, min(v, 4)).ErrorCode, unknownMember, "after leaving")
}

// unknownID is the id of no topic.
var unknownID = [16]byte{9, 9}

// commitRequest names the topic by name and id: each version sends what it has.
func commitRequest(group, topic string, partitions ...int32) *kmsg.OffsetCommitRequest {
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group = group
	named := kmsg.NewOffsetCommitRequestTopic()
	named.Topic = topic
	for _, number := range partitions {
		p := kmsg.NewOffsetCommitRequestTopicPartition()
		note := fmt.Sprintf("note %d", number)
		p.Partition, p.Offset, p.LeaderEpoch, p.Metadata = number, 100+int64(number), 3, &note
		named.Partitions = append(named.Partitions, p)
	}
	req.Topics = append(req.Topics, named)
	return req
}

func commitAndFetch(v int16) {
	topic, id := newTopic("commit", 3)
	group := topicName("commit")
	waitForCoordinator(group)
	commit := commitRequest(group, topic, 0, 2)
	commit.Topics[0].TopicID = id
	if v >= 10 {
		other := commitRequest(group, "", 1).Topics[0]
		other.TopicID = unknownID
		commit.Topics = append(commit.Topics, other)
	}
	for _, t := range ask[*kmsg.OffsetCommitResponse](commit, max(v, 2)).Topics {
		for _, p := range t.Partitions {
			equal(p.ErrorCode, map[bool]int16{true: noSuchTopicID}[t.TopicID == unknownID], "commit")
		}
	}
	want := func(partition int32, offset int64, epoch int32, note *string) {
		found := ""
		if note != nil {
			found = *note
		}
		if partition == 1 {
			equal(offset, -1, "nothing is committed")
			equal(found, "", "no metadata")
			return
		}
		equal(offset, 100+int64(partition), "offset")
		equal(found, fmt.Sprintf("note %d", partition), "metadata")
		if v >= 6 {
			equal(epoch, 3, "leader epoch")
		}
	}
	req := kmsg.NewPtrOffsetFetchRequest()
	if v < 8 {
		req.Group = group
		named := kmsg.NewOffsetFetchRequestTopic()
		named.Topic, named.Partitions = topic, []int32{0, 1, 2}
		req.Topics = append(req.Topics, named)
		resp := ask[*kmsg.OffsetFetchResponse](req, v)
		equal(resp.ErrorCode, 0, "fetch")
		for _, p := range resp.Topics[0].Partitions {
			want(p.Partition, p.Offset, p.LeaderEpoch, p.Metadata)
		}
		if v >= 2 {
			req.Topics = nil
			resp = ask[*kmsg.OffsetFetchResponse](req, v)
			equal(len(resp.Topics[0].Partitions), 2, "all that is committed")
		}
		return
	}
	named := kmsg.NewOffsetFetchRequestGroupTopic()
	named.Topic, named.TopicID, named.Partitions = topic, id, []int32{0, 1, 2}
	some, all := kmsg.NewOffsetFetchRequestGroup(), kmsg.NewOffsetFetchRequestGroup()
	some.Group, some.Topics = group, append(some.Topics, named)
	if v >= 10 {
		other := kmsg.NewOffsetFetchRequestGroupTopic()
		other.TopicID, other.Partitions = unknownID, []int32{1}
		some.Topics = append(some.Topics, other)
	}
	all.Group = group
	req.Groups = append(req.Groups, some, all)
	resp := ask[*kmsg.OffsetFetchResponse](req, v)
	equal(len(resp.Groups), 2, "groups")
	equal(len(resp.Groups[0].Topics), len(some.Topics), "topics")
	for _, t := range resp.Groups[0].Topics {
		for _, p := range t.Partitions {
			unknown := v >= 10 && t.TopicID == unknownID
			equal(p.ErrorCode, map[bool]int16{true: noSuchTopicID}[unknown], "fetch")
			want(p.Partition, p.Offset, p.LeaderEpoch, p.Metadata)
		}
	}
	equal(len(resp.Groups[1].Topics[0].Partitions), 2, "all that is committed")
	if v >= 10 {
		equal(resp.Groups[1].Topics[0].TopicID, id, "its topic")
	}
}

// fetchAllByID asks for all that a group has committed while one of its topics is deleted: what is left has its id.
func fetchAllByID() {
	gone, _ := newTopic("commit-gone", 1)
	stays, id := newTopic("commit-stays", 1)
	group := topicName("commit-all")
	waitForCoordinator(group)
	for _, topic := range []string{gone, stays} {
		equal(ask[*kmsg.OffsetCommitResponse](commitRequest(group, topic, 0), 9).Topics[0].Partitions[0].ErrorCode, 0, "commit")
	}
	remove := kmsg.NewPtrDeleteTopicsRequest()
	remove.TopicNames, remove.TimeoutMillis = []string{gone}, 30000
	equal(ask[*kmsg.DeleteTopicsResponse](remove, 5).Topics[0].ErrorCode, 0, "delete the topic")
	eventually("the offset of the other topic is left", func() bool {
		all := kmsg.NewOffsetFetchRequestGroup()
		all.Group = group
		req := kmsg.NewPtrOffsetFetchRequest()
		req.Groups = append(req.Groups, all)
		found := ask[*kmsg.OffsetFetchResponse](req, 10).Groups[0]
		equal(found.ErrorCode, 0, "fetch")
		return len(found.Topics) == 1 && found.Topics[0].TopicID == id && found.Topics[0].Partitions[0].Offset == 100
	})
}

// commitWithTimes commits in version 1, which says of each offset when it was committed.
func commitWithTimes() {
	topic, _ := newTopic("commit-times", 2)
	group := topicName("commit-times")
	waitForCoordinator(group)
	req := commitRequest(group, topic, 0, 1, 7)
	req.Topics[0].Partitions[1].Timestamp = time.Now().UnixMilli()
	for _, p := range ask[*kmsg.OffsetCommitResponse](req, 1).Topics[0].Partitions {
		equal(p.ErrorCode, map[int32]int16{7: noSuchPartition}[p.Partition], "commit")
	}
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Group = group
	found := ask[*kmsg.OffsetFetchResponse](fetch, 7).Topics[0].Partitions
	equal(len(found), 2, "partitions")
	for _, p := range found {
		equal(p.Offset, 100+int64(p.Partition), "offset")
		equal(*p.Metadata, fmt.Sprintf("note %d", p.Partition), "metadata")
	}
}

func listGroupsVersion(v int16) {
	group := topicName("list")
	settled(group)
	listed := func(states, types []string) string {
		req := kmsg.NewPtrListGroupsRequest()
		req.StatesFilter, req.TypesFilter = states, types
		resp := ask[*kmsg.ListGroupsResponse](req, v)
		equal(resp.ErrorCode, 0, "error")
		for _, g := range resp.Groups {
			if g.Group == group {
				equal(g.ProtocolType, "consumer", "protocol type")
				return g.GroupState + "/" + g.GroupType
			}
		}
		return "none"
	}
	want := []string{"/", "Stable/", "Stable/classic"}[max(0, v-3)]
	equal(listed(nil, nil), want, "listed")
	if v >= 4 {
		equal(listed([]string{"Empty"}, nil), "none", "empty groups")
		equal(listed([]string{"Empty", "stable"}, nil), want, "stable groups")
	}
	if v >= 5 {
		equal(listed(nil, []string{"consumer"}), "none", "groups of the consumer protocol")
		equal(listed(nil, []string{"classic"}), want, "classic groups")
	}
}

func describeGroupsVersion(v int16) {
	group := topicName("describe")
	member := settled(group).MemberID
	req := kmsg.NewPtrDescribeGroupsRequest()
	missing := topicName("missing")
	req.Groups = []string{group, missing}
	resp := ask[*kmsg.DescribeGroupsResponse](req, v)
	slices.SortFunc(resp.Groups, func(a, b kmsg.DescribeGroupsResponseGroup) int { return strings.Compare(a.Group, b.Group) })
	g := resp.Groups[0]
	equal(g.ErrorCode, 0, "error")
	equal(g.State, "Stable", "state")
	equal(g.Protocol, "range", "protocol")
	equal(g.Members[0].MemberID, member, "member")
	equal(string(g.Members[0].MemberAssignment), "everything", "assignment")
	if !strings.HasPrefix(g.Members[0].ClientHost, "/") || g.Members[0].ClientID == "" {
		fail("client %q at %q", g.Members[0].ClientID, g.Members[0].ClientHost)
	}
	equal(resp.Groups[1].State, "Dead", "a group that does not exist")
	equal(resp.Groups[1].ErrorCode == notFound, v >= 6, "its error")
}

func deleteGroupsVersion(v int16) {
	group, busy := topicName("delete"), topicName("busy")
	topic, _ := newTopic("delete", 1)
	settled(busy)
	waitForCoordinator(group)
	equal(ask[*kmsg.OffsetCommitResponse](commitRequest(group, topic, 0), 8).Topics[0].Partitions[0].ErrorCode, 0, "commit")
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Groups = []string{group, busy, topicName("missing")}
	resp := ask[*kmsg.DeleteGroupsResponse](req, v)
	slices.SortFunc(resp.Groups, func(a, b kmsg.DeleteGroupsResponseGroup) int {
		return slices.Index(req.Groups, a.Group) - slices.Index(req.Groups, b.Group)
	})
	equal(resp.Groups[0].ErrorCode, 0, "an empty group")
	equal(resp.Groups[1].ErrorCode, nonEmpty, "a group with members")
	equal(resp.Groups[2].ErrorCode, notFound, "no group")
	req.Groups = []string{group}
	equal(ask[*kmsg.DeleteGroupsResponse](req, v).Groups[0].ErrorCode, notFound, "once more")
}

func offsetDelete() {
	topic, _ := newTopic("offset-delete", 2)
	group := topicName("offset-delete")
	waitForCoordinator(group)
	ask[*kmsg.OffsetCommitResponse](commitRequest(group, topic, 0, 1), 8)
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = group
	named := kmsg.NewOffsetDeleteRequestTopic()
	named.Topic = topic
	for _, number := range []int32{1, 7} {
		p := kmsg.NewOffsetDeleteRequestTopicPartition()
		p.Partition = number
		named.Partitions = append(named.Partitions, p)
	}
	req.Topics = append(req.Topics, named)
	resp := ask[*kmsg.OffsetDeleteResponse](req, 0)
	equal(resp.ErrorCode, 0, "error")
	for _, p := range resp.Topics[0].Partitions {
		equal(p.ErrorCode, map[int32]int16{1: 0, 7: noSuchPartition}[p.Partition], fmt.Sprint("partition ", p.Partition))
	}
	fetch := kmsg.NewPtrOffsetFetchRequest()
	fetch.Group, fetch.Topics = group, nil
	left := ask[*kmsg.OffsetFetchResponse](fetch, 7).Topics[0].Partitions
	equal(len(left), 1, "offsets that are left")
	equal(left[0].Partition, 0, "its partition")
	req.Group = topicName("missing")
	equal(ask[*kmsg.OffsetDeleteResponse](req, 0).ErrorCode, notFound, "no group")
	busy := topicName("busy")
	settled(busy)
	req.Group = busy
	for _, p := range ask[*kmsg.OffsetDeleteResponse](req, 0).Topics[0].Partitions {
		equal(p.ErrorCode, map[int32]int16{1: 0, 7: noSuchPartition}[p.Partition], "a topic that the group does not read")
	}
}

func groupBadInput() {
	group := topicName("bad")
	topic, _ := newTopic("bad", 1)
	member := settled(group)
	code := func(change func(*kmsg.JoinGroupRequest)) int16 {
		req := joinRequest(group, "")
		change(req)
		return ask[*kmsg.JoinGroupResponse](req, 5).ErrorCode
	}
	equal(code(func(r *kmsg.JoinGroupRequest) { r.Group = "" }), invalidGroup, "no group")
	equal(code(func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 1 }), invalidTimeout, "a short session")
	equal(code(func(r *kmsg.JoinGroupRequest) { r.SessionTimeoutMillis = 1 << 30 }), invalidTimeout, "a long session")
	equal(code(func(r *kmsg.JoinGroupRequest) { r.MemberID = "stranger" }), unknownMember, "a stranger")
	equal(code(func(r *kmsg.JoinGroupRequest) { r.ProtocolType = "connect" }), inconsistent, "a foreign protocol")
	equal(code(func(r *kmsg.JoinGroupRequest) { r.Protocols[0].Name = "sticky" }), inconsistent, "nothing in common")
	equal(code(func(r *kmsg.JoinGroupRequest) { r.Protocols = nil }), inconsistent, "no protocols")
	sync := syncRequest(group, member.MemberID, 7)
	equal(ask[*kmsg.SyncGroupResponse](sync, 3).ErrorCode, illegalGeneration, "sync in another generation")
	sync = syncRequest(group, member.MemberID, 1)
	other := "sticky"
	kind := "consumer"
	sync.Protocol, sync.ProtocolType = &other, &kind
	equal(ask[*kmsg.SyncGroupResponse](sync, 5).ErrorCode, inconsistent, "sync for another protocol")
	commit := func(change func(*kmsg.OffsetCommitRequest)) int16 {
		req := commitRequest(group, topic, 0)
		req.Generation, req.MemberID = 1, member.MemberID
		change(req)
		return ask[*kmsg.OffsetCommitResponse](req, 8).Topics[0].Partitions[0].ErrorCode
	}
	equal(commit(func(*kmsg.OffsetCommitRequest) {}), 0, "a member's commit")
	equal(commit(func(r *kmsg.OffsetCommitRequest) { r.Generation = 2 }), illegalGeneration, "another generation")
	equal(commit(func(r *kmsg.OffsetCommitRequest) { r.MemberID = "stranger" }), unknownMember, "a stranger's commit")
	equal(commit(func(r *kmsg.OffsetCommitRequest) { r.MemberID, r.Generation = "", -1 }), unknownMember, "from outside")
	equal(commit(func(r *kmsg.OffsetCommitRequest) { r.Topics[0].Partitions[0].Partition = 9 }), noSuchPartition, "no such partition")
	equal(commit(func(r *kmsg.OffsetCommitRequest) { r.Topics[0].Topic = topicName("missing") }), noSuchPartition, "no such topic")
	large := strings.Repeat("x", 4097)
	equal(commit(func(r *kmsg.OffsetCommitRequest) { r.Topics[0].Partitions[0].Metadata = &large }), metadataTooLarge, "metadata")
	equal(commit(func(r *kmsg.OffsetCommitRequest) { r.Group, r.Generation = topicName("missing"), 4 }), illegalGeneration, "no group")
	leave := kmsg.NewPtrLeaveGroupRequest()
	one := kmsg.NewLeaveGroupRequestMember()
	one.MemberID = "stranger"
	leave.Group, leave.Members = group, append(leave.Members, one)
	equal(ask[*kmsg.LeaveGroupResponse](leave, 4).Members[0].ErrorCode, unknownMember, "a stranger leaves")
	leave.Group = topicName("missing")
	left := ask[*kmsg.LeaveGroupResponse](leave, 4)
	equal(left.ErrorCode, 0, "leaving a group that is not there")
	equal(left.Members[0].ErrorCode, unknownMember, "its member")
}

func staticMembers() {
	group := topicName("static")
	waitForCoordinator(group)
	name := "one"
	joinStatic := func(member string, v int16) *kmsg.JoinGroupResponse {
		req := joinRequest(group, member)
		req.InstanceID = &name
		return ask[*kmsg.JoinGroupResponse](req, v)
	}
	first := joinStatic("", 9)
	equal(first.ErrorCode, 0, "a static member joins at once")
	sync := syncRequest(group, first.MemberID, 1)
	sync.InstanceID = &name
	equal(ask[*kmsg.SyncGroupResponse](sync, 4).ErrorCode, 0, "sync")
	again := joinStatic("", 9)
	equal(again.ErrorCode, 0, "it comes back")
	equal(again.Generation, 1, "without a rebalance")
	equal(again.SkipAssignment, true, "and has nothing to assign")
	equal(again.MemberID == first.MemberID, false, "under a new id")
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group, beat.MemberID, beat.Generation, beat.InstanceID = group, first.MemberID, 1, &name
	equal(ask[*kmsg.HeartbeatResponse](beat, 4).ErrorCode, fencedInstance, "the one before is fenced")
	commit := commitRequest(group, "any", 0)
	topic, _ := newTopic("static", 1)
	commit.Topics[0].Topic = topic
	commit.MemberID, commit.Generation, commit.InstanceID = first.MemberID, 1, &name
	equal(ask[*kmsg.OffsetCommitResponse](commit, 8).Topics[0].Partitions[0].ErrorCode, fencedInstance, "and may not commit")
	equal(joinStatic(first.MemberID, 9).ErrorCode, fencedInstance, "nor join")
	leave := kmsg.NewPtrLeaveGroupRequest()
	one := kmsg.NewLeaveGroupRequestMember()
	one.InstanceID = &name
	leave.Group, leave.Members = group, append(leave.Members, one)
	equal(ask[*kmsg.LeaveGroupResponse](leave, 4).Members[0].ErrorCode, 0, "an administrator removes it by its name")
}

func kgoGroup() {
	topic, _ := newTopic("kgo-group", 4)
	group := topicName("kgo")
	producer := client(kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	defer producer.Close()
	var records []*kgo.Record
	for i := range 400 {
		records = append(records, &kgo.Record{Topic: topic, Value: []byte(fmt.Sprint(i))})
	}
	produceAll(producer, records)
	member := func() *kgo.Client {
		return client(kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic), kgo.DisableAutoCommit(),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.Balancers(kgo.CooperativeStickyBalancer()))
	}
	read := func(cl *kgo.Client, count int) {
		for got := 0; got < count; {
			fetches := cl.PollRecords(timeout(60*time.Second), count-got)
			check(fetches.Err(), "poll")
			got += fetches.NumRecords()
		}
	}
	one := member()
	read(one, 150)
	check(one.CommitUncommittedOffsets(context.Background()), "commit")
	two := member()
	defer two.Close()
	admin := kadm.NewClient(producer)
	end := time.Now().Add(60 * time.Second)
	for {
		found, err := admin.DescribeGroups(timeout(30*time.Second), group)
		check(err, "describe")
		if found[group].State == "Stable" && len(found[group].Members) == 2 {
			break
		}
		if time.Now().After(end) {
			fail("the group is %s with %d members", found[group].State, len(found[group].Members))
		}
		one.PollRecords(timeout(100*time.Millisecond), 1)
	}
	one.Close()
	offsets, err := admin.FetchOffsets(timeout(30*time.Second), group)
	check(err, "fetch offsets")
	var committed int64
	offsets.Each(func(o kadm.OffsetResponse) { committed += o.At })
	equal(committed, 150, "records committed")
	read(two, 250)
	check(two.CommitUncommittedOffsets(context.Background()), "commit")
	lag, err := admin.Lag(timeout(30*time.Second), group)
	check(err, "lag")
	equal(lag[group].Lag.Total(), 0, "lag")
}
