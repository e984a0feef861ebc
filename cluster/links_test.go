package cluster

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// TestSilenceIsToldOnce lets beats fail and succeed, of several groups: a node is silent when none was answered for a while.
func TestSilenceIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		l := newLinks(func(node string) bool { return node == "b" }, 2*time.Second, slog.New(slog.NewTextHandler(&log, nil)))
		broken := errors.New("broken")
		for range 100 { // one group fails, another does not
			l.raftSent("b", broken)
			l.raftSent("b", nil)
			time.Sleep(100 * time.Millisecond)
		}
		require.Empty(t, log.String())
		for range 100 {
			l.raftSent("b", broken)
			l.raftSent("b", errQuiet)
			time.Sleep(100 * time.Millisecond)
		}
		require.Equal(t, 1, strings.Count(log.String(), "does not answer"), log.String())
		require.Contains(t, log.String(), "level=ERROR")
		l.raftSent("b", nil)
		l.raftSent("b", nil)
		require.Equal(t, 1, strings.Count(log.String(), "answers again"), log.String())
		require.Contains(t, log.String(), "after=10.1s")
		k := l.of("b")
		require.Equal(t, uint64(302), k.raft.Load())
		require.Equal(t, uint64(200), k.failedRaft.Load())
	})
}

func TestLinksAreBounded(t *testing.T) {
	l := newLinks(func(node string) bool { return node == "b" }, time.Second, slog.New(slog.DiscardHandler))
	for _, node := range []string{"", "x", "y", "b"} {
		l.of(node).called(node == "x")
	}
	require.Equal(t, uint64(3), l.of("z").calls.Load())
	require.Equal(t, uint64(1), l.of("z").failedCalls.Load())
	require.Equal(t, uint64(1), l.of("b").calls.Load())
	var none *links
	none.raftSent("b", nil)
	none.of("b").called(true)
	a, b := net.Pipe()
	require.Equal(t, a, none.count(a, "b"))
	go func() { _, _ = b.Write([]byte("four")); _, _ = b.Read(make([]byte, 9)) }()
	c := l.count(a, "b")
	_, err := c.Read(make([]byte, 9))
	require.NoError(t, err)
	_, err = c.Write([]byte("three"))
	require.NoError(t, err)
	require.Equal(t, uint64(4), l.of("b").received.Load())
	require.Equal(t, uint64(5), l.of("b").sent.Load())
	require.NoError(t, errors.Join(a.Close(), b.Close()))
}

func TestTicks(t *testing.T) {
	for shards, want := range map[int]time.Duration{1: shortTick, 16: shortTick, 17: 540 * time.Millisecond, 64: 2420 * time.Millisecond, 256: longTick} {
		require.Equal(t, want, tickFor(shards), "%d shards", shards)
	}
	o := groupOptions{name: "shard 1", tick: shortTick}
	require.Equal(t, 100*time.Millisecond, o.commitTimeout())
	o.tick = 4 * shortTick
	require.Equal(t, shortTick, o.commitTimeout())
	o.name = metaName
	require.Equal(t, 100*time.Millisecond, o.commitTimeout(), "changes of metadata are to be everywhere soon")
}

// TestLinkMetrics shows the peers of a cluster, and those that were removed no longer.
func TestLinkMetrics(t *testing.T) {
	registries := map[string]*prometheus.Registry{}
	inClusterWith(t, 3, func(o *Options) {
		r := prometheus.NewRegistry()
		registries[o.Dir], o.Registerer = r, r
	}, func(c *simCluster) {
		r := registries[c.dirs[0]]
		series := func(name string) (n int) {
			families, err := r.Gather()
			require.NoError(c.t, err)
			for _, f := range families {
				if f.GetName() == name {
					n = len(f.GetMetric())
				}
			}
			return n
		}
		require.Equal(c.t, 2, series("croft_cluster_peer_raft_requests_total"))
		require.NoError(c.t, c.nodes[0].RemoveNode(c.t.Context(), c.nodes[2].id.NodeID, true))
		require.Equal(c.t, 1, series("croft_cluster_peer_silent"))
	})
}
