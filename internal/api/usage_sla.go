package api

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/tenancy"
)

// slaPage tells which share of requests was answered within the deadline.
type slaPage struct {
	From       time.Time  `json:"from"`
	To         time.Time  `json:"to"`
	By         string     `json:"by"`
	SLA        []slaShown `json:"sla"`
	Pagination *nextPage  `json:"pagination,omitzero"`
}

func (p slaPage) owners() []string {
	if p.By == "tier" {
		return nil
	}
	return namesOf(p.SLA, func(s *slaShown) string { return s.Tenant })
}

// slaShown is a tenant's figures, or a tier's.
type slaShown struct {
	usageOwner
	Tenants  int          `json:"tenants"`  // with requests or anything stored
	Requests uint64       `json:"requests"` // those that were let in, or whose deadline passed before
	InTime   uint64       `json:"in_time"`
	Late     uint64       `json:"late"`
	Errors   uint64       `json:"errors"`
	Refused  uint64       `json:"refused"` // for rates and quotas: no part of the share
	Share    *float64     `json:"share"`   // in time, of all requests; null if there were none
	Latency  latencyShown `json:"latency_ms"`

	used tenancy.Usage
}

// add takes in what a tenant has used.
func (s *slaShown) add(u *cluster.UsedBy) {
	s.Tenants++
	for i := range u.Steps {
		s.used.Count(&u.Steps[i].Usage)
	}
}

// sum reckons what is shown.
func (s *slaShown) sum() {
	n := &s.used.Counts
	s.Late, s.Errors, s.Refused = n[tenancy.Violations], n[tenancy.Errors], n[tenancy.Refused]
	s.Requests = n[tenancy.Queries] + n[tenancy.Reads] + n[tenancy.Writes] + n[tenancy.Expired]
	s.InTime = s.Requests - min(s.Requests, s.Late+s.Errors)
	s.Latency = showLatency(&s.used)
	if s.Requests > 0 {
		share := math.Floor(float64(s.InTime)/float64(s.Requests)*1e6) / 1e6 // never rounded up to 1
		s.Share = &share
	}
}

// slaReport reports by tenant, a page at a time, or by tier, over all that are in reach.
func (c *call) slaReport(q cluster.UsageReport, by string) (reply, error) {
	p := slaPage{From: q.From, To: q.To, By: cmp.Or(by, "tenant"), SLA: []slaShown{}}
	q.Step = 24 * time.Hour
	var err error
	switch p.By {
	case "tenant":
		err = c.slaByTenant(q, &p)
	case "tier":
		err = c.slaByTier(q, &p)
	default:
		err = invalid("by", "%q is neither tenant nor tier", clip(by))
	}
	if err != nil {
		return nil, err
	}
	for i := range p.SLA {
		p.SLA[i].sum()
	}
	if c.wantsCSV() {
		return c.slaCSV(&p)
	}
	return document{p}, nil
}

func (c *call) slaByTenant(q cluster.UsageReport, p *slaPage) error {
	found, next, err := c.usagePage(&q, "sla")
	if err != nil {
		return err
	}
	for i := range found {
		s := slaShown{usageOwner: showOwner(&found[i])}
		s.add(&found[i])
		p.SLA = append(p.SLA, s)
	}
	p.Pagination = next
	return nil
}

// slaByTier sums over all tenants. What one has used counts for the tier that it has now.
func (c *call) slaByTier(q cluster.UsageReport, p *slaPage) error {
	err := c.eachUsed(q, func(u *cluster.UsedBy) {
		at := slices.IndexFunc(p.SLA, func(s slaShown) bool { return s.Tier == u.Tier })
		if at < 0 {
			at = len(p.SLA)
			p.SLA = append(p.SLA, slaShown{usageOwner: usageOwner{Tier: u.Tier}})
		}
		p.SLA[at].add(u)
	})
	slices.SortFunc(p.SLA, func(a, b slaShown) int { return cmp.Compare(a.Tier, b.Tier) })
	return err
}

var slaHeader = []string{"tenant", "tier", "tenants", "requests", "in_time", "late", "errors", "refused", "share", "p50_ms", "p95_ms", "p99_ms", "tenant_id", "deleted_at"}

func (c *call) slaCSV(p *slaPage) (reply, error) {
	rows := [][]string{slaHeader}
	for i := range p.SLA {
		s := &p.SLA[i]
		row := []string{cell(s.Tenant), s.Tier, strconv.Itoa(s.Tenants)}
		for _, n := range []uint64{s.Requests, s.InTime, s.Late, s.Errors, s.Refused} {
			row = append(row, strconv.FormatUint(n, 10))
		}
		share := ""
		if s.Share != nil {
			share = decimal(*s.Share)
		}
		row = append(row, share, decimal(s.Latency.P50), decimal(s.Latency.P95), decimal(s.Latency.P99))
		rows = append(rows, append(row, s.cells()...))
	}
	return c.csv(rows, p.Pagination)
}
