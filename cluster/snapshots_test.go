package cluster

import (
	"bytes"
	"io"
	"math/rand/v2"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

var snapshotConfig = raft.Configuration{Servers: []raft.Server{{ID: "a", Address: "a"}}}

func takeSnapshot(s raft.SnapshotStore, index uint64, contents []byte) error {
	sink, err := s.Create(1, index, 2, snapshotConfig, 1, loopback{"a"}.open(""))
	if err != nil {
		return err
	}
	if _, err := sink.Write(contents); err != nil {
		_ = sink.Cancel()
		return err
	}
	return sink.Close()
}

// newestSnapshot returns index and contents of the newest snapshot, 0 if there is none.
func newestSnapshot(t testing.TB, s raft.SnapshotStore) (uint64, []byte) {
	metas, err := s.List()
	require.NoError(t, err)
	if len(metas) == 0 {
		return 0, nil
	}
	m, r, err := s.Open(metas[0].ID)
	require.NoError(t, err)
	b, err := io.ReadAll(r)
	require.NoError(t, err)
	require.NoError(t, r.Close())
	require.Equal(t, metas[0], m)
	require.EqualValues(t, len(b), m.Size)
	require.Equal(t, snapshotConfig, m.Configuration)
	return m.Index, b
}

func snapshotsIn(t testing.TB, disk vfs.FS, dir string) *snapshots {
	s, err := openSnapshots(disk, dir, hclog.NewNullLogger())
	require.NoError(t, err)
	return s
}

// TestSnapshotsOfRaftsOwnStore reads what raft.FileSnapshotStore has written, and lets it read ours.
func TestSnapshotsOfRaftsOwnStore(t *testing.T) {
	dir := t.TempDir()
	theirs, err := raft.NewFileSnapshotStoreWithLogger(dir, snapshotsKept, hclog.NewNullLogger())
	require.NoError(t, err)
	long := bytes.Repeat([]byte("theirs"), 10_000)
	require.NoError(t, takeSnapshot(theirs, 7, long))
	ours := snapshotsIn(t, vfs.OS(), dir)
	index, got := newestSnapshot(t, ours)
	require.EqualValues(t, 7, index)
	require.Equal(t, long, got)

	require.NoError(t, takeSnapshot(ours, 8, []byte("ours")))
	index, got = newestSnapshot(t, theirs)
	require.EqualValues(t, 8, index)
	require.Equal(t, "ours", string(got))
}

func TestSnapshotsAreReaped(t *testing.T) {
	disk := vfs.NewMem()
	s := snapshotsIn(t, disk, "/g")
	for index := range uint64(5) {
		require.NoError(t, takeSnapshot(s, 1+index, nil))
		require.NoError(t, takeSnapshot(s, 1+index, []byte("again")), "in the same instant")
	}
	names, err := disk.ReadDir("/g/snapshots")
	require.NoError(t, err)
	require.Len(t, names, snapshotsKept)
	require.Empty(t, disk.Handles())

	sink, err := s.Create(1, 9, 2, snapshotConfig, 1, nil)
	require.NoError(t, err)
	require.NoError(t, sink.Cancel())
	require.NoError(t, sink.Close(), "after its end")
	index, _ := newestSnapshot(t, s)
	require.EqualValues(t, 5, index)
}

func TestDamagedSnapshot(t *testing.T) {
	disk := vfs.NewMem()
	s := snapshotsIn(t, disk, "/g")
	require.NoError(t, takeSnapshot(s, 1, []byte("contents")))
	metas, err := s.List()
	require.NoError(t, err)
	f, err := disk.OpenAppend("/g/snapshots/" + metas[0].ID + "/" + snapshotState)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte("C"), 0)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, _, err = s.Open(metas[0].ID)
	require.True(t, errs.Is(err, errs.Corrupt), "%v", err)
	require.Empty(t, disk.Handles())
}

// TestSnapshotFails fails each operation, cuts the power after it, and finds the old snapshot or the new one, and the new
// one when success was told.
func TestSnapshotFails(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, fault := range []vfs.Fault{{}, {All: true}, {Reads: true}} {
		vfs.EachFailure(t, fault, func(disk *vfs.Failing, mem *vfs.Mem) {
			var told uint64
			s, err := openSnapshots(disk, "/g", hclog.NewNullLogger())
			for index := uint64(1); index <= 3 && err == nil; index++ {
				if err = takeSnapshot(s, index, bytes.Repeat([]byte{byte(index)}, 3000)); err == nil {
					told = index
				}
			}
			for _, left := range []*vfs.Mem{mem.CrashClone(nil), mem.CrashClone(rng), mem.CrashClone(rng)} {
				index, contents := newestSnapshot(t, snapshotsIn(t, left, "/g"))
				require.Contains(t, []uint64{told, told + 1}, index)
				require.Equal(t, bytes.Repeat([]byte{byte(index)}, 3000*int(min(index, 1))), append([]byte{}, contents...))
				names, err := left.ReadDir("/g/snapshots")
				require.NoError(t, err)
				for _, name := range names {
					require.NotContains(t, name, snapshotUnmade)
				}
			}
		})
	}
}
