package store_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// journalOf returns a disk with a journal of the given contents.
func journalOf(t testing.TB, b []byte) vfs.FS {
	disk := vfs.NewMem()
	f, err := disk.Create("/records.db")
	require.NoError(t, err)
	_, err = f.Write(b)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	return disk
}

// history commits transactions of several changes each to a journaled store, and remembers what must be there.
type history struct {
	acked, tried map[string]string // after the last commit that succeeded; after the one that was tried then
}

func (h *history) run(disk vfs.FS, commits int) error {
	m, err := store.OpenMem(disk, "/records.db", options())
	if err != nil {
		return err
	}
	for i := range commits {
		next := maps.Clone(h.acked)
		err = m.Update(func(rw store.RW) error {
			for n := range 4 {
				key := fmt.Sprint("key", (i*7+n*3)%11)
				next[key] = fmt.Sprint(i, n)
				if err := rw.Put(1, []byte(key), make([]byte, 600*n)); err != nil {
					return err
				}
				if err := rw.Put(0, []byte(key), []byte(next[key])); err != nil {
					return err
				}
			}
			gone := fmt.Sprint("key", i%5)
			delete(next, gone)
			return rw.Delete(0, []byte(gone))
		})
		if h.tried = next; err != nil {
			break
		}
		h.acked = next
	}
	if closing := m.Close(); err == nil {
		err = closing
	}
	return err
}

// check finds what was acknowledged, or what was tried after it, and nothing in between.
func (h *history) check(t testing.TB, disk vfs.FS) {
	m, err := store.OpenMem(disk, "/records.db", options())
	require.NoError(t, err)
	defer func() { require.NoError(t, m.Close()) }()
	got := map[string]string{}
	require.NoError(t, m.View(func(tx store.Tx) error {
		return tx.Ascend(0, nil, func(k, v []byte) (bool, error) {
			got[string(k)] = string(v)
			return true, nil
		})
	}))
	if !maps.Equal(got, h.tried) {
		require.Equal(t, h.acked, got)
	}
	require.NoError(t, m.Update(func(rw store.RW) error { return rw.Put(2, []byte("goes"), []byte("on")) }))
}

// TestJournalFails fails each operation, and cuts the power after it.
func TestJournalFails(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for _, fault := range []vfs.Fault{{}, {All: true}, {Reads: true}} {
		runs := vfs.EachFailure(t, fault, func(disk *vfs.Failing, mem *vfs.Mem) {
			h := &history{acked: map[string]string{}, tried: map[string]string{}}
			err := h.run(disk, 6)
			require.Equal(t, disk.Failed() != "", err != nil, "%v", err)
			for _, left := range []*vfs.Mem{mem.Clone(), mem.CrashClone(nil), mem.CrashClone(rng), mem.CrashClone(rng)} {
				h.check(t, left)
			}
		})
		require.Greater(t, runs, 1)
	}
}

// TestJournalIsRewritten lets a journal grow until it is replaced by a copy, with the power cut now and then.
func TestJournalIsRewritten(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	disk := vfs.NewMem()
	h := &history{acked: map[string]string{}, tried: map[string]string{}}
	for range 8 {
		require.NoError(t, h.run(disk, 100))
		disk = disk.CrashClone(rng)
		h.check(t, disk)
		info, err := disk.Stat("/records.db")
		require.NoError(t, err)
		require.Less(t, info.Size, int64(2<<20), "it is kept short")
	}
}

// FuzzOpenMem opens anything: refused as corrupt, or a store that goes on.
func FuzzOpenMem(f *testing.F) {
	disk := vfs.NewMem()
	h := &history{acked: map[string]string{}}
	require.NoError(f, h.run(disk, 2))
	whole, err := vfs.ReadFile(disk, "/records.db")
	require.NoError(f, err)
	f.Add(whole)
	f.Add(whole[:len(whole)-3])
	f.Add([]byte("croftmem\xff"))
	f.Add([]byte("bolt"))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := store.OpenMem(journalOf(t, b), "/records.db", options())
		if err != nil {
			require.Equal(t, errs.Corrupt, errs.KindOf(err), "%v", err)
			return
		}
		require.NoError(t, m.Update(func(rw store.RW) error { return rw.Put(0, []byte("k"), nil) }))
		require.NoError(t, m.Close())
	})
}
