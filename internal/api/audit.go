package api

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
	"github.com/croftdb/croft/tenancy/audit"
)

// administrative reports whether a route changes the store, other than its records.
func (r *route) administrative() bool {
	if r.method == http.MethodGet {
		return false
	}
	switch r.perm {
	case tenancy.WriteIndexes, tenancy.WriteCluster, tenancy.WriteTenants, tenancy.RunTenants, tenancy.ManageKeys:
		return true
	}
	return false
}

// announce writes an act down before it is done: a crash in the middle leaves a mark. One that cannot be written down is done all
// the same, and the log says so.
func (c *call) announce() {
	if !c.route.administrative() {
		return
	}
	var err error
	if c.begun, err = c.h.node.Begin(c.event(nil, c.whoseAct())); err != nil {
		c.unwritten(err)
	}
}

// whoseAct is the tenant that an act is about, or that acts.
func (c *call) whoseAct() string {
	if c.namespace != "" {
		return c.namespace
	}
	return c.principal.Tenant
}

func (c *call) unwritten(err error) {
	c.h.opts.Logger.ErrorContext(c.r.Context(), "an act could not be written to the audit log", "op", c.op, "actor", c.principal.String(), "request", c.id, "err", err)
}

// audit writes down what came of an act, and who was refused. It comes before the answer: what was answered is on disk. Of an act of which
// certainly nothing was done, it only ends what announce wrote.
func (c *call) audit(err error) {
	if c.route == nil {
		return
	}
	kind := errs.KindOf(err)
	if err != nil && (kind == errs.Unauthenticated || kind == errs.PermissionDenied) {
		c.h.node.Refuse(c.event(err, c.principal.Tenant))
	}
	c.noteDenial(err)
	done := c.route.administrative() && (err == nil || kind == errs.OutcomeUnknown || kind == errs.Internal)
	if !done && c.begun == 0 {
		return
	}
	if fault := c.h.node.Record(c.event(err, c.whoseAct()), c.begun, !done); fault != nil {
		c.unwritten(fault)
	}
}

// maxDetail bounds what an event repeats of the client's words, in bytes.
const maxDetail = 200

func (c *call) event(err error, tenant string) audit.Event {
	e := audit.Event{
		At: time.Now(), Actor: c.principal.String(), Role: string(c.principal.Role), Tenant: tenant, Action: c.op,
		Target: c.r.Method + " " + c.r.URL.EscapedPath(), From: clientAddress(c.r), Request: c.id, Result: "ok",
	}
	if c.object != "" {
		e.Target += " " + c.object
	}
	if err != nil {
		e.Result, e.Detail = errs.KindOf(err).String(), err.Error()
		e.Detail = e.Detail[:min(len(e.Detail), maxDetail)]
	}
	if id, fault := tenancy.ParseKey(apiKey(c.r.Header)); fault == nil && c.principal.Role == "" {
		e.Detail += ", with a key that says to be " + id
	}
	return e
}

// clientAddress is where a request came from, as far as this end knows: what a header says of it anybody can write.
func clientAddress(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

var auditParams = []string{"tenant", "actor", "action", "result", "refused", "since", "until", "limit", "paginationToken"}

type auditPage struct {
	Events     []audit.Event `json:"events"`
	Pagination *nextPage     `json:"pagination,omitzero"`
	Silent     []string      `json:"silent_nodes"`
}

func (p auditPage) owners() []string {
	return namesOf(p.Events, func(e *audit.Event) string { return e.Tenant })
}

// listAudit lists events, the newest first: those of one tenant to its own keeper.
func listAudit(c *call) (reply, error) {
	q, err := c.auditQuery()
	if err != nil {
		return nil, err
	}
	at := c.listing(q.Tenant, c.auditBound())
	after, err := c.h.tokens.open(at, c.params.text("paginationToken"))
	if err != nil {
		return nil, err
	}
	if q.After, err = parsePlace(after); err != nil {
		return nil, err
	}
	events, more, silent, err := c.h.node.AuditEvents(c.ctx, q)
	if err != nil {
		return nil, err
	}
	page := auditPage{Events: listOf(events), Silent: listOf(silent)}
	if more && len(events) > 0 {
		page.Pagination = &nextPage{c.h.tokens.seal(at, placeText(audit.PlaceOf(&events[len(events)-1])))}
	}
	return document{page}, nil
}

// auditBound is what a page's token is bound to: all that chooses events.
func (c *call) auditBound() string {
	v := url.Values{}
	for _, name := range auditParams[:7] {
		v.Set(name, c.params.text(name))
	}
	return v.Encode()
}

func (c *call) auditQuery() (q audit.Query, err error) {
	own, all := c.sight()
	q = audit.Query{Tenant: own, Own: !all, Actor: c.params.text("actor"), Action: c.params.text("action"), Result: c.params.text("result")}
	if tenant := c.params.text("tenant"); tenant != "" {
		if err := c.reach(tenant); err != nil {
			return q, err
		}
		q.Tenant = tenant
	}
	if c.params.text("refused") != "" {
		refused, err := c.params.boolean("refused")
		if err != nil {
			return q, err
		}
		q.Refused = &refused
	}
	if q.Since, err = c.moment("since"); err != nil {
		return q, err
	}
	if q.Until, err = c.moment("until"); err != nil {
		return q, err
	}
	q.Limit, err = c.params.integer("limit", defaultListed, 1, audit.MaxFound)
	return q, err
}

// moment is a parameter that is a time, or how long ago that was; zero if it is absent.
func (c *call) moment(name string) (time.Time, error) {
	s := c.params.text(name)
	if s == "" {
		return time.Time{}, nil
	}
	if at, err := time.Parse(time.RFC3339, s); err == nil {
		return at, nil
	}
	ago, err := time.ParseDuration(s)
	if err != nil || ago < 0 {
		return time.Time{}, invalid(name, "want a time such as 2027-01-31T00:00:00Z, or how long ago, such as 24h, got %q", clip(s))
	}
	return c.start.Add(-ago), nil
}

// placeText and parsePlace write a place into a page's token.
func placeText(p audit.Place) string {
	return fmt.Sprintf("%d %t %d %s", p.At.UnixNano(), p.Act, p.Seq, p.Node)
}

func parsePlace(s string) (p audit.Place, err error) {
	if s == "" {
		return p, nil
	}
	parts := strings.SplitN(s, " ", 4)
	if len(parts) != 4 {
		return p, errBadToken()
	}
	at, err1 := strconv.ParseInt(parts[0], 10, 64)
	act, err2 := strconv.ParseBool(parts[1])
	seq, err3 := strconv.ParseUint(parts[2], 10, 64)
	if err1 != nil || err2 != nil || err3 != nil {
		return p, errBadToken()
	}
	return audit.Place{At: time.Unix(0, at).UTC(), Act: act, Seq: seq, Node: parts[3]}, nil
}

type auditVerified struct {
	Whole  bool           `json:"whole"` // no chain is broken
	Chains []audit.Report `json:"chains"`
	Silent []string       `json:"silent_nodes"`
}

// verifyAudit checks the chains of all nodes.
func verifyAudit(c *call) (reply, error) {
	reports, silent, err := c.h.node.VerifyAudit(c.ctx)
	if err != nil {
		return nil, err
	}
	shown := auditVerified{Whole: true, Chains: listOf(reports), Silent: listOf(silent)}
	for _, r := range reports {
		shown.Whole = shown.Whole && len(r.Breaks) == 0
	}
	return document{shown}, nil
}
