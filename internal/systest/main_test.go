package systest

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/faultdisk"
)

func TestMain(m *testing.M) { faultdisk.TestMain(m) }

// croft is the path of the binary under test, built by the first test that asks for it. There is one per checkout, so
// that runs do not pile them up.
var croft = sync.OnceValues(func() (string, error) {
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256([]byte(root))
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("croft-systest-%d-%s", os.Getuid(), hex.EncodeToString(sum[:4])))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	fresh := filepath.Join(dir, fmt.Sprintf("croft-%d", os.Getpid()))
	build := exec.Command("go", "build", "-o", fresh, "./cmd/croft")
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build croft: %w\n%s", err, out)
	}
	bin := filepath.Join(dir, "croft")
	return bin, os.Rename(fresh, bin)
})

// seeded returns a source of chance whose seed is printed, and is taken from CROFT_SEED when that is set.
func seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("CROFT_SEED"); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err, "CROFT_SEED")
	}
	t.Logf("CROFT_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

// setting reads how much a test does from the environment, so that CI and long runs do more than `go test ./...`.
func setting(t testing.TB, name string, otherwise int) int {
	t.Helper()
	s := os.Getenv(name)
	if s == "" {
		return otherwise
	}
	n, err := strconv.Atoi(s)
	require.NoError(t, err, name)
	return n
}

// needTool skips a test without a tool, but not in CI, whose script installs all of them.
func needTool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Getenv("CI") != "" {
		t.Fatalf("CI must have %s: %v", name, err)
	}
	if err != nil {
		t.Skipf("%s is not installed: %v", name, err)
	}
	return path
}
