package main

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/bench"
	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// searchBenchFlags are the flags of `croft bench search`.
type searchBenchFlags struct {
	demo    demo
	tenants int
	vectors int
	dim     int
	k       int
	queries int
	singles int
	seed    uint64
}

// searchBenchReport says how fast many tenants are searched at once, and what that finds.
type searchBenchReport struct {
	Tenants int `json:"tenants"`
	Shards  int `json:"shards"`
	Nodes   int `json:"nodes"`
	Vectors int `json:"vectors_per_tenant"`
	Dim     int `json:"dim"`
	K       int `json:"k"`
	Queries int `json:"queries"`

	Recall      float64 `json:"recall_of_exact"` // share of the true nearest of all tenants
	RecallMerge float64 `json:"recall_of_merge"` // share of the best of what the tenants' own queries answer
	Cross       spread  `json:"cross_tenant_ms"`
	Single      spread  `json:"single_tenant_ms"`           // alone, between the searches
	Meanwhile   spread  `json:"single_tenant_meanwhile_ms"` // while one search follows the other
	Ratio       float64 `json:"p95_ratio"`                  // cross-tenant against single-tenant
	Partial     int     `json:"partial"`                    // answers with something missing
}

// spread are latencies as a client sees them.
type spread struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P95   float64 `json:"p95"`
	P99   float64 `json:"p99"`
}

func spreadOf(ms []float64) spread {
	slices.Sort(ms)
	return spread{len(ms), round3(quantile(ms, 0.5)), round3(quantile(ms, 0.95)), round3(quantile(ms, 0.99))}
}

const searchIndex = "bench-search"

