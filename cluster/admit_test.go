package cluster

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// withGate is the option of a node that limits its tenants.
func withGate(o *Options) {
	o.Gate = func(a tenancy.AdmissionOptions) (tenancy.Gate, error) { return tenancy.NewAdmission(a) }
}

// limit gives a tenant that exists limits of its own.
func limit(t testing.TB, n *Node, namespace string, own map[tenancy.Limit]int64) {
	tn, ok := n.meta.state().tenant(namespace)
	require.True(t, ok)
	var set tenancy.Limits
	for l, v := range own {
		set.Set(l, v)
	}
	_, err := n.changeMeta(t.Context(), &metaCommand{op: metaSetTenant, tenantID: tn.id, tenantCommand: tenantCommand{limits: tenancy.Change{Set: set}}})
	require.NoError(t, err)
}

// ask sends one query, and tells what it was told of the quota.
func ask(t testing.TB, n *Node, ix Index, namespace string, level Consistency) (tenancy.Receipt, error) {
	reading := &Reading{Consistency: level}
	var res engine.Result
	_, err := n.Query(WithReading(t.Context(), reading), ix, namespace, &engine.Query{Vector: []float32{1, 0}, K: 1}, &res)
	return reading.Receipt, err
}

func TestQuotaIsOneForAllGateways(t *testing.T) {
	network := newMemoryNetwork()
	link := func(id string) peers { return network.peers(id) }
	opts := testOptions(t.TempDir())
	opts.unmanaged = true
	withGate(&opts)
	home := openNode(t, opts)
	plugIn(t, home, link(home.id.NodeID))
	ix := createIndex(t, home, "i")
	upsert(t, home, ix, "ns", 1, 2)
	limit(t, home, "ns", map[tenancy.Limit]int64{tenancy.PerHour: 50})
	doors := []*Node{home, gateway(t, home, link), gateway(t, home, link)}

	var let atomic.Int64
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			for range 20 {
				told, err := ask(t, doors[i%3], ix, "ns", Leader)
				if err == nil {
					let.Add(1)
				} else if !errs.Is(err, errs.RateLimited) {
					t.Errorf("%v", err)
				}
				if told.Limit != 50 {
					t.Errorf("told %+v", told)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(50), let.Load())
	for _, n := range doors {
		told, err := ask(t, n, ix, "ns", Leader)
		require.True(t, errs.Is(err, errs.RateLimited), "%v", err)
		require.Equal(t, int64(0), told.Remaining)
		require.Greater(t, told.Reset, 59*time.Minute)
		var e *errs.Error
		require.ErrorAs(t, err, &e)
		require.Greater(t, e.RetryAfter, 59*time.Minute)
		if n.gate != nil {
			require.False(t, n.Quiet())
			var told tenancy.Receipt
			require.True(t, errs.Is(n.Knock(t.Context(), "ns", 1, &told), errs.RateLimited))
			require.Equal(t, int64(50), told.Limit)
			require.NoError(t, n.Knock(t.Context(), "other", 1, &told))
		}
	}
}

// TestHourlyQuotaOutlivesItsHome has clients use up an hourly quota through three nodes while its home changes.
func TestHourlyQuotaOutlivesItsHome(t *testing.T) {
	inClusterWith(t, 3, withGate, func(c *simCluster) {
		t := c.t
		ix := createIndex(t, c.nodes[0], "i")
		home := uint16(upsert(t, c.nodes[0], ix, "ns", 1, 2).Shard)
		const quota, lease = 300, 3
		c.limitEverywhere("ns", map[tenancy.Limit]int64{tenancy.PerHour: quota})
		let, changes := 0, 0
		for spent := 0; spent < 20; { // refusals one after the other
			for i, n := range c.nodes[:3] {
				switch _, err := ask(t, n, ix, "ns", Consistency(i)); {
				case err == nil:
					let, spent = let+1, 0
				case errs.Is(err, errs.RateLimited):
					spent++
				default:
					require.True(t, errs.Is(err, errs.Unavailable), "%v", err)
				}
			}
			if sh := c.leader(home); sh != nil && let/70 > changes {
				changes++
				if changes == 2 { // without a word: what it has leased is lost
					at := slices.IndexFunc(c.nodes, func(n *Node) bool { return n != nil && n.replica(home) == sh })
					c.kill(at)
					c.start(at)
				} else {
					_ = sh.group.transfer(t.Context(), "") // or not, if it has just been
				}
			}
			time.Sleep(10 * time.Millisecond)
		}
		require.LessOrEqual(t, let, quota+lease, "while there is no home, each replica lets in its part")
		require.GreaterOrEqual(t, let, quota-(changes+2)*lease, "a home takes no more than its lease with it, and the others none but theirs")
		require.GreaterOrEqual(t, changes, 2)
	})
}

// limitEverywhere waits until all nodes know the limits.
func (c *simCluster) limitEverywhere(namespace string, own map[tenancy.Limit]int64) {
	limit(c.t, c.metaLeader(), namespace, own)
	c.until("all know", func() bool {
		for _, n := range c.nodes[:3] {
			for l, v := range own {
				if n.Standing(namespace).Settings.Get(l) != v {
					return false
				}
			}
		}
		return true
	})
}

// TestReadsAtAnyShareOneQuota hammers all three replicas of a tenant with reads that each of them answers by itself: together they let in what
// one home would. While there is no home they go on.
func TestReadsAtAnyShareOneQuota(t *testing.T) {
	inClusterWith(t, 3, withGate, func(c *simCluster) {
		t := c.t
		ix := createIndex(t, c.nodes[0], "i")
		home := uint16(upsert(t, c.nodes[0], ix, "ns", 1, 2).Shard)
		c.until("all have a replica", func() bool {
			for _, n := range c.nodes[:3] {
				if sh := n.replica(home); sh == nil || sh.filled() != nil || sh.engine.AppliedIndex() == 0 {
					return false
				}
			}
			return true
		})
		hammer := func(nodes []*Node, d time.Duration) (let int, took time.Duration) {
			for begun := time.Now(); time.Since(begun) < d; took = time.Since(begun) {
				for _, n := range nodes {
					if _, err := ask(t, n, ix, "ns", Any); err == nil {
						let++
					} else {
						require.True(t, errs.Is(err, errs.RateLimited), "%v", err)
					}
				}
				time.Sleep(4 * time.Millisecond)
			}
			return let, took
		}

		const rate = 60
		const lease = rate / 10
		c.limitEverywhere("ns", map[tenancy.Limit]int64{tenancy.Rate: rate})
		let, took := hammer(c.nodes[:3], 5*time.Second)
		t.Logf("%d in %v", let, took)
		require.LessOrEqual(t, float64(let), rate+rate*took.Seconds()+lease)
		require.GreaterOrEqual(t, float64(let), 0.95*rate*took.Seconds())

		var left []*Node
		for i, n := range c.nodes[:3] {
			if sh := n.replica(home); sh.group.leads() {
				c.kill(i)
			} else {
				left = append(left, n)
			}
		}
		require.Len(t, left, 2)
		let, took = hammer(left, 200*time.Millisecond) // an election takes longer
		t.Logf("%d in %v without a home", let, took)
		require.Positive(t, let)
		require.LessOrEqual(t, float64(let), rate+rate*took.Seconds()+lease)
	})
}

// TestReadsAtAnyShareOneHour does the same with a quota by the hour, which is exact.
func TestReadsAtAnyShareOneHour(t *testing.T) {
	inClusterWith(t, 3, withGate, func(c *simCluster) {
		t := c.t
		ix := createIndex(t, c.nodes[0], "i")
		upsert(t, c.nodes[0], ix, "ns", 1, 2)
		c.settle()
		const quota, replicas = 100, 3
		c.limitEverywhere("ns", map[tenancy.Limit]int64{tenancy.PerHour: quota})
		let := 0
		for refusals := 0; refusals < 30; refusals++ {
			for _, n := range c.nodes[:3] {
				if _, err := ask(t, n, ix, "ns", Any); err == nil {
					let, refusals = let+1, 0
				} else {
					require.True(t, errs.Is(err, errs.RateLimited), "%v", err)
				}
			}
			time.Sleep(20 * time.Millisecond)
		}
		require.LessOrEqual(t, let, quota)
		require.GreaterOrEqual(t, let, quota-(replicas-1), "no more than a lease is left where nobody can have it")
	})
}

// TestHomeThatIsBehindKnowsLimits: a request that arrives before the word of its tenant is held to the tenant's limits.
func TestHomeThatIsBehindKnowsLimits(t *testing.T) {
	inClusterWith(t, 3, withGate, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		upsert(c.t, c.nodes[0], ix, "other", 1)
		c.settle()
		maker := c.metaLeader()
		var home, door *Node
		var shard uint16
		for _, n := range c.nodes[:3] {
			for _, sh := range n.replicas() {
				if n != maker && sh.group.leads() {
					home, shard = n, sh.id
				}
			}
		}
		require.NotNil(c.t, home, "another node leads a shard")
		for _, n := range c.nodes[:3] {
			if n != maker && n != home {
				door = n
			}
		}
		c.net.delay(maker.id.NodeID, home.id.NodeID, 100*time.Millisecond)
		var none tenancy.Limits
		none.Set(tenancy.PerHour, 0)
		tn, err := maker.CreateTenant(c.t.Context(), "new", int(shard), Plan{Limits: none})
		require.NoError(c.t, err)
		require.NoError(c.t, door.Refresh(c.t.Context()))
		_, known := home.meta.state().tenant(tn.Name)
		require.False(c.t, known, "the home has heard: the test shows nothing")
		_, err = ask(c.t, door, ix, "new", Leader)
		require.True(c.t, errs.Is(err, errs.RateLimited), "%v", err)
	})
}

