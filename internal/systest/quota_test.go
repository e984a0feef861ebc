package systest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
)

// hammer searches in a tenant's namespace through all nodes at once, over and over until the tenant has been refused so many
// times, and counts what was served. What was not answered may have been served.
type hammer struct {
	level                 string // of consistency; "": the default
	served, refused, lost atomic.Int64
}

func (h *hammer) run(ctx context.Context, c *nodes, ns string, refusals int64, meanwhile func()) {
	var done sync.WaitGroup
	for client := range 9 {
		done.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(client), 11))
			for n := client; h.refused.Load() < refusals; n++ {
				h.search(ctx, dialShortly(c.server(n)).index(indexes[0].name).reading(h.level), ns, rng)
			}
		})
	}
	meanwhile()
	done.Wait()
}

func (h *hammer) search(ctx context.Context, c conn, ns string, rng *rand.Rand) {
	err := c.call(ctx, http.MethodPost, "/query", map[string]any{"namespace": ns, "topK": 1, "vector": random(rng, indexes[0].dim)}, nil)
	var no *refused
	switch {
	case err == nil:
		h.served.Add(1)
	case errors.As(err, &no) && no.status == http.StatusTooManyRequests:
		h.refused.Add(1)
	default:
		h.lost.Add(1)
	}
}

// limited makes a tenant that may send perHour requests, and an index's part of it, which takes one of them.
func limited(t *testing.T, c *nodes, ns string, perHour int) {
	t.Helper()
	require.NoError(t, dial(c.servers[0]).call(t.Context(), http.MethodPost, "/v1/tenants",
		map[string]any{"tenant": ns, "limits": map[string]any{"requests_per_hour": perHour}}, nil))
	require.NoError(t, dial(c.servers[0]).index(indexes[0].name).call(t.Context(), http.MethodPost, "/vectors/upsert", map[string]any{
		"namespace": ns, "vectors": []any{map[string]any{"id": "a", "values": make8(1)}},
	}, nil))
}

// TestHourlyQuota has three nodes asked at once for a tenant that may send 100 requests an hour: exactly that many are served, also
// when the answers of some were lost with their node. Where a home is killed meanwhile, one lease may go with it, which is one request of 100.
func TestHourlyQuota(t *testing.T) {
	rng := seeded(t)
	const perHour = 100
	c := startNodes(t, 3)
	c.awaitSettled(t, 0, 3)
	createIndexes(t, dial(c.servers[0]))
	for _, s := range c.servers {
		eventually(t, "index on each node", func() error {
			return dial(s).call(t.Context(), http.MethodGet, "/indexes/"+indexes[0].name, nil, nil)
		})
	}

	c.awaitSpread(t)

	limited(t, c, "calm", perHour)
	var calm hammer
	calm.run(t.Context(), c, "calm", 60, func() {})
	require.EqualValues(t, perHour-1, calm.served.Load(), "%d lost", calm.lost.Load())
	require.Zero(t, calm.lost.Load())

	// Each node answers by itself, with what the home has lent it: one request at a time, which may be left in the end.
	limited(t, c, "anywhere", perHour)
	anywhere := hammer{level: "any"}
	anywhere.run(t.Context(), c, "anywhere", 60, func() {})
	t.Logf("at level any: %d served", anywhere.served.Load())
	require.LessOrEqual(t, anywhere.served.Load(), int64(perHour-1))
	require.GreaterOrEqual(t, anywhere.served.Load(), int64(perHour-3))
	require.Zero(t, anywhere.lost.Load())

	limited(t, c, "killed", perHour)
	var killed hammer
	home := c.home(t, "killed")
	at := int64(10 + rng.IntN(60))
	killed.run(t.Context(), c, "killed", 60, func() {
		eventually(t, "some are served", func() error {
			if killed.served.Load() < at {
				return errors.New("not yet")
			}
			return nil
		})
		c.server(home).kill()
		c.restart(t, home)
	})
	t.Logf("home killed after %d: %d served, %d refused, %d not answered", at, killed.served.Load(), killed.refused.Load(), killed.lost.Load())
	require.LessOrEqual(t, killed.served.Load(), int64(perHour-1))
	require.GreaterOrEqual(t, killed.served.Load()+killed.lost.Load(), int64(perHour-2))
}

// awaitSpread waits until each node leads a shard, so that none is handed over for the sake of that.
func (c *nodes) awaitSpread(t *testing.T) {
	t.Helper()
	eventually(t, "each node leads a shard", func() error {
		info, err := dial(c.servers[0]).cluster(t.Context())
		if err != nil {
			return err
		}
		leaders := map[string]bool{}
		for _, sh := range info.Shards {
			leaders[sh.Leader] = true
		}
		if delete(leaders, ""); len(leaders) < len(c.servers) {
			return fmt.Errorf("%d nodes of %d", len(leaders), len(c.servers))
		}
		return nil
	})
}

// home is the node that leads a tenant's shard.
func (c *nodes) home(t *testing.T, ns string) int {
	t.Helper()
	var tenant struct{ Shard int }
	require.NoError(t, dial(c.servers[0]).call(t.Context(), http.MethodGet, "/v1/tenants/"+ns, nil, &tenant))
	info, err := dial(c.servers[0]).cluster(t.Context())
	require.NoError(t, err)
	for _, sh := range info.Shards {
		if sh.ID == tenant.Shard {
			return c.number(t, sh.Leader)
		}
	}
	t.Fatalf("nobody leads shard %d: %+v", tenant.Shard, info)
	return 0
}