func (a *app) benchSearchCommand() *cobra.Command {
	f := searchBenchFlags{
		demo:    demo{nodes: 3, shards: 5, replicas: 1, listen: "127.0.0.1:6080"},
		tenants: 200, vectors: 1500, dim: 256, k: 10, queries: 100, singles: 20, seed: 1,
	}
	cmd := &cobra.Command{
		Use:   "search",
		Short: "Measure searches over many tenants beside a tenant's own queries",
		Long: `Starts real server processes in a temporary directory, gives each tenant vectors of its own, drawn in clusters that all of them share, and lifts
the rate of searches. Each search is followed by --singles queries of single tenants; then queries of single tenants are measured while
one search follows the other. What a search finds is compared with the true nearest of all tenants' vectors, and with the best of what each
tenant's own query answers.`,
		Example: `  croft bench search
  croft bench search --tenants 200 --shards 5 --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.validate(); err != nil {
				return err
			}
			report, err := a.measureSearch(cmd.Context(), f)
			if err != nil {
				return err
			}
			return a.printSearchBench(report)
		},
	}
	s := cmd.Flags()
	s.IntVar(&f.tenants, "tenants", f.tenants, "tenants")
	s.IntVar(&f.demo.shards, "shards", f.demo.shards, "shards")
	s.IntVar(&f.demo.nodes, "nodes", f.demo.nodes, "nodes, each a process")
	s.IntVar(&f.demo.replicas, "replicas", f.demo.replicas, "nodes that hold each shard")
	s.IntVar(&f.vectors, "vectors", f.vectors, "vectors of each tenant; above 4,096 they are in a graph")
	s.IntVar(&f.dim, "dim", f.dim, "values of a vector")
	s.IntVarP(&f.k, "k", "k", f.k, "matches wanted")
	s.IntVar(&f.queries, "queries", f.queries, "searches")
	s.IntVar(&f.singles, "singles", f.singles, "queries of single tenants between two searches")
	s.StringVar(&f.demo.listen, "listen", f.demo.listen, "address of the first node's API; node N is 200·(N-1) ports further")
	s.Uint64Var(&f.seed, "seed", f.seed, "seed of vectors and of what is asked")
	return cmd
}

func (f *searchBenchFlags) validate() error {
	return checkLeast([]least{
		{"tenants", f.tenants, 1}, {"vectors", f.vectors, 1}, {"dim", f.dim, 2}, {"k", f.k, 1}, {"queries", f.queries, 1}, {"singles", f.singles, 1},
	})
}

// searchBench is one measurement.
type searchBench struct {
	flags   searchBenchFlags
	nodes   []*client.Client
	indexes []*client.Index // by node
	queries [][]float32
	rng     *rand.Rand

	mu    sync.Mutex // guards truth
	truth []ann.TopK // by query: slots are tenant × vectors + number

	cross, single, meanwhile []float64
	found, merged, expected  int
	partial                  int
}

func (a *app) measureSearch(ctx context.Context, f searchBenchFlags) (_ *searchBenchReport, err error) {
	c, stop, err := a.startMeasured(ctx, f.demo)
	if err != nil {
		return nil, err
	}
	defer func() { err = firstError(err, stop()) }()
	b := &searchBench{flags: f, rng: rand.New(rand.NewPCG(f.seed, 3)), truth: make([]ann.TopK, f.queries)}
	if b.nodes, err = c.clients(""); err != nil {
		return nil, err
	}
	unlimited := map[string]any{"limits": map[string]any{"requests_per_minute": tenancy.WordUnlimited}}
	if err := send(ctx, http.MethodPatch, c.urls()[0]+"/v1/tiers/"+tenancy.SearchTier, c.key, unlimited); err != nil {
		return nil, err
	}
	begun := time.Now()
	a.note("loading %s of %s", counted(f.tenants, "tenant"), counted(f.vectors, "vector"))
	if err := b.load(ctx); err != nil {
		return nil, err
	}
	a.note("loaded in %.0f s", time.Since(begun).Seconds())
	if err := b.built(ctx); err != nil {
		return nil, err
	}
	a.note("measuring %s", counted(f.queries, "round"))
	if err := b.measure(ctx); err != nil {
		return nil, err
	}
	return b.report(), nil
}

// load makes the index and fills the tenants, and finds the true nearest of what it draws.
func (b *searchBench) load(ctx context.Context) error {
	f := &b.flags
	_, err := b.nodes[0].CreateIndex(ctx, client.CreateIndexRequest{Name: searchIndex, Dimension: f.dim, Metric: "cosine"})
	if err != nil && !errs.Is(err, errs.OutcomeUnknown) {
		return err
	}
	for _, node := range b.nodes {
		ix, err := node.Index(ctx, searchIndex)
		if err != nil {
			return err
		}
		b.indexes = append(b.indexes, ix)
	}
	recipe := bench.Recipes()[0]
	recipe.Dim = f.dim
	drawer := bench.NewDrawer(recipe, f.seed)
	for block := 0; len(b.queries) < f.queries; block++ {
		b.queries = append(b.queries, drawer.Queries(block)...)
	}
	b.queries = b.queries[:f.queries]
	for i := range b.truth {
		b.truth[i].Reset(f.k)
	}
	g, loading := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for n := range f.tenants {
		g.Go(func() error { return b.fill(loading, drawer, n) })
	}
	return g.Wait()
}

// fill gives a tenant its vectors: blocks of the data that nobody else has.
func (b *searchBench) fill(ctx context.Context, drawer *bench.Drawer, n int) error {
	vectors := b.flags.vectors
	blocks := (vectors + bench.DrawnBlock - 1) / bench.DrawnBlock
	var rows [][]float32
	for block := range blocks {
		rows = append(rows, drawer.Base(n*blocks+block)...)
	}
	rows = rows[:vectors]
	b.noteNearest(n, rows)
	per := min(250, max(1, client.MaxBody/(16*b.flags.dim)))
	for at := 0; at < vectors; at += per {
		var batch []client.Vector
		for i := at; i < min(at+per, vectors); i++ {
			batch = append(batch, client.Vector{ID: "v" + strconv.Itoa(i), Values: rows[i]})
		}
		if _, err := b.indexes[n%len(b.indexes)].Upsert(ctx, tenantOf(n), batch); err != nil {
			return err
		}
	}
	return nil
}

// noteNearest measures all vectors of a tenant for all queries.
func (b *searchBench) noteNearest(n int, rows [][]float32) {
	scales := make([]float32, len(rows))
	for i, row := range rows {
		scales[i] = ann.Scale(ann.Cosine, row)
	}
	for i, query := range b.queries {
		q := ann.Bind(ann.Cosine, query)
		var best ann.TopK
		best.Reset(b.flags.k)
		for j, row := range rows {
			best.Offer(ann.Candidate{Slot: uint32(n*b.flags.vectors + j), Distance: q.Distance(row, scales[j])})
		}
		b.mu.Lock()
		for _, c := range best.Sorted(nil) {
			b.truth[i].Offer(c)
		}
		b.mu.Unlock()
	}
}

// built waits until all vectors are where searches find them fastest, and every tenant is in memory.
func (b *searchBench) built(ctx context.Context) error {
	for n := range b.flags.tenants {
		if err := b.ask(ctx, n, 0, nil); err != nil {
			return err
		}
	}
	for {
		sum, err := b.nodes[0].Shards(ctx)
		if err != nil {
			return err
		}
		if sum.Indexed == nil || *sum.Indexed >= sum.Records {
			return pauseFor(ctx, 5*time.Second) // until what was written is flushed
		}
		if err := pauseFor(ctx, time.Second); err != nil {
			return err
		}
	}
}

// measure searches, with queries of single tenants in between, and then meanwhile.
func (b *searchBench) measure(ctx context.Context) error {
	if _, err := b.search(ctx, 0); err != nil { // connections are there
		return err
	}
	for i := range b.flags.queries {
		begun := time.Now()
		res, err := b.search(ctx, i)
		if err != nil {
			return err
		}
		b.cross = append(b.cross, sinceMs(begun))
		if res.Partial {
			b.partial++
		}
		for range b.flags.singles {
			if err := b.ask(ctx, b.rng.IntN(b.flags.tenants), i, &b.single); err != nil {
				return err
			}
		}
		if err := b.compare(ctx, i, &res); err != nil {
			return err
		}
	}
	return b.measureMeanwhile(ctx)
}

// measureMeanwhile asks single tenants while one search follows the other.
func (b *searchBench) measureMeanwhile(ctx context.Context) error {
	var over atomic.Bool
	g, searching := errgroup.WithContext(ctx)
	g.Go(func() error {
		for i := 0; !over.Load(); i++ {
			if _, err := b.search(searching, i%b.flags.queries); err != nil {
				return err
			}
		}
		return nil
	})
	g.Go(func() error {
		defer over.Store(true)
		for i := range b.flags.queries * b.flags.singles {
			if err := b.ask(searching, b.rng.IntN(b.flags.tenants), i%b.flags.queries, &b.meanwhile); err != nil {
				return err
			}
		}
		return nil
	})
	return g.Wait()
}

func (b *searchBench) search(ctx context.Context, i int) (client.SearchResponse, error) {
	return b.nodes[i%len(b.nodes)].Search(ctx, client.SearchRequest{Index: searchIndex, Vector: b.queries[i], TopK: b.flags.k, Fresh: true})
}

// nudged is a query that nobody has asked for yet: an answer from the cache measures nothing.
func (b *searchBench) nudged(i int) []float32 {
	v := slices.Clone(b.queries[i])
	v[0] += float32(b.rng.Float64()-0.5) * 1e-5
	return v
}

// ask sends a query of one tenant, and notes its latency unless into is nil.
func (b *searchBench) ask(ctx context.Context, tenant, i int, into *[]float64) error {
	req := client.QueryRequest{Namespace: tenantOf(tenant), Vector: b.nudged(i), TopK: b.flags.k}
	begun := time.Now()
	_, err := b.indexes[i%len(b.indexes)].Query(ctx, req)
	if err == nil && into != nil {
		*into = append(*into, sinceMs(begun))
	}
	return err
}

// compare counts how much of the true nearest, and of the best of the tenants' own answers, a search has found.
func (b *searchBench) compare(ctx context.Context, i int, res *client.SearchResponse) error {
	found := map[string]bool{}
	for _, m := range res.Matches {
		found[m.Tenant+" "+m.ID] = true
	}
	for _, c := range b.truth[i].Sorted(nil) {
		b.expected++
		n, v := int(c.Slot)/b.flags.vectors, int(c.Slot)%b.flags.vectors
		if found[tenantOf(n)+" v"+strconv.Itoa(v)] {
			b.found++
		}
	}
	best, err := b.merge(ctx, i)
	if err != nil {
		return err
	}
	for _, m := range best {
		if found[m.Tenant+" "+m.ID] {
			b.merged++
		}
	}
	return nil
}

// merge asks every tenant, and returns the best of all.
func (b *searchBench) merge(ctx context.Context, i int) ([]client.TenantMatch, error) {
	answers := make([][]client.TenantMatch, b.flags.tenants)
	g, asking := errgroup.WithContext(ctx)
	g.SetLimit(8)
	for n := range answers {
		g.Go(func() error {
			res, err := b.indexes[n%len(b.indexes)].Query(asking, client.QueryRequest{Namespace: tenantOf(n), Vector: b.queries[i], TopK: b.flags.k})
			for _, m := range res.Matches {
				answers[n] = append(answers[n], client.TenantMatch{Tenant: tenantOf(n), Match: m})
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	all := slices.Concat(answers...)
	slices.SortFunc(all, func(a, b client.TenantMatch) int {
		return cmp.Or(cmp.Compare(b.Score, a.Score), cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ID, b.ID))
	})
	return all[:min(len(all), b.flags.k)], nil
}

func (b *searchBench) report() *searchBenchReport {
	f := &b.flags
	r := &searchBenchReport{
		Tenants: f.tenants, Shards: f.demo.shards, Nodes: f.demo.nodes, Vectors: f.vectors, Dim: f.dim, K: f.k, Queries: f.queries,
		Recall: float64(b.found) / float64(b.expected), RecallMerge: float64(b.merged) / float64(b.expected),
		Cross: spreadOf(b.cross), Single: spreadOf(b.single), Meanwhile: spreadOf(b.meanwhile), Partial: b.partial,
	}
	r.Ratio = round3(r.Cross.P95 / r.Single.P95)
	return r
}

func (a *app) printSearchBench(r *searchBenchReport) error {
	l := listing{value: r, header: []string{"", "COUNT", "P50", "P95", "P99"}}
	for _, row := range []struct {
		name string
		s    spread
	}{{"cross-tenant", r.Cross}, {"single tenant", r.Single}, {"single tenant meanwhile", r.Meanwhile}} {
		l.rows = append(l.rows, []string{row.name, thousands(row.s.Count), fmt.Sprintf("%.2f ms", row.s.P50), fmt.Sprintf("%.2f ms", row.s.P95), fmt.Sprintf("%.2f ms", row.s.P99)})
	}
	if err := a.print(l); err != nil {
		return err
	}
	a.note("recall@%d %.4f of the exact nearest, %.4f of the merge of single answers; %d partial", r.K, r.Recall, r.RecallMerge, r.Partial)
	return nil
}
