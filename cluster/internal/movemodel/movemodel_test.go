package movemodel_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster/internal/movemodel"
)

var update = flag.Bool("update", false, "write golden files anew")

var (
	putA = movemodel.Request{Key: 0}
	putB = movemodel.Request{Key: 1}
	delA = movemodel.Request{Key: 0, Delete: true}
	delB = movemodel.Request{Key: 1, Delete: true}
)

// settings are what go test explores in seconds. CROFT_MODEL=large adds what takes minutes, and some GiB of memory.
func settings() map[string]movemodel.Setting {
	type requests = []movemodel.Request
	s := map[string]movemodel.Setting{
		"writes":   {Requests: requests{putA, putB, delA}, Moves: 1, Attempts: 1},
		"attempts": {Requests: requests{putA, putB, delA}, Moves: 1, Attempts: 2},
		"back":     {Requests: requests{putA, delA}, Moves: 2, Attempts: 1},
		"leaders":  {Requests: requests{putA}, Moves: 1, Attempts: 2, Changes: 1},
	}
	if os.Getenv("CROFT_MODEL") == "large" {
		s["large: writes"] = movemodel.Setting{Requests: requests{putA, putB, delA, delB}, Moves: 1, Attempts: 2}
		s["large: leaders"] = movemodel.Setting{Requests: requests{putA, putB, delA}, Moves: 1, Attempts: 2, Changes: 1}
		s["large: back"] = movemodel.Setting{Requests: requests{putA, delA}, Moves: 2, Attempts: 2}
	}
	return s
}

// TestProtocol explores all states of the protocol.
func TestProtocol(t *testing.T) {
	for name, s := range settings() {
		t.Run(name, func(t *testing.T) {
			r, err := movemodel.Explore(s)
			require.NoError(t, err)
			require.Empty(t, r.Broken, "after:\n%s", strings.Join(r.Trace, "\n"))
			t.Logf("%d states, %d steps, the farthest %d from the first; %d where the move is done, %d where it was aborted",
				r.States, r.Steps, r.Depth, r.Moved, r.Aborted)
			require.NotZero(t, r.Moved)
			require.NotZero(t, r.Aborted)
		})
	}
}

// TestFaults breaks the protocol in each way that it guards against, and expects the model to tell.
func TestFaults(t *testing.T) {
	for fault, want := range map[movemodel.Fault]string{
		movemodel.FlipBeforeDrain:     "MI-4",
		movemodel.TombstonesForgotten: "MI-5",
		movemodel.GetOrCreate:         "MI-9",
		movemodel.OnceForgotten:       "MI-12",
		movemodel.AbortUnnoted:        "MI-9",
		movemodel.AttemptUnchecked:    "MI-9",
		movemodel.AttemptLeftOpen:     "MI-7",
		movemodel.UnfenceLeavesOpen:   "MI-7",
		movemodel.StageWhereEmpty:     "MI-6",
		movemodel.TailUnreadies:       "MI-7",
		movemodel.FencedReadsUnasked:  "MI-8",
		movemodel.FenceLiftedAlone:    "MI-3",
		movemodel.LeaseOutlived:       "MI-8",
	} {
		t.Run(string(fault), func(t *testing.T) {
			s := movemodel.Setting{Requests: []movemodel.Request{putA, delA}, Moves: 1, Attempts: 2, Fault: fault}
			if fault == movemodel.LeaseOutlived {
				s.Changes = 1
			}
			r, err := movemodel.Explore(s)
			require.NoError(t, err)
			require.True(t, strings.HasPrefix(r.Broken, want+":"), "found %q after:\n%s", r.Broken, strings.Join(r.Trace, "\n"))
			golden(t, string(fault), strings.Join(append(r.Trace, r.Broken), "\n")+"\n")
		})
	}
}

// golden compares a shortest way to a fault with the one that is kept.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name+".txt")
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}
