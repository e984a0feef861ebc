package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/bench"
	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

// replicaFlags are the flags of `croft bench replica`.
type replicaFlags struct {
	demo    demo
	vectors int
	dim     int
	rate    int
	seconds int
	seed    uint64
}

// replicaReport says how a node that lost its disk came back.
type replicaReport struct {
	Vectors        int            `json:"vectors"`
	Dim            int            `json:"dim"`
	LoadSeconds    float64        `json:"load_seconds"`
	BuildSeconds   float64        `json:"build_seconds"` // after the load, until the graphs on all nodes were whole
	RestoreSeconds float64        `json:"restore_seconds"`
	Received       int64          `json:"received_bytes"` // by the new node
	GraphInserts   int            `json:"graph_inserts"`  // on the new node: 0 if the graph was shipped
	GraphLoads     int            `json:"graph_loads"`    // on the new node
	SameAnswers    float64        `json:"same_answers"`   // share of the others' nearest that the new node finds
	Digest         string         `json:"digest"`         // of all shards, equal on all nodes, or this is a failure
	Phases         []replicaPhase `json:"phases"`
}

// replicaPhase are queries of one of the other nodes while something else went on, or nothing.
type replicaPhase struct {
	Phase   string  `json:"phase"` // before, restoring, after
	Node    int     `json:"node"`
	Queries int     `json:"queries"`
	P50     float64 `json:"p50_ms"`
	P95     float64 `json:"p95_ms"`
	Failed  int     `json:"failed"`
}

