package cluster

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// TestCostateFollowsTheLeader adds one to a number for each leader there is. A leader of before is refused, whether it has
// noticed or not.
func TestCostateFollowsTheLeader(t *testing.T) {
	inCluster(t, 3, func(c *simCluster) {
		tenant, ctx := engine.TenantID{7}, c.t.Context()
		count := func(sh *shard, term uint64, want int) error {
			v, err := sh.engine.Costate(tenant, "n")
			require.NoError(t, err)
			n, _ := strconv.Atoi(string(v))
			require.Equal(t, want, n, "all that was kept before")
			return sh.keep(ctx, term, []engine.CostateEntry{{Tenant: tenant, Name: "n", Value: strconv.AppendInt(nil, int64(n+1), 10)}})
		}
		var before *shard
		var beforeTerm uint64
		for n := range 4 {
			var sh *shard
			var term uint64
			c.until("there is a leader of a later term", func() bool { // leaders are also moved by those who spread them
				if sh = c.leader(0); sh == nil {
					return false
				}
				var err error
				if term, err = sh.settle(ctx); err == nil && term == beforeTerm {
					return false
				}
				if err == nil {
					err = count(sh, term, n)
				}
				require.False(t, err != nil && !errs.Is(err, errs.Unavailable), "%v", err)
				return err == nil
			})
			if before != nil {
				require.Error(t, before.keep(ctx, beforeTerm, []engine.CostateEntry{{Tenant: tenant}}))
				c.refuses(&engine.Command{Op: engine.OpCostate, Term: beforeTerm, Costate: []engine.CostateEntry{{Tenant: tenant}}})
			}
			before, beforeTerm = sh, term
			if err := sh.group.transfer(ctx, ""); err != nil {
				require.False(t, sh.group.leads() && sh.group.raft().CurrentTerm() == term, "%v", err)
			}
		}
	})
}

// refuses proposes a command to whoever leads shard 0, which must refuse it.
func (c *simCluster) refuses(cmd *engine.Command) {
	c.until("it is refused", func() bool {
		sh := c.leader(0)
		if sh == nil {
			return false
		}
		_, err := sh.propose(c.t.Context(), cmd)
		require.Error(c.t, err)
		return errs.Is(err, errs.FailedPrecondition)
	})
}

func TestCostateIsCut(t *testing.T) {
	small := make([]engine.CostateEntry, engine.MaxCostateEntries+1)
	require.Equal(t, engine.MaxCostateEntries, costateLen(small))
	require.Equal(t, 1, costateLen(small[:1]))
	large := []engine.CostateEntry{{Value: make([]byte, costateBatch)}, {Value: make([]byte, costateBatch/2)}, {}}
	require.Equal(t, 1, costateLen(large))
	require.Equal(t, 2, costateLen(large[1:]))
}
