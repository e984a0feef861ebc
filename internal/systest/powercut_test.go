//go:build linux

package systest

import (
	"context"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/faultdisk"
)

// TestPowerCut cuts the power under a whole server at random moments of a load, starts a server on each state that the
// disk may be left in, and reads everything back. In every third case the power is cut again while that server
// recovers.
func TestPowerCut(t *testing.T) {
	rng := seeded(t)
	disk := faultdisk.Mount(t, faultdisk.Options{})
	s := start(t, setup{data: filepath.Join(disk.Dir(), "data")})
	fleet := newFleet(rng, 4, 2000)
	createIndexes(t, dial(s))
	cuts := setting(t, "CROFT_CUTS", 6)
	for i := range cuts {
		cut := filepath.Join(t.TempDir(), "cut")
		marks, ops := cutUnderLoad(t, rng, disk, fleet, s, cut)
		if i%3 == 2 {
			cut = cutAgain(t, rng, cut)
		}
		after := start(t, setup{data: filepath.Join(cut, "data")})
		_, err := fleet.check(t.Context(), dial(after), marks, ops)
		require.NoError(t, err, "after cut %d", i)
		after.kill()
		require.NoError(t, os.RemoveAll(cut))
	}
	s.kill()
	require.GreaterOrEqual(t, fleet.acked(), 5*cuts, "so few writes prove nothing")
	t.Logf("%d cuts, %d acknowledged writes, %v", cuts, fleet.acked(), disk.Stats().Counts)
}

// cutUnderLoad lets the fleet write for a random time and cuts the power in the midst of it. It returns what was
// acknowledged before the cut, and what else was begun before its end.
func cutUnderLoad(t *testing.T, rng *rand.Rand, disk *faultdisk.Disk, fleet fleet, s *server, cut string) ([]mark, [][]op) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	wait := fleet.run(ctx, dial(s))
	waitRandomly(s, rng, 800*time.Millisecond)
	marks := fleet.marks()
	disk.Cut(drawn(rng), cut)
	ops := fleet.since(marks)
	cancel()
	require.NoError(t, wait())
	return marks, ops
}

// drawn returns chance for a cut; nil, which loses all that is not synced, in one of three cases.
func drawn(rng *rand.Rand) *rand.Rand {
	if rng.IntN(3) == 0 {
		return nil
	}
	return rand.New(rand.NewPCG(rng.Uint64(), rng.Uint64()))
}

// cutAgain cuts the power of a server that recovers from a cut, and returns the state after that.
func cutAgain(t *testing.T, rng *rand.Rand, from string) string {
	t.Helper()
	disk := faultdisk.Mount(t, faultdisk.Options{From: from})
	s := launch(t, setup{data: filepath.Join(disk.Dir(), "data")})
	waitRandomly(s, rng, 600*time.Millisecond)
	cut := filepath.Join(t.TempDir(), "again")
	disk.Cut(drawn(rng), cut)
	s.kill()
	return cut
}

// TestPowerCutSeesLies has every sync of a server say yes without being done. The same check must see the loss.
func TestPowerCutSeesLies(t *testing.T) {
	wrap := []string{needTool(t, "strace"), "-f", "-o", os.DevNull, "-e", "trace=fsync,fdatasync", "-e", "inject=fsync,fdatasync:retval=0"}
	disk := faultdisk.Mount(t, faultdisk.Options{})
	how := setup{data: filepath.Join(disk.Dir(), "data")}
	honest := start(t, how)
	createIndexes(t, dial(honest))
	fleet := newFleet(seeded(t), 1, 0)
	fleet.step(t, dial(honest))
	require.NoError(t, honest.stop())

	how.wrap = wrap
	liar := start(t, how)
	fleet.step(t, dial(liar))
	cut := filepath.Join(t.TempDir(), "cut")
	marks := fleet.marks()
	disk.Cut(nil, cut)
	liar.kill()

	after := launch(t, setup{data: filepath.Join(cut, "data")})
	err := after.await()
	if err == nil {
		_, err = fleet.check(t.Context(), dial(after), marks, fleet.since(marks))
	}
	require.Error(t, err, "acknowledged writes were never synced, and nobody noticed")
	t.Logf("seen: %v", err)
}