// TestFullQueueIsNotTriedAgain: what a gate refuses is final, though it is Unavailable.
func TestFullQueueIsNotTriedAgain(t *testing.T) {
	opts := testOptions(t.TempDir())
	gate := &oneRefusal{err: errs.New(errs.Unavailable, "full").WithRetryAfter(time.Second)}
	opts.Gate = func(tenancy.AdmissionOptions) (tenancy.Gate, error) { return gate, nil }
	n := openNode(t, opts)
	ix := createIndex(t, n, "i")
	upsert(t, n, ix, "ns", 1)
	gate.on.Store(true)
	_, err := ask(t, n, ix, "ns", Leader)
	require.ErrorIs(t, err, gate.err)
	require.Equal(t, int64(1), gate.asked.Load())
}

// oneRefusal is a gate that lets all in, or nobody.
type oneRefusal struct {
	on    atomic.Bool
	asked atomic.Int64
	err   error
}

func (g *oneRefusal) Enter(context.Context, *tenancy.Request, *tenancy.Receipt) (tenancy.Pass, error) {
	if g.on.Load() {
		g.asked.Add(1)
		return nil, g.err
	}
	return openPass{}, nil
}

type openPass struct{}

func (openPass) Degraded() bool        { return true }
func (openPass) Leave(tenancy.Outcome) {}

