package cluster

import (
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/raft"
)

// ballot stands between a group's transport and raft, and hands on what other nodes send, one request after the other. raft
// refuses its vote for as long as it believes in a leader, and it goes on believing until a timer of its own ends, up to a whole election
// timeout after that leader's time is over. Whoever was refused waits for one to two timeouts more. So a request for a vote is
// answered by what is true when it comes: once the leader has been silent for an election timeout, raft is told not to
// mind it. The promise that leases rest on, no vote before that time is over, is kept: no request is in raft's hands while
// the ballot looks when the leader was last heard of.
type ballot struct {
	group *group
	in    <-chan raft.RPC
	out   chan raft.RPC
	reply chan raft.RPCResponse
	stop  chan struct{}
	once  sync.Once

	held []raft.RPC // that come so shortly before the time is over that they wait for it
	due  *time.Timer
}

func newBallot(g *group, in <-chan raft.RPC) *ballot {
	b := &ballot{
		group: g, in: in, out: make(chan raft.RPC), reply: make(chan raft.RPCResponse, 1), stop: make(chan struct{}),
		due: time.NewTimer(never),
	}
	go b.run()
	return b
}

func (b *ballot) close() { b.once.Do(func() { close(b.stop) }) }

func (b *ballot) run() {
	defer b.due.Stop()
	for {
		select {
		case rpc := <-b.in:
			if !b.hold(rpc) && !b.deliver(rpc) {
				return
			}
		case <-b.due.C:
			for _, rpc := range b.held {
				if !b.deliver(rpc) {
					return
				}
			}
			b.held = nil
		case <-b.stop:
			return
		}
	}
}

// hold keeps a request for a vote that comes a moment too early: leaders' heartbeats reach followers at different times.
func (b *ballot) hold(rpc raft.RPC) bool {
	silence, ok := b.silence(rpc)
	left := b.group.opts.tick - silence
	if !ok || left <= 0 || left > b.group.opts.tick/4 {
		return false
	}
	if len(b.held) == 0 {
		b.due.Reset(left)
	}
	b.held = append(b.held, rpc)
	return true
}

// silence is for how long the leader has not been heard of that a request for a vote would be refused for. ok is false for
// other requests.
func (b *ballot) silence(rpc raft.RPC) (silence time.Duration, ok bool) {
	switch rpc.Command.(type) {
	case *raft.RequestVoteRequest, *raft.RequestPreVoteRequest:
	default:
		return 0, false
	}
	r := b.group.raft()
	if r == nil || r.State() != raft.Follower || b.group.leader() == "" {
		return 0, false
	}
	return time.Since(r.LastContact()), true
}

// deliver hands a request to raft and its answer back; false: raft has stopped.
func (b *ballot) deliver(rpc raft.RPC) bool {
	if b.group.abstains(&rpc) {
		return true
	}
	if silence, ok := b.silence(rpc); ok && silence >= b.group.opts.tick {
		switch req := rpc.Command.(type) {
		case *raft.RequestVoteRequest:
			req.LeadershipTransfer = true // raft's way to say that there may be a leader
		case *raft.RequestPreVoteRequest: // has no such way
			rpc.Respond(b.preVote(req), nil)
			return true
		}
	}
	select {
	case b.out <- raft.RPC{Command: rpc.Command, Reader: rpc.Reader, RespChan: b.reply}:
	case <-b.stop:
		return false
	}
	select {
	case answer := <-b.reply:
		b.group.noteFilled()
		rpc.Respond(answer.Response, answer.Error)
		return true
	case <-b.stop:
		return false
	}
}

// preVote says whether raft would give its vote. It binds nobody.
func (b *ballot) preVote(req *raft.RequestPreVoteRequest) *raft.RequestPreVoteResponse {
	r := b.group.raft()
	term := r.CurrentTerm()
	lastTerm, _ := strconv.ParseUint(r.Stats()["last_log_term"], 10, 64) // raft tells it nowhere else
	upToDate := req.LastLogTerm > lastTerm || req.LastLogTerm == lastTerm && req.LastLogIndex >= r.LastIndex()
	voter := false
	for _, s := range b.group.servers() {
		voter = voter || s.Suffrage == raft.Voter && s.ID == raft.ServerID(req.ID)
	}
	return &raft.RequestPreVoteResponse{
		RPCHeader: raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(b.group.opts.node), Addr: []byte(b.group.opts.node)},
		Term:      max(term, req.Term), Granted: voter && req.Term >= term && upToDate,
	}
}
