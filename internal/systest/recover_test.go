package systest

import (
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// runCroft runs a verb and returns what it printed, remarks included.
func runCroft(t *testing.T, args ...string) (string, error) {
	t.Helper()
	bin, err := croft()
	require.NoError(t, err)
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), "CROFT_API_KEY="+adminKey, "CROFT_CONFIG="+os.DevNull)
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("croft %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return string(out), err
}

// refusesToStart starts a node that must not, and returns what it said.
func refusesToStart(t *testing.T, how setup) string {
	t.Helper()
	s := launch(t, how)
	require.ErrorIs(t, s.end(), errFailed)
	return s.logTail()
}

// TestOneOfThreeNodesSurvives loses two nodes of three under load, one of them with its disk. What the survivor had is there after
// the recovery, new nodes get all of it, and the old one that comes back from the dead is refused.
func TestOneOfThreeNodesSurvives(t *testing.T) {
	rng := seeded(t)
	c := startNodes(t, 3)
	c.awaitSettled(t, 0, 3)
	createIndexes(t, dial(c.servers[0]))
	fleet := newFleet(rng, 2, 0)
	for range 3 {
		fleet.step(t, dial(c.servers[0]))
	}
	last := rng.IntN(3)
	eventually(t, "all is on the one that will be left", func() error { return fleet.settle(t.Context(), dial(c.servers[last]).reading("any")) })
	lost := []int{(last + 1) % 3, (last + 2) % 3}
	for _, at := range lost {
		c.servers[at].kill()
	}
	require.NoError(t, os.RemoveAll(c.how[lost[0]].data))
	eventually(t, "writes are refused", func() error {
		if err := fleet[0].tryWrite(t.Context(), dial(c.servers[last])); err != nil {
			return nil
		}
		return fmt.Errorf("a write was acknowledged")
	})

	data := c.how[last].data
	_, err := runCroft(t, "recover", "--data", data, "--yes")
	require.Error(t, err, "the node runs")
	c.servers[last].kill()
	out, err := runCroft(t, "recover", "--data", data, "--dry-run")
	require.NoError(t, err)
	t.Logf("%s", out)
	require.Contains(t, out, "Lost for good")
	_, err = runCroft(t, "recover", "--data", data, "--no-input")
	require.Error(t, err, "it asks")
	_, err = runCroft(t, "recover", "--data", data, "--yes")
	require.NoError(t, err)

	c.servers[last] = start(t, c.how[last])
	require.NoError(t, fleet.settle(t.Context(), dial(c.servers[last])))
	fleet.step(t, dial(c.servers[last]))
	require.Contains(t, refusesToStart(t, c.how[lost[1]]), "was removed from the cluster")
	c.add(t, last, t.TempDir())
	c.add(t, last, t.TempDir())
	c.awaitSettled(t, last, 3)
	for _, at := range []int{last, 3, 4} {
		to := dial(c.servers[at]).reading("any")
		eventually(t, fmt.Sprintf("all is on node %d", at+1), func() error { return fleet.settle(t.Context(), to) })
	}
	c.servers[last].kill()
	for _, w := range fleet {
		eventually(t, "writes without the survivor", func() error { return w.tryWrite(t.Context(), dial(c.servers[3])) })
	}
	out, err = runCroft(t, "nodes", "list", "--url", c.servers[4].url)
	require.NoError(t, err)
	require.Contains(t, out, "recovered on")
}

// TestNodeLosesAReplica deletes a shard's directory of a stopped node: it refuses to start until that is given up, and then gets it
// from the others.
func TestNodeLosesAReplica(t *testing.T) {
	rng := seeded(t)
	c := startNodes(t, 3)
	c.awaitSettled(t, 0, 3)
	createIndexes(t, dial(c.servers[0]))
	fleet := newFleet(rng, 2, 0)
	fleet.step(t, dial(c.servers[0]))
	at := rng.IntN(3)
	c.servers[at].kill()
	data := c.how[at].data
	require.NoError(t, os.RemoveAll(filepath.Join(data, "shards", fmt.Sprint(rng.IntN(3)))))
	require.Contains(t, refusesToStart(t, c.how[at]), "--lost-replicas")
	_, err := runCroft(t, "recover", "--data", data, "--lost-replicas", "--yes")
	require.NoError(t, err)
	c.restart(t, at)
	c.awaitSettled(t, at, 3)
	eventually(t, "all is there again", func() error { return fleet.settle(t.Context(), dial(c.servers[at]).reading("any")) })
}

// TestNodeIsDrainedAndRemoved takes a node of four out under load: no write fails, all replicas move, and its identity is refused.
func TestNodeIsDrainedAndRemoved(t *testing.T) {
	rng := seeded(t)
	c := startNodes(t, 4)
	c.awaitSettled(t, 0, 3)
	createIndexes(t, dial(c.servers[0]))
	at := rng.IntN(4)
	id := c.id(t, at)
	left := &nodes{}
	for i := range c.servers {
		if i != at {
			left.servers, left.how = append(left.servers, c.servers[i]), append(left.how, c.how[i])
		}
	}
	for _, s := range left.servers {
		eventually(t, "index on each node", func() error { return dial(s).call(t.Context(), http.MethodGet, "/indexes/l2", nil, nil) })
	}
	load := startPulses(t, left, setting(t, "CROFT_CLUSTER_WRITES", 100))
	url := left.servers[0].url
	_, err := runCroft(t, "nodes", "remove", id, "--yes", "--url", url)
	require.Error(t, err, "it has replicas")
	_, err = runCroft(t, "nodes", "drain", id, "--yes", "--url", url)
	require.NoError(t, err)
	eventually(t, "the node can be removed", func() error {
		_, err := runCroft(t, "nodes", "remove", id, "--yes", "--url", url)
		return err
	})
	load.lap()
	left.awaitNear(t, 0, 3, 100)
	load.stop(t)
	left.awaitSettled(t, 0, 3)
	info, err := dial(left.servers[0]).cluster(t.Context())
	require.NoError(t, err)
	for _, s := range info.Shards {
		require.False(t, slices.ContainsFunc(s.Replicas, func(r struct {
			Node string
			Role string
			Lag  uint64
		}) bool {
			return r.Node == id
		}), "shard %d", s.ID)
	}
	c.servers[at].kill()
	require.Contains(t, refusesToStart(t, c.how[at]), "was removed from the cluster")
	for i, s := range left.servers {
		require.NoError(t, load.check(t.Context(), dial(s).reading("any")), "replicas of node %d", i+1)
	}
	load.report(t)
}
