//go:build linux

package faultdisk_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/stretchr/testify/require"
	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"github.com/croftdb/croft/internal/faultdisk"
	"github.com/croftdb/croft/internal/vfs"
	"github.com/croftdb/croft/internal/vfs/vfstest"
)

func TestMain(m *testing.M) { faultdisk.TestMain(m) }

func TestConformance(t *testing.T) {
	disk := faultdisk.Mount(t, faultdisk.Options{})
	vfstest.Run(t, func(t *testing.T) (vfs.FS, string) {
		dir, err := os.MkdirTemp(disk.Dir(), "case")
		require.NoError(t, err)
		return vfs.OS(), dir
	})
}

func seeded(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 0)) }

// cutDir makes a cut and returns where it is.
func cutDir(t *testing.T, disk *faultdisk.Disk, seed uint64) string {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "cut")
	disk.Cut(seeded(seed), dst)
	return dst
}

func strictCut(t *testing.T, disk *faultdisk.Disk) string {
	t.Helper()
	dst := filepath.Join(t.TempDir(), "cut")
	disk.Cut(nil, dst)
	return dst
}

func TestStrictCut(t *testing.T) {
	disk := faultdisk.Mount(t, faultdisk.Options{})
	osfs := vfs.OS()
	p := filepath.Join(disk.Dir(), "f")
	f, err := osfs.Create(p)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.Write([]byte("synced"))
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoFileExists(t, filepath.Join(strictCut(t, disk), "f"), "its name was not synced")
	require.NoError(t, osfs.SyncDir(disk.Dir()))
	_, err = f.Write([]byte(" lost"))
	require.NoError(t, err)
	require.NoError(t, os.Mkdir(filepath.Join(disk.Dir(), "d"), 0o700))
	require.NoError(t, os.Rename(p, filepath.Join(disk.Dir(), "g")))

	cut := strictCut(t, disk)
	require.Equal(t, "synced", read(t, cut, "f"))
	require.NoFileExists(t, filepath.Join(cut, "g"))
	require.NoDirExists(t, filepath.Join(cut, "d"))
	require.Equal(t, "synced lost", read(t, disk.Dir(), "g"), "the disk itself goes on")

	require.NoError(t, osfs.SyncDir(disk.Dir()))
	require.NoError(t, f.Truncate(3))
	require.NoError(t, f.Sync())
	require.NoError(t, f.Truncate(0))
	cut = strictCut(t, disk)
	require.Equal(t, "syn", read(t, cut, "g"))
	require.NoFileExists(t, filepath.Join(cut, "f"))
	require.DirExists(t, filepath.Join(cut, "d"))
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, name))
	require.NoError(t, err)
	return string(b)
}

// TestCutDrawsEveryOutcome sees that cuts are as bad as they promise to be, and that a seed means one outcome.
func TestCutDrawsEveryOutcome(t *testing.T) {
	disk := faultdisk.Mount(t, faultdisk.Options{})
	const writes, size = 4, 2048
	f, err := os.Create(filepath.Join(disk.Dir(), "f"))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, vfs.OS().SyncDir(disk.Dir()))
	for range writes {
		_, err := f.Write(bytes.Repeat([]byte{'x'}, size))
		require.NoError(t, err)
	}
	require.NoError(t, os.WriteFile(filepath.Join(disk.Dir(), "new"), nil, 0o600))

	seen := map[string]int{}
	for seed := range uint64(150) {
		cut := cutDir(t, disk, seed)
		got := read(t, cut, "f")
		require.Equal(t, got, read(t, cutDir(t, disk, seed), "f"), "seed %d", seed)
		held := bytes.Count([]byte(got), []byte{'x'})
		switch {
		case held == 0:
			seen["nothing"]++
		case held == writes*size:
			seen["all"]++
		case held%size == 0:
			seen["whole writes"]++
		case held%512 == 0:
			seen["torn"]++
		}
		_, err := os.Stat(filepath.Join(cut, "new"))
		seen[fmt.Sprintf("named %v", err == nil)]++
	}
	for _, outcome := range []string{"nothing", "all", "whole writes", "torn", "named true", "named false"} {
		require.Positive(t, seen[outcome], "%s in %v", outcome, seen)
	}
}

