package cluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/tenancy"
)

// TestAnswersSayWhoseTheyAre reads a tenant's records through every node, at its home and elsewhere, searched for and from the cache: each
// answer names the tenant, and one that has no records names nobody.
func TestAnswersSayWhoseTheyAre(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "ix")
		c.write(ix, "a", 1, 2)
		c.write(ix, "b", 3)
		for _, n := range c.nodes[:3] {
			for _, name := range []string{"a", "b"} {
				d, err := n.DescribeTenant(c.t.Context(), name)
				require.NoError(c.t, err)
				for what, read := range map[string]func(*Reading){
					"query": func(r *Reading) {
						var res engine.Result
						_, err := n.Query(WithReading(c.t.Context(), r), ix, name, &engine.Query{Vector: []float32{1, 0}, K: 3}, &res)
						require.NoError(c.t, err)
						require.NotEmpty(c.t, res.Matches)
					},
					"fetch": func(r *Reading) {
						recs, err := n.Fetch(WithReading(c.t.Context(), r), ix, name, []string{"id0001", "id0003"})
						require.NoError(c.t, err)
						require.Len(c.t, recs, 1)
					},
					"scan": func(r *Reading) {
						recs, _, err := n.Scan(WithReading(c.t.Context(), r), ix, name, "", "", nil, 9)
						require.NoError(c.t, err)
						require.NotEmpty(c.t, recs)
					},
					"list": func(r *Reading) {
						ids, _, err := n.ScanIDs(WithReading(c.t.Context(), r), ix, name, "", "", 9)
						require.NoError(c.t, err)
						require.NotEmpty(c.t, ids)
					},
					"describe": func(r *Reading) {
						_, err := n.DescribeNamespace(WithReading(c.t.Context(), r), ix, name)
						require.NoError(c.t, err)
					},
				} {
					for range 2 { // the second query may be found in the cache
						var r Reading
						read(&r)
						require.Equal(c.t, d.ID, engine.TenantID(r.Owner).String(), what)
						require.False(c.t, r.Mixed)
					}
				}
			}
		}
		r := Reading{}
		require.Empty(c.t, first(c.nodes[0].Fetch(WithReading(c.t.Context(), &r), ix, "nobody", []string{"x"})))
		require.Zero(c.t, r.Owner)
		for _, name := range []string{"a", "b"} {
			_, err := c.nodes[0].Fetch(WithReading(c.t.Context(), &r), ix, name, []string{"x"})
			require.NoError(c.t, err)
		}
		require.True(c.t, r.Mixed)
	})
}

func first[T any](v T, _ error) T { return v }

// TestDenialsReachTheReport notes refusals and checked answers at every node, moves the tenant, and restarts the nodes one after the other: the
// report has them all, once.
func TestDenialsReachTheReport(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		ix := createIndex(c.t, c.nodes[0], "ix")
		c.write(ix, "a", 1)
		c.write(ix, "b", 1)
		want := uint64(0)
		note := func() {
			for _, n := range c.nodes[:3] {
				d, err := n.DescribeTenant(c.t.Context(), "b")
				require.NoError(c.t, err)
				n.NoteDenied(&tenancy.Denial{Why: tenancy.Foreign, Name: "a", Asked: "b"})
				n.NoteDenied(&tenancy.Denial{Why: tenancy.ExpiredKeys, By: tenancy.ID(n.tenantIDOf(c.t, d.ID)), Asked: "b"})
				n.NoteDenied(&tenancy.Denial{Why: tenancy.UnknownKeys, Name: "gone", Asked: "b"})
				st := n.Standing("a")
				n.NoteAnswer(&st, time.Now(), false)
				n.NoteAnswer(&Standing{Shard: NoShard}, time.Now(), true)
				want++
			}
		}
		note()
		require.Equal(c.t, PhaseSettled, c.moveTo(c.nodes[0], "a", elsewhere(c.t, c.nodes[0], "a")).Phase)
		note()
		for i := range 3 {
			c.stop(i)
			c.start(i)
			c.settle()
			note()
		}
		counts := func(tenant string) (sum tenancy.Usage) {
			all, _, err := c.any().Usage(c.t.Context(), lately(UsageReport{Nobody: true, Limit: 10}))
			require.NoError(c.t, err)
			for i := range all {
				for j := range all[i].Steps {
					if all[i].Tenant == tenant {
						sum.Count(&all[i].Steps[j].Usage)
					}
				}
			}
			return sum
		}
		c.until("all was written down", func() bool {
			a, b, none := counts("a"), counts("b"), counts("")
			return a.Denied() >= want && b.Counts[tenancy.Targeted] >= 2*want && none.Denied() >= want
		})
		a, b, none := counts("a"), counts("b"), counts("")
		require.Equal(c.t, []uint64{want, 0, want, 0}, []uint64{a.Denied(), a.Counts[tenancy.Targeted], a.Counts[tenancy.Checked], a.Counts[tenancy.Strayed]})
		require.Equal(c.t, []uint64{want, want, 2 * want}, []uint64{b.Denied(), b.Counts[tenancy.ExpiredKeys], b.Counts[tenancy.Targeted]})
		require.Equal(c.t, []uint64{want, want}, []uint64{none.Denied(), none.Counts[tenancy.UnknownKeys]})
	})
}
