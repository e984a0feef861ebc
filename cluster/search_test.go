package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// searchTown is a cluster with many tenants, each of which has some records.
type searchTown struct {
	*simCluster
	ix      Index
	tenants []string
	rng     *rand.Rand
}

// inSearchTown runs test with three nodes, five shards and tenants with records in clusters, of which every fourth is empty
// in the index.
func inSearchTown(t *testing.T, tenants, records int, opts func(*Options), test func(*searchTown)) {
	inClusterWith(t, 3, func(o *Options) {
		o.Shards = 5
		if opts != nil {
			opts(o)
		}
	}, func(c *simCluster) {
		w := &searchTown{simCluster: c, rng: rand.New(rand.NewPCG(1, 2))}
		var err error
		w.ix, err = c.nodes[0].CreateIndex(c.t.Context(), Index{Name: "i", Dim: 8, Metric: ann.Cosine})
		require.NoError(c.t, err)
		var g errgroup.Group
		g.SetLimit(16)
		for i := range tenants {
			name, recs := fmt.Sprintf("t%03d", i), w.records(records, i)
			w.tenants = append(w.tenants, name)
			g.Go(func() error {
				if i%4 == 3 {
					_, err := c.nodes[i%3].CreateTenant(c.t.Context(), name, AnyShard, Plan{})
					return err
				}
				_, err := c.nodes[i%3].Upsert(c.t.Context(), w.ix, name, recs)
				return err
			})
		}
		require.NoError(c.t, g.Wait())
		test(w)
	})
}

// records draws the records of a tenant around one of ten centres. Some are the same for all tenants, so that there are ties.
func (w *searchTown) records(n, tenant int) []engine.Record {
	recs := make([]engine.Record, n)
	for i := range recs {
		m, err := metadata.Make(metadata.Field{Key: "n", Value: metadata.NumberValue(float64(i))})
		require.NoError(w.t, err)
		recs[i] = engine.Record{ID: fmt.Sprintf("r%02d", i), Values: w.vector(tenant % 10), Metadata: m}
		if i == 0 {
			recs[i].Values = []float32{1, 0, 0, 0, 0, 0, 0, 0}
		}
	}
	return recs
}

func (w *searchTown) vector(centre int) []float32 {
	v := make([]float32, 8)
	for i := range v {
		v[i] = float32(w.rng.NormFloat64())/2 + float32((centre>>(i%4))&1)
	}
	return v
}

// merged is what a search must find: the answers of the tenants, one by one, and the best of all these.
func (w *searchTown) merged(n *Node, tenants []string, q engine.Query) []string {
	var all []SearchHit
	for _, name := range tenants {
		one, res := q, engine.Result{}
		_, err := n.Query(w.t.Context(), w.ix, name, &one, &res)
		require.NoError(w.t, err)
		for _, m := range res.Matches {
			all = append(all, SearchHit{Match: m, Tenant: name})
		}
	}
	hitOrder(w.ix.Metric).sort(all)
	return hitNames(all[:min(len(all), q.K)])
}

func hitNames(hits []SearchHit) []string {
	names := make([]string, len(hits))
	for i, h := range hits {
		names[i] = fmt.Sprintf("%s %s %v %v", h.Tenant, h.ID, h.Score, h.Metadata)
	}
	return names
}

// search asks a node, and checks that the answer is whole.
func (w *searchTown) search(n *Node, s Search) SearchAnswer {
	w.t.Helper()
	s.Index = w.ix
	a, err := n.Search(w.t.Context(), s)
	require.NoError(w.t, err)
	require.False(w.t, a.Partial(), "%+v", a.Missing)
	return a
}

// TestSearchIsTheMerge compares searches through every node with the merge of what each tenant's own queries answer.
func TestSearchIsTheMerge(t *testing.T) {
	inSearchTown(t, 200, 8, nil, func(w *searchTown) {
		for round := range 9 {
			n := w.nodes[round%3]
			q := engine.Query{Vector: w.vector(round), K: 1 + round*5, IncludeMetadata: round%2 == 0}
			tenants := w.tenants
			if round%3 == 1 {
				q.Filter = parseFilter(w.t, `{"n":{"$gte":4}}`)
			}
			s := Search{Query: q}
			if round%3 == 2 {
				tenants = slices.Clone(w.tenants[round : round+30])
				s.Tenants = append(slices.Clone(tenants), "nobody")
				s.Query.Vector, q.Vector = w.records(1, 0)[0].Values, w.records(1, 0)[0].Values // everybody's: ties
			}
			a := w.search(n, s)
			require.Equal(w.t, w.merged(n, tenants, q), hitNames(a.Hits), "round %d", round)
			require.Equal(w.t, len(tenants), a.Tenants)
			if s.Tenants != nil {
				require.Equal(w.t, []string{"nobody"}, a.Unknown)
			}
			for _, h := range a.Hits {
				home, ok := n.meta.state().tenant(h.Tenant)
				require.True(w.t, ok)
				require.Equal(w.t, int(n.meta.state().home(home)), h.Shard)
			}
		}
	})
}

