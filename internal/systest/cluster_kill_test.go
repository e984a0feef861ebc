package systest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestClusterKills kills nodes at random moments under writes and queries, starts them again, and looks each time whether all
// that was acknowledged is there, on every node's own replica. It tells for how long writes and queries were held up.
func TestClusterKills(t *testing.T) {
	rng := seeded(t)
	kills := setting(t, "CROFT_CLUSTER_KILLS", 2)
	c := startNodes(t, 3)
	c.awaitSettled(t, 0, 3)
	createIndexes(t, dial(c.servers[0]))
	fleet := newFleet(rng, 2, 0)
	fleet.step(t, dial(c.servers[0]))
	for _, s := range c.servers {
		eventually(t, "what was made is on each node", func() error { return fleet.settle(t.Context(), dial(s)) })
	}

	load := startPulses(t, c, setting(t, "CROFT_CLUSTER_WRITES", 300))
	for kill := range kills {
		at := rng.IntN(len(c.servers))
		c.endWhileWriting(t, rng, fleet, at, c.server(at).kill)
		c.restart(t, at)
		c.awaitNear(t, at, 3, 100)
		for i, s := range c.servers {
			to := dial(s).reading("any")
			eventually(t, fmt.Sprintf("kill %d: all is on node %d", kill+1, i+1), func() error { return fleet.settle(t.Context(), to) })
		}
		load.lap()
	}
	load.stop(t)
	c.awaitSettled(t, 0, 3)
	for i, s := range c.servers {
		require.NoError(t, load.check(t.Context(), dial(s).reading("any")), "replicas of node %d", i+1)
	}
	load.report(t)
	c.equalDigests(t)
}

// equalDigests stops all nodes, reads what is on their disks and compares the replicas of each shard.
func (c *nodes) equalDigests(t *testing.T) {
	t.Helper()
	bin, err := croft()
	require.NoError(t, err)
	for _, s := range c.servers {
		require.NoError(t, s.stop())
	}
	type digests struct { // of the records: usage is written until the end
		Shards []struct {
			Shard  int
			Digest string
		}
	}
	var first digests
	for i, how := range c.how {
		var got digests
		out := run(t, how.data, nil, bin, "shards", "digest", "--data", how.data, "--json")
		require.NoError(t, json.Unmarshal([]byte(out), &got), out)
		if i == 0 {
			first = got
			t.Logf("digests: %v", got.Shards)
			require.NotEmpty(t, got.Shards)
		}
		require.Equal(t, first, got, "replicas of node %d", i+1)
	}
}

// restart starts a node that was killed.
func (c *nodes) restart(t *testing.T, at int) {
	t.Helper()
	s := launch(t, c.how[at])
	s.awaitAgain(t)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.servers[at] = s
}

// awaitAgain is await for a node that was there before: a shard may be without a leader just then.
func (s *server) awaitAgain(t *testing.T) {
	t.Helper()
	if err := s.await(); err != nil {
		require.NotEmpty(t, s.url, "%v", err)
		eventually(t, "node is ready", s.readyz)
	}
}

// server returns the process that a node is at the moment.
func (c *nodes) server(at int) *server {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.servers[at%len(c.servers)]
}

// pulses write and read without a pause, each in a namespace of its own so that all shards are met, and go to another node
// when one does not answer.
type pulses struct {
	nodes  *nodes
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu     sync.Mutex
	acked  map[string][]string // ids by namespace
	faults []error
	writes gaps
	reads  gaps // at consistency any
	led    gaps // at consistency leader
}

// gaps are the longest times without a success, by namespace, of laps.
type gaps struct {
	last map[string]time.Time
	lap  map[string]time.Duration
	all  []time.Duration
}

func newGaps() gaps { return gaps{last: map[string]time.Time{}, lap: map[string]time.Duration{}} }

func (g *gaps) note(ns string, now time.Time) {
	if last, ok := g.last[ns]; ok {
		g.lap[ns] = max(g.lap[ns], now.Sub(last))
	}
	g.last[ns] = now
}

func (g *gaps) end() {
	for ns, gap := range g.lap {
		g.all = append(g.all, gap)
		g.lap[ns] = 0
	}
}

// String gives quantiles of the longest gap of each namespace and lap.
func (g *gaps) String() string {
	all := slices.Sorted(slices.Values(g.all))
	if len(all) == 0 {
		return "none"
	}
	at := func(q float64) time.Duration { return all[int(q*float64(len(all)-1))].Round(time.Millisecond) }
	return fmt.Sprintf("P50 %v, P90 %v, P99 %v, longest %v, of %d; %s", at(0.5), at(0.9), at(0.99), at(1), len(all), histogram(all))
}

