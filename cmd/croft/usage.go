package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) usageCommand() *cobra.Command {
	var conn connection
	var q client.UsageQuery
	var sla, isolation bool
	cmd := &cobra.Command{
		Use:   "usage [TENANT]",
		Short: "Report what tenants have used, by the hour or the day, and what that costs",
		Long: `Of the last 24 hours unless --from and --to say otherwise; 30 days are kept. A report of all tenants comes a page at a time. Costs follow
` + "`croft usage prices`" + `. --sla reports which share of requests was answered within the deadline, by tenant, or --by tier. --isolation reports
what was refused because it asked for what is another's, or came with a wrong key, and that no answer was another's.

Tenants that were deleted are told of while their usage is kept.`,
		Example: `  croft usage --isolation --by all
  croft usage --from 2026-01-01 --to 2026-01-31 --by day -o json`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			if len(args) > 0 {
				q.Tenant = args[0]
			}
			if isolation {
				res, err := c.Isolation(cmd.Context(), q)
				if err != nil {
					return err
				}
				return a.printPage(isolationListing(&res), res.Pagination)
			}
			if sla {
				res, err := c.SLA(cmd.Context(), q)
				if err != nil {
					return err
				}
				return a.printPage(slaListing(&res), res.Pagination)
			}
			res, err := c.Usage(cmd.Context(), q)
			if err != nil {
				return err
			}
			return a.printPage(usageListing(&res), res.Pagination)
		},
	}
	conn.addFlags(cmd)
	addPageFlags(cmd, &q.Page)
	cmd.Flags().StringVar(&q.From, "from", "", "beginning, as 2026-01-31 or 2026-01-31T15:00:00Z (default: a day before --to)")
	cmd.Flags().StringVar(&q.To, "to", "", "end (default: now)")
	cmd.Flags().StringVar(&q.By, "by", "", "hour or day (default: hour up to two days); with --sla tenant or tier; with --isolation tenant, hour, day or all")
	cmd.Flags().BoolVar(&sla, "sla", false, "which share of requests was answered within the deadline")
	cmd.Flags().BoolVar(&isolation, "isolation", false, "what was refused of what it asked for, and that nothing of others was answered")
	cmd.MarkFlagsMutuallyExclusive("sla", "isolation")
	cmd.AddCommand(a.usagePricesCommand())
	return cmd
}

func usageListing(r *client.UsageReport) listing {
	cost := strings.TrimSpace("COST " + r.Currency)
	l := listing{value: r, items: itemsOf(r.Usage), header: []string{
		"TENANT", "TIME", "QUERIES", "WRITTEN", "VECTORS", "BYTES", "COMPUTE S", "CACHED", "REFUSED", "ERRORS", "P95 MS", cost,
	}}
	for i := range r.Usage {
		u := &r.Usage[i]
		count := func(n uint64) string { return strconv.FormatUint(n, 10) }
		l.rows = append(l.rows, []string{
			shownOwner(&u.UsageOwner), u.Time.Format("2006-01-02 15:04"), count(u.Queries), count(u.Upserted + u.Deleted), count(u.Vectors), count(u.Bytes),
			strconv.FormatFloat(u.Compute, 'f', 3, 64), count(u.CacheHits), count(u.Refused), count(u.Errors + u.Violations),
			strconv.FormatFloat(u.Latency.P95, 'f', 2, 64), strconv.FormatFloat(u.Cost, 'f', -1, 64),
		})
	}
	return l
}

// shownOwner is how listings call whose figures a line has.
func shownOwner(o *client.UsageOwner) string {
	if o.Deleted != nil {
		return o.Tenant + " (deleted)"
	}
	return dash(o.Tenant)
}

func isolationListing(r *client.IsolationReport) listing {
	l := listing{value: r, items: itemsOf(r.Isolation), header: []string{
		"TENANT", "TIME", "REFUSED", "FOREIGN", "SYSTEM", "ROLE", "EXPIRED KEY", "UNKNOWN KEY", "ASKED BY OTHERS", "ANSWERS CHECKED", "ANSWERS FOREIGN",
	}}
	for i := range r.Isolation {
		s := &r.Isolation[i]
		row := []string{shownOwner(&s.UsageOwner), "-"}
		if s.Time != nil {
			row[1] = s.Time.Format("2006-01-02 15:04")
		}
		for _, n := range []uint64{s.Refused, s.Foreign, s.System, s.Role, s.ExpiredKey, s.UnknownKey, s.Targeted, s.Checked, s.Strayed} {
			row = append(row, strconv.FormatUint(n, 10))
		}
		l.rows = append(l.rows, row)
	}
	return l
}

