package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// trySearch searches the records of several tenants on a running server.
func trySearch(t *testing.T, w *world) {
	w.must("index", "create", "many", "--dimension", "2", "--metric", "euclidean")
	for i, ns := range []string{"s1", "s2", "s3"} {
		w.must("upsert", "many", "-n", ns, fmt.Sprintf(`[{"id":"near","values":[%d,0],"metadata":{"n":%d}},{"id":"far","values":[%d,9]}]`, i+1, i, i+1))
	}
	require.Equal(t, "TENANT,SHARD,ID,SCORE,METADATA\n", w.must("search", "many", "--vector", "[0,0]", "--tenants", "nobody", "-o", "csv"))
	out := w.must("search", "many", "--vector", "[0,0]", "--tenants", "s3,s2", "-k", "3", "-o", "csv")
	require.Regexp(t, `^TENANT,SHARD,ID,SCORE,METADATA\ns2,\d+,near,4.0000,"{""n"":1}"\ns3,\d+,near,9.0000,"{""n"":2}"\ns2,\d+,far,85.0000,\n$`, out)
	require.Contains(t, w.must("search", "many", "--vector", "[0,0]", "--filter", `{"n":0}`), "s1")
	require.Contains(t, w.run("search", "many", "--vector", "[0,0]", "-k", "2").err, "there are more: --page ")
	w.fails(exitUsage, "search", "many")
	w.fails(exitNotFound, "search", "none", "--vector", "[0,0]")
	w.must("index", "delete", "many", "--yes")
}

// TestPartialSearchFails: what was found is printed, and the exit code says that something is missing.
func TestPartialSearchFails(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"matches":[{"tenant":"a","shard":1,"id":"x","score":0.5,"values":[]}],"partial":true,"missing":{"shards":
			[{"shard":2,"node":"n","tenants":41,"reason":"not searched in time"}],"tenants":["b"],"tenants_total":41,"metadata":"no leader"},
			"tenants_searched":1,"shards_asked":2,"cache":{"hit":false,"age_ms":0},"took_ms":1}`) // nobody can be told
	}))
	defer server.Close()
	a := newTestApp("", map[string]string{"CROFT_URL": server.URL, "CROFT_API_KEY": "k"})
	require.Equal(t, exitUnavailable, a.run(t.Context(), []string{"search", "docs", "--vector", "[1]", "-o", "csv"}))
	require.Contains(t, a.out.String(), "a,1,x,0.5000,\n")
	require.Contains(t, a.err.String(), "partial: shard 2 (41 tenants): not searched in time; tenants made a moment ago: no leader")
}
