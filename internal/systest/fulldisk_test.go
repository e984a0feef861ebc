//go:build linux

package systest

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const mib = 1 << 20

// smallDisk mounts a disk of its own, in memory, that is really full when it is full.
func smallDisk(t *testing.T, size int64) string {
	t.Helper()
	dir := t.TempDir()
	err := syscall.Mount("croft-systest", dir, "tmpfs", 0, fmt.Sprintf("size=%d", size))
	if errors.Is(err, syscall.EPERM) && os.Getenv("CI") == "" {
		t.Skip("mounting a small disk takes root")
	}
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// fill leaves only so many bytes of a disk free, and returns the file to remove for more.
func fill(t *testing.T, dir string, leave int64) string {
	t.Helper()
	var st syscall.Statfs_t
	require.NoError(t, syscall.Statfs(dir, &st))
	ballast := filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, syscall.Fallocate(int(f.Fd()), 0, 0, int64(st.Bavail)*st.Bsize-leave))
	return ballast
}

// TestFullDisk fills the disk up to the reserve: writes are refused with 507 and the reason, what is there can be read
// and deleted, and once there is space again writes go on, all without a restart.
func TestFullDisk(t *testing.T) {
	dir := smallDisk(t, 128*mib)
	how := setup{data: filepath.Join(dir, "data"), reserve: "32MiB"}
	s := start(t, how)
	c := dial(s)
	createIndexes(t, c)
	fleet := newFleet(seeded(t), 2, 0)
	fleet.step(t, c)

	ballast := fill(t, dir, 16*mib)
	refusal := awaitUpsert(t, c, http.StatusInsufficientStorage)
	require.Contains(t, refusal, "disk")
	require.Contains(t, refusal, "reserve")
	marks := fleet.marks()
	_, err := fleet.check(t.Context(), c, marks, fleet.since(marks))
	require.NoError(t, err, "reads of a full disk")
	for _, w := range fleet {
		w.write(t, c, op{delete: []string{w.held()}})
	}

	require.NoError(t, os.Remove(ballast))
	awaitUpsert(t, c, http.StatusOK)
	fleet.step(t, c)
	s.kill()
	require.NoError(t, fleet.settle(t.Context(), dial(start(t, how))))
}

// awaitUpsert upserts a record, always the same, until it is answered with a status: the server measures the space
// that is free now and then, not at each write. It returns the body of an error.
func awaitUpsert(t *testing.T, c conn, status int) (body string) {
	t.Helper()
	path, in := op{upsert: []record{{ID: "probe", Values: []float32{1, 2, 3, 4, 5, 6, 7, 8}}}}.request("probe")
	got := 0
	require.Eventually(t, func() bool {
		err := c.index("l2").call(t.Context(), http.MethodPost, path, in, nil)
		var no *refused
		switch {
		case err == nil:
			got = http.StatusOK
		case errors.As(err, &no):
			got, body = no.status, no.body
			require.Contains(t, []int{http.StatusOK, http.StatusInsufficientStorage}, got, body)
		default:
			t.Error(err)
		}
		return got == status
	}, 20*time.Second, 50*time.Millisecond)
	return body
}

// TestFullDiskWithoutReserve writes until the disk itself has no space left. Nothing of what was acknowledged is lost,
// whatever the server does then: refuse, or end.
func TestFullDiskWithoutReserve(t *testing.T) {
	dir := smallDisk(t, 96*mib)
	how := setup{data: filepath.Join(dir, "data")}
	s := start(t, how)
	createIndexes(t, dial(s))
	fleet := newFleet(seeded(t), 2, 0)
	fleet.step(t, dial(s))
	ballast := fill(t, dir, 3*mib)
	writeUntilRefused(t, fleet, dial(s))

	s.kill()
	require.NoError(t, os.Remove(ballast))
	s = start(t, how)
	require.NoError(t, fleet.settle(t.Context(), dial(s)))
	fleet.step(t, dial(s))
}

// writeUntilRefused upserts large records until one is not acknowledged.
func writeUntilRefused(t *testing.T, f fleet, c conn) {
	t.Helper()
	w := f[0]
	long := string(bytes.Repeat([]byte("x"), 30_000))
	for range 10_000 {
		o := op{upsert: []record{{ID: w.id(), Values: w.vector(0), Metadata: map[string]any{"w": float64(w.seq), "long": long}}}}
		w.seq++
		path, body := o.request(w.ns)
		w.begin(o)
		if err := c.index(w.index).call(t.Context(), http.MethodPost, path, body, nil); err != nil {
			t.Logf("refused: %.300s", err)
			return
		}
		w.acknowledge()
	}
	t.Fatal("300 MB went onto a disk of 96 MiB")
}
