package main

import (
	"context"
	"os"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/bench"
	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

// migrateFlags are the flags of `croft bench migrate`.
type migrateFlags struct {
	demo    demo
	vectors int
	dim     int
	tenants int
	grow    bool
	writes  float64
	queries float64
	seconds int
	check   int
	seed    uint64
}

// migrateReport says what a move cost those who used the tenant, and whether it kept what they wrote.
type migrateReport struct {
	MoveSeconds   float64 `json:"move_seconds"` // from the request until the last tenant was served at its new home
	CopiedBytes   uint64  `json:"copied_bytes"`
	Failed        int     `json:"failed_requests"`    // of the load, in all phases
	WritePause    float64 `json:"write_pause_p99_ms"` // of the writes that met a cut-over: under way between fence and new home
	QueryP95Ratio float64 `json:"query_p95_ratio"`    // during the move against before
	Lost          int     `json:"lost"`               // records that are not there, or older than what was acknowledged
	Doubled       int     `json:"doubled"`            // records too many, those that were deleted and came back among them
	DigestEqual   bool    `json:"digest_equal"`       // the target's digest at its activation is the source's at the fence, for all moves
	Tenants       int     `json:"tenants"`
	Vectors       int     `json:"vectors"` // of all tenants
	Dim           int     `json:"dim"`
	Writes        float64 `json:"writes_per_second"`  // answered during the move
	Queries       float64 `json:"queries_per_second"` // answered during the move

	WritePauseMax float64             `json:"write_pause_max_ms"`
	CutOvers      []float64           `json:"cut_over_ms"`              // from fence to new home, median and longest
	CutOverWrites int                 `json:"writes_at_cut_over"`       // that the pause is of
	QueryMs       [moveNone]quantiles `json:"query_ms"`                 // before, during, after
	WriteMs       [moveNone]quantiles `json:"write_ms"`                 // as before
	Phases        map[string]float64  `json:"phase_seconds"`            // of all moves
	EachSeconds   quantiles           `json:"move_seconds_each"`        // of the moves, one by one
	Attempts      int                 `json:"attempts"`                 // of all moves
	RecallBefore  float64             `json:"recall_before"`            // at 10; 0 of many tenants
	RecallAfter   float64             `json:"recall_after"`             // as before
	Written       int                 `json:"written"`                  // writes that were acknowledged
	Checked       int                 `json:"checked"`                  // records that were read one by one afterwards
	Unknown       int                 `json:"unknown_outcomes"`         // writes that were not answered: they may be there or not
	RefusedDone   int                 `json:"refused_but_done"`         // writes that were refused, as if nothing had been done, and were carried out
	Said          map[string]string   `json:"first_failures,omitempty"` // the first of each kind
	Failures      map[string]int      `json:"failures,omitempty"`       // failed requests by what was answered
	Faults        []string            `json:"faults,omitempty"`         // the first records that were lost or too many
	Moves         []client.Migration  `json:"moves,omitempty"`          // of one tenant: what its record says
	Growth        *growth             `json:"growth,omitempty"`         // of a ring that got another shard
	Replicas      string              `json:"replicas_digest"`          // of all shards, equal on all nodes, or the run fails
	LoadSeconds   float64             `json:"load_seconds"`             // until all vectors were stored and in a graph
}

// quantiles are of latencies, in milliseconds unless said otherwise.
type quantiles struct {
	Count int     `json:"count"`
	P50   float64 `json:"p50"`
	P95   float64 `json:"p95"`
	P99   float64 `json:"p99"`
	Max   float64 `json:"max"`
}

func quantilesOf(values []float64) quantiles {
	slices.Sort(values)
	return quantiles{len(values), round3(quantile(values, 0.5)), round3(quantile(values, 0.95)), round3(quantile(values, 0.99)), round3(quantile(values, 1))}
}

func (a *app) benchMigrateCommand() *cobra.Command {
	f := migrateFlags{
		demo:    demo{nodes: 3, shards: 3, replicas: 3, listen: "127.0.0.1:6080"},
		vectors: 500_000, dim: 128, tenants: 1, writes: 200, queries: 200, seconds: 15, check: 20_000, seed: 1,
	}
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Measure a move of tenants between shards under load, and check what they have afterwards",
		Long: `Starts real server processes in a temporary directory and loads the vectors into one tenant, or evenly into many. Then clients write and
ask at a steady rate, through all nodes, whether answered or not, and no request is repeated; latencies count from when a request was due. After
--seconds the tenants are moved, one after the other, to a shard that another node leads, and the load goes on for --seconds more. With
--add-shard they lie on all shards by the ring, and are moved as the ring says when it gets one more: SLOTS and TENANTS are what came to it. At the end
every record that was written is read, --check of the others, and all are counted. A run in which the load was not answered in full ends with
exit code 8; one that lost something, with 1.`,
		Example: `  croft bench migrate --vectors 500000 --dim 128 --json
  croft bench migrate --add-shard --shards 5 --tenants 500 --vectors 10000 --writes 50 --queries 50`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.validate(); err != nil {
				return err
			}
			report, err := a.migrate(cmd.Context(), f)
			if err != nil {
				return err
			}
			return firstError(a.printMigrate(report), report.check(&f))
		},
	}
	s := cmd.Flags()
	s.IntVar(&f.vectors, "vectors", f.vectors, "vectors of all tenants together")
	s.IntVar(&f.dim, "dim", f.dim, "values of a vector")
	s.IntVar(&f.tenants, "tenants", f.tenants, "tenants, moved one after the other")
	s.BoolVar(&f.grow, "add-shard", false, "move those tenants that a shard takes over which is added to the ring")
	s.Float64Var(&f.writes, "writes", f.writes, "writes a second: of ten, seven new records, two overwritten, one deleted")
	s.Float64Var(&f.queries, "queries", f.queries, "queries a second")
	s.IntVar(&f.seconds, "seconds", f.seconds, "length of the load before and after the move")
	s.IntVar(&f.check, "check", f.check, "records of those loaded before that are read afterwards")
	s.IntVar(&f.demo.nodes, "nodes", f.demo.nodes, "nodes, each a process")
	s.IntVar(&f.demo.shards, "shards", f.demo.shards, "shards")
	s.IntVar(&f.demo.replicas, "replicas", f.demo.replicas, "replicas of a shard")
	s.StringVar(&f.demo.listen, "listen", f.demo.listen, "address of the first node's API; node N is 200·(N-1) ports further")
	s.Uint64Var(&f.seed, "seed", f.seed, "seed of vectors and of what is done with them")
	return cmd
}

