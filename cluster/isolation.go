package cluster

import (
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/tenancy"
)

// What is counted of isolation is counted where a request came in, and written down with the rest of its tenant's usage. What is no
// tenant's is usage of none, kept by the first shard that there is.

// NoteDenied counts a request that asked for what it may not have: for whose credential it came with, and for whose it asked for.
func (n *Node) NoteDenied(d *tenancy.Denial) {
	s, now := n.meta.state(), time.Now()
	by, ok := s.tenantByID(engine.TenantID(d.By))
	if !ok && d.Name != "" {
		by, ok = s.tenant(d.Name)
	}
	if !ok {
		by = nil
	}
	n.countFor(s, by, now, d.Why)
	if asked, ok := s.tenant(d.Asked); ok && (by == nil || asked.id != by.id) {
		n.countFor(s, asked, now, tenancy.Targeted)
	}
}

// countFor counts one of a figure for a tenant, nil for none.
func (n *Node) countFor(s *state, t *tenant, now time.Time, f tenancy.Figure) {
	id, shard := tenancy.ID{}, s.shards[0]
	if t != nil {
		id, shard = tenancy.ID(t.id), s.home(t)
	}
	n.usage.shard(shard).Count(id, now, f)
}

// NoteAnswer counts an answer that was checked before it was sent to who stands so, and whether it was found to be another's.
func (n *Node) NoteAnswer(to *Standing, now time.Time, strayed bool) {
	if !to.Known {
		return
	}
	m := &n.usage.shard(uint16(to.Shard)).Meter
	m.Count(to.ID, now, tenancy.Checked)
	if strayed {
		m.Count(to.ID, now, tenancy.Strayed)
	}
}

// TenantName is the name that a tenant has, or had when it was deleted; empty if it is not known here.
func (n *Node) TenantName(id tenancy.ID) string {
	if t, ok := n.meta.state().tenantByID(engine.TenantID(id)); ok {
		return t.name
	}
	return ""
}
