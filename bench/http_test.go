package bench

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

// fakeServer is as much of a server as a measurement needs: one index of one dimension, searched exactly.
type fakeServer struct {
	mu      sync.Mutex
	index   client.IndexModel
	values  map[string]float32
	largest int // records of a request
	looks   int // at the shards
	deleted bool
}

func (s *fakeServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	reply, err := s.answer(strings.TrimPrefix(r.URL.Path, "/i/"+s.index.Name), r)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	_ = json.MarshalWrite(w, reply)
}

func (s *fakeServer) answer(path string, r *http.Request) (any, error) {
	switch {
	case r.Method == http.MethodPost && path == "/indexes":
		return s.index, json.UnmarshalRead(r.Body, &s.index)
	case r.Method == http.MethodDelete:
		s.deleted = true
		return struct{}{}, nil
	case strings.HasPrefix(path, "/indexes/"):
		return s.index, nil
	case path == "/describe_index_stats":
		return client.Stats{TotalVectorCount: len(s.values)}, nil
	case path == "/v1/shards":
		return s.shards(), nil
	case path == "/vectors/upsert":
		return s.upsert(r)
	case path == "/query":
		return s.query(r)
	}
	return nil, fmt.Errorf("no route %s %s", r.Method, path)
}

// shards tells, after the records came, that they are indexed only at the third look.
func (s *fakeServer) shards() any {
	indexed := 0
	if s.looks++; s.looks > 3 {
		indexed = len(s.values)
	}
	return map[string]any{"shards": []map[string]int{{"records": len(s.values), "indexed": indexed, "resident_bytes": 100 * len(s.values)}}}
}

func (s *fakeServer) upsert(r *http.Request) (any, error) {
	var body struct {
		Vectors []client.Vector `json:"vectors"`
	}
	err := json.UnmarshalRead(r.Body, &body)
	s.largest = max(s.largest, len(body.Vectors))
	for _, v := range body.Vectors {
		s.values[v.ID] = v.Values[0]
	}
	return map[string]int{"upsertedCount": len(body.Vectors)}, err
}

func (s *fakeServer) query(r *http.Request) (any, error) {
	var q client.QueryRequest
	if err := json.UnmarshalRead(r.Body, &q); err != nil {
		return nil, err
	}
	if q.Ef < q.TopK {
		return nil, fmt.Errorf("ef %d is below k %d", q.Ef, q.TopK)
	}
	var res client.QueryResponse
	for id, v := range s.values {
		res.Matches = append(res.Matches, client.Match{ID: id, Score: (v - q.Vector[0]) * (v - q.Vector[0])})
	}
	slices.SortFunc(res.Matches, func(a, b client.Match) int {
		if a.Score < b.Score {
			return -1
		}
		return 1
	})
	res.Matches = res.Matches[:q.TopK]
	return res, nil
}

func newFakeServer(t *testing.T) (*fakeServer, *client.Client) {
	s := &fakeServer{values: map[string]float32{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	c, err := client.New(client.Options{URL: srv.URL})
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return s, c
}

// lineDataset has the points 0, 1, 2, … on a line.
func lineDataset(t *testing.T, n int) *Dataset {
	path := filepath.Join(t.TempDir(), "base.fvecs")
	var all [][]float32
	for i := range n {
		all = append(all, []float32{float32(i)})
	}
	require.NoError(t, WriteVectors(path, all))
	base, err := OpenVectors(path)
	require.NoError(t, err)
	d := &Dataset{Name: "line", Metric: ann.Euclidean, Base: base, Queries: [][]float32{{0.2}, {50.2}},
		Neighbours: [][]int32{{0, 1, 2}, {50, 51, 49}}}
	t.Cleanup(func() { require.NoError(t, d.Close()) })
	return d
}

func TestMeasureOverHTTP(t *testing.T) {
	s, c := newFakeServer(t)
	d := lineDataset(t, 1001)
	target, err := NewHTTP(t.Context(), c, HTTPOptions{Metric: d.Metric, Dim: 1, Batch: 100})
	require.NoError(t, err)
	require.Equal(t, "euclidean", s.index.Metric)
	report, err := Measure(t.Context(), d, target, RecallOptions{Dataset: "line", K: 3, Efs: []int{1, 20}, Runs: 1})
	require.NoError(t, err)
	require.Len(t, s.values, 1001)
	require.Equal(t, 100, s.largest)
	require.Equal(t, 4, s.looks, "one before, then until all is indexed")
	require.Equal(t, 100.0, report.BytesPerVector)
	for _, p := range report.Points {
		require.Equal(t, 1.0, p.Recall)
	}
	require.NoError(t, target.Close())
	require.True(t, s.deleted)
}

func TestMeasureAnIndexThatIsThere(t *testing.T) {
	s, c := newFakeServer(t)
	s.index = client.IndexModel{Name: "line", Dimension: 1, Metric: "euclidean"}
	d := lineDataset(t, 100)
	for i := range 99 {
		s.values[strconv.Itoa(i)] = float32(i)
	}
	target, err := NewHTTP(t.Context(), c, HTTPOptions{Metric: d.Metric, Dim: 1, Index: "line"})
	require.NoError(t, err)
	require.ErrorContains(t, target.Load(t.Context(), d.Base), "holds 99 records, the data set has 100")
	s.values["99"] = 99
	require.NoError(t, target.Load(t.Context(), d.Base))
	s.values["stranger"] = 5
	_, err = target.Query(t.Context(), []float32{5}, 3, 10)
	require.ErrorContains(t, err, "no row of the data set")
	require.NoError(t, target.Close())
	require.False(t, s.deleted, "an index that was there stays")

	_, err = NewHTTP(t.Context(), c, HTTPOptions{Metric: ann.Cosine, Dim: 1, Index: "line"})
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(err))
}
