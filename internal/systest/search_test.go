package systest

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// searchAnswer is what a search over many tenants answers.
type searchAnswer struct {
	Matches []struct {
		Tenant, ID string
		Shard      int
	}
	Partial bool
	Missing struct {
		Shards []struct {
			Shard   int
			Node    string
			Tenants int
			Reason  string
		}
		Tenants []string
	}
	Searched int `json:"tenants_searched"`
}

func (c conn) search(ctx context.Context, k int) (a searchAnswer, err error) {
	err = c.call(ctx, http.MethodPost, "/v1/search", map[string]any{"vector": []float32{1, 0}, "topK": k, "fresh": true}, &a)
	return a, err
}

// tenants are those of an answer's matches, in order of name.
func (a *searchAnswer) tenants() []string {
	var names []string
	for _, m := range a.Matches {
		names = append(names, m.Tenant)
	}
	slices.Sort(names)
	return names
}

// TestSearchOverFrozenAndDeadNodes: with one replica of each shard, a node that hangs, or is gone, takes its tenants with it. Asked one
// by one, or for a list of all, the first of them fails. A search answers with all others, and says who is missing.
func TestSearchOverFrozenAndDeadNodes(t *testing.T) {
	const tenants = 24
	c := &nodes{flags: []string{"--replicas", "1"}}
	for range 3 {
		c.add(t, 0, t.TempDir())
	}
	c.awaitSettled(t, 0, 1)
	eventually(t, "each node leads a shard", func() error {
		for i := range c.servers {
			if led, err := c.ledBy(t.Context(), i); err != nil || len(led) == 0 {
				return fmt.Errorf("node %d leads none: %w", i+1, err)
			}
		}
		return nil
	})
	to := dial(c.servers[0])
	require.NoError(t, to.createIndex(t.Context(), "ix", "euclidean", 2))
	unlimited := map[string]any{"limits": map[string]any{"requests_per_minute": "unlimited"}}
	require.NoError(t, to.call(t.Context(), http.MethodPatch, "/v1/tiers/cross-tenant", unlimited, nil))
	homes := map[string]int{}
	for i := range tenants {
		name := fmt.Sprintf("t%02d", i)
		in := map[string]any{"namespace": name, "vectors": []map[string]any{{"id": "a", "values": []int{i + 1, 0}}}}
		eventually(t, name+" is written", func() error { return to.call(t.Context(), http.MethodPost, "/vectors/upsert", in, nil) })
	}
	whole, err := to.search(t.Context(), tenants)
	require.NoError(t, err)
	require.False(t, whole.Partial, "%+v", whole.Missing)
	require.Len(t, whole.Matches, tenants)
	for _, m := range whole.Matches {
		homes[m.Tenant] = m.Shard
	}

	lost, err := c.ledBy(t.Context(), 1)
	require.NoError(t, err)
	for _, harm := range []struct {
		name string
		do   func()
	}{{"frozen", c.servers[1].freeze}, {"dead", c.servers[1].kill}} {
		harm.do()
		hasty := to.with("X-Croft-Deadline-Ms", "2000")
		require.Error(t, hasty.call(t.Context(), http.MethodGet, "/namespaces", nil, nil), "the illness: no list of all")
		a, err := hasty.search(t.Context(), tenants)
		require.NoError(t, err, harm.name)
		require.True(t, a.Partial)
		var named []int
		for _, s := range a.Missing.Shards {
			require.NotEmpty(t, s.Reason)
			named = append(named, s.Shard)
		}
		var gone, there []string
		for name, shard := range homes {
			if slices.Contains(lost, shard) {
				gone = append(gone, name)
			} else {
				there = append(there, name)
			}
		}
		slices.Sort(gone)
		slices.Sort(there)
		require.Equal(t, gone, a.Missing.Tenants, harm.name)
		require.Equal(t, there, a.tenants(), harm.name)
		require.Equal(t, len(there), a.Searched)
		require.Equal(t, lost, named)
	}

	c.restart(t, 1)
	eventually(t, "all are found again", func() error {
		a, err := to.search(t.Context(), tenants)
		if err == nil && (a.Partial || len(a.Matches) != tenants) {
			err = fmt.Errorf("missing: %+v", a.Missing)
		}
		return err
	})
}

// ledBy are the shards that a node leads, by its word.
func (c *nodes) ledBy(ctx context.Context, at int) (led []int, err error) {
	info, err := dial(c.servers[at]).cluster(ctx)
	if err != nil {
		return nil, err
	}
	self := ""
	for _, n := range info.Nodes {
		if n.Self {
			self = n.ID
		}
	}
	for _, s := range info.Shards {
		if s.Leader == self {
			led = append(led, s.ID)
		}
	}
	return led, nil
}
