package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// lately is a report of the last hours, in one step for each tenant that has used anything.
func lately(q UsageReport) UsageReport {
	q.From, q.To, q.Step = time.Now().Add(-23*time.Hour), time.Now().Add(time.Hour), 24*time.Hour
	return q
}

// billed returns what all tenants of a name have used, by id, and which of them are deleted.
func billed(t *testing.T, n *Node, name string) (sums map[string]tenancy.Usage, deleted map[string]bool) {
	t.Helper()
	all, _, err := n.Usage(t.Context(), lately(UsageReport{Tenant: name}))
	require.NoError(t, err)
	sums, deleted = map[string]tenancy.Usage{}, map[string]bool{}
	for _, u := range all {
		var sum tenancy.Usage
		for i := range u.Steps {
			sum.Add(&u.Steps[i].Usage)
		}
		require.NotContains(t, sums, u.ID, "it is told of once")
		sums[u.ID], deleted[u.ID] = sum, !u.Deleted.IsZero()
	}
	return sums, deleted
}

// TestLastBill deletes a tenant and has its data dropped: what it has used is told of all the while, once, over a restart, and until it
// is too old.
func TestLastBill(t *testing.T) {
	opts := testOptions(t.TempDir())
	n, err := Open(t.Context(), opts)
	require.NoError(t, err)
	ix := createIndex(t, n, "ix")
	upsert(t, n, ix, "acme", 1, 2, 3)
	require.NoError(t, n.meta.creator.create(t.Context(), "unused"))
	live, none := billed(t, n, "acme")
	d, err := n.DescribeTenant(t.Context(), "acme")
	require.NoError(t, err)
	require.False(t, none[d.ID])
	require.EqualValues(t, 3, live[d.ID].End.Vectors)

	for _, name := range []string{"acme", "unused"} {
		_, err = n.DeleteTenant(t.Context(), name)
		require.NoError(t, err)
	}
	kept, gone := billed(t, n, "acme")
	require.Equal(t, map[string]bool{d.ID: true}, gone)
	require.Equal(t, live, kept, "it may come back, and is kept until then")
	upsert(t, n, ix, "acme", 7)
	id := n.tenantIDOf(t, d.ID)
	purge(t, n)
	requireBill(t, n, d.ID, live[d.ID])
	sh := n.replica(uint16(d.Shard))
	beside, err := sh.engine.ScanCostate(id, "", "")
	require.NoError(t, err)
	require.Empty(t, beside, "nothing else is left of it")
	own, _, err := n.Usage(t.Context(), lately(UsageReport{Tenant: "acme", Live: true}))
	require.NoError(t, err)
	require.Len(t, own, 1, "who has the name now is told nothing of who had it")
	require.NotEqual(t, d.ID, own[0].ID)
	_, _, err = n.Usage(t.Context(), lately(UsageReport{Tenant: "unused"}))
	require.True(t, errs.Is(err, errs.NotFound), "%v", err)

	again := closeVerb{bill{id, "acme", "standard", time.Now()}}
	require.NoError(t, n.ask(t.Context(), &route{shard: uint16(d.Shard)}, &again))
	requireBill(t, n, d.ID, live[d.ID])
	require.NoError(t, n.Close())
	n = openNode(t, opts)
	requireBill(t, n, d.ID, live[d.ID])

	sh = n.replica(uint16(d.Shard))
	term, err := sh.settle(t.Context())
	require.NoError(t, err)
	require.NoError(t, n.usage.pruneBills(t.Context(), sh, term, tenancy.HourOf(time.Now())-1))
	requireBill(t, n, d.ID, live[d.ID])
	require.NoError(t, n.usage.pruneBills(t.Context(), sh, term, tenancy.HourOf(time.Now())+2))
	sums, _ := billed(t, n, "acme")
	require.NotContains(t, sums, d.ID)
	left, err := sh.engine.ScanCostate(engine.TenantID{}, billMark, billEnd)
	require.NoError(t, err)
	require.Empty(t, left)
}

// requireBill finds the bill of a tenant that is gone: all that it had used, and nothing stored any more.
func requireBill(t *testing.T, n *Node, id string, used tenancy.Usage) {
	t.Helper()
	sums, deleted := billed(t, n, "acme")
	require.True(t, deleted[id])
	got := sums[id]
	require.Equal(t, used.Counts, got.Counts)
	require.Equal(t, used.Latency, got.Latency)
	require.Equal(t, used.Peak, got.Peak)
	require.Zero(t, got.End)
}