// TestSearchPages: the pages of an answer are the answer, and what is written in between moves nothing that was told.
func TestSearchPages(t *testing.T) {
	inSearchTown(t, 20, 8, nil, func(w *searchTown) {
		q := engine.Query{Vector: w.vector(3), K: 60}
		whole := hitNames(w.search(w.nodes[0], Search{Query: q}).Hits)
		q.K = 6
		var paged []string
		s := Search{Query: q}
		for i := 0; len(paged) < len(whole); i++ {
			a := w.search(w.nodes[i%3], s)
			require.Len(w.t, a.Hits, 6)
			paged = append(paged, hitNames(a.Hits)...)
			require.NotNil(w.t, a.Next)
			s.After = a.Next
		}
		require.Equal(w.t, whole, paged)

		s = Search{Query: q}
		first := w.search(w.nodes[0], s)
		_, err := w.nodes[1].Upsert(w.t.Context(), w.ix, "t000", []engine.Record{{ID: "new", Values: q.Vector}}) // before all
		require.NoError(w.t, err)
		s.After = first.Next
		require.Equal(w.t, whole[6:11], hitNames(w.search(w.nodes[2], s).Hits), "the new one takes a place, and nothing comes twice")

		_, err = w.nodes[0].Search(w.t.Context(), Search{Index: w.ix, Query: q, After: &SearchPlace{Before: MaxSearched}})
		require.True(w.t, errs.Is(err, errs.Invalid), "%v", err)
	})
}

// TestSearchCache: an answer is kept for five seconds and tells its age; a deleted tenant is in none.
func TestSearchCache(t *testing.T) {
	inSearchTown(t, 8, 3, nil, func(w *searchTown) {
		n, s := w.nodes[0], Search{Query: engine.Query{Vector: w.records(1, 0)[0].Values, K: 8}}
		first := w.search(n, s)
		require.False(w.t, first.Cached)
		_, err := n.Delete(w.t.Context(), w.ix, first.Hits[0].Tenant, []string{first.Hits[0].ID})
		require.NoError(w.t, err)
		time.Sleep(4 * time.Second)
		again := w.search(n, s)
		require.True(w.t, again.Cached)
		require.GreaterOrEqual(w.t, again.Age, 4*time.Second)
		require.Less(w.t, again.Age, maxSearchAge)
		require.Equal(w.t, hitNames(first.Hits), hitNames(again.Hits))

		fresh := s
		fresh.Fresh = true
		require.NotEqual(w.t, hitNames(first.Hits), hitNames(w.search(n, fresh).Hits))
		strong := WithReading(w.t.Context(), &Reading{Consistency: Strong})
		s.Index = w.ix
		a, err := n.Search(strong, s)
		require.NoError(w.t, err)
		require.False(w.t, a.Cached)

		now := w.search(n, s)
		require.True(w.t, now.Cached, "what was found fresh is kept too")
		gone := now.Hits[0].Tenant
		_, err = w.nodes[1].DeleteTenant(w.t.Context(), gone)
		require.NoError(w.t, err)
		left := w.search(n, s)
		require.False(w.t, left.Cached)
		require.NotContains(w.t, fmt.Sprint(hitNames(left.Hits)), gone)
		require.Equal(w.t, 7, left.Tenants)
		time.Sleep(maxSearchAge)
		require.False(w.t, w.search(n, s).Cached)
	})
}

