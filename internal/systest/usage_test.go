package systest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// meterLoad are clients that write and search, each in a namespace of its own, and note what they have sent and when.
type meterLoad struct {
	nodes  *nodes
	cancel context.CancelFunc
	done   sync.WaitGroup
	logs   []*meterLog
	acked  atomic.Int64
}

// more waits until that many more requests have been acknowledged.
func (l *meterLoad) more(t *testing.T, n int) {
	t.Helper()
	until := l.acked.Load() + int64(n)
	eventually(t, "requests are acknowledged", func() error {
		if now := l.acked.Load(); now < until {
			return fmt.Errorf("%d of %d", now, until)
		}
		return nil
	})
}

// meterLog is what one client has done.
type meterLog struct {
	ns       string
	searches tried
	upserts  tried
	stored   map[string]bool
	unsure   map[string]bool // written, perhaps
}

// tried are the requests of a kind.
type tried struct {
	sent  int
	acked []time.Time
}

func startMeterLoad(t *testing.T, c *nodes, clients int) *meterLoad {
	ctx, cancel := context.WithCancel(t.Context())
	l := &meterLoad{nodes: c, cancel: cancel}
	for i := range clients {
		log := &meterLog{ns: fmt.Sprint("metered-", i), stored: map[string]bool{}, unsure: map[string]bool{}}
		l.logs = append(l.logs, log)
		rng := rand.New(rand.NewPCG(uint64(i), 7))
		l.done.Go(func() {
			for n := 0; ctx.Err() == nil; n++ {
				if log.step(ctx, dialShortly(c.server(rng.IntN(3))).index(indexes[0].name), rng, n) {
					l.acked.Add(1)
				}
			}
		})
	}
	return l
}

// step sends a write or a search, none of them twice the same, and reports whether it was acknowledged.
func (l *meterLog) step(ctx context.Context, c conn, rng *rand.Rand, n int) bool {
	if n%4 == 0 {
		id := fmt.Sprint("id", n)
		l.upserts.sent++
		err := c.call(ctx, http.MethodPost, "/vectors/upsert", map[string]any{
			"namespace": l.ns, "vectors": []any{map[string]any{"id": id, "values": random(rng, indexes[0].dim)}},
		}, nil)
		if err != nil {
			l.unsure[id] = true
			return false
		}
		l.stored[id] = true
		l.upserts.acked = append(l.upserts.acked, time.Now())
		return true
	}
	l.searches.sent++
	err := c.call(ctx, http.MethodPost, "/query", map[string]any{"namespace": l.ns, "topK": 3, "vector": random(rng, indexes[0].dim)}, nil)
	if err != nil {
		return false
	}
	l.searches.acked = append(l.searches.acked, time.Now())
	return true
}

// lossy counts the acknowledged requests that a kill may have lost: those of the time before it in which nothing need have been
// written down.
func (t *tried) lossy(kills []time.Time, bound time.Duration) (n int) {
	for _, at := range t.acked {
		for _, kill := range kills {
			if at.Before(kill.Add(time.Second/10)) && at.After(kill.Add(-bound)) {
				n++
				break
			}
		}
	}
	return n
}

type usedShown struct {
	Usage []struct {
		Queries, Upserted, Vectors uint64
		VectorsPeak                uint64 `json:"vectors_peak"`
		Bytes                      uint64 `json:"stored_bytes"`
	}
}

// TestUsageOverKills kills nodes at random moments under load and recounts: what was counted is no more than what clients have
// sent, and no less than what was acknowledged, but for the moments before the kills. What is stored is exact.
func TestUsageOverKills(t *testing.T) {
	rng := seeded(t)
	const every, slack = 200 * time.Millisecond, 800 * time.Millisecond // slack is for a busy machine to keep its times
	t.Setenv("CROFT_USAGE_EVERY", every.String())
	c := startNodes(t, 3)
	c.awaitSettled(t, 0, 3)
	createIndexes(t, dial(c.servers[0]))
	for _, s := range c.servers {
		eventually(t, "index on each node", func() error {
			return dial(s).call(t.Context(), http.MethodGet, "/indexes/"+indexes[0].name, nil, nil)
		})
	}
	load := startMeterLoad(t, c, 6)
	var kills []time.Time
	for range setting(t, "CROFT_USAGE_KILLS", 2) {
		at := rng.IntN(len(c.servers))
		load.more(t, 1500+rng.IntN(1500))
		kills = append(kills, time.Now())
		c.server(at).kill()
		c.restart(t, at)
		c.awaitNear(t, at, 3, 100)
	}
	load.cancel()
	load.done.Wait()
	c.awaitSettled(t, 0, 3)

	var sent, acked, counted, lossy int
	for _, l := range load.logs {
		var got usedShown
		path := "/v1/usage?by=day&tenant=" + url.QueryEscape(l.ns)
		eventually(t, "all was written down", func() error { return dial(c.server(0)).call(t.Context(), http.MethodGet, path, nil, &got) })
		ids, err := dial(c.server(0)).index(indexes[0].name).list(t.Context(), l.ns)
		require.NoError(t, err)
		size := 0
		for _, id := range ids {
			require.True(t, l.stored[id] || l.unsure[id], "%s was never written", id)
			size += len(id) + 4*indexes[0].dim
		}
		require.GreaterOrEqual(t, len(ids), len(l.stored))
		var queries, upserted, vectors, bytes uint64
		for _, day := range got.Usage { // two, if it was midnight
			queries, upserted, vectors, bytes = queries+day.Queries, upserted+day.Upserted, day.Vectors, day.Bytes
			require.GreaterOrEqual(t, day.VectorsPeak, day.Vectors)
		}
		require.EqualValues(t, len(ids), vectors, "what %s stores", l.ns)
		require.EqualValues(t, size, bytes, "bytes that %s stores", l.ns)
		for _, k := range []struct {
			what    string
			tried   *tried
			counted int
		}{{"searches", &l.searches, int(queries)}, {"upserts", &l.upserts, int(upserted)}} {
			may := k.tried.lossy(kills, every+slack)
			require.LessOrEqual(t, k.counted, k.tried.sent, "%s of %s", k.what, l.ns)
			require.GreaterOrEqual(t, k.counted, len(k.tried.acked)-may, "%s of %s", k.what, l.ns)
			sent, acked, counted, lossy = sent+k.tried.sent, acked+len(k.tried.acked), counted+k.counted, lossy+may
		}
	}
	t.Logf("%d kills: %d requests sent, %d acknowledged, %d counted; %d fell into the time before a kill", len(kills), sent, acked, counted, lossy)
}