func (f *migrateFlags) validate() error {
	if err := checkLeast([]least{
		{"vectors", f.vectors, 1}, {"dim", f.dim, 2}, {"tenants", f.tenants, 1}, {"seconds", f.seconds, 1}, {"shards", f.demo.shards, 2},
	}); err != nil {
		return err
	}
	if f.vectors < f.tenants {
		return usagef("--vectors is %d, fewer than --tenants", f.vectors)
	}
	if f.grow && f.tenants < 2 {
		return usagef("--add-shard needs --tenants, some of which are moved")
	}
	if f.writes <= 0 || f.queries <= 0 {
		return usagef("--writes and --queries must be above 0")
	}
	return nil
}

// check refuses a run that lost something, or whose load shows nothing.
func (r *migrateReport) check(f *migrateFlags) error {
	switch {
	case r.Lost > 0 || r.Doubled > 0 || !r.DigestEqual:
		return errs.New(errs.Corrupt, "%d records lost, %d too many, digests equal: %t", r.Lost, r.Doubled, r.DigestEqual)
	case r.Growth != nil && r.Growth.Astray > 0:
		return errs.New(errs.Corrupt, "%d tenants do not live where the ring says, or have moved though their slot has not", r.Growth.Astray)
	case r.Growth != nil && !r.Growth.within():
		return errs.New(errs.Corrupt, "%s of the slots and %s of the tenants have moved, more than 3 sigma from %s", percent(r.Growth.Slots), percent(r.Growth.Tenants), percent(r.Growth.Expected))
	case r.Writes < f.writes || r.Queries < f.queries:
		return &unshownError{errs.New(errs.FailedPrecondition, "%.0f writes and %.0f queries a second were answered during the move, not %.0f and %.0f",
			r.Writes, r.Queries, f.writes, f.queries).WithHint("give them more of the machine, or ask for fewer: --writes, --queries")}
	}
	return nil
}