func slaListing(r *client.SLAReport) listing {
	l := listing{value: r, items: itemsOf(r.SLA), header: []string{"TENANT", "TIER", "TENANTS", "REQUESTS", "IN TIME", "LATE", "ERRORS", "REFUSED", "SHARE", "P95 MS"}}
	for i := range r.SLA {
		s := &r.SLA[i]
		share := "-"
		if s.Share != nil {
			share = fmt.Sprintf("%.4f %%", 100**s.Share)
		}
		count := func(n uint64) string { return strconv.FormatUint(n, 10) }
		l.rows = append(l.rows, []string{
			shownOwner(&s.UsageOwner), s.Tier, strconv.Itoa(s.Tenants), count(s.Requests), count(s.InTime), count(s.Late), count(s.Errors), count(s.Refused), share,
			strconv.FormatFloat(s.Latency.P95, 'f', 2, 64),
		})
	}
	return l
}

func (a *app) usagePricesCommand() *cobra.Command {
	var conn connection
	var change client.Prices
	cmd := &cobra.Command{
		Use:   "prices [NAME=VALUE...]",
		Short: "Show or change what use costs",
		Long: `Prices are the operator's own: for a million queries, a GiB stored for a month and so on. They are applied when a report is asked for, to
the past too. What is not named stays as it is.`,
		Example: `  croft usage prices
  croft usage prices million_queries=4 gib_month=0.33 --currency USD`,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, text := range args {
				name, value, _ := strings.Cut(text, "=")
				price, err := strconv.ParseFloat(value, 64)
				if err != nil {
					return usagef("%q is not of the form NAME=VALUE, with a number", text).withHint("`croft usage prices` shows the names")
				}
				if change.Prices == nil {
					change.Prices = map[string]float64{}
				}
				change.Prices[name] = price
			}
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			var res client.Prices
			if change.Currency == "" && change.Prices == nil {
				res, err = c.Prices(cmd.Context())
			} else {
				res, err = c.SetPrices(cmd.Context(), change)
			}
			if err != nil {
				return err
			}
			return a.print(pricesListing(&res))
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().StringVar(&change.Currency, "currency", "", "what costs are called by")
	return cmd
}

func pricesListing(p *client.Prices) listing {
	l := listing{value: p, header: []string{"PRICE OF", strings.TrimSpace("IS " + p.Currency)}}
	for _, name := range slices.Sorted(maps.Keys(p.Prices)) {
		l.rows = append(l.rows, []string{name, strconv.FormatFloat(p.Prices[name], 'f', -1, 64)})
	}
	return l
}

func (a *app) tenantsCacheCommand() *cobra.Command {
	var conn connection
	var invalidate bool
	cmd := &cobra.Command{
		Use:   "cache TENANT",
		Short: "Show what is kept of a tenant's results, or drop it",
		Example: `  croft tenants cache acme
  croft tenants cache acme --invalidate`,
		Args: exactly("TENANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			s, err := c.TenantCache(cmd.Context(), args[0], invalidate)
			if err != nil {
				return err
			}
			return a.print(listing{
				value: s, header: []string{"ENTRIES", "BYTES", "HITS", "MISSES", "HIT RATE", "EVICTED", "OFF"},
				rows: [][]string{{
					strconv.Itoa(s.Entries), strconv.FormatInt(s.Bytes, 10), strconv.FormatUint(s.Hits, 10), strconv.FormatUint(s.Misses, 10),
					fmt.Sprintf("%.2f", s.HitRate), strconv.FormatUint(s.Evicted, 10), strconv.FormatBool(s.Off),
				}},
			})
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().BoolVar(&invalidate, "invalidate", false, "drop what is kept, on all nodes; results are searched for again")
	return cmd
}

func (a *app) tenantsTopCommand() *cobra.Command {
	var conn connection
	limit := 20
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Show the tenants that take most of their shards, about of the last minute",
		Long:  "A tenant is hot that takes more than a fifth of its shard's queries, computing or kept results, while others use it too.",
		Example: `  croft tenants top
  croft tenants top --limit 5 -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			res, err := c.TenantLoads(cmd.Context(), limit)
			if err != nil {
				return err
			}
			l := listing{value: res, items: itemsOf(res.Tenants), header: []string{
				"TENANT", "SHARD", "TIER", "QUERIES/S", "PROCESSORS", "P95 MS", "OF QUERIES", "OF COMPUTING", "OF CACHE", "HOT",
			}}
			percent := func(share float64) string { return fmt.Sprintf("%.1f %%", 100*share) }
			for i := range res.Tenants {
				t := &res.Tenants[i]
				l.rows = append(l.rows, []string{
					t.Tenant.Tenant, strconv.Itoa(t.Shard), t.Tier, fmt.Sprintf("%.1f", t.Load.Queries), fmt.Sprintf("%.3f", t.Load.Compute),
					fmt.Sprintf("%.2f", t.Load.P95), percent(t.Load.QueryShare), percent(t.Load.ComputeShare), percent(t.Load.CacheShare),
					strconv.FormatBool(t.Load.Hot),
				})
			}
			return a.print(l)
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().IntVar(&limit, "limit", limit, "how many, 1 to 100")
	return cmd
}
