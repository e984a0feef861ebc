package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/bench"
	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/client"
)

// paperStore is an index of which all that is written is in maps.
type paperStore struct {
	mu      sync.Mutex
	records map[string]map[string]client.Vector // by tenant and id
	writes  int
}

// newPaperStore answers as a server does whose only index is that of the benchmark.
func newPaperStore(t *testing.T) (*paperStore, *httptest.Server) {
	s := &paperStore{records: map[string]map[string]client.Vector{}}
	mux := http.NewServeMux()
	say := func(w http.ResponseWriter, v any) {
		b, err := json.Marshal(v)
		if err != nil {
			t.Error(err)
		}
		_, _ = w.Write(b) // a client that is gone needs no answer
	}
	type body struct {
		Namespace string          `json:"namespace"`
		Vectors   []client.Vector `json:"vectors"`
		IDs       []string        `json:"ids"`
	}
	change := func(do func(of map[string]client.Vector, b body)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			var b body
			if err := json.UnmarshalRead(r.Body, &b); err != nil {
				t.Error(err)
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if s.records[b.Namespace] == nil {
				s.records[b.Namespace] = map[string]client.Vector{}
			}
			do(s.records[b.Namespace], b)
			s.writes++
			say(w, struct{}{})
		}
	}
	const at = "/i/" + migrateIndex
	mux.HandleFunc("POST "+at+"/vectors/upsert", change(func(of map[string]client.Vector, b body) {
		for _, v := range b.Vectors {
			of[v.ID] = v
		}
	}))
	mux.HandleFunc("POST "+at+"/vectors/delete", change(func(of map[string]client.Vector, b body) {
		for _, id := range b.IDs {
			delete(of, id)
		}
	}))
	mux.HandleFunc("GET "+at+"/vectors/fetch", func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		found := client.FetchResponse{Vectors: map[string]client.Vector{}}
		for _, id := range r.URL.Query()["ids"] {
			if v, ok := s.records[r.URL.Query().Get("namespace")][id]; ok {
				found.Vectors[id] = v
			}
		}
		say(w, found)
	})
	mux.HandleFunc("POST "+at+"/describe_index_stats", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		stats := client.Stats{Namespaces: map[string]client.NamespaceSummary{}}
		for ns, of := range s.records {
			stats.Namespaces[ns] = client.NamespaceSummary{VectorCount: len(of)}
		}
		say(w, stats)
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	mux.HandleFunc("GET /indexes/"+migrateIndex, func(w http.ResponseWriter, _ *http.Request) {
		say(w, map[string]any{"name": migrateIndex, "dimension": 4, "host": srv.URL + at})
	})
	return s, srv
}

// TestMigrateJudges lets the load at a store, spoils what is stored, and expects each fault to be counted once.
func TestMigrateJudges(t *testing.T) {
	store, srv := newPaperStore(t)
	api, err := client.New(client.Options{URL: srv.URL})
	require.NoError(t, err)
	recipe := bench.Recipes()[1]
	recipe.Dim = 4
	b := &migrateBench{flags: migrateFlags{tenants: 2, check: 100}, drawer: bench.NewDrawer(recipe, 7), each: 300}
	b.ix, err = api.Index(t.Context(), migrateIndex)
	require.NoError(t, err)
	for n := range b.flags.tenants {
		require.NoError(t, upsertDrawn(t.Context(), b.ix, tenantOf(n), b.drawer, b.each))
	}
	b.load = newMoveLoad([]string{strings.TrimPrefix(srv.URL, "http://")}, "key", b.flags.tenants, b.drawer, b.each, 7)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	done.Go(func() { b.load.write(ctx, 2000) })
	require.Eventually(t, func() bool { store.mu.Lock(); defer store.mu.Unlock(); return store.writes > 400 }, time.Minute, time.Millisecond)
	cancel()
	done.Wait()
	require.Empty(t, b.load.failures)

	judged := func() (lost, doubled int) {
		b.report = migrateReport{}
		require.NoError(t, b.judge(t.Context()))
		require.Greater(t, b.report.Checked, 200)
		return b.report.Lost, b.report.Doubled
	}
	lost, doubled := judged()
	require.Zero(t, lost)
	require.Zero(t, doubled)

	for id, e := range b.load.book {
		of := store.records[tenantOf(e.tenant)]
		v, there := of[recordOf(id)]
		require.Equal(t, e.vector != deleted, there)
		if there {
			delete(of, recordOf(id))
		} else {
			of[recordOf(id)] = client.Vector{ID: recordOf(id), Values: b.load.rows[0]}
		}
		lost, doubled = judged()
		require.Equal(t, there, lost == 1, "a record is gone")
		require.Equal(t, !there, doubled == 1, "one came back")
		if there {
			of[recordOf(id)] = client.Vector{ID: v.ID, Values: []float32{9, 9, 9, 9}}
			lost, _ = judged()
			require.Equal(t, 1, lost, "one is an older one")
			of[recordOf(id)] = v
		} else {
			delete(of, recordOf(id))
		}
		if id > 30 {
			break
		}
	}
	store.records[tenantOf(1)]["stranger"] = client.Vector{}
	_, doubled = judged()
	require.Equal(t, 1, doubled, "a record that nobody wrote")
	delete(store.records[tenantOf(1)], "stranger")
	delete(store.records[tenantOf(0)], "v299")
	lost, _ = judged()
	require.Equal(t, 1, lost, "one is gone that is not among those that are read")
	store.records[tenantOf(0)]["v299"] = client.Vector{}

	e := &b.load.book[0]
	of := store.records[tenantOf(e.tenant)]
	delete(of, recordOf(0))
	e.vector, e.last = deleted, lastWrite{vector: 3, status: http.StatusServiceUnavailable}
	of[recordOf(0)] = client.Vector{ID: recordOf(0), Values: b.load.rows[3]}
	lost, doubled = judged()
	require.Equal(t, []int{0, 0, 1}, []int{lost, doubled, b.report.RefusedDone}, "a write was refused and done")
	of[recordOf(0)] = client.Vector{ID: recordOf(0), Values: b.load.rows[4]}
	_, doubled = judged()
	require.Equal(t, []int{1, 0}, []int{doubled, b.report.RefusedDone}, "nobody wrote that")
}

