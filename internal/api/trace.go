package api

import (
	"net/http"
	"strconv"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/tracing"
)

// trace takes in the trace and the baggage that a request brings, and begins its span. For a request without them, while no
// spans are wanted, nothing is made.
func (c *call) trace() {
	ctx, span := c.h.opts.Tracer.Arrive(c.r.Context(), c.r.Header, "request")
	if ctx != c.r.Context() {
		c.r, c.span, c.travels = c.r.WithContext(ctx), span, true
	}
}

// carryTenant sends the tenant along with the trace.
func (c *call) carryTenant(tenant string) {
	switch {
	case !c.travels:
	case c.ctx != nil:
		c.ctx = tracing.WithTenant(c.ctx, tenant)
	default:
		c.r = c.r.WithContext(tracing.WithTenant(c.r.Context(), tenant))
	}
}

// endTrace tells in the request's span what came of it. Whom the request was about is told once that was found to be in reach.
func (c *call) endTrace(status int, err error) {
	s := c.span
	if !s.On() {
		s.End(nil)
		return
	}
	s.Text("http.request.method", c.r.Method)
	s.Int("http.response.status_code", status)
	s.Text("croft.request", c.id)
	s.Text("croft.actor", c.principal.String())
	if c.route != nil {
		s.Rename(c.op)
		s.Text("http.route", c.route.pattern)
	}
	s.Text("croft.index", c.ix.Name)
	if t := &c.terms; t.Settings != nil {
		s.Text("croft.tenant", t.tenant)
		s.Text("croft.tier", t.Settings.Tier)
		if t.Shard != cluster.NoShard {
			s.Text("croft.shard", strconv.Itoa(t.Shard))
		}
	}
	if status < http.StatusInternalServerError {
		err = nil // the client's own
	}
	s.End(err)
}
