package systest

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// TestKill kills a server again and again, at any moment of an import, of its start and of its stop, and reads after
// each restart everything that was ever written: what was acknowledged is there, nothing else is, batches are there as
// a whole or not at all, and what was seen once stays.
func TestKill(t *testing.T) {
	rng := seeded(t)
	kills := setting(t, "CROFT_KILLS", 6)
	fleet := newFleet(rng, 4, 6000)
	how := setup{data: t.TempDir()}
	s := start(t, how)
	createIndexes(t, dial(s))

	acked := 0
	for kill := 0; kill < kills; kill++ {
		acked += writeAndKill(t, rng, fleet, s)
		for rng.IntN(4) == 0 { // as a crash loop does
			s = launch(t, how)
			waitRandomly(s, rng, 400*time.Millisecond)
			s.kill()
			kill++
		}
		s = start(t, how)
		require.NoError(t, fleet.settle(t.Context(), dial(s)), "after kill %d", kill)
	}
	require.NoError(t, s.stop())
	s = start(t, how)
	require.NoError(t, fleet.settle(t.Context(), dial(s)), "after a stop in order")
	require.GreaterOrEqual(t, acked, 5*kills, "so few writes prove nothing")
	t.Logf("%d kills, %d acknowledged writes", kills, acked)
}

// writeAndKill lets the fleet write, kills the server at a random moment, of its stop in one of three cases, and
// returns how many writes were acknowledged.
func writeAndKill(t *testing.T, rng *rand.Rand, fleet fleet, s *server) int {
	t.Helper()
	before := fleet.acked()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	wait := fleet.run(ctx, dial(s))
	waitRandomly(s, rng, 800*time.Millisecond)
	if rng.IntN(3) == 0 {
		s.terminate() // it flushes and saves graphs: the kill comes in the midst
		waitRandomly(s, rng, 200*time.Millisecond)
	}
	s.kill()
	require.NoError(t, wait())
	return fleet.acked() - before
}

// waitRandomly draws a moment, and waits for it or for the end of the server.
func waitRandomly(s *server, rng *rand.Rand, most time.Duration) {
	select {
	case <-time.After(time.Duration(rng.Int64N(int64(most)))):
	case <-s.exited:
	}
}