const migrateIndex = "migrate"

// migrateBench is one run.
type migrateBench struct {
	app     *app
	flags   migrateFlags
	cluster *demoCluster
	nodes   []*client.Client
	ix      *client.Index
	drawer  *bench.Drawer
	each    int // vectors of a tenant
	to      int // shard
	load    *moveLoad
	moves   []watchedMove
	report  migrateReport
}

func (a *app) migrate(ctx context.Context, f migrateFlags) (_ *migrateReport, err error) {
	recipe := bench.Recipes()[1] // clustered-128, in as many dimensions as are asked for
	recipe.Dim = f.dim
	b := &migrateBench{app: a, flags: f, drawer: bench.NewDrawer(recipe, f.seed), each: f.vectors / f.tenants}
	b.report = migrateReport{Tenants: f.tenants, Vectors: b.each * f.tenants, Dim: f.dim}
	if f.demo.keep, err = os.MkdirTemp("", "croft-bench-"); err != nil {
		return nil, err
	}
	defer func() { err = firstError(err, os.RemoveAll(f.demo.keep)) }()
	c, stop, err := a.startMeasured(ctx, f.demo)
	if err != nil {
		return nil, err
	}
	b.cluster = c
	if err := firstError(b.run(ctx), stop()); err != nil {
		return nil, err
	}
	b.report.Replicas, err = c.digest(ctx)
	return &b.report, err
}

func (b *migrateBench) run(ctx context.Context) error {
	if err := b.fill(ctx); err != nil {
		return err
	}
	var recall *recallCheck
	if b.flags.tenants == 1 {
		recall = newRecallCheck(b.drawer, b.each)
		if err := recall.measure(ctx, b.ix, nil, &b.report.RecallBefore); err != nil {
			return err
		}
	}
	if err := b.moveUnderLoad(ctx); err != nil {
		return err
	}
	if recall != nil {
		if err := recall.measure(ctx, b.ix, b.load.live(), &b.report.RecallAfter); err != nil {
			return err
		}
	}
	b.sumUp()
	return b.judge(ctx)
}

