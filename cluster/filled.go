package cluster

import (
	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/internal/errs"
)

// A replica that begins where its node had one before is still counted upon by whoever does not know yet that it was taken out:
// another that lags behind by some configurations would be elected with its vote, and lack what was committed meanwhile. And the log
// that it is filled with passes through configurations in which it had a vote, even the only one: there it would elect itself. So it
// takes no part in elections before it has the configuration without it, its floor: then it refuses, like any
// voter, whoever has less of the log. DESIGN.md, "A lost replica".

// readFloor notes which entry is lacking.
func (g *group) readFloor() error {
	floor, err := g.log.GetUint64(keyFloor)
	if err != nil {
		return err
	}
	last, err := g.log.LastIndex()
	if max(last, g.marked.Load()) >= floor {
		floor = 0
	}
	g.floor.Store(floor)
	return err
}

// abstains answers a request that would have the replica vote, or be elected, while it has no part in elections.
func (g *group) abstains(rpc *raft.RPC) bool {
	if g.floor.Load() == 0 {
		return false
	}
	term := uint64(0)
	if r := g.raft(); r != nil {
		term = r.CurrentTerm()
	}
	header := raft.RPCHeader{ProtocolVersion: raft.ProtocolVersionMax, ID: []byte(g.opts.node), Addr: []byte(g.opts.node)}
	switch rpc.Command.(type) {
	case *raft.RequestVoteRequest:
		rpc.Respond(&raft.RequestVoteResponse{RPCHeader: header, Term: term}, nil)
	case *raft.RequestPreVoteRequest:
		rpc.Respond(&raft.RequestPreVoteResponse{RPCHeader: header, Term: term}, nil)
	case *raft.TimeoutNowRequest:
		rpc.Respond(nil, errs.New(errs.Unavailable, "%s is not filled yet", g.name))
	default:
		return false
	}
	return true
}

// noteFilled lets the replica take part in elections once it has its floor.
func (g *group) noteFilled() {
	floor, r := g.floor.Load(), g.raft()
	if floor == 0 || r == nil || r.LastIndex() < floor {
		return
	}
	g.floor.Store(0)
	_ = g.look() // the timeouts are ours: raft takes them
}