// TestGraphsWaitForTheirTurn builds a graph while searches hold all places.
func TestGraphsWaitForTheirTurn(t *testing.T) {
	opts := testOptions(t.TempDir())
	opts.Engine.GraphAbove = 20
	turns := make(chan tenancy.Class, 1000)
	opts.Gate = func(o tenancy.AdmissionOptions) (tenancy.Gate, error) {
		a, err := tenancy.NewAdmission(o)
		return classGate{a, turns}, err
	}
	n := openNode(t, opts)
	ix := createIndex(t, n, "i")
	for x := range 40 {
		upsert(t, n, ix, "ns", x)
	}
	for c := range turns {
		if c == tenancy.Build {
			return
		}
	}
}

// TestNodeThatOpensBuildsGraphs: the engine finds work in a shard that has just been opened, when there is no metadata yet.
func TestNodeThatOpensBuildsGraphs(t *testing.T) {
	gate := &oneRefusal{}
	gate.on.Store(true)
	n := &Node{gate: gate}
	n.buildTurn(t.Context(), engine.Key{})()
	require.Zero(t, gate.asked.Load())
}

type classGate struct {
	tenancy.Gate
	seen chan tenancy.Class
}

func (g classGate) Enter(ctx context.Context, r *tenancy.Request, told *tenancy.Receipt) (tenancy.Pass, error) {
	select {
	case g.seen <- r.Class:
	default:
	}
	return g.Gate.Enter(ctx, r, told)
}