func TestFaults(t *testing.T) {
	disk := faultdisk.Mount(t, faultdisk.Options{})
	f, err := os.Create(filepath.Join(disk.Dir(), "f"))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, vfs.OS().SyncDir(disk.Dir()))

	disk.FailWrite(1, syscall.ENOSPC)
	_, err = f.Write([]byte("a"))
	require.NoError(t, err)
	_, err = f.Write([]byte("b"))
	require.ErrorIs(t, err, syscall.ENOSPC)
	_, err = f.Write([]byte("c"))
	require.NoError(t, err)

	disk.FailSync(0, 0)
	require.ErrorIs(t, f.Sync(), syscall.EIO)
	require.NoError(t, f.Sync(), "the second one is a lie, as on Linux")
	require.Empty(t, read(t, strictCut(t, disk), "f"))
	require.Equal(t, "ac", read(t, disk.Dir(), "f"))

	disk.Fail(faultdisk.Fault{Op: faultdisk.OpName, All: true, Under: "/bad", Err: syscall.EROFS})
	for range 2 {
		require.ErrorIs(t, os.Mkdir(filepath.Join(disk.Dir(), "bad"), 0o700), syscall.EROFS)
	}
	require.NoError(t, os.Mkdir(filepath.Join(disk.Dir(), "good"), 0o700))
	disk.Heal()
	require.NoError(t, os.Mkdir(filepath.Join(disk.Dir(), "bad"), 0o700))

	stats := disk.Stats()
	require.Equal(t, []string{"write /f", "sync /f", "name /bad", "name /bad"}, stats.Failed)
	require.Equal(t, 3, stats.Counts[faultdisk.OpSync])
}

func TestStall(t *testing.T) {
	disk := faultdisk.Mount(t, faultdisk.Options{})
	f, err := os.Create(filepath.Join(disk.Dir(), "f"))
	require.NoError(t, err)
	defer f.Close()
	require.NoError(t, vfs.OS().SyncDir(disk.Dir()))
	_, err = f.Write([]byte("x"))
	require.NoError(t, err)

	disk.StallSyncs()
	defer disk.ResumeSyncs()
	synced := make(chan error)
	go func() { synced <- f.Sync() }()
	require.Eventually(t, func() bool { return disk.Stats().Stalled == 1 }, 10*time.Second, time.Millisecond)
	require.Empty(t, read(t, strictCut(t, disk), "f"))
	disk.ResumeSyncs()
	require.NoError(t, <-synced)
	require.Equal(t, "x", read(t, strictCut(t, disk), "f"))
}

func TestPreallocation(t *testing.T) {
	disk := faultdisk.Mount(t, faultdisk.Options{})
	f, err := os.Create(filepath.Join(disk.Dir(), "f"))
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteString("abc")
	require.NoError(t, err)
	require.NoError(t, vfs.OS().SyncDir(disk.Dir()))
	require.NoError(t, unix.Fallocate(int(f.Fd()), 0, 0, 6))
	require.NoError(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, 100))
	require.NoError(t, unix.Fallocate(int(f.Fd()), 0, 0, 2), "never shortens")
	require.Error(t, unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 0, 1))
	require.Empty(t, read(t, strictCut(t, disk), "f"))
	require.NoError(t, f.Sync())
	require.Equal(t, "abc\x00\x00\x00", read(t, strictCut(t, disk), "f"))
	require.Equal(t, "abc\x00\x00\x00", read(t, disk.Dir(), "f"))
}

