package main

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// twoNodes answer as two nodes of a cluster do in which a migration goes through the given phases: each question is answered with the
// next one. The first node dies after its first answer.
func twoNodes(t *testing.T, phases ...string) (url string, asked *[]string) {
	said := []string{}
	shown := func(w http.ResponseWriter, phase string) {
		running := phase != "settled" && phase != "aborted"
		_, _ = fmt.Fprintf(w, `{"id":7,"tenant":"acme","from":1,"to":3,"phase":%q,"running":%t,"attempt":1,"copied_bytes":524288,"total_bytes":1048576,`+
			`"bytes_per_second":2097152,"eta_seconds":0.6,"lag_entries":12,"error":"its target is full"}`, phase, running)
	}
	second := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said = append(said, "second: "+r.Method+" "+r.URL.String())
		shown(w, phases[0])
		phases = phases[1:]
	}))
	t.Cleanup(second.Close)
	mux := http.NewServeMux()
	first := httptest.NewServer(mux)
	t.Cleanup(first.Close)
	mux.HandleFunc("GET /v1/cluster", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"nodes":[{"id":"aa11","url":%q,"self":true},{"id":"aa22","url":%q}]}`, first.URL, second.URL)
	})
	mux.HandleFunc("POST /", func(w http.ResponseWriter, r *http.Request) {
		said = append(said, r.Method+" "+r.URL.String())
		shown(w, map[bool]string{true: "aborting", false: "copying"}[strings.HasSuffix(r.URL.Path, "/cancel")])
	})
	mux.HandleFunc("GET /v1/migrations/7", func(http.ResponseWriter, *http.Request) {
		said = append(said, "first dies")
		first.CloseClientConnections()
		first.Config.SetKeepAlivesEnabled(false)
		_ = first.Listener.Close() // it is closed once more at the end
	})
	return first.URL, &said
}

// TestMoveIsWatched follows a move through the death of the node that was asked.
func TestMoveIsWatched(t *testing.T) {
	url, asked := twoNodes(t, "tailing", "settled")
	a := newTestApp("", map[string]string{"CROFT_URL": url})
	require.Equal(t, exitOK, a.run(t.Context(), []string{"tenants", "move", "acme", "--to", "3", "--watch", "-o", "csv"}), a.err.String())
	require.Equal(t, []string{"POST /v1/migrations", "first dies", "second: GET /v1/migrations/7", "second: GET /v1/migrations/7"}, *asked)
	require.Contains(t, a.err.String(), "migration 7: copying, 50 % of 1.0 MiB, 2.0 MiB/s, eta 1 s, lag 12, 0 requests failed\n")
	require.Contains(t, a.err.String(), "migration 7: tailing")
	require.Contains(t, a.out.String(), "\n7,acme,1,3,settled,1,512.0 KiB,1.0 MiB,")
}

// TestMoveThatIsGivenUpFails, unless that was asked for.
func TestMoveThatIsGivenUpFails(t *testing.T) {
	url, _ := twoNodes(t, "aborting", "aborted")
	a := newTestApp("", map[string]string{"CROFT_URL": url})
	require.Equal(t, exitConflict, a.run(t.Context(), []string{"tenants", "move", "acme", "--to", "3", "--watch"}))
	require.Contains(t, a.err.String(), `migration 7 was given up, tenant "acme" stays on shard 1: its target is full`)

	url, _ = twoNodes(t, "aborted")
	a = newTestApp("", map[string]string{"CROFT_URL": url})
	require.Equal(t, exitOK, a.run(t.Context(), []string{"migrations", "cancel", "7", "--watch"}), a.err.String())
}

func TestMigrationVerbs(t *testing.T) {
	var said []string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		said = append(said, r.Method+" "+r.URL.String())
		one := `{"id":7,"tenant":"acme","from":1,"to":3,"phase":"settled","started_at":"2027-01-15T08:00:00Z","kept_until":"2027-01-22T08:00:00Z"}`
		if r.URL.Path == "/v1/migrations" && r.Method == http.MethodGet {
			one = `{"migrations":[` + one + `],"pagination":{"next":"more"}}`
		}
		_, _ = w.Write([]byte(one))
	}))
	t.Cleanup(srv.Close)
	run := func(code int, args ...string) *testApp {
		a := newTestApp("", map[string]string{"CROFT_URL": srv.URL})
		require.Equal(t, code, a.run(t.Context(), args), a.err.String())
		return a
	}
	list := run(exitOK, "migrations", "list", "--tenant", "acme", "--running", "-o", "csv")
	require.Contains(t, list.out.String(), "7,acme,1,3,settled,0,0 B,0 B,-,-,0,0,2027-01-15T08:00:00Z,2027-01-22T08:00:00Z,-\n")
	require.Contains(t, list.err.String(), "--page more")
	run(exitOK, "migrations", "get", "7")
	run(exitOK, "migrations", "cancel", "7")
	run(exitOK, "migrations", "rollback", "7", "--watch")
	require.Contains(t, run(exitOK, "tenants", "move", "acme", "--to", "3", "--dry-run").err.String(), "not done: this copies 0 B from shard 1 to shard 3")
	require.Equal(t, []string{"GET /v1/migrations?limit=100&running=true&tenant=acme", "GET /v1/migrations/7", "POST /v1/migrations/7/cancel",
		"POST /v1/migrations/7/rollback", "GET /v1/cluster", "POST /v1/migrations"}, said)
	require.Contains(t, run(exitUsage, "tenants", "move", "acme").err.String(), "needs --to")
	require.Contains(t, run(exitUsage, "migrations", "get", "acme").err.String(), "not the number of a migration")
}
