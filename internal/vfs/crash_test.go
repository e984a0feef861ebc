package vfs_test

import (
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/vfs"
)

func put(t require.TestingT, fsys vfs.FS, path string, contents []byte, sync bool) {
	f, err := fsys.Create(path)
	require.NoError(t, err)
	_, err = f.Write(contents)
	require.NoError(t, err)
	if sync {
		require.NoError(t, f.Sync())
	}
	require.NoError(t, f.Close())
}

// contents returns what is at a path, nil when nothing is.
func contents(t require.TestingT, fsys vfs.FS, path string) []byte {
	there, err := vfs.Exists(fsys, path)
	require.NoError(t, err)
	if !there {
		return nil
	}
	b, err := vfs.ReadFile(fsys, path)
	require.NoError(t, err)
	return b
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

func TestCrashWithoutLuckLosesAllThatIsUnsynced(t *testing.T) {
	m := vfs.NewMem()
	put(t, m, "/named", []byte("contents"), true)
	require.NoError(t, m.SyncDir("/"))
	put(t, m, "/unnamed", []byte("contents"), true)
	f, err := m.OpenAppend("/named")
	require.NoError(t, err)
	_, err = f.Write([]byte(" and more"))
	require.NoError(t, err)

	require.Equal(t, "contents", string(contents(t, m.CrashClone(nil), "/named")))
	require.Nil(t, contents(t, m.CrashClone(nil), "/unnamed"), "the name was not synced")
	require.Equal(t, "contents and more", string(contents(t, m.Clone(), "/named")), "only the process died")
	require.Equal(t, "contents", string(contents(t, m.Clone().CrashClone(nil), "/named")), "then the power")

	require.NoError(t, f.Sync())
	require.Equal(t, "contents and more", string(contents(t, m.CrashClone(nil), "/named")))
}

func TestCrashNamesNeedSyncDir(t *testing.T) {
	m := vfs.NewMem()
	require.NoError(t, m.MkdirAll("/a"))
	require.NoError(t, m.MkdirAll("/b"))
	put(t, m, "/a/x", []byte("x"), true)
	put(t, m, "/a/y", []byte("y"), true)
	require.NoError(t, m.SyncDir("/a"))

	require.NoError(t, m.Remove("/a/y"))
	require.Equal(t, "y", string(contents(t, m.CrashClone(nil), "/a/y")), "the removal was not synced")

	require.NoError(t, m.Rename("/a/x", "/b/x"))
	require.NoError(t, m.SyncDir("/b"))
	require.Equal(t, "x", string(contents(t, m.CrashClone(nil), "/b/x")))
	require.Equal(t, "x", string(contents(t, m.CrashClone(nil), "/a/x")), "the old name goes with its own directory")
	require.NoError(t, m.SyncDir("/a"))
	require.Nil(t, contents(t, m.CrashClone(nil), "/a/x"))
	require.Nil(t, contents(t, m.CrashClone(nil), "/a/y"))
}

func TestCrashLeavesOneNameOfARename(t *testing.T) {
	m := vfs.NewMem()
	put(t, m, "/old", []byte("x"), true)
	require.NoError(t, m.SyncDir("/"))
	require.NoError(t, m.Rename("/old", "/new"))
	seen := map[bool]bool{}
	for seed := range uint64(40) {
		c := m.CrashClone(seeded(seed))
		renamed := contents(t, c, "/new") != nil
		require.Equal(t, renamed, contents(t, c, "/old") == nil, "seed %d", seed)
		seen[renamed] = true
	}
	require.Len(t, seen, 2)
}

// TestCrashDrawsEveryOutcome sees that the cuts are as bad as they promise to be.
func TestCrashDrawsEveryOutcome(t *testing.T) {
	m := vfs.NewMem()
	put(t, m, "/f", nil, true)
	require.NoError(t, m.SyncDir("/"))
	const sectors = 8
	put(t, m, "/f", bytes.Repeat([]byte{'x'}, sectors*512), false)
	put(t, m, "/new", nil, true)

	seen := map[string]int{}
	for seed := range uint64(400) {
		c := m.CrashClone(seeded(seed))
		got := contents(t, c, "/f")
		held := bytes.Count(got, []byte{'x'})
		switch {
		case len(got) == 0:
			seen["nothing"]++
		case held == sectors*512:
			seen["all"]++
		case len(got) < sectors*512:
			seen["short"]++
		case held%512 == 0:
			seen["holes"]++
		}
		seen[fmt.Sprintf("named %v", contents(t, c, "/new") != nil)]++
		require.Equal(t, got, contents(t, m.CrashClone(seeded(seed)), "/f"), "seed %d must give the same again", seed)
	}
	for _, outcome := range []string{"nothing", "all", "short", "holes", "named true", "named false"} {
		require.Positive(t, seen[outcome], "%s in %v", outcome, seen)
	}
}

// TestCrashKeepsItsPromise plays random calls on a few files and holds the crash clone to the contract: contents
// synced and not touched since, under a name synced and not touched since, are there to the byte.
func TestCrashKeepsItsPromise(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := &crashHistory{t: t, m: vfs.NewMem(), open: map[string]vfs.File{}, state: map[string]promise{}}
		t.Repeat(map[string]func(*rapid.T){
			"write":    h.write,
			"truncate": h.truncate,
			"sync":     h.sync,
			"sync dir": h.syncDir,
			"rename":   h.rename,
			"remove":   h.remove,
			"crash":    h.crash,
		})
		h.crash(t)
	})
}