func TestFrom(t *testing.T) {
	from := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(from, "a", "b"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(from, "a", "b", "f"), []byte("contents"), 0o600))
	disk := faultdisk.Mount(t, faultdisk.Options{From: from})
	p := filepath.Join(disk.Dir(), "a", "b", "f")
	require.NoError(t, os.WriteFile(p, []byte("unsynced"), 0o600))
	require.Equal(t, "unsynced", read(t, disk.Dir(), "a/b/f"))
	require.Equal(t, "contents", read(t, strictCut(t, disk), "a/b/f"))
}

// commits runs bbolt transactions, each of which puts its number under its own key and, large enough to take pages of
// its own, under one that all share. It calls done with their number so far after each, until done returns false.
func commits(t *testing.T, path string, noSync bool, done func(n int) bool) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{NoSync: noSync, NoGrowSync: noSync})
	require.NoError(t, err)
	defer func() { require.NoError(t, db.Close()) }()
	require.NoError(t, vfs.OS().SyncDir(filepath.Dir(path)))
	for i := 0; i == 0 || done(i); i++ {
		require.NoError(t, db.Update(func(tx *bbolt.Tx) error {
			b, err := tx.CreateBucketIfNotExists([]byte("b"))
			if err != nil {
				return err
			}
			key := binary.BigEndian.AppendUint32(nil, uint32(i))
			if err := b.Put(key, bytes.Repeat(key, 300)); err != nil {
				return err
			}
			return b.Put([]byte("last"), bytes.Repeat(key, 2000))
		}))
	}
}