// fill makes the tenants on one shard, and chooses another that another node leads; or it leaves them to the ring.
func (b *migrateBench) fill(ctx context.Context) (err error) {
	if b.nodes, err = b.cluster.clients(""); err != nil {
		return err
	}
	if _, err := b.nodes[0].CreateIndex(ctx, client.CreateIndexRequest{Name: migrateIndex, Dimension: b.flags.dim, Metric: "euclidean"}); err != nil {
		return err
	}
	if b.ix, err = b.nodes[0].Index(ctx, migrateIndex); err != nil {
		return err
	}
	info, err := b.nodes[0].Cluster(ctx)
	if err != nil {
		return err
	}
	from := info.Shards[0]
	at := slices.IndexFunc(info.Shards, func(s client.Shard) bool { return s.Leader != from.Leader })
	if at < 0 {
		at = 1 // of one node
	}
	b.to = info.Shards[at].ID
	begun := time.Now()
	home := &from.ID
	if b.flags.grow {
		home = nil
	}
	b.app.note("loading %s of %s", counted(b.flags.tenants, "tenant"), counted(b.each, "vector"))
	g, loading := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for n := range b.flags.tenants {
		g.Go(func() error {
			if _, err := b.nodes[n%len(b.nodes)].CreateTenant(loading, client.NewTenant{Tenant: tenantOf(n), Shard: home}); err != nil {
				return err
			}
			return upsertDrawn(loading, b.ix, tenantOf(n), b.drawer, b.each)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	if err := b.cluster.awaitGraphs(ctx); err != nil {
		return err
	}
	b.report.LoadSeconds = round3(time.Since(begun).Seconds())
	b.app.note("loaded in %.0f s", b.report.LoadSeconds)
	return nil
}

// moveUnderLoad moves the tenants in the middle of the load.
func (b *migrateBench) moveUnderLoad(ctx context.Context) (err error) {
	hosts, err := b.cluster.hosts()
	if err != nil {
		return err
	}
	b.load = newMoveLoad(hosts, b.cluster.key, b.flags.tenants, b.drawer, b.each, b.flags.seed)
	loading, cancel := context.WithCancel(ctx)
	var asking errgroup.Group
	// A little more than what must be answered: times of arrival are even, so nothing else makes up for a late answer at the end.
	const more = 1.03
	asking.Go(func() error { b.load.write(loading, b.flags.writes*more); return nil })
	asking.Go(func() error { b.load.query(loading, b.flags.queries*more); return nil })
	defer func() {
		cancel()
		err = firstError(err, asking.Wait())
	}()
	b.app.note("asking and writing for %d s before the move", b.flags.seconds)
	if err := pauseFor(ctx, 3*time.Second); err != nil { // until all is in memory
		return err
	}
	window := time.Duration(b.flags.seconds) * time.Second
	b.load.phase.Store(moveBefore)
	if err := pauseFor(ctx, window); err != nil {
		return err
	}
	b.load.phase.Store(moveDuring)
	begun := time.Now()
	move := b.moveAll
	if b.flags.grow {
		move = b.addShard
	}
	if err := move(ctx); err != nil {
		return err
	}
	b.report.MoveSeconds = round3(time.Since(begun).Seconds())
	b.load.phase.Store(moveAfter)
	b.app.note("moved in %.1f s", b.report.MoveSeconds)
	if err := pauseFor(ctx, window); err != nil {
		return err
	}
	b.load.phase.Store(moveNone)
	return nil
}

// moveAll moves one tenant after the other.
func (b *migrateBench) moveAll(ctx context.Context) error {
	for n := range b.flags.tenants {
		m, err := watchMove(ctx, b.nodes[n%len(b.nodes)], tenantOf(n), b.to)
		if err != nil {
			return err
		}
		m.number = n
		b.moves = append(b.moves, m)
	}
	return nil
}

func (a *app) printMigrate(r *migrateReport) error {
	l := listing{value: r, header: []string{"", "QUERIES", "P50 MS", "P95 MS", "P99 MS", "WRITES", "P50 MS", "P95 MS", "P99 MS"}}
	for i, name := range []string{"before", "during", "after"} {
		q, w := &r.QueryMs[i], &r.WriteMs[i]
		l.rows = append(l.rows, []string{name, strconv.Itoa(q.Count), msText(q.P50), msText(q.P95), msText(q.P99),
			strconv.Itoa(w.Count), msText(w.P50), msText(w.P95), msText(w.P99)})
	}
	if err := a.print(l); err != nil {
		return err
	}
	if r.Growth != nil {
		a.noteGrowth(r.Growth)
	}
	a.note("%s moved in %.1f s, %s copied; writes waited %.1f ms at most, queries' P95 was %.2f times that before", counted(r.EachSeconds.Count, "tenant"),
		r.MoveSeconds, bytesText(int64(r.CopiedBytes)), r.WritePauseMax, r.QueryP95Ratio)
	a.note("%d requests failed, %d records lost, %d too many, %d checked", r.Failed, r.Lost, r.Doubled, r.Checked)
	if r.RefusedDone > 0 {
		a.note("%s carried out all the same", counted(r.RefusedDone, "refused write"))
	}
	if r.Tenants == 1 {
		a.note("recall at %d: %.4f before, %.4f after", recallAt, r.RecallBefore, r.RecallAfter)
	}
	return nil
}
