package api

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/metadata"
)

// upsertBody is n records of dim values, printed as clients of the given precision print them.
func upsertBody(n, dim int, float64s bool) []byte {
	rng := rand.New(rand.NewPCG(1, 2))
	var b []byte
	b = append(b, `{"vectors":[`...)
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"id":"record-%d","values":[`, i)
		for j := range dim {
			if j > 0 {
				b = append(b, ',')
			}
			f := float32(rng.NormFloat64() * 0.05)
			if float64s {
				b, _ = appendFloat(b, float64(f), 64)
			} else {
				b, _ = appendFloat32(b, f)
			}
		}
		b = fmt.Appendf(b, `],"metadata":{"genre":"drama","year":%d}}`, 1900+i)
	}
	return append(b, `],"namespace":"n"}`...)
}

func BenchmarkDecodeUpsert(b *testing.B) {
	ix := &cluster.Index{Dim: 768, Metric: ann.Cosine}
	for name, float64s := range map[string]bool{"float32": false, "float64": true} {
		b.Run(name, func(b *testing.B) {
			body := upsertBody(100, 768, float64s)
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				u, err := decodeUpsert(body, ix)
				if err != nil || len(u.records) != 100 {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkDecodeUpsertBaseline is the standard library on the same body, without any check.
func BenchmarkDecodeUpsertBaseline(b *testing.B) {
	body := upsertBody(100, 768, false)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		var v struct {
			Namespace string
			Vectors   []struct {
				ID       string
				Values   []float32
				Metadata map[string]any
			}
		}
		if err := json.Unmarshal(body, &v); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAppendFloats(b *testing.B) {
	rng := rand.New(rand.NewPCG(1, 2))
	values := make([]float32, 768)
	for i := range values {
		values[i] = float32(rng.NormFloat64() * 0.05)
	}
	body, _ := appendFloats32(nil, values)
	b.SetBytes(int64(len(body)))
	dst := make([]float32, 0, 768)
	for b.Loop() {
		if _, err := appendFloats(dst, body); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDecodeQuery(b *testing.B) {
	ix := &cluster.Index{Dim: 768, Metric: ann.Cosine}
	values, _ := appendFloats32(nil, make([]float32, 768))
	body := fmt.Appendf(nil, `{"namespace":"n","topK":10,"includeMetadata":true,"vector":%s}`, strings.Replace(string(values), "0", "0.5", 1))
	b.ReportAllocs()
	for b.Loop() {
		q := getQuery()
		if err := decodeQuery(body, ix, q); err != nil {
			b.Fatal(err)
		}
		q.release()
	}
}

func someMatches(k, dim int) []engine.Match {
	rng := rand.New(rand.NewPCG(1, 2))
	ms := make([]engine.Match, k)
	for i := range ms {
		m, err := metadata.Make(metadata.Field{Key: "genre", Value: metadata.StringValue("drama")}, metadata.Field{Key: "year", Value: metadata.NumberValue(1999)})
		if err != nil {
			panic(err)
		}
		ms[i] = engine.Match{Record: engine.Record{ID: fmt.Sprintf("record-%d", i), Metadata: m}, Score: rng.Float32()}
		for range dim {
			ms[i].Values = append(ms[i].Values, float32(rng.NormFloat64()))
		}
	}
	return ms
}

func BenchmarkEncodeQuery(b *testing.B) {
	for _, c := range []struct{ k, dim int }{{10, 0}, {10, 768}, {100, 0}} {
		b.Run(fmt.Sprintf("k=%d,dim=%d", c.k, c.dim), func(b *testing.B) {
			q := &queryRequest{namespace: "n", limit: 4 << 20, res: engine.Result{Matches: someMatches(c.k, c.dim)}}
			buf, err := q.appendJSON(nil)
			require.NoError(b, err)
			b.SetBytes(int64(len(buf)))
			b.ReportAllocs()
			for b.Loop() {
				if buf, err = q.appendJSON(buf[:0]); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkQuery is a whole request but for the network: 1,000 records of 128 dimensions, scanned exactly.
func BenchmarkQuery(b *testing.B) { benchmarkQuery(b) }

func benchmarkQuery(b *testing.B, change ...func(*Options)) {
	c := newClient(b, change...)
	c.index("demo", `"dimension":128`)
	c.ok("POST", "/vectors/upsert", string(upsertBody(1000, 128, false)))
	body := string(upsertBody(1, 128, false))
	vector := body[strings.Index(body, `"values":`)+len(`"values":`) : strings.Index(body, `,"metadata"`)]
	query := `{"namespace":"n","topK":10,"vector":` + vector + `}`
	b.ReportAllocs()
	for b.Loop() {
		r := httptest.NewRequest("POST", "/query", strings.NewReader(query))
		r.Header.Set("Api-Key", testKey)
		w := httptest.NewRecorder()
		c.h.ServeHTTP(w, r)
		if w.Code != http.StatusOK {
			b.Fatal(w.Body.String())
		}
	}
}

func TestEncodingAQueryAllocatesNothing(t *testing.T) {
	q := &queryRequest{namespace: "n", limit: 4 << 20, res: engine.Result{Matches: someMatches(10, 8)}}
	buf := make([]byte, 0, 64<<10)
	require.Zero(t, testing.AllocsPerRun(100, func() { q.appendJSON(buf[:0]) }))
}
