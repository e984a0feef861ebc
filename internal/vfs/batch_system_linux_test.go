package vfs

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestBatchWithoutSystem: where the kernel gives no queue, places are refused at once, so that whoever reads them asks for
// them in another way, and does not fault them in one by one.
func TestBatchWithoutSystem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	require.NoError(t, os.WriteFile(path, make([]byte, 10_000), 0o600))
	m, err := OS().Map(path)
	require.NoError(t, err)
	b := Batch{system: batchSystem{failed: true}}
	require.False(t, b.Add(m, 0, 10))
	b.Start()
	b.Wait()
	require.NoError(t, m.Close())
}
