package cluster

import (
	"cmp"
	"fmt"
	"math"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/tenancy"
)

// BenchmarkCrowd has CROFT_TENANTS tenants (default 10,000) of a rate limit store 4 vectors of 128 values and ask once, on one node of 16 shards,
// and tells how many bytes of the heap each of them takes, by whose they are; then what is left when all but one have rested for
// CROFT_REST (default 0), and how long the node takes to start again, and to answer all of them once more.
func BenchmarkCrowd(b *testing.B) {
	tenants, err := strconv.Atoi(cmp.Or(os.Getenv("CROFT_TENANTS"), "10000"))
	require.NoError(b, err, "CROFT_TENANTS")
	rest, err := time.ParseDuration(cmp.Or(os.Getenv("CROFT_REST"), "0"))
	require.NoError(b, err, "CROFT_REST")
	defer func(rate int) { runtime.MemProfileRate = rate }(runtime.MemProfileRate)
	runtime.MemProfileRate = 4096
	for b.Loop() {
		c := newCrowd(b, tenants)
		empty := heapOf()
		c.make(b)
		c.tell(b, "made", empty)
		c.ask(b)
		c.tell(b, "asked", empty)
		if rest > 0 {
			time.Sleep(rest)
			for range tenants {
				require.NoError(b, c.askOne(b, 0))
			}
			c.tell(b, "rested", empty)
		}
		require.NoError(b, c.node.Close())
		begun := time.Now()
		c.open(b)
		b.ReportMetric(time.Since(begun).Seconds(), "s-to-start")
		c.tell(b, "started", empty)
		begun = time.Now()
		c.ask(b)
		b.ReportMetric(time.Since(begun).Seconds(), "s-to-ask-all")
		c.tell(b, "asked-again", empty)
		require.NoError(b, c.node.Close())
	}
}

// crowd are many tenants of one node.
type crowd struct {
	tenants  int
	opts     Options
	registry *prometheus.Registry
	node     *Node
	index    Index
}

func newCrowd(b *testing.B, tenants int) *crowd {
	c := &crowd{tenants: tenants, opts: testOptions(b.TempDir())}
	c.opts.Shards, c.opts.SegmentSize, c.opts.RaftTick = 16, 0, time.Second
	withGate(&c.opts)
	c.open(b)
	var own tenancy.Limits
	own.Set(tenancy.Rate, 1_000_000)
	_, err := c.node.SetTier(b.Context(), tenancy.DefaultTier, false, tenancy.Change{Set: own})
	require.NoError(b, err)
	c.index, err = c.node.CreateIndex(b.Context(), Index{Name: "i", Dim: 128, Metric: ann.Euclidean})
	require.NoError(b, err)
	return c
}

func (c *crowd) open(b *testing.B) {
	c.registry = prometheus.NewRegistry()
	c.opts.Registerer, c.opts.Engine.Registerer = c.registry, c.registry
	n, err := Open(b.Context(), c.opts)
	require.NoError(b, err)
	c.node = n
}

func (c *crowd) name(i int) string { return fmt.Sprintf("tenant-%06d", i) }

// each does something for all tenants, some at a time.
func (c *crowd) each(b *testing.B, clients int, f func(i int) error) {
	var g errgroup.Group
	for client := range clients {
		g.Go(func() error {
			for i := client; i < c.tenants; i += clients {
				if err := f(i); err != nil {
					return fmt.Errorf("%s: %w", c.name(i), err)
				}
			}
			return nil
		})
	}
	require.NoError(b, g.Wait())
}

func (c *crowd) make(b *testing.B) {
	c.each(b, 256, func(i int) error {
		recs := make([]engine.Record, 4)
		for j := range recs {
			recs[j] = engine.Record{ID: fmt.Sprint("id", j), Values: make([]float32, 128)}
			recs[j].Values[(i+j)%128] = 1
		}
		_, err := c.node.Upsert(b.Context(), c.index, c.name(i), recs)
		return err
	})
}

func (c *crowd) ask(b *testing.B) { c.each(b, 4, func(i int) error { return c.askOne(b, i) }) }

func (c *crowd) askOne(b *testing.B, i int) error {
	q := engine.Query{Vector: make([]float32, 128), K: 3}
	q.Vector[i%128] = 1
	var res engine.Result
	_, err := c.node.Query(b.Context(), c.index, c.name(i), &q, &res)
	if err == nil && len(res.Matches) != 3 {
		err = fmt.Errorf("%d matches", len(res.Matches))
	}
	return err
}

// tell reports what has come to the heap since it was as told, by tenant, and how many series the node shows.
func (c *crowd) tell(b *testing.B, when string, since map[string]int64) {
	for whose, n := range heapOf() {
		if grown := float64(n-since[whose]) / float64(c.tenants); grown >= 1 || whose == "all" {
			b.ReportMetric(grown, fmt.Sprintf("B-%s/%s", whose, when))
		}
	}
	families, err := c.registry.Gather()
	require.NoError(b, err)
	series := 0
	for _, f := range families {
		series += len(f.Metric)
	}
	b.ReportMetric(float64(series), "series/"+when)
}

// owners say whose the memory is that a function of ours has asked for: by the package, and the receiver or the file.
var owners = []struct{ in, whose string }{
	{"tenancy.(*Admission)", "gate"}, {"tenancy.(*Cache)", "cache"}, {"tenancy.(*Meter)", "usage"}, {"tenancy.(*Heat)", "heat"}, {"usage.go", "usage"},
	{"cluster.keepResult", "cache"}, {"cluster/cached", "cache"}, {"cluster/log", "log"}, {"cluster/state", "metadata"}, {"cluster/meta", "metadata"}, {"cluster/fsm_meta", "metadata"},
	{"cluster/tenants", "metadata"}, {"engine/internal/store", "store"}, {"engine/", "partitions"}, {"ann/", "partitions"}, {"hashicorp/raft", "log"}, {"prometheus", "metrics"}, {"bbolt", "store"},
}

// heapOf is what lives on the heap, by owner and in all.
func heapOf() map[string]int64 {
	runtime.GC()
	runtime.GC() // the profile is as of the last collection that is over
	var records []runtime.MemProfileRecord
	for n, ok := runtime.MemProfile(nil, false); !ok; n, ok = runtime.MemProfile(records, false) {
		records = make([]runtime.MemProfileRecord, n+100)
		if got, enough := runtime.MemProfile(records, false); enough {
			records = records[:got]
			break
		}
	}
	sums := map[string]int64{}
	for i := range records {
		r := &records[i]
		n := sampled(r)
		sums["all"] += n
		sums[ownerOf(r.Stack())] += n
	}
	return sums
}

// sampled is how much memory a record stands for.
func sampled(r *runtime.MemProfileRecord) int64 {
	n, size := r.InUseObjects(), r.InUseBytes()
	if n == 0 || size == 0 {
		return 0
	}
	mean := float64(size) / float64(n)
	return int64(float64(size) / -math.Expm1(-mean/float64(runtime.MemProfileRate)))
}

// ownerOf finds the innermost function that has an owner.
func ownerOf(stack []uintptr) string {
	frames := runtime.CallersFrames(stack)
	for {
		f, more := frames.Next()
		for _, o := range owners {
			if strings.Contains(f.Function, o.in) || strings.Contains(f.File, o.in) {
				return o.whose
			}
		}
		if !more {
			return "other"
		}
	}
}