// TestMigrateCutOver finds the writes that a cut-over held up.
func TestMigrateCutOver(t *testing.T) {
	at := func(ms int) time.Time { return time.Unix(1_800_000_000, 0).Add(time.Duration(ms) * time.Millisecond) }
	m := watchedMove{last: client.Migration{Phases: []client.PhaseTime{{Phase: "tailing", At: at(50)}, {Phase: "fenced", At: at(100)}, {Phase: "settled", At: at(130)}}}}
	from, to, ok := m.cutOver()
	require.True(t, ok)
	l := &moveLoad{writes: []sample{
		{due: at(90), took: 5 * time.Millisecond}, {due: at(95), took: 35 * time.Millisecond}, {due: at(110), took: 21 * time.Millisecond},
		{due: at(120), took: 11 * time.Millisecond, tenant: 1}, {due: at(130), took: 2 * time.Millisecond},
	}}
	require.Equal(t, []float64{35, 21}, l.met(0, from, to))
	m.last.Phases = m.last.Phases[:2]
	_, _, ok = m.cutOver()
	require.False(t, ok, "it has not come to its end")
}

// TestGrowth compares tenants before and after a shard was added.
func TestGrowth(t *testing.T) {
	at := func(shard, ring int) client.Tenant { return client.Tenant{Shard: shard, RingShard: ring} }
	shards := []client.Shard{{ID: 0}, {ID: 2}, {ID: 3, Slots: cluster.Slots / 3}}
	before := map[string]client.Tenant{"a": at(0, 0), "b": at(0, 0), "c": at(2, 2)}
	after := map[string]client.Tenant{"a": at(0, 0), "b": at(3, 3), "c": at(2, 2)}
	g := newGrowth(3, shards, before, after)
	require.True(t, g.within())
	require.Equal(t, growth{
		Shard: 3, Expected: 0.333, Slots: 0.333, SlotsSigmas: g.SlotsSigmas, Tenants: 0.333, Before: []int{2, 1, 0}, After: []int{1, 1, 1},
		HottestBefore: 1.333, HottestAfter: 1,
	}, *g)
	for name, now := range map[string]client.Tenant{
		"moved without its slot": at(3, 2), "moved to another shard": at(0, 0), "stayed behind its slot": at(2, 3),
	} {
		after["c"] = now
		require.Equal(t, 1, newGrowth(3, shards, before, after).Astray, name)
	}
	require.False(t, newGrowth(3, []client.Shard{{ID: 0}, {ID: 2}, {ID: 3, Slots: cluster.Slots}}, before, after).within())
}

func TestRecallCheck(t *testing.T) {
	recipe := bench.Recipes()[1]
	recipe.Dim = 4
	r := newRecallCheck(bench.NewDrawer(recipe, 7), 50)
	require.Len(t, r.nearest, recallQueries)
	for _, best := range r.nearest {
		require.Len(t, best, recallAt)
		require.IsNonDecreasing(t, best)
	}
	before := r.nearest[0][recallAt-1]
	r.offer(r.nearest, [][]float32{r.queries[0]})
	require.Zero(t, r.nearest[0][0])
	require.LessOrEqual(t, r.nearest[0][recallAt-1], before)
}
