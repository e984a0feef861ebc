package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster/balance"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// TestScenario has what goes wrong in stores of many tenants go wrong, one thing after the other: each shows the illness first, as it is
// without the cure, and then that the cure helps.
//
//	go test -v -run TestScenario ./cluster
func TestScenario(t *testing.T) {
	t.Run("hot-shard", scenarioHotShard)
	t.Run("slow-and-dead-shards", scenarioSlowAndDeadShards)
	t.Run("broken-routing", func(t *testing.T) { inCluster(t, 3, scenarioBrokenRouting) })
	t.Run("move-under-writes", scenarioMoveUnderWrites)
	t.Run("too-many-shards", scenarioTooManyShards)
}

// scenarioHotShard: all tenants have come to one shard. Health says so, the plan relieves it, and nothing swings back.
func scenarioHotShard(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		t, n := c.t, c.nodes[0]
		ix := createIndex(t, n, "dense")
		const tenants = 24
		for i := range tenants {
			name := fmt.Sprint("t", i)
			_, err := n.CreateTenant(t.Context(), name, 1, Plan{})
			require.NoError(t, err)
			c.write(ix, name, i)
		}
		hot := func() []int { return c.warned(balance.HotTenants).Shards }
		require.Equal(t, []int{1}, hot(), "the illness")
		p, err := c.nodes[1].PlanRebalance(t.Context())
		require.NoError(t, err)
		require.Equal(t, 3.0, hottest(p.Before))
		require.NotEmpty(t, p.Moves)
		for _, m := range p.Moves {
			require.Equal(t, 1, m.From)
			require.NotEqual(t, 1, m.To)
		}
		require.Less(t, hottest(p.After), 1.2)

		_, err = n.AbortRebalance(t.Context())
		require.Equal(t, errs.NotFound, errs.KindOf(err))
		begun, err := c.nodes[2].Rebalance(t.Context(), "test", false)
		require.NoError(t, err)
		require.Equal(t, len(p.Moves), begun.Planned)
		_, err = n.Rebalance(t.Context(), "test", false)
		require.Equal(t, errs.AlreadyExists, errs.KindOf(err))
		r := c.over()
		require.Equal(t, runDone.String(), r.State, r.Fault)
		require.Equal(t, len(p.Moves), r.Moved)
		require.InDelta(t, hottest(p.After), r.After, 1e-9)
		require.Empty(t, hot(), "the cure")
		_, err = n.Rebalance(t.Context(), "test", false)
		require.Equal(t, errs.FailedPrecondition, errs.KindOf(err), "nothing swings back")
		for i := range tenants {
			require.Equal(t, []string{fmt.Sprintf("id%04d", i)}, scanIDs(t, n, ix, fmt.Sprint("t", i)))
		}
	})
}

// warned is what health says of a kind; the zero value, if nothing.
func (c *simCluster) warned(kind string) balance.Warning {
	c.t.Helper()
	h, err := c.any().Health(c.t.Context(), false)
	require.NoError(c.t, err)
	i := slices.IndexFunc(h.Warnings, func(w balance.Warning) bool { return w.Type == kind })
	if i < 0 {
		return balance.Warning{}
	}
	return h.Warnings[i]
}