// TestSearchRate: ten a minute through all nodes together, then one every six seconds; the tier says how many.
func TestSearchRate(t *testing.T) {
	inSearchTown(t, 6, 2, withGate, func(w *searchTown) {
		s := Search{Index: w.ix, Query: engine.Query{Vector: w.vector(0), K: 2}, Fresh: true}
		for i := range 10 {
			w.search(w.nodes[i%3], s)
		}
		for _, n := range w.nodes[:3] {
			reading := &Reading{}
			_, err := n.Search(WithReading(w.t.Context(), reading), s)
			require.True(w.t, errs.Is(err, errs.RateLimited), "%v", err)
			require.Equal(w.t, int64(10), reading.Receipt.Limit)
			require.Zero(w.t, reading.Receipt.Remaining)
		}
		cached := s
		cached.Fresh = false
		require.True(w.t, w.search(w.nodes[0], cached).Cached, "what was found for another costs nothing")
		time.Sleep(6 * time.Second)
		w.search(w.nodes[1], s)
		_, err := w.nodes[2].Search(w.t.Context(), s)
		require.True(w.t, errs.Is(err, errs.RateLimited), "%v", err)

		var set tenancy.Limits
		set.Set(tenancy.PerMinute, tenancy.Unlimited)
		_, err = w.nodes[0].SetTier(w.t.Context(), tenancy.SearchTier, false, tenancy.Change{Set: set})
		require.NoError(w.t, err)
		for range 20 {
			w.search(w.nodes[2], s)
		}
	})
}

// missingOf are the tenants who live on the shards of which something is missing.
func (w *searchTown) tenantsOn(shards ...int) (names []string) {
	s := w.any().meta.state()
	for _, name := range w.tenants {
		if t, ok := s.tenant(name); ok && slices.Contains(shards, int(s.home(t))) {
			names = append(names, name)
		}
	}
	return names
}

// ledBy are the shards that a node leads.
func (w *searchTown) ledBy(n *Node) (shards []int) {
	for _, sh := range n.replicas().sorted() {
		if sh.group.leads() {
			shards = append(shards, int(sh.id))
		}
	}
	return shards
}

// requireMissing checks that exactly some shards are missing in an answer, with their tenants, and all else is there.
func (w *searchTown) requireMissing(n *Node, s Search, a *SearchAnswer, shards []int) {
	w.t.Helper()
	require.True(w.t, a.Partial())
	gone := w.tenantsOn(shards...)
	require.Equal(w.t, gone, a.Missing.Tenants)
	var named []int
	for _, m := range a.Missing.Shards {
		named = append(named, m.Shard)
		require.Error(w.t, m.Err)
		require.Equal(w.t, len(w.tenantsOn(m.Shard)), m.Tenants)
	}
	require.Equal(w.t, shards, named)
	there := slices.DeleteFunc(slices.Clone(w.tenants), func(name string) bool { return slices.Contains(gone, name) })
	require.Equal(w.t, len(there), a.Tenants)
	require.Equal(w.t, w.merged(n, there, s.Query), hitNames(a.Hits))
}

// follower is a node that does not lead the metadata plane, and another one that leads shards and not the plane.
func (w *searchTown) twoFollowers() (asked, other *Node) {
	leader := w.metaLeader()
	for _, n := range w.nodes[:3] {
		switch {
		case n == leader:
		case asked == nil:
			asked = n
		default:
			other = n
		}
	}
	return asked, other
}

// TestSearchWhileNodeDies: its shards elect others, which the search waits for; at level any it need not.
func TestSearchWhileNodeDies(t *testing.T) {
	inSearchTown(t, 24, 4, nil, func(w *searchTown) {
		asked, other := w.twoFollowers()
		s := Search{Query: engine.Query{Vector: w.vector(2), K: 10}, Fresh: true, Index: w.ix}
		whole := w.search(asked, s)
		w.caughtUp(18 * 4)
		w.kill(w.index(other.id.NodeID))
		a, err := asked.Search(WithReading(w.t.Context(), &Reading{Consistency: Any}), s)
		require.NoError(w.t, err)
		require.False(w.t, a.Partial(), "%+v", a.Missing)
		require.Equal(w.t, hitNames(whole.Hits), hitNames(a.Hits))
		a = w.search(asked, s)
		require.Equal(w.t, hitNames(whole.Hits), hitNames(a.Hits))
	})
}

// TestSearchAfterTheQuorum: without the metadata plane and most leaders, level any answers what is here; level leader says what it
// could not have.
func TestSearchAfterTheQuorum(t *testing.T) {
	inSearchTown(t, 12, 3, withGate, func(w *searchTown) {
		s := Search{Query: engine.Query{Vector: w.vector(2), K: 10}, Fresh: true, Index: w.ix}
		whole := w.search(w.nodes[2], s)
		w.caughtUp(9 * 3)
		w.kill(0)
		w.kill(1)
		last := w.nodes[2]
		time.Sleep(time.Minute)
		reading := &Reading{Consistency: Any}
		a, err := last.Search(WithReading(w.t.Context(), reading), s)
		require.NoError(w.t, err)
		require.False(w.t, a.Partial(), "%+v", a.Missing)
		require.Equal(w.t, hitNames(whole.Hits), hitNames(a.Hits))
		require.GreaterOrEqual(w.t, reading.Age, 50*time.Second)
		begun := time.Now()
		_, err = last.Search(w.t.Context(), s)
		require.True(w.t, errs.Is(err, errs.Unavailable) || errs.Is(err, errs.DeadlineExceeded), "%v", err)
		require.LessOrEqual(w.t, time.Since(begun), 3*time.Second)
		for range 20 { // each node counts for itself by now
			if _, err = last.Search(WithReading(w.t.Context(), reading), s); err != nil {
				break
			}
		}
		require.True(w.t, errs.Is(err, errs.RateLimited), "%v", err)
	})
}

