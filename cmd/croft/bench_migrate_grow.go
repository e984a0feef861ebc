package main

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

// growth is what became of the tenants when the ring got another shard. Shares are of all, beside what theory says: 1/(N+1) for a shard
// added to N.
type growth struct {
	Shard         int     `json:"shard"`
	Expected      float64 `json:"expected"`
	Slots         float64 `json:"slots"`
	SlotsSigmas   float64 `json:"slots_sigmas"`
	Tenants       float64 `json:"tenants"`
	TenantsSigmas float64 `json:"tenants_sigmas"`
	Astray        int     `json:"astray"`         // tenants that moved though their slot did not, or did not follow it
	Before        []int   `json:"tenants_before"` // by shard
	After         []int   `json:"tenants_after"`  // as before
	HottestBefore float64 `json:"hottest_before"` // tenants of the shard with most, in means
	HottestAfter  float64 `json:"hottest_after"`  // as before
}

func (g *growth) within() bool { return math.Abs(g.SlotsSigmas) <= 3 && math.Abs(g.TenantsSigmas) <= 3 }

// addShard has the ring get another shard, and returns when all tenants live where it says then.
func (b *migrateBench) addShard(ctx context.Context) error {
	before, err := b.homes(ctx)
	if err != nil {
		return err
	}
	added, err := b.nodes[0].AddShard(ctx, false, "")
	if err != nil {
		return err
	}
	b.app.note("added shard %d", added.ID)
	if err := b.awaitRun(ctx); err != nil {
		return err
	}
	after, err := b.homes(ctx)
	if err != nil {
		return err
	}
	info, err := b.nodes[0].Cluster(ctx)
	if err != nil {
		return err
	}
	b.report.Growth = newGrowth(added.ID, info.Shards, before, after)
	return b.movesOfRun(ctx)
}

// homes are all tenants by name.
func (b *migrateBench) homes(ctx context.Context) (map[string]client.Tenant, error) {
	all := map[string]client.Tenant{}
	for p := (client.Page{Limit: 100}); ; {
		list, err := b.nodes[0].Tenants(ctx, p)
		if err != nil {
			return nil, err
		}
		for _, t := range list.Tenants {
			all[t.Tenant] = t
		}
		if list.Pagination == nil {
			return all, nil
		}
		p.Token = list.Pagination.Next
	}
}

// awaitRun returns when no tenant is to follow the ring any more.
func (b *migrateBench) awaitRun(ctx context.Context) error {
	for {
		all, err := b.nodes[0].Rebalancing(ctx)
		if err != nil {
			return err
		}
		if len(all.Runs) > 0 && !all.Runs[0].Running() {
			if r := all.Runs[0]; r.Failed > 0 {
				return errs.New(errs.Unavailable, "%d tenants were not moved: %s", r.Failed, r.Error)
			}
			return nil
		}
		if err := pauseFor(ctx, 10*movePoll); err != nil {
			return err
		}
	}
}

// newGrowth compares where tenants live before and after.
func newGrowth(added int, shards []client.Shard, before, after map[string]client.Tenant) *growth {
	n := len(shards)
	g := &growth{Shard: added, Expected: 1 / float64(n)}
	place := map[int]int{}
	for i, s := range shards {
		place[s.ID] = i
		if s.ID == added {
			g.Slots = float64(s.Slots) / cluster.Slots
		}
	}
	g.Before, g.After = make([]int, n), make([]int, n)
	for name, now := range after {
		was := before[name]
		g.Before[place[was.Shard]]++
		g.After[place[now.Shard]]++
		moved, remapped := now.Shard != was.Shard, now.RingShard != was.RingShard
		if moved {
			g.Tenants += 1 / float64(len(after))
		}
		if moved != remapped || now.Shard != now.RingShard || moved && now.Shard != added {
			g.Astray++
		}
	}
	ofSlots, ofTenants := cluster.RingSigmas(n, len(after))
	g.SlotsSigmas, g.TenantsSigmas = round3((g.Slots-g.Expected)/ofSlots), round3((g.Tenants-g.Expected)/ofTenants)
	g.HottestBefore, g.HottestAfter = hottestOf(g.Before, n-1), hottestOf(g.After, n)
	g.Slots, g.Tenants, g.Expected = round3(g.Slots), round3(g.Tenants), round3(g.Expected)
	return g
}

// hottestOf is the largest of counts, in means of so many shards.
func hottestOf(counts []int, shards int) float64 {
	sum, most := 0, 0
	for _, n := range counts {
		sum += n
		most = max(most, n)
	}
	return round3(float64(most) * float64(shards) / float64(max(1, sum)))
}

// movesOfRun gathers what the migrations tell.
func (b *migrateBench) movesOfRun(ctx context.Context) error {
	for p := (client.Page{Limit: 100}); ; {
		list, err := b.nodes[0].Migrations(ctx, client.MigrationFilter{}, p)
		if err != nil {
			return err
		}
		for i := range list.Migrations {
			w := watchedMove{last: list.Migrations[i]}
			if w.last.Phase == client.MigrationAborted { // another has done it
				continue
			}
			if _, err := fmt.Sscanf(w.last.Tenant, "tenant-%d", &w.number); err != nil {
				return err
			}
			w.took = w.underWay()
			b.moves = append(b.moves, w)
		}
		if list.Pagination == nil {
			return nil
		}
		p.Token = list.Pagination.Next
	}
}

// underWay is how long a move took from its turn on.
func (m *watchedMove) underWay() time.Duration {
	var from, to time.Time
	for _, p := range m.last.Phases {
		switch p.Phase {
		case "staging":
			from = p.At
		case client.MigrationSettled:
			to = p.At
		}
	}
	return to.Sub(from)
}

func (a *app) noteGrowth(g *growth) {
	text := func(counts []int) string { return strings.Trim(fmt.Sprint(counts), "[]") }
	a.note("tenants by shard before: %s; the most are %.2f times the mean", text(g.Before), g.HottestBefore)
	a.note("tenants by shard after: %s; the most are %.2f times the mean", text(g.After), g.HottestAfter)
	a.note("shard %d got %s of the slots (%+.1f sigma from %s) and %s of the tenants (%+.1f sigma); %d tenants astray", g.Shard, percent(g.Slots),
		g.SlotsSigmas, percent(g.Expected), percent(g.Tenants), g.TenantsSigmas, g.Astray)
}
