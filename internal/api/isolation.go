package api

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// Isolation is not only promised: what is refused is counted for who asked and for whose it was, and what is answered to a tenant's
// credential is compared with it once more, at the last step, by what the shards say whose records they have read. The comparison
// shares nothing with the decision of access.go that it checks.

// deny notes why a request is refused, and whose it asked for as far as that is known; it returns err.
func (c *call) deny(why tenancy.Figure, asked string, err error) error {
	c.denial = tenancy.Denial{Why: why, By: c.principal.TenantID, Name: c.principal.Tenant, Asked: asked}
	return err
}

// distrust notes that a credential was not taken, and returns err, which says why.
func (c *call) distrust(err error) error {
	if !errs.Is(err, errs.Unauthenticated) {
		return err // nobody could tell
	}
	c.denial = tenancy.Denial{Why: tenancy.UnknownKeys, Asked: c.asked()}
	if d, ok := errors.AsType[*tenancy.Distrust](err); ok {
		if c.denial.By = d.Tenant; d.Expired {
			c.denial.Why = tenancy.ExpiredKeys
		}
	}
	return err
}

// asked is the tenant that a request is about, as far as its path tells.
func (c *call) asked() string {
	if len(c.args) > 0 && (c.route.scope == oneTenant || c.route.scope == oneNamespace) {
		return c.args[0]
	}
	return ""
}

// outOfRole is why a role that may not do something is refused: what it asks for is another's, or nothing of a tenant's, or its own.
func (c *call) outOfRole() tenancy.Figure {
	switch {
	case c.principal.Tenant == "":
	case c.asked() != "" && !c.principal.Reaches(c.asked()):
		return tenancy.Foreign
	case !tenancy.RoleTenantAdmin.May(c.route.perm):
		return tenancy.System
	}
	return tenancy.Unpermitted
}

// outOfReach is why something is refused that is a tenant's, or no tenant's.
func (c *call) outOfReach(tenant string) tenancy.Figure {
	if tenant == "" {
		return tenancy.System
	}
	return tenancy.Foreign
}

// noteDenial counts a request that has ended with err, if that was for what it asked for.
func (c *call) noteDenial(err error) {
	if err != nil && c.denial.Why != 0 {
		c.h.metrics.denied.WithLabelValues(c.denial.Why.String()).Inc()
		c.h.node.NoteDenied(&c.denial)
	}
}

// owned is an answer that knows which tenants it tells of.
type owned interface{ owners() []string }

// holder is an answer of records: where there are some, somebody must have said whose they are.
type holder interface{ holds() int }

func (q *queryRequest) holds() int { return len(q.res.Matches) }
func (f *fetched) holds() int      { return f.count }
func (l *listed) holds() int       { return len(l.ids) }

func namesOf[T any](items []T, name func(*T) string) []string {
	names := make([]string, len(items))
	for i := range items {
		names[i] = name(&items[i])
	}
	return names
}

// checkOwner is the last look at an answer to a tenant's credential: all that is in it must be that tenant's. One that is not is
// stopped, and is an error of ours.
func (c *call) checkOwner(rep reply) error {
	switch c.route.scope {
	case oneTenant, oneNamespace, inSight:
	default:
		return nil
	}
	if c.principal.Tenant == "" {
		return nil
	}
	strayed := c.strays(rep)
	c.h.metrics.checked.Inc()
	to := &c.terms.Standing
	if c.terms.Settings == nil {
		found := c.h.node.Standing(c.principal.Tenant)
		to = &found
	}
	c.h.node.NoteAnswer(to, c.start, strayed)
	if !strayed {
		return nil
	}
	c.h.metrics.strayed.Inc()
	return errs.New(errs.Internal, "the answer for tenant %q was found to be another's, and was not sent", clip(c.principal.Tenant))
}

// strays reports whether an answer is of another tenant than its credential, in whole or in part. It allocates nothing for answers
// of records.
func (c *call) strays(rep reply) bool {
	own := c.principal.Tenant
	if t := c.terms.tenant; t != "" && t != own {
		return true
	}
	if c.reading.Mixed || !c.owns(c.reading.Owner) {
		return true
	}
	if r, ok := rep.(holder); ok && r.holds() > 0 && c.reading.Owner == (tenancy.ID{}) {
		return true
	}
	o, ok := rep.(owned)
	return ok && slices.ContainsFunc(o.owners(), func(name string) bool { return name != own })
}

// owns reports whether an id is that of the principal's tenant. A token names a tenant, which may have been made anew meanwhile: it
// reaches whoever has the name, or had it when the request began.
func (c *call) owns(id tenancy.ID) bool {
	switch p := &c.principal; {
	case id == tenancy.ID{}:
		return true
	case p.TenantID != tenancy.ID{}:
		return id == p.TenantID
	case id == c.terms.ID:
		return true
	default:
		return c.h.node.TenantName(id) == p.Tenant
	}
}

