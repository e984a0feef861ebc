package systest

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestNodeTour drives a server, and then each node of a cluster, with the official Node client, which knows nothing of croft
// but its address: the answers are the same.
func TestNodeTour(t *testing.T) {
	if os.Getenv("CROFT_TOURS") == "" {
		t.Skip("it installs a package from npm: CROFT_TOURS=1 runs it, and CI does")
	}
	node, npm := needTool(t, "node"), needTool(t, "npm")
	dir := t.TempDir()
	require.NoError(t, os.CopyFS(dir, os.DirFS("node")))
	require.NoError(t, os.RemoveAll(filepath.Join(dir, "node_modules")))
	run(t, dir, nil, npm, "ci", "--ignore-scripts")
	tour := func(s *server) {
		out := run(t, dir, []string{"PINECONE_API_KEY=" + adminKey, "PINECONE_CONTROLLER_HOST=" + s.url}, node, "--test", "tour.mjs")
		require.Contains(t, out, "pass", "the runner of node says what it ran")
	}

	alone := start(t, setup{data: t.TempDir()})
	tour(alone)
	require.NoError(t, alone.stop())

	c := startNodes(t, 3)
	c.awaitSettled(t, 0, 3)
	for _, s := range c.servers {
		tour(s)
	}
}

// run runs a command to its end and returns what it printed.
func run(t *testing.T, dir string, env []string, name string, args ...string) string {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), env...)
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s %v:\n%s", name, args, out)
	return string(out)
}
