package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/client"
)

// threeNodes answers as a cluster does of which one node is down, and notes what it is asked to change.
func threeNodes(t *testing.T) (url string, changes *[]string) {
	const cluster = `{"cluster_id":"c","epoch":7,"silent_nodes":["bb33"],"nodes":[
		{"id":"aa11","address":"127.0.0.1:5180","url":"http://127.0.0.1:5080","state":"active","self":true,"alive":true,"meta_voter":true,"meta_leader":true,"replicas":2,"leaders":1},
		{"id":"aa22","address":"127.0.0.1:5380","url":"http://127.0.0.1:5280","zone":"b","state":"active","alive":true,"meta_voter":true,"replicas":2,"leaders":1},
		{"id":"bb33","address":"127.0.0.1:5580","state":"active","replicas":2}],
		"shards":[
		{"id":0,"kind":"shared","leader":"aa11","tenants":1200,"vectors":1000000,"bytes":2048,"utilisation":0.55,"queries_per_second":41.5,"latency_ms":{"p50":1,"p95":2,"p99":3.14},"replicas":[
			{"node":"aa11","role":"leader","applied":100},{"node":"aa22","role":"voter","applied":98,"lag":2},{"node":"bb33","role":"missing","lag":1100}]},
		{"id":1,"kind":"shared","leader":"","tenants":0,"vectors":0,"bytes":0,"utilisation":0,"replicas":[{"node":"aa22","role":"voter"}]}]}`
	said := []string{}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/cluster", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(cluster)) })
	mux.HandleFunc("GET /v1/shards/0", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"id":0,"kind":"shared","tenants":1,"vectors":2,"replicas":[{"node":"aa11","role":"leader","applied":1234}]}`))
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		said = append(said, r.Method+" "+r.URL.String())
		_, _ = w.Write([]byte(`{"id":"bb33","state":"draining","token":"secret","command":"croft serve --join x","expires":"soon"}`))
	})
	srv := httptest.NewServer(mux)
	t.Cleanup(srv.Close)
	return srv.URL, &said
}

func TestNodesAndShards(t *testing.T) {
	url, changes := threeNodes(t)
	run := func(code int, args ...string) *testApp {
		a := newTestApp("", map[string]string{"CROFT_URL": url})
		require.Equal(t, code, a.run(t.Context(), args), a.err.String())
		return a
	}
	nodes := run(exitOK, "nodes", "list", "-o", "csv").out.String()
	require.Contains(t, nodes, "aa11,active,yes,http://127.0.0.1:5080,127.0.0.1:5180,-,leader,2,1\n")
	require.Contains(t, nodes, "bb33,active,no,-,127.0.0.1:5580,-,-,2,0\n")
	shards := run(exitOK, "shards", "list", "-o", "csv").out.String()
	require.Contains(t, shards, `0,shared,-,"1,200","1,000,000",2.0 KiB,55.0 %,41.5,1.0 ms,2.0 ms,3.1 ms,aa11,2 of 3: missing,"1,100"`)
	require.Contains(t, shards, "1,shared,-,0,0,0 B,0.0 %,0.0,-,-,-,-,1,0\n")
	require.Contains(t, run(exitOK, "shards", "list").err.String(), "no answer from bb33")
	require.Contains(t, run(exitOK, "shards", "get", "0").out.String(), "aa11    leader    1,234")
	require.Contains(t, run(exitOK, "shards", "get", "0").err.String(), "1 tenant, 2 vectors")

	require.Equal(t, "croft serve --join x\n", run(exitOK, "nodes", "add", "--ttl", "5m").out.String())
	file := filepath.Join(t.TempDir(), "token")
	run(exitOK, "nodes", "add", "--token-file", file)
	token, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, "secret\n", string(token))
	require.Contains(t, run(exitUsage, "nodes", "drain", "bb").err.String(), "this moves 2 replicas off node bb33")
	require.Contains(t, run(exitOK, "nodes", "drain", "bb", "--dry-run").err.String(), "not done: this moves 2 replicas")
	require.Contains(t, run(exitOK, "nodes", "drain", "127.0.0.1:5580", "--yes").out.String(), "draining")
	run(exitOK, "nodes", "remove", "bb33", "--yes", "--force")
	require.Contains(t, run(exitUsage, "nodes", "remove", "aa", "--yes").err.String(), `2 nodes begin with "aa"`)
	require.Contains(t, run(exitNotFound, "nodes", "remove", "cc", "--yes").err.String(), `no node "cc"`)
	require.Equal(t, []string{
		"POST /v1/cluster/nodes?ttl=5m", "POST /v1/cluster/nodes", "POST /v1/cluster/nodes/bb33/drain", "DELETE /v1/cluster/nodes/bb33?force=true",
	}, *changes)
}

func TestSettled(t *testing.T) {
	shard := func(leader string, roles ...string) client.Shard {
		s := client.Shard{Leader: leader}
		for _, r := range roles {
			s.Replicas = append(s.Replicas, client.Replica{Role: r})
		}
		return s
	}
	for name, tc := range map[string]struct {
		shards []client.Shard
		want   bool
	}{
		"all there":       {[]client.Shard{shard("a", "leader", "voter", "voter"), shard("b", "voter", "leader", "voter")}, true},
		"a learner":       {[]client.Shard{shard("a", "leader", "voter", "voter"), shard("b", "leader", "voter", "learner")}, false},
		"one is missing":  {[]client.Shard{shard("a", "leader", "voter", "missing")}, false},
		"too few":         {[]client.Shard{shard("a", "leader")}, false},
		"one on its way":  {[]client.Shard{shard("a", "leader", "voter", "voter", "voter")}, false},
		"without leader":  {[]client.Shard{shard("", "voter", "voter", "voter")}, false},
		"nothing is told": {nil, false},
	} {
		require.Equal(t, tc.want, client.Cluster{Shards: tc.shards}.Settled(3), name)
	}
}