// checkBolt returns what is wrong with a database that must hold at least the first n commits and at most one more
// than were begun: structure, contents, and that a commit is there whole or not at all.
func checkBolt(path string, n int) (err error) {
	defer func() {
		if p := recover(); p != nil { // bbolt panics on pages that it cannot read
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	// Zeros behind its end let bbolt find bad pages where it would die reading past the end of the file.
	if err := os.Truncate(path, 64<<20); err != nil {
		return err
	}
	db, err := bbolt.Open(path, 0o600, &bbolt.Options{ReadOnly: true})
	if err != nil {
		return err
	}
	defer db.Close()
	return db.View(func(tx *bbolt.Tx) error {
		var faults []error
		for err := range tx.Check() { // to the end: its goroutine waits for that
			faults = append(faults, err)
		}
		if len(faults) > 0 {
			return errors.Join(faults...)
		}
		b := tx.Bucket([]byte("b"))
		if b == nil {
			if n > 0 {
				return fmt.Errorf("the bucket is gone after %d commits", n)
			}
			return nil
		}
		last := b.Get([]byte("last"))
		if len(last) != 8000 {
			return fmt.Errorf("last: %d bytes", len(last))
		}
		count := int(binary.BigEndian.Uint32(last)) + 1
		if count < n {
			return fmt.Errorf("%d commits, want at least %d", count, n)
		}
		for i := range count {
			key := binary.BigEndian.AppendUint32(nil, uint32(i))
			if !bytes.Equal(b.Get(key), bytes.Repeat(key, 300)) {
				return fmt.Errorf("commit %d of %d is damaged", i, count)
			}
		}
		return nil
	})
}

// TestBoltKeepsCommits cuts the power while transactions run, at any moment, and finds every one that had committed.
func TestBoltKeepsCommits(t *testing.T) {
	const cuts = 100
	disk := faultdisk.Mount(t, faultdisk.Options{})
	var committed, checked atomic.Int64
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	first := make(chan struct{}) // before the first commit bbolt may still be making its file
	wg.Go(func() {
		defer checked.Store(cuts)
		select {
		case <-first:
		case <-t.Context().Done():
			return
		}
		for seed := range uint64(cuts) {
			before := int(committed.Load())
			if err := checkBolt(filepath.Join(cutDir(t, disk, seed), "db"), before); err != nil {
				t.Errorf("seed %d, %d commits: %v", seed, before, err)
				return
			}
			checked.Add(1)
		}
	})
	commits(t, filepath.Join(disk.Dir(), "db"), false, func(n int) bool {
		if committed.Store(int64(n)); n == 1 {
			close(first)
		}
		return checked.Load() < cuts
	})
	require.Greater(t, committed.Load(), int64(cuts/10), "the cuts fell between few commits")
}

// TestUnsyncedBoltIsCaught leaves the syncs out, which the cuts above must be able to see.
func TestUnsyncedBoltIsCaught(t *testing.T) {
	const cuts = 40
	disk := faultdisk.Mount(t, faultdisk.Options{})
	damaged := 0
	commits(t, filepath.Join(disk.Dir(), "db"), true, func(n int) bool {
		if checkBolt(filepath.Join(cutDir(t, disk, uint64(n)), "db"), n) != nil {
			damaged++
		}
		return n < cuts
	})
	require.Greater(t, damaged, cuts/2, "of %d cuts", cuts)
}

// TestRaftWALKeepsEntries does the same for the log of Raft, over several of its preallocated segments, with
// truncations at both ends.
func TestRaftWALKeepsEntries(t *testing.T) {
	disk := faultdisk.Mount(t, faultdisk.Options{})
	dir := filepath.Join(disk.Dir(), "raft")
	require.NoError(t, vfs.OS().MkdirAll(dir))
	log, err := wal.Open(dir, wal.WithSegmentSize(64<<10))
	require.NoError(t, err)
	rng := seeded(1)
	for i := uint64(1); i <= 120; i++ {
		require.NoError(t, log.StoreLog(entry(i)))
		if i == 60 {
			require.NoError(t, log.DeleteRange(1, 25))
		}
		if i%4 == 0 {
			checkWAL(t, filepath.Join(cutDir(t, disk, rng.Uint64()), "raft"), i)
		}
	}
	require.NoError(t, log.Close())
}

func entry(i uint64) *raft.Log {
	return &raft.Log{Index: i, Term: 1 + i/50, Data: bytes.Repeat([]byte{byte(i)}, 1500)}
}

func checkWAL(t *testing.T, dir string, last uint64) {
	t.Helper()
	log, err := wal.Open(dir, wal.WithSegmentSize(64<<10))
	require.NoError(t, err)
	defer func() { require.NoError(t, log.Close()) }()
	got, err := log.LastIndex()
	require.NoError(t, err)
	require.Equal(t, last, got)
	first, err := log.FirstIndex()
	require.NoError(t, err)
	for i := first; i <= last; i++ {
		var l raft.Log
		require.NoError(t, log.GetLog(i, &l))
		require.Equal(t, entry(i).Data, l.Data, "entry %d", i)
		require.Equal(t, entry(i).Term, l.Term)
	}
}

// TestLink replaces nothing, as a store does that is made under another name first.
func TestLink(t *testing.T) {
	disk := faultdisk.Mount(t, faultdisk.Options{})
	temp, path := filepath.Join(disk.Dir(), "temp"), filepath.Join(disk.Dir(), "path")
	f, err := os.Create(temp)
	require.NoError(t, err)
	defer f.Close()
	_, err = f.WriteString("one")
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, os.Link(temp, path))
	require.ErrorIs(t, os.Link(temp, path), fs.ErrExist)
	require.NoError(t, os.Remove(temp))
	require.NoError(t, vfs.OS().SyncDir(disk.Dir()))

	g, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	require.NoError(t, err)
	defer g.Close()
	_, err = g.WriteString(" two")
	require.NoError(t, err)
	require.Equal(t, "one", read(t, strictCut(t, disk), "path"))
	require.NoError(t, f.Sync(), "by the first handle")
	cut := strictCut(t, disk)
	require.Equal(t, "one two", read(t, cut, "path"))
	require.NoFileExists(t, filepath.Join(cut, "temp"))
}

func TestUnsupportedIsRefused(t *testing.T) {
	disk := faultdisk.Mount(t, faultdisk.Options{})
	require.Error(t, os.Symlink("f", filepath.Join(disk.Dir(), "g")))
	_, err := os.Stat(filepath.Join(disk.Dir(), "g"))
	require.ErrorIs(t, err, fs.ErrNotExist)
}
