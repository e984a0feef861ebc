package cluster

import (
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/tracing"
)

// Names of what spans tell. The tenant is on all of them: it is in the baggage.
const (
	spanMethod = "croft.method"
	spanNode   = "croft.node"
	spanPeer   = "croft.peer"
	spanShard  = "croft.shard"
	spanTier   = "croft.tier"
	spanIndex  = "croft.index"
)

// describe tells of a verb that has run on a replica of this node: what it is, where it ran, and how it was done.
func (n *Node) describe(span tracing.Span, sh *shard, key engine.Key, v verb) {
	span.Rename(v.method().String())
	span.Text(spanNode, n.id.NodeID)
	span.Int(spanShard, int(sh.id))
	if ix, ok := n.meta.state().indexByID(key.Index); ok {
		span.Text(spanIndex, ix.Name)
	}
	switch v := v.(type) {
	case *queryVerb:
		span.Text("croft.plan", string(v.res.Plan))
		span.Int("croft.distances", v.res.Distances)
		span.Int("croft.matches", len(v.res.Matches))
		span.Text("croft.cache", v.lookup.state().String())
	case *applyVerb:
		span.Int("croft.bytes", len(v.encoded))
		span.Int("croft.affected", v.written.Affected)
	case *whereVerb:
		span.Int("croft.affected", v.written.Affected)
	}
}
