package main

import (
	"io"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestRebalanceVerbs asks a server that notes what it is asked. Its run is over at the second look.
func TestRebalanceVerbs(t *testing.T) {
	var asked []string
	looks := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		asked = append(asked, r.Method+" "+r.URL.String()+" "+string(body))
		run := `{"id":7,"state":"running","by":"k","started_at":"2026-01-01T00:00:00Z","moves":2,"moved":1,"under_way":1,"homeward":3,"bytes":2048,"hottest_before":1.5}`
		switch {
		case r.URL.Path == "/v1/rebalance/plan":
			_, _ = w.Write([]byte(`{"moves":[{"tenant":"acme","from":1,"to":2,"vectors":1234,"bytes":2048,"why":"vectors"}],"homeward":3,"bytes":2048,"estimated_seconds":2.5,
				"before":[{"shard":1,"load":{"tenants":5,"vectors":1000,"bytes":1024},"hottest":1.5}],"after":[{"shard":1,"hottest":1.05}],"notes":["n"]}`))
		case r.URL.Path == "/v1/rebalance/rules":
			_, _ = w.Write([]byte(`{"automatic":true,"parallel":4,"cooldown":"1h0m0s","windows":[{"days":["sat"],"from":"00:00","to":"24:00"},{"from":"22:00","to":"06:00"}]}`))
		case r.URL.Path == "/v1/rebalance" && r.Method == "GET":
			if looks++; looks > 1 {
				run = `{"id":7,"state":"done","by":"k","started_at":"2026-01-01T00:00:00Z","ended_at":"2026-01-01T00:01:00Z","moves":2,"moved":2,"hottest_before":1.5,"hottest_after":1.1}`
			}
			_, _ = w.Write([]byte(`{"runs":[` + run + `],"rules":{"automatic":false,"parallel":4,"cooldown":"1h0m0s","windows":[]}}`))
		case r.URL.Path == "/v1/shards/3" || r.URL.Path == "/v1/shards/3/drain":
			_, _ = w.Write([]byte(`{"id":3,"kind":"shared","draining":true,"tenants":9,"bytes":1024}`))
		case r.URL.Path == "/v1/capacity":
			_, _ = w.Write([]byte(`{"tenants":12,"vectors":3000,"shared_shards":3,"needed":{"shards":1,"at_least":1,"scarce":"vectors"},"cost":{"currency":"EUR","month":90,"wasted_month":60},
				"merges":[{"shard":2,"tenants":4,"vectors":5,"bytes":1024}],"advice":[{"type":"merge_shards","message":"m","command":"croft shards drain 2"}]}`))
		default:
			_, _ = w.Write([]byte(run))
		}
	}))
	defer srv.Close()
	run := func(code int, args ...string) *testApp {
		a := newTestApp("", map[string]string{"CROFT_URL": srv.URL})
		require.Equal(t, code, a.run(t.Context(), args), a.err.String())
		return a
	}
	a := run(exitOK, "rebalance", "--dry-run", "-o", "csv")
	require.Contains(t, a.out.String(), `acme,1,2,"1,234",2.0 KiB,vectors`)
	require.Contains(t, a.err.String(), "shard 1: 5 tenants, 1,000 vectors, 1.0 KiB; hottest 1.50 times the mean, then 1.05")
	require.Contains(t, a.err.String(), "1 move, 2.0 KiB, about 2s; 3 to follow the ring beside them")
	require.Contains(t, run(exitUsage, "rebalance").err.String(), "moves 1 tenant with 2.0 KiB, and 3 that are to follow the ring")
	require.Contains(t, run(exitOK, "rebalance", "--yes", "--in-window", "-o", "csv").out.String(), "7,running,k,2026-01-01T00:00:00Z,-,2,1,0,2.0 KiB,1.50,-,-")
	require.Contains(t, run(exitOK, "rebalance", "--abort", "-o", "csv").out.String(), "7,running")
	run(exitUsage, "rebalance", "--abort", "--watch")
	a = run(exitOK, "rebalance", "--watch", "-o", "csv")
	require.Contains(t, a.err.String(), "run 7: 1 of 2 moved, 1 under way, 3 still to follow the ring")
	require.Contains(t, a.out.String(), "7,done,k,2026-01-01T00:00:00Z,2026-01-01T00:01:00Z,2,2,0,0 B,1.50,1.10,-")
	require.Contains(t, run(exitOK, "rebalance", "list", "-o", "csv").out.String(), "7,done")
	require.Contains(t, run(exitOK, "rebalance", "rules", "-o", "csv").out.String(), "no,4,1h0m0s,-")
	require.Contains(t, run(exitOK, "rebalance", "rules", "--automatic", "on", "--window", "sat/00:00-24:00", "--window", "22:00-06:00", "-o", "csv").out.String(),
		"yes,4,1h0m0s,sat/00:00-24:00 22:00-06:00")
	run(exitOK, "rebalance", "rules", "--window", "none")
	run(exitUsage, "rebalance", "rules", "--window", "night")
	run(exitUsage, "rebalance", "rules", "--automatic", "maybe")
	require.Contains(t, run(exitUsage, "shards", "drain", "3").err.String(), "moves 9 tenants with 1.0 KiB off shared shard 3")
	require.Contains(t, run(exitOK, "shards", "drain", "3", "--yes", "-o", "csv").out.String(), `"shared, draining"`)
	run(exitOK, "shards", "drain", "3", "--yes", "--cancel")
	a = run(exitOK, "capacity", "--tenants", "5", "-o", "csv")
	require.Contains(t, a.out.String(), "a month costs,90 EUR\n")
	require.Contains(t, a.err.String(), "not needed: shard 2 with 4 tenants, 5 vectors, 1.0 KiB")
	require.Contains(t, a.err.String(), "croft shards drain 2")
	require.Subset(t, asked, []string{
		`POST /v1/rebalance {"in_window":true}`, "DELETE /v1/rebalance ", "POST /v1/shards/3/drain ", "DELETE /v1/shards/3/drain ", "GET /v1/capacity?tenants=5 ",
		`PUT /v1/rebalance/rules {"automatic":true,"windows":[{"days":["sat"],"from":"00:00","to":"24:00"},{"from":"22:00","to":"06:00"}]}`,
		`PUT /v1/rebalance/rules {"windows":[]}`,
	})
}
