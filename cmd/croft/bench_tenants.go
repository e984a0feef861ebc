package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

// tenantsFlags are the flags of `croft bench tenants`.
type tenantsFlags struct {
	demo   demo
	rounds int
}

// tenantsReport says how soon what is changed about tenants is in force, in milliseconds.
type tenantsReport struct {
	Nodes  int          `json:"nodes"`
	Shards int          `json:"shards"`
	Rounds int          `json:"rounds"`
	Served tenantsDelay `json:"create_to_first_answer_ms"` // made at one node, written at the next, found at the third
	Forced tenantsDelay `json:"override_on_all_nodes_ms"`  // from the request to the last node's word
	Ended  tenantsDelay `json:"override_end_late_ms"`      // from its time to the last node's word; below 0 it ended early
}

type tenantsDelay struct {
	P50 float64 `json:"p50"`
	P95 float64 `json:"p95"`
	Max float64 `json:"max"`
}

const (
	benchTenantsIndex = "bench-tenants"
	benchOverride     = time.Second
	// overridePoll is how often nodes are asked whether an override is in force.
	overridePoll = 2 * time.Millisecond
)

func (a *app) benchTenantsCommand() *cobra.Command {
	f := tenantsFlags{demo: demo{nodes: 3, shards: 5, listen: "127.0.0.1:6080"}, rounds: 50}
	cmd := &cobra.Command{
		Use:   "tenants",
		Short: "Measure how soon a new tenant is served, and an override is in force on all nodes",
		Long: `Starts real server processes in a temporary directory. In each round a tenant is made at one node, a record written at the next, and
searched for at the third until it is found; then the tenant's quota is overridden for a second, and every node asked until it says so,
and until it says no more.`,
		Example: `  croft bench tenants
  croft bench tenants --nodes 3 --rounds 200 --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.rounds < 1 {
				return usagef("--rounds is %d, must be at least 1", f.rounds)
			}
			report, err := a.measureTenants(cmd.Context(), f)
			if err != nil {
				return err
			}
			l := listing{value: report, header: []string{"", "P50 MS", "P95 MS", "MAX MS"}}
			for _, row := range []struct {
				what string
				d    tenantsDelay
			}{{"create to first answer", report.Served}, {"override on all nodes", report.Forced}, {"override ended late", report.Ended}} {
				l.rows = append(l.rows, []string{row.what, msText(row.d.P50), msText(row.d.P95), msText(row.d.Max)})
			}
			return a.print(l)
		},
	}
	s := cmd.Flags()
	s.IntVar(&f.demo.nodes, "nodes", f.demo.nodes, "nodes, each a process")
	s.IntVar(&f.demo.shards, "shards", f.demo.shards, "shards")
	s.StringVar(&f.demo.listen, "listen", f.demo.listen, "address of the first node's API; node N is 200·(N-1) ports further")
	s.IntVar(&f.rounds, "rounds", f.rounds, "tenants to make")
	return cmd
}

func msText(ms float64) string { return strconv.FormatFloat(ms, 'f', 1, 64) }

func delays(ms []float64) tenantsDelay {
	slices.Sort(ms)
	return tenantsDelay{quantile(ms, 0.5), quantile(ms, 0.95), quantile(ms, 1)}
}

func (a *app) measureTenants(ctx context.Context, f tenantsFlags) (_ *tenantsReport, err error) {
	c, stop, err := a.startMeasured(ctx, f.demo)
	if err != nil {
		return nil, err
	}
	defer func() { err = firstError(err, stop()) }()
	nodes, err := c.clients("")
	if err != nil {
		return nil, err
	}
	_, err = nodes[0].CreateIndex(ctx, client.CreateIndexRequest{Name: benchTenantsIndex, Dimension: 2})
	if err != nil && !errs.Is(err, errs.OutcomeUnknown) { // it is there; a shard whose leader was just moved will be told
		return nil, err
	}
	indexes := make([]*client.Index, len(nodes))
	for i, node := range nodes {
		if indexes[i], err = node.Index(ctx, benchTenantsIndex); err != nil {
			return nil, err
		}
	}
	a.note("measuring %s", counted(f.rounds, "round"))
	var served, forced, ended []float64
	for round := range f.rounds {
		r := tenantRound{nodes: nodes, indexes: indexes, first: round, name: fmt.Sprintf("tenant-%04d", round)}
		if err := r.serve(ctx); err != nil {
			return nil, err
		}
		if err := r.override(ctx); err != nil {
			return nil, err
		}
		served, forced, ended = append(served, r.served), append(forced, r.forced), append(ended, r.ended)
	}
	return &tenantsReport{
		Nodes: f.demo.nodes, Shards: f.demo.shards, Rounds: f.rounds,
		Served: delays(served), Forced: delays(forced), Ended: delays(ended),
	}, nil
}

// tenantRound is the life of one tenant. Times are in milliseconds.
type tenantRound struct {
	nodes                 []*client.Client
	indexes               []*client.Index // by node
	first                 int             // node that makes the tenant; the others follow in turn
	name                  string
	served, forced, ended float64
}

// at is the node that is asked as the i-th.
func (r *tenantRound) at(i int) int { return (r.first + i) % len(r.nodes) }

func sinceMs(t time.Time) float64 { return float64(time.Since(t)) / float64(time.Millisecond) }

// serve makes the tenant, writes a record and searches until it is found.
func (r *tenantRound) serve(ctx context.Context) error {
	begun := time.Now()
	if _, err := r.nodes[r.at(0)].CreateTenant(ctx, client.NewTenant{Tenant: r.name, Tier: "gold"}); err != nil {
		return err
	}
	if _, err := r.indexes[r.at(1)].Upsert(ctx, r.name, []client.Vector{{ID: "a", Values: []float32{1, 2}}}); err != nil {
		return err
	}
	for {
		res, err := r.indexes[r.at(2)].Query(ctx, client.QueryRequest{Namespace: r.name, TopK: 1, Vector: []float32{1, 2}})
		if err != nil {
			return err
		}
		if len(res.Matches) == 1 {
			r.served = sinceMs(begun)
			return nil
		}
	}
}

// override sets one and asks every node until it knows, and until it has ended there. Settings have versions, so that neither is
// missed by a node that answers slowly.
func (r *tenantRound) override(ctx context.Context) error {
	node := r.nodes[r.at(0)]
	before, err := node.TenantSettings(ctx, r.name)
	if err != nil {
		return err
	}
	begun := time.Now()
	t, err := node.OverrideTenant(ctx, r.name, 10, benchOverride.String(), "")
	if err != nil {
		return err
	}
	under, err := r.await(ctx, before.Version+1)
	if err != nil {
		return err
	}
	r.forced = sinceMs(begun)
	if _, err := r.await(ctx, under|1); err != nil { // versions are even, and odd once an override has ended
		return err
	}
	r.ended = sinceMs(t.Override.Until)
	return nil
}

// await returns when every node has the tenant's settings in a version or a later one, and the last of those seen.
func (r *tenantRound) await(ctx context.Context, version uint64) (seen uint64, err error) {
	var g errgroup.Group
	var last atomic.Uint64
	for _, node := range r.nodes {
		g.Go(func() error {
			for {
				s, err := node.TenantSettings(ctx, r.name)
				if err != nil {
					return err
				}
				if s.Version >= version {
					last.Store(s.Version)
					return nil
				}
				if err := pauseFor(ctx, overridePoll); err != nil {
					return err
				}
			}
		})
	}
	err = g.Wait()
	return last.Load(), err
}
