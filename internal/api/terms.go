package api

import (
	"context"
	"math"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// A request is served under its tenant's settings: what they bound is bounded here, where the request comes in, and every answer
// tells in headers under what it was served and how that went.

// none is the value of a header that tells of a tenant where there is none.
const none = "none"

// terms are what a request is served under.
type terms struct {
	cluster.Standing               // Settings is nil while no tenant is known that the principal reaches
	tenant           string        // its name
	asked            time.Duration // how long the client has patience; 0: it does not say
	begun            time.Time     // when all of the request was here; zero: it never was
	bound            time.Duration // what is promised of the time from then on
	cancel           context.CancelFunc
}

// readDeadline takes in how long the client will wait. It only ever shortens what it would get anyway.
func (c *call) readDeadline() error {
	text := c.r.Header.Get("X-Croft-Deadline-Ms")
	if text == "" {
		return nil
	}
	ms, err := strconv.ParseUint(text, 10, 32)
	if err != nil || ms == 0 {
		return errs.New(errs.Invalid, "header X-Croft-Deadline-Ms: %q is no whole number of milliseconds above 0", clip(text))
	}
	c.terms.asked = time.Duration(ms) * time.Millisecond
	return nil
}

// limitTime gives the request its time: that of its class, or what the client has patience for. What it returns ends it.
func (c *call) limitTime() (end func()) {
	c.terms.begun, c.terms.bound = time.Now(), c.h.classes()[c.route.cost].Deadline
	if c.terms.asked > 0 {
		c.terms.bound = min(c.terms.bound, c.terms.asked)
	}
	var cancel context.CancelFunc
	c.ctx, cancel = context.WithDeadline(cluster.WithReading(c.r.Context(), &c.reading), c.terms.begun.Add(c.terms.bound))
	c.terms.cancel = func() {}
	return func() {
		c.terms.cancel()
		cancel()
	}
}

// serveUnder takes in what the tenant is served under, and shortens the time for reads to its deadline. A write has the time of
// its class: stopped in the middle, nobody would know what it has done.
func (c *call) serveUnder(tenant string) {
	c.terms.tenant, c.terms.Standing = tenant, c.h.node.Standing(tenant)
	c.carryTenant(tenant)
	if c.ctx == nil || c.route.cost == write {
		return
	}
	if d := c.terms.Settings.Duration(tenancy.Deadline); d < c.terms.bound {
		c.terms.bound = d
		c.ctx, c.terms.cancel = context.WithDeadline(c.ctx, c.terms.begun.Add(d))
	}
}

// capTopK lowers a query's topK to the tenant's cap, and says so.
func (c *call) capTopK(q *queryRequest) { c.capBy(q, c.terms.Settings) }

func (c *call) capBy(q *queryRequest, s *tenancy.Settings) {
	if most := s.Tighten(tenancy.TopK, int64(q.K)); most < int64(q.K) {
		q.K = int(most)
		c.w.Header().Set("X-Croft-Top-K-Capped", strconv.Itoa(q.K))
	}
}

// tooLate says which time is over.
func (c *call) tooLate(err error) error {
	if !errs.Is(err, errs.DeadlineExceeded) || c.ctx.Err() == nil {
		return err
	}
	late := errs.New(errs.DeadlineExceeded, "the request was stopped after its %s: %w", c.terms.bound, err)
	if c.terms.Settings != nil && c.terms.bound == c.terms.Settings.Duration(tenancy.Deadline) {
		return late.WithHint("that is the deadline of the tier %s; a smaller topK, a lower recall or a narrower filter takes less time", c.terms.Settings.Tier)
	}
	return late
}

// tellTerms sets the headers that every answer has.
func (c *call) tellTerms(status int) {
	shard, tier, met := none, none, "true"
	if t := &c.terms; t.Settings != nil {
		tier = t.Settings.Tier
		if t.Shard != cluster.NoShard {
			shard = strconv.Itoa(t.Shard)
		}
		c.tell("X-Croft-Tenant", url.PathEscape(t.tenant))
	}
	if !c.keptDeadline(status) {
		met = "false"
	}
	c.tell("X-Croft-Took-Ms", milliseconds(time.Since(c.start)))
	c.tell("X-Croft-Shard", shard)
	c.tell("X-Croft-Tier", tier)
	c.tell("X-Croft-Cache", c.reading.Receipt.Cache.String())
	c.tell("X-Croft-Sla-Met", met)
	c.tellQuota()
}

// milliseconds writes a time to the microsecond.
func milliseconds(d time.Duration) string {
	us := int64(d.Round(time.Microsecond) / time.Microsecond)
	var text [24]byte
	b := strconv.AppendInt(text[:0], us/1000, 10)
	return string(append(b, '.', byte('0'+us/100%10), byte('0'+us/10%10), byte('0'+us%10)))
}

// keptDeadline reports whether the answer is one, and came in time.
func (c *call) keptDeadline(status int) bool {
	return status < http.StatusInternalServerError && (c.terms.begun.IsZero() || time.Since(c.terms.begun) <= c.terms.bound)
}

// tellQuota tells what is left of the quota that is nearest to its end.
func (c *call) tellQuota() {
	told := &c.reading.Receipt
	if told.Degraded {
		c.tell("X-Croft-Degraded", "true")
	}
	if told.Limit > 0 {
		c.tell("Ratelimit-Limit", strconv.FormatInt(told.Limit, 10))
		c.tell("Ratelimit-Remaining", strconv.FormatInt(told.Remaining, 10))
		c.tell("Ratelimit-Reset", strconv.FormatInt(seconds(told.Reset), 10))
	}
}

// seconds rounds up: who comes back earlier is refused.
func seconds(d time.Duration) int64 { return int64(math.Ceil(d.Seconds())) }

// later is the advice when to come back, in seconds: some more than d, and not for all the same, lest they come back at once.
func later(d time.Duration) int64 {
	n := seconds(d)
	return n + rand.Int64N(2+n/8)
}
