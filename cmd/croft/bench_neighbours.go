package main

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"os"
	"runtime"
	"slices"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/bench"
	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

// neighboursFlags are the flags of `croft bench neighbours`.
type neighboursFlags struct {
	demo    demo
	tenants int
	spike   float64
	vectors int
	dim     int
	seconds int
	clients int
	seed    uint64
}

// neighboursReport says what a tenant's spike did to the others.
type neighboursReport struct {
	P95Ratio        float64 `json:"victims_p95_ratio"` // spike against calm
	P99Ratio        float64 `json:"victims_p99_ratio"`
	Refused         int     `json:"victims_refused"`
	SpikerAdmitted  float64 `json:"spiker_admitted_qps"`
	SpikerRefused   int     `json:"spiker_refused"`
	P95RatioWithout float64 `json:"p95_ratio_without_admission"`

	Tenants  int              `json:"tenants"`
	Spike    float64          `json:"spike"`
	Capacity float64          `json:"capacity_qps"` // that the machine can serve, with the clients on it
	Offered  float64          `json:"spiker_offered_qps"`
	With     neighboursPhases `json:"with_admission"`
	Without  neighboursPhases `json:"without_admission"`
}

// neighboursPhases are one run.
type neighboursPhases struct {
	CalmCPU       float64 `json:"calm_cpu_percent"`  // of the machine, by the nodes alone
	SpikeCPU      float64 `json:"spike_cpu_percent"` // as before
	CalmP50       float64 `json:"victims_calm_p50_ms"`
	CalmP95       float64 `json:"victims_calm_p95_ms"`
	CalmP99       float64 `json:"victims_calm_p99_ms"`
	SpikeP50      float64 `json:"victims_spike_p50_ms"`
	SpikeP95      float64 `json:"victims_spike_p95_ms"`
	SpikeP99      float64 `json:"victims_spike_p99_ms"`
	CalmDrift     float64 `json:"calm_p95_drift"` // second calm phase against the first: how much the machine itself has changed
	Answered      int     `json:"victims_answered"`
	Refused       int     `json:"victims_refused"`
	Failed        int     `json:"victims_failed"`
	SpikerCalm    float64 `json:"spiker_calm_qps"`
	SpikerServed  float64 `json:"spiker_spike_qps"`
	SpikerTries   float64 `json:"spiker_attempts_qps"`
	SpikerRefused int     `json:"spiker_refused"`
}

