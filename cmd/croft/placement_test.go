package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestPlacementVerbs asks a server that notes what it is asked.
func TestPlacementVerbs(t *testing.T) {
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.Method+" "+r.URL.String()+" "+string(body))
		switch {
		case r.URL.Path == "/v1/placement":
			_, _ = w.Write([]byte(`{"policy":"least-loaded","shard_tenants":2000,"shard_vectors":2000000,"tenant_growth":5000}`))
		case r.URL.Path == "/v1/tenants" && r.Method == "GET":
			_, _ = w.Write([]byte(`{"tenants":[{"tenant":"acme","id":"01","shard":16,"placement":"pin","ring_shard":3}],"total_count":9,"pagination":{"next":"n"}}`))
		case r.URL.Path == "/v1/shards" || r.URL.Path == "/v1/shards/16":
			_, _ = w.Write([]byte(`{"id":16,"kind":"dedicated","name":"acme","leader":"aa11","replicas":[{"node":"aa11","role":"leader"}]}`))
		default:
			_, _ = w.Write([]byte(`{"tenant":"acme","id":"01","shard":16,"placement":"pin","ring_shard":3}`))
		}
	}))
	defer srv.Close()
	run := func(code int, args ...string) *testApp {
		a := newTestApp("", map[string]string{"CROFT_URL": srv.URL})
		require.Equal(t, code, a.run(t.Context(), args), a.err.String())
		return a
	}
	require.Contains(t, run(exitOK, "shards", "policy", "-o", "csv").out.String(), `least-loaded,"2,000","2,000,000","5,000"`)
	run(exitOK, "shards", "policy", "least-loaded", "--tenant-growth", "5000")
	run(exitOK, "shards", "policy", "--shard-tenants", "80")
	require.Contains(t, run(exitOK, "shards", "add", "--dedicated", "--name", "acme", "-o", "csv").out.String(), "16,dedicated,acme,")
	run(exitOK, "shards", "add")
	require.Contains(t, run(exitUsage, "shards", "add", "--name", "x").err.String(), "--dedicated shards")
	require.Contains(t, run(exitUsage, "shards", "remove", "16").err.String(), "takes out dedicated shard 16, which holds 0 tenants")
	run(exitOK, "shards", "remove", "16", "--yes")
	require.Contains(t, run(exitOK, "tenants", "list", "-o", "csv").out.String(), "acme,16,pin,3,,-,-,01")
	run(exitOK, "tenants", "get", "a/b")
	run(exitOK, "tenants", "create", "acme")
	run(exitOK, "tenants", "create", "acme", "--shard", "0")
	require.Equal(t, []string{
		"GET /v1/placement ",
		`PUT /v1/placement {"policy":"least-loaded","tenant_growth":5000}`,
		`PUT /v1/placement {"shard_tenants":80}`,
		`POST /v1/shards {"kind":"dedicated","name":"acme"}`, `POST /v1/shards {"kind":"shared"}`,
		"GET /v1/shards/16 ", "GET /v1/shards/16 ", "DELETE /v1/shards/16 ",
		"GET /v1/tenants?limit=100 ",
		"GET /v1/tenants/a%2Fb ",
		`POST /v1/tenants {"tenant":"acme"}`,
		`POST /v1/tenants {"tenant":"acme","shard":0}`,
	}, asked)
}
