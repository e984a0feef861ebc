package cluster

import (
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/certs"
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
