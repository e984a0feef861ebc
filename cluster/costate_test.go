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
		read := func(sh *shard) int {
			v, err := sh.engine.Costate(tenant, "n")
			require.NoError(t, err)
			n, _ := strconv.Atoi(string(v))
			return n
		}
		keep := func(sh *shard, term uint64, n int) error {
			return sh.keep(ctx, term, []engine.CostateEntry{{Tenant: tenant, Name: "n", Value: strconv.AppendInt(nil, int64(n), 10)}})
		}
		var before *shard
		var beforeTerm uint64
		for n := range 4 {
			var sh *shard
			var term uint64
			var err error
			c.until("another leads", func() bool {
				if sh = c.leader(0); sh == nil || sh == before {
					return false
				}
				term, err = sh.settle(ctx)
				return err == nil
			})
			require.Equal(t, n, read(sh), "all that was kept before")
			require.NoError(t, keep(sh, term, n+1))
			if before != nil {
				_, err = before.settle(ctx)
				require.True(t, errs.Is(err, errs.Unavailable), "%v", err)
				require.Error(t, keep(before, beforeTerm, 99))
				old := &engine.Command{Op: engine.OpCostate, Term: beforeTerm, Costate: []engine.CostateEntry{{Tenant: tenant}}}
				_, err = sh.propose(ctx, old)
				require.True(t, errs.Is(err, errs.FailedPrecondition), "%v", err)
			}
			before, beforeTerm = sh, term
			require.NoError(t, sh.group.transfer(ctx, ""))
		}
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