// isolationPage reports what was refused of what it asked for, and what was answered.
type isolationPage struct {
	From       time.Time        `json:"from"`
	To         time.Time        `json:"to"`
	By         string           `json:"by"`
	Isolation  []isolationShown `json:"isolation"`
	Pagination *nextPage        `json:"pagination,omitzero"`
}

// isolationShown is a tenant's figures, those of one of its steps, or the sum of all.
type isolationShown struct {
	usageOwner
	Time       *time.Time `json:"time,omitzero"` // of a step
	Refused    uint64     `json:"refused"`       // the sum of the next five
	Foreign    uint64     `json:"foreign"`       // for what is another tenant's
	System     uint64     `json:"system"`        // for what is the store's, or all tenants'
	Role       uint64     `json:"role"`          // not for this role
	ExpiredKey uint64     `json:"expired_key"`
	UnknownKey uint64     `json:"unknown_key"`
	Targeted   uint64     `json:"targeted"` // refused to others, for what is this tenant's
	Checked    uint64     `json:"answers_checked"`
	Strayed    uint64     `json:"answers_foreign"` // found to be another's, and not sent
	used       tenancy.Usage
}

func (p isolationPage) owners() []string {
	return namesOf(p.Isolation, func(i *isolationShown) string { return i.Tenant })
}

// sum reckons what is shown.
func (s *isolationShown) sum() {
	n := &s.used.Counts
	s.Refused, s.Targeted, s.Checked, s.Strayed = s.used.Denied(), n[tenancy.Targeted], n[tenancy.Checked], n[tenancy.Strayed]
	s.Foreign, s.System, s.Role, s.ExpiredKey, s.UnknownKey =
		n[tenancy.Foreign], n[tenancy.System], n[tenancy.Unpermitted], n[tenancy.ExpiredKeys], n[tenancy.UnknownKeys]
}

// isolationReport reports by tenant, a page at a time; by hour or day, too; or the sum of all in reach. What is no tenant's comes first.
func (c *call) isolationReport(q cluster.UsageReport, by string) (reply, error) {
	p := isolationPage{From: q.From, To: q.To, By: by, Isolation: []isolationShown{}}
	q.Nobody, q.Step = !q.Live, 24*time.Hour
	switch by {
	case "":
		p.By = "tenant"
	case "tenant", "day", "all":
	case "hour":
		q.Step = time.Hour
	default:
		return nil, invalid("by", "%q is none of tenant, hour, day, all", clip(by))
	}
	var err error
	if p.By == "all" {
		err = c.isolationOfAll(q, &p)
	} else {
		err = c.isolationByTenant(q, &p)
	}
	if err != nil {
		return nil, err
	}
	for i := range p.Isolation {
		p.Isolation[i].sum()
	}
	if c.wantsCSV() {
		return c.isolationCSV(&p)
	}
	return document{p}, nil
}

func (c *call) isolationByTenant(q cluster.UsageReport, p *isolationPage) error {
	found, next, err := c.usagePage(&q, "isolation"+p.By)
	p.Pagination = next
	for i := range found {
		u := &found[i]
		s := isolationShown{usageOwner: showOwner(u)}
		for j := range u.Steps {
			s.used.Count(&u.Steps[j].Usage)
			if p.By != "tenant" {
				s.Time = &u.Steps[j].Begin
				p.Isolation = append(p.Isolation, s)
				s.used = tenancy.Usage{}
			}
		}
		if p.By == "tenant" {
			p.Isolation = append(p.Isolation, s)
		}
	}
	return err
}

func (c *call) isolationOfAll(q cluster.UsageReport, p *isolationPage) error {
	var s isolationShown
	if q.Live {
		s.Tenant = q.Tenant
	}
	err := c.eachUsed(q, func(u *cluster.UsedBy) {
		for i := range u.Steps {
			s.used.Count(&u.Steps[i].Usage)
		}
	})
	p.Isolation = append(p.Isolation, s)
	return err
}

var isolationHeader = []string{
	"tenant", "tier", "time", "refused", "foreign", "system", "role", "expired_key", "unknown_key", "targeted", "answers_checked", "answers_foreign",
	"tenant_id", "deleted_at",
}

func (c *call) isolationCSV(p *isolationPage) (reply, error) {
	rows := [][]string{isolationHeader}
	for i := range p.Isolation {
		s := &p.Isolation[i]
		row := []string{cell(s.Tenant), s.Tier, ""}
		if s.Time != nil {
			row[2] = s.Time.Format(time.RFC3339)
		}
		for _, n := range []uint64{s.Refused, s.Foreign, s.System, s.Role, s.ExpiredKey, s.UnknownKey, s.Targeted, s.Checked, s.Strayed} {
			row = append(row, strconv.FormatUint(n, 10))
		}
		rows = append(rows, append(row, s.cells()...))
	}
	return c.csv(rows, p.Pagination)
}