// TestBillsAreToldOnceAndInOrder pages through tenants and bills of two shards, in pages of any length, and finds what a plain list has.
// A shard that has more bills than are asked for at once leaves none out.
func TestBillsAreToldOnceAndInOrder(t *testing.T) {
	n := openNode(t, testOptions(t.TempDir()))
	now := tenancy.HourOf(time.Now())
	var want []UsagePlace
	add := func(shard uint16, count int, twice bool) {
		sh := n.replica(shard)
		term, err := sh.settle(t.Context())
		require.NoError(t, err)
		var entries []engine.CostateEntry
		for i := range count {
			b := bill{engine.TenantID{byte(shard + 1), byte(i)}, fmt.Sprintf("t%d", i%40), "gold", time.Now()}
			if twice {
				b.id[0] = 1
			} else {
				want = append(want, UsagePlace{b.name, b.id.String()})
			}
			var u tenancy.Usage
			u.Counts[tenancy.Queries] = 1
			hour := usageEntry(tenancy.Slot{Hour: now}, &u)
			entries = append(entries, b.costate(), engine.CostateEntry{Name: billHours(b.id) + hour.Name, Value: hour.Value})
		}
		require.NoError(t, sh.keep(t.Context(), term, entries))
	}
	add(0, 150, false)
	add(1, 30, false)
	add(2, 20, true) // what another shard has as well is told once
	ix := createIndex(t, n, "ix")
	for i := range 5 {
		name := fmt.Sprintf("t%d", 7*i)
		upsert(t, n, ix, name, 1)
		d, err := n.DescribeTenant(t.Context(), name)
		require.NoError(t, err)
		want = append(want, UsagePlace{name, d.ID})
	}
	slices.SortFunc(want, func(a, b UsagePlace) int { return cmp.Or(cmp.Compare(a.Tenant, b.Tenant), cmp.Compare(a.ID, b.ID)) })
	rapid.Check(t, func(rt *rapid.T) {
		q := lately(UsageReport{Prefix: rapid.SampledFrom([]string{"", "t1", "t39", "x"}).Draw(rt, "prefix"), Limit: rapid.SampledFrom([]int{3, 40, 99, 100, 101, 1000}).Draw(rt, "limit")})
		var got []UsagePlace
		for more := true; more; {
			var page []UsedBy
			var err error
			page, more, err = n.Usage(t.Context(), q)
			require.NoError(rt, err)
			require.LessOrEqual(rt, len(page), q.Limit)
			for i := range page {
				got = append(got, page[i].UsagePlace)
			}
			if more {
				q.After = page[len(page)-1].UsagePlace
			}
		}
		expected := slices.DeleteFunc(slices.Clone(want), func(p UsagePlace) bool { return !strings.HasPrefix(p.Tenant, q.Prefix) })
		require.Equal(rt, expected, append([]UsagePlace{}, got...))
	})
}

// TestBillsSurviveMovesAndShards moves a tenant, has its data dropped, kills the home's leader, and takes the shard out: the bill has
// all that was used at both homes, once.
func TestBillsSurviveMovesAndShards(t *testing.T) {
	inClusterWith(t, 3, func(o *Options) { o.UndeleteFor = 15 * time.Second }, func(c *simCluster) {
		n := c.nodes[0]
		ix := createIndex(c.t, n, "i")
		to, err := n.AddShard(c.t.Context(), "apart")
		require.NoError(c.t, err)
		c.settle()
		c.write(ix, "a", 1, 2)
		require.NoError(c.t, c.search(n, ix, "a", Leader))
		require.Equal(c.t, PhaseSettled, c.moveTo(n, "a", to).Phase)
		c.write(ix, "a", 3)
		for _, n := range c.nodes[:3] {
			require.NoError(c.t, c.search(n, ix, "a", Leader))
		}
		gone, err := n.DeleteTenant(c.t.Context(), "a")
		require.NoError(c.t, err)
		c.purged(gone.ID)
		check := func(n *Node) {
			sums, deleted := billed(c.t, n, "a")
			require.True(c.t, deleted[gone.ID])
			u := sums[gone.ID]
			require.Equal(c.t, []uint64{4, 3, 0, 3}, []uint64{u.Counts[tenancy.Queries], u.Counts[tenancy.Upserted], u.End.Vectors, u.Peak.Vectors})
		}
		check(n)
		led := c.index(n.leaderOf(uint16(to)))
		c.kill(led)
		c.start(led)
		c.settle()
		n = c.any()
		check(n)
		require.NoError(c.t, n.carryBills(c.t.Context(), uint16(to)))
		check(n)
		require.NoError(c.t, n.RemoveShard(c.t.Context(), to))
		check(n)
	})
}

// FuzzBill reads bills from bytes: what can be read is written as it was.
func FuzzBill(f *testing.F) {
	whole := bill{engine.TenantID{1}, "acme", "gold", time.Unix(1, 2).UTC()}
	e := whole.costate()
	f.Add(e.Name, e.Value)
	f.Add(billMark, []byte{2})
	f.Fuzz(func(t *testing.T, name string, value []byte) {
		if !strings.HasPrefix(name, billMark) || len(name) > len(billMark)+len(engine.TenantID{}) {
			return
		}
		b, err := readBill(&engine.CostateEntry{Name: name, Value: value})
		if err != nil {
			return
		}
		back := b.costate()
		again, err := readBill(&back)
		require.NoError(t, err)
		require.Equal(t, b, again)
		require.Equal(t, name, back.Name)
	})
}

// TestCarriedEntriesTravel: entries come out as they went in, and not at all where they are not wanted.
func TestCarriedEntriesTravel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		var entries []engine.CostateEntry
		for name, value := range rapid.MapOf(rapid.String(), rapid.SliceOf(rapid.Byte())).Draw(rt, "entries") {
			entries = append(entries, engine.CostateEntry{Name: name, Value: append([]byte{}, value...)})
		}
		r := codec.NewReader(appendEntries(nil, entries, true))
		got := readEntries(r)
		require.NoError(rt, r.Done())
		require.Equal(rt, len(entries), len(got))
		for i := range got {
			require.Equal(rt, entries[i].Name, got[i].Name)
			require.Equal(rt, string(entries[i].Value), string(got[i].Value))
		}
		require.Empty(rt, readEntries(codec.NewReader(appendEntries(nil, entries, false))))
	})
}
