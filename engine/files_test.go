package engine

import (
	"os"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"
)

// openFiles counts the file descriptors of this process.
func openFiles(t testing.TB) int {
	if runtime.GOOS != "linux" {
		return 0
	}
	names, err := os.ReadDir("/proc/self/fd")
	require.NoError(t, err)
	return len(names)
}
