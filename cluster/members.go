package cluster

import (
	"context"
	"maps"
	"slices"
	"sync/atomic"
	"time"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// replicaMap is the replicas of this node. It is never changed: a replica that comes or goes makes another map, so that
// every request finds its shard without a lock.
type replicaMap map[uint16]*shard

// replicaSet is the newest replicaMap.
type replicaSet struct{ current atomic.Pointer[replicaMap] }

func newReplicaSet() *replicaSet {
	r := new(replicaSet)
	r.current.Store(&replicaMap{})
	return r
}

func (r *replicaSet) load() replicaMap { return *r.current.Load() }

// put adds a replica, or takes one away when sh is nil. Callers take turns.
func (r *replicaSet) put(id uint16, sh *shard) {
	next := maps.Clone(r.load())
	if sh == nil {
		delete(next, id)
	} else {
		next[id] = sh
	}
	r.current.Store(&next)
}

// replica returns this node's replica of a shard, nil if it has none.
func (n *Node) replica(id uint16) *shard { return n.local.load()[id] }

// replicas returns all replicas of this node by shard.
func (n *Node) replicas() replicaMap { return n.local.load() }

// sorted returns the replicas in order of their shards.
func (m replicaMap) sorted() []*shard {
	all := slices.Collect(maps.Values(m))
	slices.SortFunc(all, func(a, b *shard) int { return int(a.id) - int(b.id) })
	return all
}

// leaderHints is what other nodes have said of shards' leaders.
type leaderHints []atomic.Pointer[string]

// leaderOf returns the node that leads a shard as far as this one knows, empty if it has no idea: the local replica's
// view first, then what an answer said, then the replica that is preferred.
func (n *Node) leaderOf(id uint16) (node string) {
	if sh := n.replica(id); sh != nil {
		if leader := sh.group.leader(); leader != "" {
			return leader
		}
	}
	if int(id) < len(n.hints) {
		if hint := n.hints[id].Load(); hint != nil {
			return *hint
		}
	}
	if wanted := n.meta.state().replicas(id); len(wanted) > 0 {
		return wanted[0]
	}
	return ""
}

// noteLeader remembers who leads a shard by another node's answer; empty: it is not who it was said to be.
func (n *Node) noteLeader(id uint16, node string) {
	switch {
	case int(id) >= len(n.hints):
	case node == "":
		n.hints[id].Store(nil)
	default:
		n.hints[id].Store(&node)
	}
}

// doubtLeader has the next request for a shard ask another replica than one that did not answer: if it lives, that one says so. Only
// a node without a replica of its own depends on it: a machine that is cut off refuses nothing, so that it would be asked for ever.
func (n *Node) doubtLeader(id uint16, silent string) {
	wanted := n.meta.state().replicas(id)
	at := slices.Index(wanted, silent) + 1 // from the first one, if it is none of them any more
	for i := range wanted {
		if next := wanted[(at+i)%len(wanted)]; next != silent && next != n.id.NodeID {
			n.noteLeader(id, next)
			return
		}
	}
}

// metaAnswer is how long the metadata plane's leader may take to answer. Those who ask for many callers have no deadline of
// their own, and a link that loses everything would hold them up until TCP gives it up, a quarter of an hour later.
const metaAnswer = 10 * time.Second

// proposeMeta commits a command to the metadata plane, wherever its leader is, and returns when this node has applied it.
// Errors are as group.propose gives, or the command's own refusal.
func (n *Node) proposeMeta(ctx context.Context, c *metaCommand) (metaResult, error) {
	if n.meta.group.leads() {
		return n.meta.propose(ctx, c)
	}
	leader := n.meta.group.leader()
	if leader == "" || leader == n.id.NodeID {
		return metaResult{}, errs.New(errs.Unavailable, "%s has no leader", metaName).WithRetryAfter(retryLeader)
	}
	ctx, cancel := context.WithTimeout(ctx, metaAnswer)
	defer cancel()
	answer, err := n.peers.call(ctx, leader, methodMeta, appendMetaCommand(nil, c), nil)
	if err != nil {
		return metaResult{}, err
	}
	res, err := decodeMetaResult(answer)
	if err != nil {
		return metaResult{}, errs.Wrap(errs.OutcomeUnknown, err, "read the answer of node %s", leader)
	}
	_, err = n.meta.fsm.wait(ctx, func(s *state) bool { return s.index >= res.at })
	return res, errs.Wrap(errs.OutcomeUnknown, err, "wait for entry %d of %s", res.at, metaName)
}

// answerMeta proposes a command for another node.
func (n *Node) answerMeta(ctx context.Context, from string, request, dst []byte) ([]byte, error) {
	if err := n.checkCaller(from); err != nil {
		return dst, err
	}
	res, err := n.meta.proposeBytes(ctx, slices.Clone(request))
	if err != nil {
		return dst, err
	}
	return appendMetaResult(dst, &res), nil
}

// checkCaller refuses nodes that were removed.
func (n *Node) checkCaller(from string) error {
	if m, ok := n.meta.state().member(from); ok && m.state == memberRemoved {
		return errRemoved(from)
	}
	if slices.Contains(n.id.Refused, from) {
		return errRemoved(from)
	}
	return nil
}

// appendMetaResult encodes the answer of a command that was not refused.
func appendMetaResult(b []byte, res *metaResult) []byte {
	b = codec.AppendUvarint(codec.AppendUvarint(b, res.at), uint64(res.shard))
	b = codec.AppendUvarint(b, res.move)
	return appendIndex(b, &res.index)
}

func decodeMetaResult(b []byte) (res metaResult, err error) {
	r := codec.NewReader(b)
	res.at, res.shard, res.move = r.Uvarint(), uint16(r.Uvarint()), r.Uvarint()
	res.index = readIndex(r, metaCommandVersion)
	return res, r.Done()
}

// register tells the metadata plane where this node is reached, when that is news.
func (n *Node) register(ctx context.Context) error {
	intro := n.introduction()
	me := intro.member()
	known, ok := n.meta.state().member(me.id)
	me.state = known.state
	if ok && known == me {
		return nil
	}
	_, err := n.proposeMeta(ctx, &metaCommand{op: metaRegister, memberCommand: memberCommand{member: me}})
	return err
}