// scenarioSlowAndDeadShards: a node answers too late, or not at all. Who asks tenant by tenant is held up by the first that lives there
// and has nothing in the end; a search has all others in time, and says which shards and tenants are missing.
func scenarioSlowAndDeadShards(t *testing.T) {
	for _, c := range []struct {
		name   string
		refuse bool
		harm   func(w *searchTown, asked, other string)
	}{
		{"slow", false, func(w *searchTown, asked, other string) { w.net.delay(other, asked, 5*time.Second) }},
		{"silent", false, func(w *searchTown, asked, other string) { w.net.cut(asked, other) }},
		{"refused", true, func(w *searchTown, asked, other string) { w.net.cut(asked, other) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			inSearchTown(t, 24, 4, nil, func(w *searchTown) {
				w.net.swallow = !c.refuse
				asked, other := w.twoFollowers()
				led := w.ledBy(other)
				require.NotEmpty(w.t, led)
				s := Search{Index: w.ix, Query: engine.Query{Vector: w.vector(2), K: 10}}
				whole := w.search(asked, s)
				s.Fresh = true
				c.harm(w, asked.id.NodeID, other.id.NodeID)

				const patience = 3 * time.Second // of a search, unless its tier says otherwise; of the bubble's time
				ill := make(chan int, 1)
				go func() { ill <- w.tenantByTenant(asked, s.Query, patience) }()
				begun := time.Now()
				a, err := asked.Search(w.t.Context(), s)
				require.NoError(w.t, err)
				require.LessOrEqual(w.t, time.Since(begun), patience)
				require.Less(w.t, <-ill, a.Tenants, "the illness")
				w.requireMissing(w.metaLeader(), s, &a, led)
				require.Equal(w.t, c.refuse, errs.Is(a.Missing.Shards[0].Err, errs.Unavailable))

				w.net.healAll()
				time.Sleep(10 * time.Second) // until what was delayed has arrived
				w.until("whole again", func() bool {
					again, err := asked.Search(w.t.Context(), s)
					return err == nil && !again.Partial() && slices.Equal(hitNames(whole.Hits), hitNames(again.Hits))
				})
			})
		})
	}
}

// tenantByTenant asks one tenant after the other, as a program does that knows no search, and returns how many have answered before one
// did not.
func (w *searchTown) tenantByTenant(n *Node, q engine.Query, patience time.Duration) (answered int) {
	ctx, cancel := context.WithTimeout(w.t.Context(), patience)
	defer cancel()
	for _, name := range w.tenants {
		one, res := q, engine.Result{}
		if _, err := n.Query(ctx, w.ix, name, &one, &res); err != nil {
			break
		}
		answered++
	}
	return answered
}

// scenarioBrokenRouting breaks routing behind everybody's back: a pin to a shard that has nothing of a tenant, and copies beside a home.
// What can be told for certain is put right, all else is reported.
func scenarioBrokenRouting(c *simCluster) {
	t, n := c.t, c.nodes[0]
	ix := createIndex(t, n, "dense")
	for i := range 8 {
		c.write(ix, fmt.Sprint("t", i), 1, 2, 3)
	}
	pin := func(name string, to int) {
		tn, _ := n.meta.state().tenant(name)
		_, err := n.changeMeta(t.Context(), &metaCommand{op: metaPin, tenantID: tn.id, pin: int32(to)})
		require.NoError(t, err)
	}
	verify := func() []Stray {
		r, err := c.nodes[1].Routing(t.Context(), true)
		require.NoError(t, err)
		require.Equal(t, c.metaLeader().id.NodeID, r.By)
		for i := range r.Strays {
			require.Empty(t, r.Strays[i].Fault)
			r.Strays[i].Bytes = 0
		}
		return r.Strays
	}
	home := func(name string) Tenant {
		found, err := n.DescribeTenant(t.Context(), name)
		require.NoError(t, err)
		return found
	}
	right := home("t3")
	wrong := (right.Shard + 1) % 3
	pin("t3", wrong)
	c.until("the illness shows", func() bool { return len(scanIDs(t, c.nodes[2], ix, "t3")) == 0 })
	require.Equal(t, []Stray{{Kind: StrayMisrouted, Tenant: "t3", ID: right.ID, Home: wrong, Shard: right.Shard, Records: 3,
		Healed: fmt.Sprintf("shard %d is its home now", right.Shard)}}, verify())
	healed := home("t3")
	require.Equal(t, right.Shard, healed.Shard)
	require.False(t, healed.Pinned)
	require.Equal(t, uint64(1), healed.Epoch)
	require.Empty(t, verify())
	c.write(ix, "t3", 4)
	require.Len(t, scanIDs(t, c.nodes[2], ix, "t3"), 4)

	right = home("t5")
	wrong = (right.Shard + 1) % 3
	pin("t5", wrong)
	c.write(ix, "t5", 9) // at the wrong home, so that there are two, and the one with more is not the home
	want := Stray{Kind: StrayCopy, Tenant: "t5", ID: right.ID, Home: wrong, Shard: right.Shard, Records: 3}
	require.Equal(t, []Stray{want}, verify())
	warning := c.warned(balance.Routing)
	require.Equal(t, balance.Critical, warning.Severity)
	require.Equal(t, []string{"t5"}, warning.Tenants)
	pin("t5", right.Shard) // somebody has decided
	want.Home, want.Shard, want.Records, want.Healed = right.Shard, wrong, 1, fmt.Sprintf("the copy on shard %d is set aside", wrong)
	require.Equal(t, []Stray{want}, verify())
	require.Empty(t, verify())
	require.Len(t, scanIDs(t, n, ix, "t5"), 3)
	tn, _ := n.meta.state().tenant("t5")
	records, _ := c.leader(uint16(wrong)).engine.TenantFigures(tn.id)
	require.Equal(t, uint64(1), records, "nothing is deleted")

	before := time.Now()
	c.until("it is looked at by itself", func() bool {
		time.Sleep(10 * time.Second)
		r, err := n.Routing(t.Context(), false)
		return err == nil && r.At.After(before) && len(r.Strays) == 0
	})
}

