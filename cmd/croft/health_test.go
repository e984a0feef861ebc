package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestHealthVerb(t *testing.T) {
	status := "warning"
	var asked []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.Method+" "+r.URL.Path)
		switch {
		case !strings.HasPrefix(r.URL.Path, "/v1/"):
			_, _ = w.Write([]byte(`{"status":"ok"}`))
		case r.Header.Get("Api-Key") == "reader":
			w.WriteHeader(http.StatusForbidden)
			_, _ = w.Write([]byte(`{"status":403,"error":{"code":"PERMISSION_DENIED","message":"no"}}`))
		default:
			_, _ = w.Write([]byte(`{"status":"` + status + `","silent_nodes":["bb33"],"warnings":[{"type":"hot_shard_vector_count","severity":"warning","shards":[0,1,2,3,4,5,6,7,8,9],
				"measure":"vectors","value":1500000,"threshold":1234.5,"message":"m","recommendation":"r"}],
				"routing":{"at":"2026-01-01T00:00:00Z","tenants":12,"silent_shards":[3],"strays":[{"kind":"copy","tenant":"acme","id":"01","home":2,"shard":1,"vectors":5}]}}`))
		}
	}))
	defer srv.Close()
	run := func(code int, key string, args ...string) *testApp {
		a := newTestApp("", map[string]string{"CROFT_URL": srv.URL, "CROFT_API_KEY": key})
		require.Equal(t, code, a.run(t.Context(), append([]string{"health"}, args...)), a.err.String())
		return a
	}
	require.Equal(t, "ready    "+srv.URL+"\n", run(exitOK, "").out.String())
	require.Equal(t, "ready    "+srv.URL+"\n", run(exitOK, "reader").out.String(), "a key for something else is no illness")
	require.Equal(t, "alive    "+srv.URL+"\n", run(exitOK, "k", "--live").out.String())
	require.Equal(t, "ready    "+srv.URL+"\n", run(exitOK, "k", "--ready").out.String())
	a := run(exitOK, "k", "-o", "csv")
	require.Contains(t, a.out.String(), `warning,hot_shard_vector_count,0 1 2 3 4 5 6 7 and 2 more,vectors,"1,500,000",1234.50,m,r`)
	require.Contains(t, a.err.String(), "no answer from bb33")
	require.Contains(t, a.err.String(), "copy: tenant acme (01), home 2, 5 vectors on shard 1")
	require.Contains(t, a.err.String(), "shards 3")
	run(exitUnshown, "k", "--strict")
	status = "critical"
	run(exitUnshown, "k", "--verify")
	run(exitAuth, "reader", "--verify")
	run(exitUsage, "k", "--verify", "--live")
	require.Equal(t, []string{"GET /readyz", "GET /readyz", "GET /v1/cluster/health", "GET /healthz", "GET /readyz", "GET /readyz", "GET /v1/cluster/health",
		"GET /readyz", "GET /v1/cluster/health", "GET /readyz", "POST /v1/cluster/health/verify", "GET /readyz", "POST /v1/cluster/health/verify"}, asked)
}
