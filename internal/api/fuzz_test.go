package api

import (
	"encoding/json"
	"math"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

var fuzzIndexes = []cluster.Index{
	{Name: "cos", Dim: 2, Metric: ann.Cosine},
	{Name: "dot", Dim: 3, Metric: ann.DotProduct},
	{Name: "sp", Sparse: true, Metric: ann.DotProduct},
}

// requireStorable checks what every floor below takes for granted.
func requireStorable(t *testing.T, ix *cluster.Index, rec *engine.Record) {
	require.Nil(t, checkASCII(rec.ID, 512))
	require.Len(t, rec.Values, ix.Dim)
	requireFinite(t, rec.Values)
	requireSparse(t, rec.Sparse)
	require.NoError(t, rec.Metadata.Validate())
	if ix.Sparse {
		require.NotEmpty(t, rec.Sparse.Indices)
	} else {
		require.True(t, slices.ContainsFunc(rec.Values, func(v float32) bool { return math.Abs(float64(v)) >= 1e-8 }))
	}
}

func requireSparse(t *testing.T, s engine.Sparse) {
	require.Len(t, s.Values, len(s.Indices))
	requireFinite(t, s.Values)
	for i := 1; i < len(s.Indices); i++ {
		require.Less(t, s.Indices[i-1], s.Indices[i])
	}
}

func requireFinite(t *testing.T, values []float32) {
	var norm float32
	for _, v := range values {
		norm += v * v
	}
	require.False(t, math.IsNaN(float64(norm)) || math.IsInf(float64(4*norm), 0), "distances overflow")
}

func FuzzUpsertBody(f *testing.F) {
	for _, s := range []string{
		`{"vectors":[{"id":"a","values":[1,2]}]}`,
		`{"vectors":[{"id":"a","values":[1,2,3],"sparseValues":{"indices":[3,1],"values":[1,2]},"metadata":{"a":["x"],"b":1.5}}],"namespace":"n"}`,
		`{"vectors":[{"id":"a","sparseValues":{"indices":[3,1],"values":[1,2]}}],"namespace":null}`,
		`{"vectors":[{"id":"\u0041\n","values":[1e-9,3e38]}]}`,
		`{"vectors":[{"id":"a","values":[1,null]}]}`, `{"Vectors":[]}`, `{"vectors":[{"id":"a","id":"b"}]}`, `{`, ``, `[[[[`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for i := range fuzzIndexes {
			ix := &fuzzIndexes[i]
			u, err := decodeUpsert(body, ix)
			if err != nil {
				require.True(t, errs.Is(err, errs.Invalid), "%v", err)
				continue
			}
			var want struct {
				Namespace string
				Vectors   []struct {
					ID     string
					Values []float32
				}
			}
			require.NoError(t, json.Unmarshal(body, &want), "accepted what encoding/json refuses")
			require.Equal(t, want.Namespace, u.namespace)
			require.Len(t, u.records, len(want.Vectors))
			for i := range u.records {
				requireStorable(t, ix, &u.records[i])
				require.Equal(t, want.Vectors[i].ID, u.records[i].ID)
				require.True(t, slices.Equal(want.Vectors[i].Values, u.records[i].Values))
			}
		}
	})
}

func FuzzQueryBody(f *testing.F) {
	for _, s := range []string{
		`{"vector":[1,2],"topK":3,"includeValues":true,"filter":{"a":{"$in":["x",2]}}}`,
		`{"id":"a","topK":1e1,"namespace":"n"}`, `{"sparseVector":{"indices":[1],"values":[2]},"topK":1}`,
		`{"vector":[0,0],"topK":1}`, `{"vector":[1,2,3],"topK":1,"sparseVector":{"indices":[2,1],"values":[2,1]},"scanFactor":1,"maxCandidates":7}`, `{"topK":1,"id":"a","recall":0.9}`,
		`{"queries":[]}`, `{"topK":1e400}`, `{"topK":1,"filter":{"$or":[{"a":1},{"$and":[{"b":{"$exists":true}}]}]},"vector":[1,2]}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		for i := range fuzzIndexes {
			ix := &fuzzIndexes[i]
			q := getQuery()
			err := decodeQuery(body, ix, q)
			if err != nil {
				require.True(t, errs.Is(err, errs.Invalid), "%v", err)
				q.release()
				continue
			}
			require.True(t, json.Valid(body))
			require.True(t, q.K >= 1 && q.K <= 10_000)
			require.True(t, q.id != "" || len(q.Vector) > 0 || len(q.Sparse.Indices) > 0)
			if len(q.Vector) > 0 {
				require.Len(t, q.Vector, ix.Dim)
			}
			requireFinite(t, q.Vector)
			requireSparse(t, q.Sparse)
			q.release()
		}
	})
}

func FuzzControlBodies(f *testing.F) {
	for _, s := range []string{
		`{"name":"a","dimension":3,"spec":{"serverless":{"cloud":"aws","region":"r","read_capacity":{"mode":"Dedicated","dedicated":{"node_type":"b1","scaling":"Manual","manual":{"replicas":1,"shards":1}}}}},"tags":{"a":"b","c":null}}`,
		`{"name":"a","vector_type":"sparse","spec":{"pod":{"environment":"e","pod_type":"p1","metadata_config":{"indexed":["a"]}}}}`,
		`{"name":"a","dimension":1,"spec":{"byoc":{"environment":"e","schema":{"fields":{"x":{"filterable":true}}}}}}`,
		`{"spec":{"pod":{"replicas":2,"pod_type":"p1.x2"}},"deletion_protection":"enabled"}`,
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var req indexRequest
		if err := decodeObject(body, &req, indexFields); err == nil {
			if ix, err := req.index(); err == nil {
				s := parseSpec(ix.Spec)
				again, err := s.encode()
				require.NoError(t, err)
				require.JSONEq(t, string(ix.Spec), string(again), "a stored spec reads back as it was")
				s.shown()
			}
		}
		var patch patchRequest
		if err := decodeObject(body, &patch, patchFields); err == nil {
			patch.patch(&cluster.Index{Spec: []byte(`{"pod":{"environment":"e","pod_type":"p1.x1","pods":1,"replicas":1,"shards":1}}`)})
		}
	})
}

func FuzzPaths(f *testing.F) {
	for _, s := range []string{"/query", "/i/a/query", "/namespaces/%2e%2e%2f", "/namespaces/%00", "//", "", "/i//", "/i/%zz/query"} {
		f.Add(s)
	}
	rt := newRouter(routes())
	f.Fuzz(func(t *testing.T, path string) {
		name, rest := cutIndexPrefix(path)
		if name != "" {
			require.Equal(t, byte('/'), rest[0])
		}
		for _, method := range []string{"GET", "POST", "DELETE", "PATCH", "HEAD", "X"} {
			r, args, _, err := rt.match(method, rest)
			if err != nil {
				require.True(t, errs.Is(err, errs.NotFound) || errs.Is(err, errs.MethodNotAllowed))
				continue
			}
			for _, a := range args {
				require.NotEmpty(t, a, r.pattern)
			}
		}
	})
}
