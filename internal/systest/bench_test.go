package systest

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"
)

// BenchmarkRestart measures from the start of a process to its first answer, one namespace large enough for a graph,
// after a stop in order and after kill -9. CROFT_RESTART_RECORDS and CROFT_RESTART_DIM set the size:
//
//	CROFT_RESTART_RECORDS=60000 CROFT_RESTART_DIM=784 go test ./internal/systest -run '^$' -bench Restart -benchtime 5x
func BenchmarkRestart(b *testing.B) {
	n, dim := setting(b, "CROFT_RESTART_RECORDS", 10_000), setting(b, "CROFT_RESTART_DIM", 64)
	how := setup{data: b.TempDir()}
	s := start(b, how)
	require.NoError(b, dial(s).createIndex(b.Context(), "l2", "euclidean", dim))
	importRandom(b, dial(s).index("l2"), n, dim)
	require.NoError(b, s.stop())
	for name, end := range map[string]func(*server){
		"stop": func(s *server) { require.NoError(b, s.stop()) },
		"kill": (*server).kill,
	} {
		b.Run(name, func(b *testing.B) {
			for range b.N {
				s := start(b, how)
				body := map[string]any{"topK": 1, "vector": random(rand.New(rand.NewPCG(1, 1)), dim)}
				require.NoError(b, dial(s).index("l2").call(b.Context(), http.MethodPost, "/query", body, nil))
				b.StopTimer()
				end(s)
				b.StartTimer()
			}
		})
	}
}

func random(rng *rand.Rand, dim int) []float32 {
	v := make([]float32, dim)
	for i := range v {
		v[i] = float32(rng.IntN(256)) // short in JSON, as the bytes of images are
	}
	return v
}

func importRandom(b *testing.B, c conn, n, dim int) {
	b.Helper()
	rng := rand.New(rand.NewPCG(2, 2))
	const batch = 200
	for from := 0; from < n; from += batch {
		var recs []record
		for i := from; i < min(n, from+batch); i++ {
			recs = append(recs, record{ID: fmt.Sprint(i), Values: random(rng, dim)})
		}
		path, body := op{upsert: recs}.request("")
		require.NoError(b, c.call(b.Context(), http.MethodPost, path, body, nil))
	}
}