// TestSearchOfTheUnsure: while the metadata plane has no leader, what is known is searched, and the answer says that somebody may be
// missing.
func TestSearchOfTheUnsure(t *testing.T) {
	inSearchTown(t, 12, 3, nil, func(w *searchTown) {
		asked, _ := w.twoFollowers()
		s := Search{Query: engine.Query{Vector: w.vector(2), K: 10}, Fresh: true, Index: w.ix}
		whole := w.search(asked, s)
		w.net.swallow = true
		for _, n := range w.nodes[:3] {
			if n != asked {
				w.net.cut(asked.id.NodeID, n.id.NodeID)
			}
		}
		ctx, cancel := context.WithTimeout(w.t.Context(), 400*time.Millisecond) // before anything is noticed
		defer cancel()
		begun := time.Now()
		a, err := asked.Search(ctx, s)
		require.LessOrEqual(w.t, time.Since(begun), 400*time.Millisecond, "the caller's own time counts")
		if err != nil { // it led no shard with tenants
			require.True(w.t, errs.Is(err, errs.DeadlineExceeded), "%v", err)
			return
		}
		require.Error(w.t, a.Missing.Unsure)
		require.True(w.t, a.Partial())
		require.Less(w.t, a.Tenants, whole.Tenants)
	})
}

// TestSearchWhileTenantsMove: who moves is found once, with all that was acknowledged before the search began, whichever home
// answers.
func TestSearchWhileTenantsMove(t *testing.T) {
	inSearchTown(t, 12, 4, nil, func(w *searchTown) {
		movers := []string{"t000", "t001", "t002"}
		marked, err := metadata.Make(metadata.Field{Key: "marked", Value: metadata.BoolValue(true)})
		require.NoError(w.t, err)
		s := Search{Query: engine.Query{Vector: w.vector(1), K: 2000, Filter: parseFilter(w.t, `{"marked":true}`)}, Fresh: true}
		ctx, stop := context.WithCancel(w.t.Context())
		var acked atomic.Int64
		var g errgroup.Group
		for i, name := range movers {
			g.Go(func() error {
				for to := i; ctx.Err() == nil; to++ {
					home, _ := w.nodes[i].meta.state().tenant(name)
					if int(w.nodes[i].meta.state().home(home)) == to%5 {
						continue
					}
					m, err := w.nodes[i].MoveTenant(w.t.Context(), name, to%5, MoveOptions{})
					if err != nil {
						return err
					}
					if m, err = w.nodes[i].AwaitMigration(w.t.Context(), m.ID); err != nil {
						return err
					}
					if !m.Served() {
						return fmt.Errorf("tenant %s was not moved: %s", name, m.Error)
					}
				}
				return nil
			})
		}
		g.Go(func() error { // one after the other: so many are acknowledged
			for i := 0; ctx.Err() == nil; i++ {
				rec := engine.Record{ID: fmt.Sprintf("m%04d", i), Values: w.vector(i % 10), Metadata: marked}
				if _, err := w.nodes[i%3].Upsert(w.t.Context(), w.ix, movers[i%len(movers)], []engine.Record{rec}); err != nil {
					return err
				}
				acked.Store(int64(i + 1))
				time.Sleep(20 * time.Millisecond)
			}
			return nil
		})
		for i := range 50 {
			before := int(acked.Load())
			found := map[string]int{}
			for _, h := range w.search(w.nodes[i%3], s).Hits {
				found[h.ID]++
			}
			for n := range before {
				require.Equal(w.t, 1, found[fmt.Sprintf("m%04d", n)], "record %d of %d, search %d", n, before, i)
			}
			time.Sleep(30 * time.Millisecond)
		}
		stop()
		require.NoError(w.t, g.Wait())
		done, err := w.nodes[0].Migrations(w.t.Context(), MigrationFilter{})
		require.NoError(w.t, err)
		require.Greater(w.t, len(done), 3)
	})
}
