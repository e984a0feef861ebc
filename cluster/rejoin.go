package cluster

import (
	"context"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// A replica whose files are gone has forgotten what it has voted and acknowledged, whether they were lost or removed when its group
// did without it. It must not come back under the same name while anybody counts on either: DESIGN.md, "A lost replica". So the node
// asks the group's leader, which takes it out of the configuration first, and begins anew, as a learner, only with the
// leader's word for it; and it takes no part in elections before it has the configuration without it, see filled.go.

// leaveAnswer is how long a leader may take to give leave, for which it asks the voters. A link that loses everything would hold up
// whoever asks, and so all that is done about this node's replicas, until TCP gives it up.
const leaveAnswer = 5 * time.Second

// rejoin asks nodes, and whom these name as the group's leader, for leave to begin a replica where there was one before. It begins in
// the term, with its vote for the leader and with the floor. Unavailable: not yet.
func (n *Node) rejoin(ctx context.Context, group string, nodes []string) (next incarnation, err error) {
	err = newNotLeaderError(group, "")
	asked := map[string]bool{"": true, n.id.NodeID: true}
	for nodes = slices.Clone(nodes); len(nodes) > 0; {
		node := nodes[0]
		if nodes = nodes[1:]; asked[node] {
			continue
		}
		asked[node] = true
		var answer []byte
		asking, cancel := context.WithTimeout(ctx, leaveAnswer)
		answer, err = n.peers.call(asking, node, methodRejoin, codec.AppendString(nil, group), nil)
		cancel()
		if err == nil {
			r := codec.NewReader(answer)
			next = incarnation{State: replicaMaking, Term: r.Uvarint(), Floor: r.Uvarint(), Leader: node}
			return next, r.Done()
		}
		if errs.Is(err, errs.FailedPrecondition) {
			break
		}
		nodes = slices.Insert(nodes, 0, leaderHint(err))
	}
	return next, errs.Wrap(errs.KindOf(err), err, "begin another replica of %s", group)
}

// answerRejoin gives a node leave to begin a replica, if this one leads and the group, beyond doubt, does not count that
// node among its voters.
func (n *Node) answerRejoin(ctx context.Context, from string, request, dst []byte) ([]byte, error) {
	if err := n.checkCaller(from); err != nil {
		return dst, err
	}
	r := codec.NewReader(request)
	name := r.String()
	if err := r.Done(); err != nil {
		return dst, err
	}
	groups := n.groups()
	i := slices.IndexFunc(groups, func(g *group) bool { return g.name == name })
	if i < 0 {
		return dst, newNotLeaderError(name, "")
	}
	term, floor, err := groups[i].leaveToRejoin(ctx, from)
	if err != nil {
		return dst, err
	}
	return codec.AppendUvarint(codec.AppendUvarint(dst, term), floor), nil
}

// leaveToRejoin returns this leader's term, and the entry of the configuration, if that is committed and node has no vote by it. Else
// the node is noted, to be taken out.
func (g *group) leaveToRejoin(ctx context.Context, node string) (term, at uint64, err error) {
	term = g.raft().CurrentTerm()
	if err := g.confirm(ctx); err != nil {
		return 0, 0, err
	}
	at, err = g.configuredAt()
	if err != nil {
		return 0, 0, err
	}
	voters := ids(g.servers(), raft.Voter)
	switch {
	case slices.Contains(voters, node):
		g.lost.Store(node, true)
		return 0, 0, errs.New(errs.Unavailable, "node %s has a vote in %s, which is taken back first", node, g.name).WithRetryAfter(retryLeader)
	case at > g.raft().CommitIndex() || g.raft().CurrentTerm() != term || !g.leads():
		return 0, 0, errs.New(errs.Unavailable, "the configuration of %s is being changed", g.name).WithRetryAfter(retryLeader)
	}
	return term, at, nil
}

// found strikes off the nodes that have no vote any more.
func (g *group) found(st *groupStatus) {
	for _, node := range st.Lost {
		if !slices.Contains(st.Voters, node) {
			g.lost.Delete(node)
		}
	}
}

// rejoinMeta waits for leave to begin another replica of the metadata plane. Without one the node knows nothing, so it waits
// as long as it takes.
func (n *Node) rejoinMeta(ctx context.Context) error {
	for {
		next, err := n.rejoin(ctx, metaName, n.book.nodes())
		if err == nil {
			next.Number = n.id.Meta.Number + 1
			n.id.Meta = next
			return n.id.save(n.opts.disk, n.opts.Dir)
		}
		if errs.Is(err, errs.FailedPrecondition) {
			return err
		}
		n.logger.Warn("waiting for leave to begin another replica of the metadata plane", "err", err)
		if err := sleep(ctx, retryLeader); err != nil {
			return err
		}
	}
}