func (a *app) benchNeighboursCommand() *cobra.Command {
	f := neighboursFlags{
		demo:    demo{nodes: 3, shards: 3, replicas: 3, listen: "127.0.0.1:6080"},
		tenants: 50, spike: 16, vectors: 4000, dim: 512, seconds: 20, clients: 192, seed: 1,
	}
	cmd := &cobra.Command{
		Use:   "neighbours",
		Short: "Measure what the others notice when one tenant asks for many times as much",
		Long: `Starts three real server processes in a temporary directory and gives each tenant, all of tier silver, its vectors. First it finds out
what the machine can serve. Then all tenants ask at a steady rate, whether answered or not, which takes at least 30 % of the machine; in the
middle third of the run one asks --spike times as much, which is twice of what can be served, from clients who, when refused, ask again
at once. Latencies count from when a request was due. All this is done twice, first with admission switched off: if that does not hurt the
others, at least double their P95, the run shows nothing and ends with exit code 8.`,
		Example: `  croft bench neighbours
  croft bench neighbours --tenants 50 --spike 16 --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := f.validate(); err != nil {
				return err
			}
			report, err := a.neighbours(cmd.Context(), f)
			if err != nil {
				return err
			}
			return firstError(a.printNeighbours(report), report.check())
		},
	}
	s := cmd.Flags()
	s.IntVar(&f.tenants, "tenants", f.tenants, "tenants, the one that spikes included")
	s.Float64Var(&f.spike, "spike", f.spike, "how many times its rate it asks for")
	s.IntVar(&f.vectors, "vectors", f.vectors, "vectors of each tenant: so that a query takes a millisecond or two")
	s.IntVar(&f.dim, "dim", f.dim, "values of a vector")
	s.IntVar(&f.seconds, "seconds", f.seconds, "length of each phase: calm, spike, calm")
	s.IntVar(&f.clients, "clients", f.clients, "of the tenant that spikes, each with a connection")
	s.StringVar(&f.demo.listen, "listen", f.demo.listen, "address of the first node's API; node N is 200·(N-1) ports further")
	s.Uint64Var(&f.seed, "seed", f.seed, "seed of vectors and times")
	return cmd
}

func (f *neighboursFlags) validate() error {
	if err := checkLeast([]least{
		{"tenants", f.tenants, 2}, {"vectors", f.vectors, 1}, {"dim", f.dim, 2}, {"seconds", f.seconds, 1}, {"clients", f.clients, 1},
	}); err != nil {
		return err
	}
	if f.spike < 1 {
		return usagef("--spike must be at least 1")
	}
	return nil
}

// unshownError is a measurement that shows nothing.
type unshownError struct{ error }

func (e *unshownError) Unwrap() error { return e.error }

// check refuses a run in which the spike was harmless by itself.
func (r *neighboursReport) check() error {
	if r.P95RatioWithout >= 2 {
		return nil
	}
	return &unshownError{errs.New(errs.FailedPrecondition, "without admission the others' P95 rises to %.2f times only, not to 2: the spike is too small to show anything",
		r.P95RatioWithout).WithHint("give --vectors or --clients more, or see what else uses the machine")}
}

const neighboursIndex = "neighbours"

// Parts of what the machine can serve: that all others ask for, and that the spiker asks for at its peak.
const (
	victimsShare = 0.26
	spikerShare  = 2.1
	silverRate   = 200 // a second
	spikerMost   = 185 // while all is calm
)

// neighbours is one measurement: with admission and without, on the same data.
type neighbours struct {
	app    *app
	flags  neighboursFlags
	drawer *bench.Drawer
	report neighboursReport

	victimRate float64 // of all of them together, per second
}

func (a *app) neighbours(ctx context.Context, f neighboursFlags) (_ *neighboursReport, err error) {
	recipe := bench.Recipes()[1]
	recipe.Dim = f.dim
	b := &neighbours{app: a, flags: f, drawer: bench.NewDrawer(recipe, f.seed), report: neighboursReport{Tenants: f.tenants, Spike: f.spike}}
	if b.flags.demo.keep, err = os.MkdirTemp("", "croft-bench-"); err != nil {
		return nil, err
	}
	defer func() { err = firstError(err, os.RemoveAll(b.flags.demo.keep)) }()
	if b.report.Without, err = b.run(ctx, false); err != nil {
		return nil, err
	}
	if b.report.With, err = b.run(ctx, true); err != nil {
		return nil, err
	}
	without, w := &b.report.Without, &b.report.With
	b.report.P95RatioWithout = round3(without.SpikeP95 / without.CalmP95)
	b.report.P95Ratio, b.report.P99Ratio, b.report.Refused = round3(w.SpikeP95/w.CalmP95), round3(w.SpikeP99/w.CalmP99), w.Refused
	b.report.SpikerAdmitted, b.report.SpikerRefused = w.SpikerServed, w.SpikerRefused
	return &b.report, nil
}

func round3(x float64) float64 { return math.Round(x*1000) / 1000 }

// run starts the cluster, which has its data from the second time on, and lets the crowd at it.
func (b *neighbours) run(ctx context.Context, admission bool) (p neighboursPhases, err error) {
	d := b.flags.demo
	if !admission {
		d.serve = []string{"--admission", "off"}
	}
	c, stop, err := b.app.startMeasured(ctx, d)
	if err != nil {
		return p, err
	}
	defer func() { err = firstError(err, stop()) }()
	if !admission {
		if err := b.load(ctx, c); err != nil {
			return p, err
		}
	}
	crowd, err := b.crowd(c)
	if err != nil {
		return p, err
	}
	crowd.saturate(ctx, crowd.victims, 4, 2*time.Second) // all tenants into memory
	if !admission {
		if err := b.calibrate(ctx, c, crowd); err != nil {
			return p, err
		}
	}
	crowd.victimRate, crowd.spikerRate = b.victimRate, b.report.Offered/b.flags.spike
	b.app.note("%d tenants ask for %.0f, one for %.0f and then %.0f a second, admission %s", b.flags.tenants-1, crowd.victimRate,
		crowd.spikerRate, b.report.Offered, map[bool]string{true: "on", false: "off"}[admission])
	return b.phases(ctx, c, crowd)
}

// calibrate finds out what the machine can serve, without admission: of the victims' queries, and of the spiker's, whose vectors stay
// in the processor's caches. If the spiker's share is more than silver tenants may have, the tier gets a rate that fits the machine.
func (b *neighbours) calibrate(ctx context.Context, c *demoCluster, crowd *crowd) error {
	b.victimRate = victimsShare * crowd.saturate(ctx, crowd.victims, 12, 5*time.Second)
	b.report.Capacity = math.Round(crowd.saturate(ctx, []tenantShots{crowd.spiker}, 12, 5*time.Second))
	b.report.Offered = math.Round(spikerShare * b.report.Capacity)
	calm := b.report.Offered / b.flags.spike
	b.app.note("the machine can serve %.0f of its queries a second", b.report.Capacity)
	if calm <= spikerMost {
		return ctx.Err()
	}
	rate := math.Ceil(calm * silverRate / spikerMost)
	b.app.note("silver tenants may ask for %.0f a second", rate)
	return send(ctx, http.MethodPatch, c.urls()[0]+"/v1/tiers/silver", c.key, map[string]any{"limits": map[string]any{"rate_per_second": rate, "burst": rate}})
}

// phases are calm, spike, calm, with a pause between them that counts for none.
func (b *neighbours) phases(ctx context.Context, c *demoCluster, crowd *crowd) (p neighboursPhases, err error) {
	steady, cancel := context.WithCancel(ctx)
	crowd.phase.Store(phaseNone)
	var asking errgroup.Group
	asking.Go(func() error { crowd.askSteadily(steady, b.flags.seed); return nil })
	cpu := [phaseCount]float64{}
	for phase, factor := range []float64{1, b.flags.spike, 1} {
		if cpu[phase], err = b.phase(ctx, c, crowd, int32(phase), crowd.spikerRate*factor); err != nil {
			break
		}
	}
	cancel()
	if err := firstError(err, asking.Wait()); err != nil {
		return p, err
	}
	calm, spike := crowd.victim.calm(), crowd.victim.spike()
	v, s := &crowd.victim.phases, &crowd.spiking.phases
	seconds := float64(b.flags.seconds)
	return neighboursPhases{
		CalmCPU: (cpu[phaseCalm] + cpu[phaseCalmAgain]) / 2, SpikeCPU: cpu[phaseSpike],
		CalmP50: quantile(calm, 0.5), CalmP95: quantile(calm, 0.95), CalmP99: quantile(calm, 0.99),
		SpikeP50: quantile(spike, 0.5), SpikeP95: quantile(spike, 0.95), SpikeP99: quantile(spike, 0.99),
		CalmDrift: crowd.drift(), Answered: len(spike), Refused: v[phaseSpike].refused, Failed: v[phaseSpike].failed,
		SpikerCalm:   round3(float64(len(s[phaseCalm].took)+len(s[phaseCalmAgain].took)) / (2 * seconds)),
		SpikerServed: round3(float64(len(s[phaseSpike].took)) / seconds), SpikerTries: round3(float64(s[phaseSpike].sent) / seconds),
		SpikerRefused: s[phaseSpike].refused,
	}, nil
}

// drift is the victims' P95 of the second calm phase against that of the first.
func (c *crowd) drift() float64 {
	first, second := c.victim.phases[phaseCalm], c.victim.phases[phaseCalmAgain]
	return ratio(slices.Sorted(slices.Values(second.took)), slices.Sorted(slices.Values(first.took)), 0.95)
}

// phase has the spiker ask at a rate, and returns the share of the machine that the nodes took, in percent.
func (b *neighbours) phase(ctx context.Context, c *demoCluster, crowd *crowd, phase int32, rate float64) (cpu float64, err error) {
	ctx, cancel := context.WithCancel(ctx)
	var asking errgroup.Group
	asking.Go(func() error { crowd.askAtRate(ctx, rate); return nil })
	defer func() {
		crowd.phase.Store(phaseNone)
		cancel()
		err = firstError(err, asking.Wait())
	}()
	if err := pauseFor(ctx, 2*time.Second); err != nil {
		return 0, err
	}
	before, err := c.times()
	if err != nil {
		return 0, err
	}
	crowd.phase.Store(phase)
	if err := pauseFor(ctx, time.Duration(b.flags.seconds)*time.Second); err != nil {
		return 0, err
	}
	crowd.phase.Store(phaseNone)
	after, err := c.times()
	if err != nil {
		return 0, err
	}
	for i := range after {
		cpu += (after[i].cpu - before[i].cpu).Seconds()
	}
	return math.Round(1000*cpu/float64(b.flags.seconds)/float64(runtime.NumCPU())) / 10, nil
}

// load makes the tenants and fills them.
func (b *neighbours) load(ctx context.Context, c *demoCluster) error {
	all, err := c.clients("")
	if err != nil {
		return err
	}
	if _, err := all[0].CreateIndex(ctx, client.CreateIndexRequest{Name: neighboursIndex, Dimension: b.flags.dim, Metric: "cosine"}); err != nil {
		return err
	}
	begun := time.Now()
	b.app.note("loading %d tenants of %s", b.flags.tenants, counted(b.flags.vectors, "vector"))
	rows := b.drawer.Base(0)
	per := min(250, max(1, client.MaxBody/(16*b.flags.dim)))
	g, loading := errgroup.WithContext(ctx)
	g.SetLimit(4)
	for n := range b.flags.tenants {
		g.Go(func() error {
			to := all[n%len(all)]
			if err := send(loading, http.MethodPost, c.urls()[0]+"/v1/tenants", c.key, map[string]any{"tenant": tenantOf(n), "tier": "silver"}); err != nil {
				return err
			}
			ix, err := to.Index(loading, neighboursIndex)
			if err != nil {
				return err
			}
			return b.fill(loading, ix, n, rows, per)
		})
	}
	if err := g.Wait(); err != nil {
		return err
	}
	b.app.note("loaded in %.0f s", time.Since(begun).Seconds())
	return pauseFor(ctx, 5*time.Second) // until what was written is flushed
}

// fill gives a tenant vectors out of the same few thousand, from another one on.
func (b *neighbours) fill(ctx context.Context, ix *client.Index, n int, rows [][]float32, per int) error {
	for at := 0; at < b.flags.vectors; at += per {
		var batch []client.Vector
		for i := at; i < min(at+per, b.flags.vectors); i++ {
			batch = append(batch, client.Vector{ID: "v" + strconv.Itoa(i), Values: rows[(i+37*n)%len(rows)]})
		}
		if _, err := ix.Upsert(ctx, tenantOf(n), batch); err != nil {
			return err
		}
	}
	return nil
}

func tenantOf(n int) string { return fmt.Sprintf("tenant-%03d", n) }

// crowd prepares the requests.
func (b *neighbours) crowd(c *demoCluster) (*crowd, error) {
	crowd := &crowd{clients: b.flags.clients, spike: b.flags.spike}
	queries := b.drawer.Queries(1)[:8]
	var err error
	if crowd.addrs, err = c.hosts(); err != nil {
		return nil, err
	}
	for n := range b.flags.tenants {
		tenant := make(tenantShots, len(crowd.addrs))
		for node, addr := range crowd.addrs {
			for _, q := range queries {
				tenant[node] = append(tenant[node], newShot(addr, c.key, "/i/"+neighboursIndex+"/query", tenantOf(n), q, 10))
			}
		}
		crowd.victims = append(crowd.victims, tenant)
	}
	crowd.spiker, crowd.victims = crowd.victims[0], crowd.victims[1:]
	return crowd, nil
}

func (a *app) printNeighbours(r *neighboursReport) error {
	l := listing{value: r, header: []string{"ADMISSION", "CALM P95", "SPIKE P95", "RATIO", "REFUSED", "SPIKER SERVED", "CPU"}}
	for _, row := range []struct {
		name string
		p    *neighboursPhases
	}{{"on", &r.With}, {"off", &r.Without}} {
		l.rows = append(l.rows, []string{row.name, fmt.Sprintf("%.2f ms", row.p.CalmP95), fmt.Sprintf("%.2f ms", row.p.SpikeP95),
			fmt.Sprintf("%.3f", row.p.SpikeP95/row.p.CalmP95), strconv.Itoa(row.p.Refused), fmt.Sprintf("%.0f/s", row.p.SpikerServed),
			fmt.Sprintf("%.0f %% → %.0f %%", row.p.CalmCPU, row.p.SpikeCPU)})
	}
	return a.print(l)
}
