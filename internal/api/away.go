package api

import (
	"bytes"
	"net/http"
	"strconv"
	"time"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// turnedAway is what all refusals at a closed door have in common, made once: refusing must cost next to nothing of what is refused.
type turnedAway struct {
	head, tail []byte            // of the body, around the request's id
	err        error             // for those that were read
	counts     map[string]series // by operation
}

// markedID stands for a request's id in the body that is made once.
const markedID = "MARK"

// maxUnread is the longest body that is left unread: of a longer one, net/http would end the connection.
const maxUnread = 256 << 10

func newTurnedAway(docs string, rs []route, m *requestMetrics) turnedAway {
	body := appendError(nil, errorRows[errs.RateLimited], docs, tenancy.ToldAMomentAgo, tenancy.ToldToWait, markedID)
	a := turnedAway{counts: map[string]series{}, err: errs.New(errs.RateLimited, tenancy.ToldAMomentAgo)}
	a.head, a.tail, _ = bytes.Cut(body, []byte(markedID))
	for i := range rs {
		if r := &rs[i]; r.scope == oneNamespace {
			a.counts[r.op] = m.series(r.op, http.StatusTooManyRequests)
		}
	}
	return a
}

// turnAway refuses a request by its header alone, if its credential is that of a tenant whose door is closed, and reports whether it
// did. All else takes the long way, where it may be refused too: requests whose tenant only the body names, tokens, floods that are to
// wait, and all while spans are recorded.
func (c *call) turnAway() bool {
	h, r := c.h, c.r
	if h.node.Quiet() || h.opts.Tracer != nil || r.ContentLength > maxUnread || r.ContentLength < 0 {
		return false
	}
	_, path := cutIndexPrefix(r.URL.EscapedPath())
	route, _, _, err := c.router.match(r.Method, path)
	if err != nil || route.scope != oneNamespace {
		return false
	}
	p, err := h.opts.Auth.Authenticate(apiKey(r.Header), c.start)
	if err != nil {
		return false
	}
	c.principal, c.vetted = p, true
	if p.TenantID == (tenancy.ID{}) || !p.Role.May(route.perm) {
		return false
	}
	again := h.node.Shut(p.TenantID, &c.reading.Receipt)
	if again == 0 {
		return false
	}
	c.terms.tenant, c.terms.Standing = p.Tenant, h.node.Standing(p.Tenant)
	c.again = again
	c.sendAway()
	h.away.counts[route.op].observe(time.Since(c.start))
	return true
}

// sendAway writes what writeError would. What of the body has not come yet must come within the grace of any body.
func (c *call) sendAway() int {
	c.limitBodyTime(0)
	c.tell("Content-Type", c.errorType())
	c.tell("Retry-After", strconv.FormatInt(later(c.again), 10))
	buf := getBuffer()
	defer putBuffer(buf)
	*buf = append(append(append((*buf)[:0], c.h.away.head...), c.id...), c.h.away.tail...)
	c.tellTerms(http.StatusTooManyRequests)
	c.tell("Content-Length", strconv.Itoa(len(*buf)))
	c.sent = true
	c.w.WriteHeader(http.StatusTooManyRequests)
	c.w.Write(*buf) // as in send
	return http.StatusTooManyRequests
}