func drawReceipt(t *rapid.T) tenancy.Receipt {
	amount := func(name string) int64 { return rapid.Int64Range(0, tenancy.Unlimited).Draw(t, name) }
	return tenancy.Receipt{
		Cache: tenancy.CacheState(rapid.IntRange(0, 2).Draw(t, "cache")), Degraded: rapid.Bool().Draw(t, "degraded"),
		Limit: amount("limit"), Remaining: amount("remaining"), Reset: time.Duration(amount("reset")), Closed: time.Duration(amount("closed")),
		ReadUnits: amount("units"),
	}
}

func TestReceiptsTravel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		told := drawReceipt(t)
		r := codec.NewReader(appendReceipt(nil, &told))
		require.Equal(t, told, readReceipt(r))
		require.NoError(t, r.Done())

		sent := &refusal{&errs.Error{Kind: errs.RateLimited, Message: "slower", RetryAfter: time.Second}, told}
		got, ok := readError(appendError(nil, sent))
		require.True(t, ok)
		require.Equal(t, sent, got)
	})
}

// TestStorageQuota: what a tenant may store is one number for all who write, at the same time too, and a change of it counts at once.
func TestStorageQuota(t *testing.T) {
	home, away, _ := twoNodes(t)
	ix, ok := home.Index("i")
	require.True(t, ok)
	upsert(t, home, ix, "ns", 1, 2)
	upsert(t, home, ix, "other", 1)
	limit(t, home, "ns", map[tenancy.Limit]int64{tenancy.Vectors: 50})
	var wg sync.WaitGroup
	var stored atomic.Int64
	for i := range 8 {
		wg.Go(func() {
			for j := range 10 {
				n := []*Node{home, away}[j%2]
				switch _, err := n.Upsert(t.Context(), ix, "ns", []engine.Record{record(t, 100+10*i+j)}); {
				case err == nil:
					stored.Add(1)
				case !errs.Is(err, errs.QuotaExceeded):
					t.Errorf("%v", err)
				}
			}
		})
	}
	wg.Wait()
	require.Equal(t, int64(48), stored.Load())
	require.Len(t, scanIDs(t, home, ix, "ns"), 50)
	_, err := home.Upsert(t.Context(), ix, "ns", []engine.Record{record(t, 1), record(t, 2)})
	require.NoError(t, err, "it replaces")
	_, err = away.Upsert(t.Context(), ix, "ns", []engine.Record{record(t, 900)})
	require.True(t, errs.Is(err, errs.QuotaExceeded), "%v", err)
	require.ErrorContains(t, err, `"ns"`)
	upsert(t, home, ix, "other", 2, 3)
	_, err = home.Delete(t.Context(), ix, "ns", []string{"id0001"})
	require.NoError(t, err)
	upsert(t, home, ix, "ns", 900)

	limit(t, home, "ns", map[tenancy.Limit]int64{tenancy.Vectors: 51})
	upsert(t, home, ix, "ns", 901)
	limit(t, home, "ns", map[tenancy.Limit]int64{tenancy.Vectors: tenancy.Unlimited, tenancy.StoredBytes: 1})
	_, err = home.UpdateWhere(t.Context(), ix, "ns", parseFilter(t, `{"x":900}`), record(t, 1_000_000).Metadata, false)
	require.NoError(t, err, "it gets no larger")
	_, err = home.Upsert(t.Context(), ix, "ns", []engine.Record{record(t, 902)})
	require.True(t, errs.Is(err, errs.QuotaExceeded), "%v", err)
}
