package cluster

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// plantedBugs are what the simulation must find, each within a few simulated clusters, of some minutes. They are
// patches in testdata/bugs.
var plantedBugs = []struct {
	name  string
	mix   string // of faults that bring it to light
	finds string // the kinds of violations that may be told
}{
	{"acknowledge-before-quorum", "network", "history|liveness"},
	{"skip-log-sync", "power", "process|history|digest|apply|answer"},
	{"deposed-leader-reads", "network", "history"},
	{"lease-outlives-transfer", "transfer", "history"},
	{"apply-twice", "restart", "apply"},
	{"drop-last-chunk", "checkpoint", "process|digest|history|answer|any"},
	{"flip-without-drain", "move", "history|move|any"},
	{"settle-with-another-digest", "move", "history|any|digest"},
	{"left-shard-serves", "move", "history|move|any"},
}

// TestPlantedBugsApply sees to it that the patches keep up with the code: one that does not apply finds nothing.
func TestPlantedBugsApply(t *testing.T) {
	patches, err := filepath.Glob("testdata/bugs/*.patch")
	require.NoError(t, err)
	require.Len(t, patches, len(plantedBugs))
	for _, bug := range plantedBugs {
		require.NotEmpty(t, patched(t, bug.name), bug.name)
	}
}

// TestPlantedBugs builds the tests with each bug and expects the simulation to tell of a violation of its kind. With
// CROFT_SIM_BUGS=both the same seeds must find none without the bug.
func TestPlantedBugs(t *testing.T) {
	if os.Getenv("CROFT_SIM_BUGS") == "" {
		t.Skip("it builds the tests once for each bug: CROFT_SIM_BUGS=1 runs it, and CI does")
	}
	for _, bug := range plantedBugs {
		t.Run(bug.name, func(t *testing.T) {
			overlay := overlayOf(t, patched(t, bug.name))
			run := func(args ...string) string {
				cmd := simulationProcess(t, "^TestSimulation$", args...)
				cmd.Env = append(os.Environ(), "CROFT_SIM_MIX="+bug.mix, "CROFT_SIM_HOURS=1.6", "CROFT_SIM_LENGTH=12m",
					"CROFT_SIM_NODES=3", "CROFT_SEED=42")
				out, err := cmd.CombinedOutput()
				if len(args) == 0 {
					require.NoError(t, err, "without the bug: %s", out)
				}
				return string(out)
			}
			if os.Getenv("CROFT_SIM_BUGS") == "both" {
				run()
			}
			out := run("-overlay="+overlay, "-failfast")
			found := regexp.MustCompile(`violation \((\w+)\)`).FindAllString(out, -1)
			require.NotEmpty(t, found, "nothing was found: %s", out)
			t.Logf("%d violations, the first: %s", len(found), found[0])
			require.Regexp(t, `^violation \((`+bug.finds+`)\)$`, found[0])
		})
	}
}

// patched applies a patch to copies of the files that it changes, and returns these by the paths of the originals.
func patched(t *testing.T, bug string) map[string]string {
	patch, err := filepath.Abs(filepath.Join("testdata", "bugs", bug+".patch"))
	require.NoError(t, err)
	root, err := filepath.Abs("..")
	require.NoError(t, err)
	dir := t.TempDir()
	files := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^\+\+\+ b/(\S+)$`).FindAllStringSubmatch(read(t, patch), -1) {
		from, to := filepath.Join(root, m[1]), filepath.Join(dir, m[1])
		require.NoError(t, os.MkdirAll(filepath.Dir(to), 0o700))
		require.NoError(t, os.WriteFile(to, []byte(read(t, from)), 0o600))
		files[from] = to
	}
	cmd := exec.CommandContext(t.Context(), "git", "apply", "--whitespace=nowarn", patch)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "GIT_DIR=/dev/null")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, "%s does not apply any more: %s", bug, strings.TrimSpace(string(out)))
	for from, to := range files {
		require.NotEqual(t, read(t, from), read(t, to), "%s changes nothing in %s", bug, from)
	}
	return files
}

func read(t *testing.T, path string) string {
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	return string(b)
}

// overlayOf writes what -overlay of the go command reads.
func overlayOf(t *testing.T, files map[string]string) string {
	b, err := json.Marshal(map[string]any{"Replace": files})
	require.NoError(t, err)
	path := filepath.Join(t.TempDir(), "overlay.json")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	return path
}