// scenarioMoveUnderWrites brings a tenant to another shard while it is written to: by hand, which loses what is written meanwhile, and then
// by a move, which does not.
func scenarioMoveUnderWrites(t *testing.T) {
	slow := func(o *Options) { o.MoveRate = 4 << 10 } // the copy of so small a tenant takes some seconds then
	inClusterWith(t, 3, slow, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "i")
		byHand := c.newSteadyWriter(ix, "by-hand")
		stop := byHand.start()
		byHand.relocate("by-hand-new", elsewhere(c.t, c.nodes[1], "by-hand"))
		stop()
		stale, back := byHand.judge()
		require.Positive(c.t, stale, "the illness: writes that were acknowledged are gone")
		require.Positive(c.t, back, "and records that were deleted are there")

		moved := c.newSteadyWriter(ix, "moved")
		stop = moved.start()
		before := moved.written()
		m := c.moveTo(c.nodes[1], "moved", elsewhere(c.t, c.nodes[1], "moved"))
		meanwhile := moved.written() - before
		stop()
		require.Equal(c.t, PhaseSettled, m.Phase, "%+v", m)
		require.Greater(c.t, meanwhile, 100)
		require.Zero(c.t, m.Failed)
		stale, back = moved.judge()
		require.Zero(c.t, stale)
		require.Zero(c.t, back)
		c.t.Logf("%d writes while the tenant moved", meanwhile)
	})
}

// steadyWriter overwrites and deletes records of a tenant, one after the other, and keeps a book of what was acknowledged.
type steadyWriter struct {
	*simCluster
	ix  Index
	rng *rand.Rand

	mu     sync.Mutex  // held while a record is written
	tenant string      // that is written to
	want   map[int]int // values by record; none: it was deleted
	acked  int
}

const steadyRecords = 500

// newSteadyWriter makes a tenant with records.
func (c *simCluster) newSteadyWriter(ix Index, tenant string) *steadyWriter {
	w := &steadyWriter{simCluster: c, ix: ix, tenant: tenant, want: map[int]int{}, rng: rand.New(rand.NewPCG(1, 2))}
	recs := make([]engine.Record, steadyRecords)
	for i := range recs {
		recs[i] = valued(i, 0)
		w.want[i] = 0
	}
	c.writeRecords(ix, tenant, recs)
	return w
}

// valued is record i with a value.
func valued(i, value int) engine.Record {
	return engine.Record{ID: fmt.Sprintf("id%04d", i), Values: []float32{float32(i), float32(value)}}
}

// start writes in the background until stop, which waits for the last answer.
func (w *steadyWriter) start() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan error, 1)
	go func() {
		var err error
		for ctx.Err() == nil && err == nil {
			err = w.write()
			time.Sleep(20 * time.Millisecond)
		}
		done <- err
	}()
	return func() {
		cancel()
		require.NoError(w.t, <-done, "no write fails")
	}
}

// write overwrites a record, or deletes it, one time in four.
func (w *steadyWriter) write() (err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	i, n := w.rng.IntN(steadyRecords), w.nodes[w.acked%3]
	w.acked++
	if w.rng.IntN(4) == 0 {
		delete(w.want, i)
		_, err = n.Delete(w.t.Context(), w.ix, w.tenant, []string{valued(i, 0).ID})
		return err
	}
	w.want[i] = w.acked
	_, err = n.Upsert(w.t.Context(), w.ix, w.tenant, []engine.Record{valued(i, w.acked)})
	return err
}

