package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestWire sends shots over one connection: each is valid, differs from the others, and is answered.
func TestWire(t *testing.T) {
	var mu sync.Mutex
	seen, conns := map[float64]bool{}, map[string]bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var body struct {
			Namespace string
			TopK      int
			Vector    []float64
		}
		b, err := io.ReadAll(r.Body)
		mu.Lock()
		defer mu.Unlock()
		if err != nil || json.Unmarshal(b, &body) != nil || body.Namespace != "t" || body.TopK != 7 || len(body.Vector) != 3 || r.Header.Get("Api-Key") != "key" {
			t.Errorf("got %s, %v", b, err)
		}
		seen[body.Vector[0]], conns[r.RemoteAddr] = true, true
		w.Header().Set("Content-Length", "3000") // as croft's answers have
		if len(seen)%4 == 0 {
			w.WriteHeader(http.StatusTooManyRequests)
		}
		_, _ = io.WriteString(w, strings.Repeat("x", 3000)) // nobody can be told
	}))
	defer server.Close()
	addr := strings.TrimPrefix(server.URL, "http://")
	s := newShot(addr, "key", "/i/x/query", "t", []float32{1, 0.25, -3e-7}, 7)
	w := &wire{addr: addr}
	defer w.close()
	for n := range uint64(20) {
		status, err := w.fire(t.Context(), &s, 123456780+n, time.Minute)
		require.NoError(t, err)
		want := http.StatusOK
		if n%4 == 3 {
			want = http.StatusTooManyRequests
		}
		require.Equal(t, want, status)
	}
	require.Len(t, seen, 20)
	require.Len(t, conns, 1)
}

func TestTallies(t *testing.T) {
	var all tallies
	for i := range 100 {
		all.note(phaseCalm, time.Now().Add(-time.Duration(i)*time.Millisecond), http.StatusOK, nil)
	}
	all.note(phaseSpike, time.Now(), http.StatusTooManyRequests, nil)
	all.note(phaseSpike, time.Now(), http.StatusServiceUnavailable, nil)
	all.note(phaseSpike, time.Now(), http.StatusInternalServerError, nil)
	all.note(phaseSpike, time.Now(), 0, io.ErrUnexpectedEOF)
	require.InDelta(t, 95, quantile(all.calm(), 0.95), 5)
	require.Equal(t, tally{sent: 4, refused: 2, failed: 2}, all.phases[phaseSpike])
	require.InDelta(t, 2, ratio([]float64{2, 4, 6}, []float64{1, 2, 3}, 0.5), 1e-9)
	require.Zero(t, ratio([]float64{1}, nil, 0.5))
}

func TestRunThatShowsNothing(t *testing.T) {
	r := neighboursReport{P95RatioWithout: 1.4}
	require.Equal(t, exitUnshown, exitCode(r.check()))
	require.ErrorContains(t, r.check(), "1.40")
	require.NotEmpty(t, hintOf(r.check()))
	r.P95RatioWithout = 2
	require.NoError(t, r.check())
}