// promise is what a power cut must keep of a path: when both marks are set, exactly its present contents.
type promise struct{ contents, name bool }

type crashHistory struct {
	t     *rapid.T
	m     *vfs.Mem
	open  map[string]vfs.File
	state map[string]promise
}

func (h *crashHistory) pick(t *rapid.T, label string) string {
	return rapid.SampledFrom([]string{"/a", "/b", "/c"}).Draw(t, label)
}

func (h *crashHistory) file(p string) vfs.File {
	if f := h.open[p]; f != nil {
		return f
	}
	f, err := h.m.OpenAppend(p)
	require.NoError(h.t, err)
	h.open[p], h.state[p] = f, promise{contents: true}
	return f
}

func (h *crashHistory) write(t *rapid.T) {
	p := h.pick(t, "path")
	f := h.file(p)
	size, err := f.Size()
	require.NoError(t, err)
	off := rapid.Int64Range(0, size+600).Draw(t, "offset")
	b := rapid.SliceOfN(rapid.Byte(), 1, 1500).Draw(t, "bytes")
	_, err = f.WriteAt(b, off)
	require.NoError(t, err)
	h.state[p] = promise{name: h.state[p].name}
}

func (h *crashHistory) truncate(t *rapid.T) {
	p := h.pick(t, "path")
	require.NoError(t, h.file(p).Truncate(rapid.Int64Range(0, 3000).Draw(t, "size")))
	h.state[p] = promise{name: h.state[p].name}
}

func (h *crashHistory) sync(t *rapid.T) {
	p := h.pick(t, "path")
	require.NoError(t, h.file(p).Sync())
	h.state[p] = promise{contents: true, name: h.state[p].name}
}

func (h *crashHistory) syncDir(t *rapid.T) {
	require.NoError(t, h.m.SyncDir("/"))
	for p, s := range h.state {
		s.name = true
		h.state[p] = s
	}
}

func (h *crashHistory) rename(t *rapid.T) {
	from, to := h.pick(t, "from"), h.pick(t, "to")
	if h.open[from] == nil || from == to {
		return
	}
	require.NoError(t, h.m.Rename(from, to))
	h.open[to], h.state[to] = h.open[from], promise{contents: h.state[from].contents}
	delete(h.open, from)
	h.state[from] = promise{}
}

func (h *crashHistory) remove(t *rapid.T) {
	p := h.pick(t, "path")
	if h.open[p] == nil {
		return
	}
	require.NoError(t, h.m.Remove(p))
	delete(h.open, p)
	h.state[p] = promise{}
}

func (h *crashHistory) crash(t *rapid.T) {
	clone := h.m.CrashClone(seeded(rapid.Uint64().Draw(t, "seed")))
	for p, s := range h.state {
		switch {
		case s.name && h.open[p] == nil:
			require.Nil(t, contents(t, clone, p), "%s is gone for good", p)
		case s.name && s.contents:
			require.Equal(t, contents(t, h.m, p), contents(t, clone, p), p)
		}
	}
}

// TestWriteAtomic fails each operation, cuts the power after it, and finds the old contents or the new, never a
// mixture, and always the new ones when success was told.
func TestWriteAtomic(t *testing.T) {
	older, newer := []byte(strings.Repeat("old ", 500)), []byte(strings.Repeat("new!", 700))
	for _, fault := range []vfs.Fault{{}, {All: true}} {
		runs := vfs.EachFailure(t, fault, func(disk *vfs.Failing, mem *vfs.Mem) {
			put(t, mem, "/f", older, true)
			require.NoError(t, mem.SyncDir("/"))
			err := vfs.WriteAtomic(disk, "/f", func(w io.Writer) error {
				_, err := w.Write(newer)
				return err
			})
			require.Equal(t, disk.Failed() == "", err == nil, disk.Failed())
			for seed := range uint64(30) {
				got := contents(t, mem.CrashClone(seeded(seed)), "/f")
				if err != nil && bytes.Equal(got, older) {
					continue
				}
				require.True(t, bytes.Equal(got, newer), "%s, seed %d: torn or stale", disk.Failed(), seed)
			}
			require.Empty(t, mem.Handles())
		})
		require.Equal(t, 6, runs, "create, write, sync, rename and sync dir fail in turn; then none does")
	}
}