func (w *steadyWriter) written() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.acked
}

// relocate is how a tenant is brought elsewhere by hand: its records are read page by page and written to another one, in the place of
// which its clients write from then on.
func (w *steadyWriter) relocate(to string, shard int) {
	n := w.nodes[1]
	_, err := n.CreateTenant(w.t.Context(), to, shard, Plan{})
	require.NoError(w.t, err)
	for after, more := "", true; more; {
		var page []engine.Record
		page, more, err = n.Scan(w.t.Context(), w.ix, w.tenant, "", after, nil, 20)
		require.NoError(w.t, err)
		if len(page) > 0 {
			after = page[len(page)-1].ID
			w.writeRecords(w.ix, to, page)
		}
		time.Sleep(100 * time.Millisecond) // as reading and writing much would take
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.tenant = to
}

// judge counts records that are gone or older than what was acknowledged last, and those that were deleted and are there.
func (w *steadyWriter) judge() (stale, back int) {
	for i := range steadyRecords {
		found, err := w.nodes[2].Fetch(w.t.Context(), w.ix, w.tenant, []string{valued(i, 0).ID})
		require.NoError(w.t, err)
		value, wanted := w.want[i]
		switch {
		case wanted && (len(found) == 0 || found[0].Values[1] != float32(value)):
			stale++
		case !wanted && len(found) > 0:
			back++
		}
	}
	return stale, back
}

// scenarioTooManyShards: five shards for what two hold. Capacity says what that wastes and names the command; followed until it says no
// more, it leaves two shards with all tenants, and nothing to advise.
func scenarioTooManyShards(t *testing.T) {
	const shards, tenants = 5, 66
	inClusterWith(t, 3, func(o *Options) { o.Shards = shards }, func(c *simCluster) {
		t, n := c.t, c.nodes[0]
		require.NoError(t, n.SetRules(t.Context(), Rules{ShardTenants: 60}))
		prices := tenancy.Prices{Currency: "EUR"}
		prices.Of[tenancy.PerShardMonth] = 70
		require.NoError(t, n.SetPrices(t.Context(), prices))
		ix := createIndex(t, n, "dense")
		for i := range tenants {
			c.write(ix, fmt.Sprint("t", i), i)
		}
		ill := c.capacity()
		require.Equal(t, 2, ill.Needed.Shards, "the illness")
		require.Equal(t, 3, ill.Cost.WastedOnes)
		require.InDelta(t, 3*70, ill.Cost.Wasted, 1e-9)
		require.NotEmpty(t, c.warned(balance.UnderUtilised).Shards)

		for range shards {
			command := adviceOf(c.capacity(), balance.MergeShards)
			if command == "" {
				break
			}
			var shard int
			_, err := fmt.Sscanf(command, "croft shards drain %d", &shard)
			require.NoError(t, err, command)
			require.NoError(t, n.DrainShard(t.Context(), shard, "test"))
			r := c.over()
			require.Equal(t, runDone.String(), r.State, r.Fault)
			require.Zero(t, r.Failed)
			require.NoError(t, n.RemoveShard(t.Context(), shard))
		}
		well := c.capacity()
		require.Empty(t, well.Advice, "the cure")
		require.Empty(t, well.Merges)
		require.Zero(t, well.Cost.Wasted)
		require.InDelta(t, 2*70, well.Cost.Month, 1e-9)
		require.Empty(t, c.warned(balance.UnderUtilised))
		require.Len(t, n.Info(t.Context()).Shards, 2)
		require.Equal(t, tenants, well.Tenants)
		for i := range tenants {
			require.Equal(t, []string{fmt.Sprintf("id%04d", i)}, scanIDs(t, n, ix, fmt.Sprint("t", i)))
		}
	})
}

func (c *simCluster) capacity() *balance.Report {
	c.t.Helper()
	r, err := c.any().Capacity(c.t.Context(), 0, 0)
	require.NoError(c.t, err)
	return r
}

// adviceOf is the command of an advice; empty: it is not given.
func adviceOf(r *balance.Report, kind string) string {
	for _, a := range r.Advice {
		if a.Type == kind {
			return a.Command
		}
	}
	return ""
}