// histogram counts sorted durations by the bounds that they do not exceed.
func histogram(sorted []time.Duration) string {
	var b strings.Builder
	for _, ms := range []int{50, 100, 200, 500, 1000, 1500, 2000, 3000, 5000} {
		n, _ := slices.BinarySearch(sorted, time.Duration(ms)*time.Millisecond+1)
		fmt.Fprintf(&b, "<=%dms %d, ", ms, n)
		sorted = sorted[n:]
	}
	fmt.Fprintf(&b, "more %d", len(sorted))
	return b.String()
}

const pulsing = 6 // namespaces

// startPulses begins to write so many records a second.
func startPulses(t *testing.T, c *nodes, rate int) *pulses {
	ctx, cancel := context.WithCancel(t.Context())
	p := &pulses{nodes: c, cancel: cancel, acked: map[string][]string{}, writes: newGaps(), reads: newGaps(), led: newGaps()}
	t.Cleanup(func() { cancel(); p.done.Wait() })
	for i := range pulsing {
		ns := fmt.Sprintf("pulse-%d", i)
		p.done.Go(func() { p.write(ctx, ns, i, time.Second*pulsing/time.Duration(rate)) })
		p.done.Go(func() { p.read(ctx, ns, i, "any", &p.reads) })
		p.done.Go(func() { p.read(ctx, ns, i+1, "leader", &p.led) })
	}
	return p
}

// write stores one record after the other. A write without an answer is repeated under its key until it has one.
func (p *pulses) write(ctx context.Context, ns string, at int, every time.Duration) {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for n := 0; beat(ctx, tick); n++ {
		id := fmt.Sprintf("%s-%d", ns, n)
		body := map[string]any{"namespace": ns, "vectors": []record{{ID: id, Values: make8(n), Metadata: map[string]any{"n": float64(n)}}}}
		for ctx.Err() == nil {
			err := dialShortly(p.nodes.server(at)).once(id).index("l2").call(ctx, http.MethodPost, "/vectors/upsert", body, nil)
			if err == nil {
				p.ackedOne(ns, id)
				break
			}
			p.fault(err)
			at++
		}
	}
}

// beat waits for the next tick and reports whether to go on.
func beat(ctx context.Context, tick *time.Ticker) bool {
	select {
	case <-tick.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

func make8(n int) []float32 { return []float32{float32(n + 1), 1, 1, 1, 1, 1, 1, 1} }

func (p *pulses) ackedOne(ns, id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.acked[ns] = append(p.acked[ns], id)
	p.writes.note(ns, time.Now())
}

// fault keeps refusals that no fault explains.
func (p *pulses) fault(err error) {
	var no *refused
	if errors.As(err, &no) && !no.unknown() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.faults = append(p.faults, err)
	}
}

// read asks again and again.
func (p *pulses) read(ctx context.Context, ns string, at int, consistency string, g *gaps) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	body := map[string]any{"namespace": ns, "topK": 3, "vector": make8(1)}
	for beat(ctx, tick) {
		err := dialShortly(p.nodes.server(at)).reading(consistency).index("l2").call(ctx, http.MethodPost, "/query", body, nil)
		if err == nil {
			p.mu.Lock()
			g.note(ns, time.Now())
			p.mu.Unlock()
		} else {
			p.fault(err)
			at++
		}
	}
}

// dialShortly is dial for a client that soon asks elsewhere.
func dialShortly(s *server) conn {
	return conn{url: s.url, http: pulseClient}
}

var pulseClient = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: 5 * time.Second}

// lap ends the time around one kill.
func (p *pulses) lap() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.writes.end()
	p.reads.end()
	p.led.end()
}

func (p *pulses) stop(t *testing.T) {
	t.Helper()
	p.cancel()
	p.done.Wait()
	require.Empty(t, p.faults)
}

// check looks whether each acknowledged record is there.
func (p *pulses) check(ctx context.Context, c conn) error {
	for ns, ids := range p.acked {
		seen := state{}
		for part := range slices.Chunk(ids, fetchMost) {
			if err := c.index("l2").fetch(ctx, ns, part, seen); err != nil {
				return err
			}
		}
		if len(seen) != len(ids) {
			return fmt.Errorf("%s: %d records were acknowledged, %d are there", ns, len(ids), len(seen))
		}
	}
	return nil
}

func (p *pulses) report(t *testing.T) {
	n := 0
	for _, ids := range p.acked {
		n += len(ids)
	}
	require.Greater(t, n, 20*pulsing, "so few writes prove nothing")
	t.Logf("%d writes acknowledged beside the fleet's", n)
	t.Logf("longest time without an acknowledged write, by namespace and kill: %v", &p.writes)
	t.Logf("longest time without an answer at consistency any: %v", &p.reads)
	t.Logf("longest time without an answer at consistency leader: %v", &p.led)
}
