//go:build linux

package systest

import (
	"context"
	"fmt"
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

// TestClusterPowerCuts cuts the power under one of three nodes at random moments of a load, and in every third case under all of
// them at once. Each starts again on what its disk may have kept, and must hold all that was acknowledged.
func TestClusterPowerCuts(t *testing.T) {
	rng := seeded(t)
	c := &poweredNodes{disks: make([]*faultdisk.Disk, 3)}
	data := make([]string, len(c.disks))
	for i := range c.disks {
		c.disks[i] = faultdisk.Mount(t, faultdisk.Options{})
		data[i] = filepath.Join(c.disks[i].Dir(), "data")
	}
	c.nodes = startNodesOn(t, data...)
	c.awaitSettled(t, 0, 3)
	createIndexes(t, dial(c.servers[0]))
	fleet := newFleet(rng, 2, 0)
	cuts, acked := setting(t, "CROFT_CLUSTER_CUTS", 3), 0
	for cut := range cuts {
		if cut%3 == 2 {
			acked += c.cutAll(t, rng, fleet)
		} else {
			at := rng.IntN(len(c.disks))
			var kept string
			acked += c.endWhileWriting(t, rng, fleet, at, func() { kept = c.cut(t, drawn(rng), at) })
			c.power(t, at, kept)
			c.restart(t, at)
		}
		for i, s := range c.servers {
			c.awaitSettled(t, i, 3)
			to := dial(s).reading("any")
			eventually(t, fmt.Sprintf("cut %d: all is on node %d", cut+1, i+1), func() error { return fleet.settle(t.Context(), to) })
		}
	}
	require.GreaterOrEqual(t, acked, 5*cuts, "so few writes prove nothing")
	t.Logf("%d cuts, %d acknowledged writes", cuts, acked)
}

// poweredNodes are nodes on disks whose power can be cut.
type poweredNodes struct {
	*nodes
	disks []*faultdisk.Disk
}

// cut cuts the power under a node and returns the directory that has what is left. Only what the node says after the cut may be
// lost, and it says nothing more.
func (c *poweredNodes) cut(t *testing.T, rng *rand.Rand, at int) string {
	t.Helper()
	kept := filepath.Join(t.TempDir(), "cut")
	s := c.server(at)
	s.freeze()
	c.disks[at].Cut(rng, kept)
	s.kill()
	return kept
}

// cutAll cuts the power under all nodes while clients write, and starts them again. It returns how many writes were acknowledged.
func (c *poweredNodes) cutAll(t *testing.T, rng *rand.Rand, fleet fleet) (acked int) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	before := fleet.acked()
	wait := fleet.run(ctx, dial(c.servers[0]))
	waitRandomly(c.servers[0], rng, 800*time.Millisecond)
	for i := range c.servers {
		c.power(t, i, c.cut(t, drawn(rng), i))
	}
	cancel()
	require.NoError(t, wait())
	acked = fleet.acked() - before
	for i := range c.servers {
		c.servers[i] = launch(t, c.how[i])
	}
	for _, s := range c.servers {
		s.awaitAgain(t)
	}
	eventually(t, "all is there after a cut of all", func() error { return fleet.settle(t.Context(), dial(c.servers[0])) })
	return acked
}

// power gives a node a disk with what another kept.
func (c *poweredNodes) power(t *testing.T, at int, kept string) {
	t.Helper()
	c.disks[at] = faultdisk.Mount(t, faultdisk.Options{From: kept})
	c.how[at].data = filepath.Join(c.disks[at].Dir(), "data")
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