func (a *app) benchReplicaCommand() *cobra.Command {
	f := replicaFlags{demo: demo{nodes: 3, shards: 4, replicas: 3, listen: "127.0.0.1:6080"}, vectors: 500_000, dim: 128, rate: 50, seconds: 20, seed: 1}
	cmd := &cobra.Command{
		Use:   "replica",
		Short: "Measure how fast a node that lost its disk is back, and what the others' queries notice",
		Long: `Starts three real server processes in a temporary directory, loads the vectors into one tenant and waits for its graph. Then a node is
killed, its disk wiped, its old self removed from the cluster, and a new one joins in its place. Both other nodes are asked all the time, each
from its own replica, at --rate queries a second; a query that is late counts from when it was due. At the end all replicas must have the same digest.`,
		Example: `  croft bench replica --vectors 50000
  croft bench replica --vectors 500000 --dim 128 --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			for name, v := range map[string]int{"vectors": f.vectors, "dim": f.dim, "rate": f.rate, "seconds": f.seconds} {
				if v < 1 {
					return usagef("--%s is %d, must be at least 1", name, v)
				}
			}
			report, err := a.replica(cmd.Context(), f)
			if err != nil {
				return err
			}
			return a.printReplica(report)
		},
	}
	s := cmd.Flags()
	s.IntVar(&f.vectors, "vectors", f.vectors, "vectors of the tenant")
	s.IntVar(&f.dim, "dim", f.dim, "values of a vector")
	s.IntVar(&f.rate, "rate", f.rate, "queries a second and node")
	s.IntVar(&f.seconds, "seconds", f.seconds, "how long to ask before and after")
	s.StringVar(&f.demo.listen, "listen", f.demo.listen, "address of the first node's API; node N is 200·(N-1) ports further")
	s.Var(&f.demo.rate, "checkpoint-rate", "bytes per second in which a node hands out its files; off: no limit (default that of `croft serve`)")
	s.Uint64Var(&f.seed, "seed", f.seed, "seed of the vectors")
	return cmd
}

// replicaBench is one run.
type replicaBench struct {
	app     *app
	flags   replicaFlags
	cluster *demoCluster
	drawer  *bench.Drawer
	report  replicaReport
}

const (
	replicaIndex  = "replica"
	replicaTenant = "one"
)

func (a *app) replica(ctx context.Context, f replicaFlags) (_ *replicaReport, err error) {
	recipe := bench.Recipes()[1] // clustered-128, in as many dimensions as are asked for
	recipe.Dim = f.dim
	b := &replicaBench{app: a, flags: f, drawer: bench.NewDrawer(recipe, f.seed), report: replicaReport{Vectors: f.vectors, Dim: f.dim}}
	f.demo.keep, err = os.MkdirTemp("", "croft-bench-")
	if err != nil {
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
	b.report.Digest, err = c.digest(ctx)
	return &b.report, err
}

func (b *replicaBench) run(ctx context.Context) error {
	if err := b.load(ctx); err != nil {
		return err
	}
	lost, err := b.victim(ctx)
	if err != nil {
		return err
	}
	asking, err := b.ask(ctx, lost)
	if err != nil {
		return err
	}
	defer asking.stop()
	window := time.Duration(b.flags.seconds) * time.Second
	b.app.note("asking the others for %v, then node %d loses its disk", window, lost.number)
	if err := pauseFor(ctx, window); err != nil {
		return err
	}
	asking.phase.Store(phaseLosing)
	if err := b.restore(ctx, lost, asking); err != nil {
		return err
	}
	asking.phase.Store(phaseAfter)
	if err := pauseFor(ctx, window); err != nil {
		return err
	}
	asking.stop()
	b.report.Phases = asking.report()
	return b.compare(ctx, lost)
}

// load fills the tenant and waits until all nodes have its graph.
func (b *replicaBench) load(ctx context.Context) error {
	all, err := b.cluster.clients("")
	if err != nil {
		return err
	}
	if _, err := all[0].CreateIndex(ctx, client.CreateIndexRequest{Name: replicaIndex, Dimension: b.flags.dim, Metric: "euclidean"}); err != nil {
		return err
	}
	ix, err := all[0].Index(ctx, replicaIndex)
	if err != nil {
		return err
	}
	begun := time.Now()
	b.app.note("loading %s", counted(b.flags.vectors, "vector"))
	if err := upsertDrawn(ctx, ix, replicaTenant, b.drawer, b.flags.vectors); err != nil {
		return err
	}
	b.report.LoadSeconds = time.Since(begun).Seconds()
	begun = time.Now()
	b.app.note("waiting for the graphs")
	if err := b.cluster.awaitGraphs(ctx); err != nil {
		return err
	}
	b.report.BuildSeconds = time.Since(begun).Seconds()
	return nil
}

// victim is the last node that does not lead the tenant's shard: who leads is what the others' queries need not wait for.
func (b *replicaBench) victim(ctx context.Context) (*demoNode, error) {
	all, err := b.cluster.clients("")
	if err != nil {
		return nil, err
	}
	tenant, err := all[0].DescribeTenant(ctx, replicaTenant)
	if err != nil {
		return nil, err
	}
	info, err := all[0].Cluster(ctx)
	if err != nil {
		return nil, err
	}
	for _, n := range slices.Backward(b.cluster.nodes) {
		at := slices.IndexFunc(info.Nodes, func(m client.Node) bool { return m.URL == n.url })
		leads := slices.ContainsFunc(info.Shards, func(s client.Shard) bool {
			return s.ID == tenant.Shard && at >= 0 && s.Leader == info.Nodes[at].ID
		})
		if at >= 0 && !leads && n.number > 1 {
			n.id = info.Nodes[at].ID
			return n, nil
		}
	}
	return nil, errs.New(errs.FailedPrecondition, "no node could be found that may lose its disk")
}

// restore kills a node, wipes its disk, and waits until a new one is in its place.
func (b *replicaBench) restore(ctx context.Context, lost *demoNode, asking *asking) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Minute)
	defer cancel()
	if err := b.cluster.killNode(lost); err != nil {
		return err
	}
	if err := os.RemoveAll(lost.data); err != nil {
		return err
	}
	api, err := client.New(client.Options{URL: b.cluster.url(), APIKey: b.cluster.key})
	if err != nil {
		return err
	}
	defer api.Close()
	if err := b.removeNode(ctx, api, lost.id); err != nil {
		return err
	}
	asking.phase.Store(phaseRestoring)
	begun := time.Now()
	if err := b.cluster.run(ctx, lost, startTimeout); err != nil {
		return err
	}
	if err := b.cluster.settle(ctx); err != nil {
		return err
	}
	for lag := uint64(1); lag > 0; {
		info, err := api.Cluster(ctx)
		if err != nil {
			return err
		}
		lag = 0
		for _, s := range info.Shards {
			lag = max(lag, greatestLag(s.Replicas))
		}
	}
	b.report.RestoreSeconds = time.Since(begun).Seconds()
	b.app.note("back in %.1f s", b.report.RestoreSeconds)
	return nil
}

// removeNode takes the old self of a node out, as soon as its groups have noticed that they must do without.
func (b *replicaBench) removeNode(ctx context.Context, api *client.Client, id string) error {
	for {
		err := api.RemoveNode(ctx, id, true)
		if err == nil || !errs.Is(err, errs.FailedPrecondition) && !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.OutcomeUnknown) {
			return err
		}
		if pauseFor(ctx, 200*time.Millisecond) != nil {
			return err
		}
	}
}

// compare asks the new node and another for the same, and reads what the new one had to do for its graph.
func (b *replicaBench) compare(ctx context.Context, lost *demoNode) error {
	all, err := b.cluster.clients("any")
	if err != nil {
		return err
	}
	other := (lost.number) % len(all)
	same, asked := 0, 0
	for _, q := range b.drawer.Queries(1)[:200] {
		var found [2]map[string]bool
		for i, c := range []*client.Client{all[lost.number-1], all[other]} {
			ix, err := c.Index(ctx, replicaIndex)
			if err != nil {
				return err
			}
			if found[i], err = nearestTen(ctx, ix, q); err != nil {
				return err
			}
		}
		for id := range found[1] {
			asked++
			if found[0][id] {
				same++
			}
		}
	}
	b.report.SameAnswers = float64(same) / float64(max(1, asked))
	values, err := scrape(ctx, lost.url)
	b.report.GraphInserts = int(values["croft_engine_graph_inserts_total"])
	b.report.GraphLoads = int(values["croft_engine_graph_loads_total"])
	b.report.Received = int64(values["croft_cluster_peer_received_bytes_total"])
	return err
}

func nearestTen(ctx context.Context, ix *client.Index, q []float32) (map[string]bool, error) {
	res, err := ix.Query(ctx, client.QueryRequest{Namespace: replicaTenant, Vector: q, TopK: 10})
	ids := map[string]bool{}
	for _, m := range res.Matches {
		ids[m.ID] = true
	}
	return ids, err
}

// Phases of a run; what is asked while a node is lost and none has taken its place counts for none.
const (
	phaseBefore int32 = iota
	phaseRestoring
	phaseAfter
	phaseLosing
)

var phaseNames = []string{"before", "restoring", "after"}

// asking are queries that go on while other things happen.
type asking struct {
	phase  atomic.Int32
	cancel context.CancelFunc
	done   sync.WaitGroup
	nodes  []*askedNode
}

// askedNode is one node that is asked, and what it answered.
type askedNode struct {
	number int
	mu     sync.Mutex
	took   [phaseLosing][]float64 // ms, by phase
	failed [phaseLosing]int
}

// ask begins to ask all nodes but the one that will be lost.
func (b *replicaBench) ask(ctx context.Context, lost *demoNode) (*asking, error) {
	all, err := b.cluster.clients("any")
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	s := &asking{cancel: cancel}
	queries := b.drawer.Queries(0)
	for i, c := range all {
		if i+1 == lost.number {
			continue
		}
		ix, err := c.Index(ctx, replicaIndex)
		if err != nil {
			cancel()
			return nil, err
		}
		n := &askedNode{number: i + 1}
		s.nodes = append(s.nodes, n)
		s.done.Go(func() { s.run(ctx, n, ix, queries, b.flags.rate) })
	}
	return s, nil
}

// run sends queries at a rate, whether earlier ones were answered or not.
func (s *asking) run(ctx context.Context, n *askedNode, ix *client.Index, queries [][]float32, rate int) {
	tick := time.NewTicker(time.Second / time.Duration(rate))
	defer tick.Stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := 0; ; i++ {
		var due time.Time
		select {
		case due = <-tick.C:
		case <-ctx.Done():
			return
		}
		phase := s.phase.Load()
		wg.Go(func() {
			_, err := nearestTen(ctx, ix, queries[i%len(queries)])
			if ctx.Err() == nil {
				n.note(phase, time.Since(due), err)
			}
		})
	}
}

func (n *askedNode) note(phase int32, took time.Duration, err error) {
	if phase >= phaseLosing {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if err != nil {
		n.failed[phase]++
		return
	}
	n.took[phase] = append(n.took[phase], took.Seconds()*1e3)
}

// stop ends the asking. It may be called more than once.
func (s *asking) stop() {
	s.cancel()
	s.done.Wait()
}

// report sums up, after stop.
func (s *asking) report() (all []replicaPhase) {
	for phase, name := range phaseNames {
		for _, n := range s.nodes {
			took := n.took[phase]
			slices.Sort(took)
			all = append(all, replicaPhase{
				Phase: name, Node: n.number, Queries: len(took), P50: quantile(took, 0.50), P95: quantile(took, 0.95), Failed: n.failed[phase],
			})
		}
	}
	return all
}

// quantile of values in order; 0 of none.
func quantile(sorted []float64, share float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return sorted[min(int(share*float64(len(sorted))), len(sorted)-1)]
}

func (a *app) printReplica(r *replicaReport) error {
	l := listing{value: r, items: itemsOf(r.Phases), header: []string{"PHASE", "NODE", "QUERIES", "P50", "P95", "FAILED"}}
	for _, p := range r.Phases {
		l.rows = append(l.rows, []string{p.Phase, strconv.Itoa(p.Node), thousands(p.Queries), fmt.Sprintf("%.2f ms", p.P50),
			fmt.Sprintf("%.2f ms", p.P95), strconv.Itoa(p.Failed)})
	}
	if err := a.print(l); err != nil {
		return err
	}
	a.note("%s x %d: loaded in %.1f s, graphs whole %.1f s later; the lost node was back in %.1f s", thousands(r.Vectors), r.Dim,
		r.LoadSeconds, r.BuildSeconds, r.RestoreSeconds)
	a.note("there: %s read, %s put into a graph, %.1f %% of the others' answers; digest %s on all nodes", counted(r.GraphLoads, "graph"),
		counted(r.GraphInserts, "vector"), 100*r.SameAnswers, r.Digest)
	return nil
}
