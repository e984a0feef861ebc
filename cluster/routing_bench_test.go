package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/certs"
	"github.com/croftdb/croft/tenancy"
)

// tcpLink joins nodes over TCP on loopback.
func tcpLink(b testing.TB, source *certs.Source) func(id string) peers {
	var addrs sync.Map
	return func(id string) peers {
		p, err := newTCPPeers(tcpOptions{
			listen: "127.0.0.1:0", node: id, cluster: func() string { return "bench" }, tls: source, logger: testLogger(),
			resolve: func(node string) (string, bool) {
				addr, ok := addrs.Load(node)
				if !ok {
					return "", false
				}
				return addr.(string), true
			},
		})
		require.NoError(b, err)
		addrs.Store(id, p.addr())
		return p
	}
}

// BenchmarkForwardedQuery is a search of 1,000 records of 128 values for the best ten, at the node that leads and at one
// that asks it over TCP on loopback.
func BenchmarkForwardedQuery(b *testing.B) {
	link := tcpLink(b, nil)
	home := openUnmanaged(b)
	plugIn(b, home, link(home.id.NodeID))
	ix, err := home.CreateIndex(b.Context(), Index{Name: "i", Dim: 128, Metric: ann.Euclidean})
	require.NoError(b, err)
	away := gateway(b, home, link)
	recs := make([]engine.Record, 1000)
	for i := range recs {
		recs[i] = engine.Record{ID: fmt.Sprintf("id%04d", i), Values: make([]float32, 128)}
		recs[i].Values[i%128] = float32(i)
	}
	_, err = away.Upsert(b.Context(), ix, "ns", recs)
	require.NoError(b, err)
	for name, n := range map[string]*Node{"local": home, "forwarded": away} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			q := engine.Query{Vector: make([]float32, 128), K: 10}
			q.Vector[3] = 77
			var res engine.Result
			for b.Loop() {
				if _, err := n.Query(b.Context(), ix, "ns", &q, &res); err != nil || len(res.Matches) != 10 {
					b.Fatal(err, len(res.Matches))
				}
			}
		})
		b.Run(name+"/parallel", func(b *testing.B) {
			b.SetParallelism(8)
			b.RunParallel(func(pb *testing.PB) {
				q := engine.Query{Vector: make([]float32, 128), K: 10}
				var res engine.Result
				for pb.Next() {
					if _, err := n.Query(b.Context(), ix, "ns", &q, &res); err != nil {
						b.Error(err)
						return
					}
				}
			})
		})
	}
}

// BenchmarkAdmission asks 4,000 vectors of 384 dimensions, with a gate and without.
func BenchmarkAdmission(b *testing.B) {
	for _, gated := range []bool{false, true} {
		b.Run(map[bool]string{false: "off", true: "on"}[gated], func(b *testing.B) {
			opts := testOptions(b.TempDir())
			opts.CacheBytes = -1
			if gated {
				withGate(&opts)
			}
			n := openNode(b, opts)
			ix, err := n.CreateIndex(b.Context(), Index{Name: "i", Dim: 384, Metric: ann.Cosine})
			require.NoError(b, err)
			values := make([]float32, 384)
			for i := range values {
				values[i] = float32(i%7) - 3
			}
			for at := 0; at < 4000; at += 200 {
				recs := make([]engine.Record, 200)
				for i := range recs {
					recs[i] = engine.Record{ID: strconv.Itoa(at + i), Values: slices.Clone(values)}
					recs[i].Values[i] = float32(at)
				}
				_, err := n.Upsert(b.Context(), ix, "ns", recs)
				require.NoError(b, err)
			}
			limit(b, n, "ns", map[tenancy.Limit]int64{tenancy.Rate: 1e9, tenancy.Burst: 1e9})
			q := engine.Query{Vector: values, K: 10}
			var res engine.Result
			for b.Loop() {
				if _, err := n.Query(b.Context(), ix, "ns", &q, &res); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
