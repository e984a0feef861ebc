package raftlog

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	wal "github.com/hashicorp/raft-wal"
	"github.com/hashicorp/raft-wal/metadb"
	"github.com/hashicorp/raft-wal/types"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// fault is the first that a log tells.
type fault struct {
	once sync.Once
	err  error
}

func (f *fault) Poison(err error) { f.once.Do(func() { f.err = err }) }
func (f *fault) Cause() error     { return f.err }

// observed collects what a histogram would get.
type observed []float64

func (o *observed) Observe(v float64) { *o = append(*o, v) }

func testLog(t testing.TB, dir string) (*Log, error) {
	l, err := Open(Options{
		Disk: vfs.OS(), Dir: dir, Name: "test", SegmentSize: 64 << 10, Fail: new(fault), Append: new(observed),
		Grown: func() {}, Logger: hclog.NewNullLogger(),
	})
	if err == nil {
		t.Cleanup(func() { _ = l.Close() })
	}
	return l, err
}

func logEntry(index uint64, data []byte) *raft.Log {
	return &raft.Log{Index: index, Term: 1 + index/100, Type: raft.LogCommand, Data: data, AppendedAt: time.Unix(0, int64(index))}
}

// fill appends entries from to to, each of size bytes, one batch each.
func fill(t testing.TB, l *Log, from, to uint64, size int) {
	for i := from; i <= to; i++ {
		require.NoError(t, l.StoreLog(logEntry(i, bytes.Repeat([]byte{byte(i)}, size))))
	}
}

func TestLogKeepsEntries(t *testing.T) {
	dir := t.TempDir()
	l, err := testLog(t, dir)
	require.NoError(t, err)
	want := logEntry(1, []byte("data"))
	want.Extensions = []byte("ext")
	want.Type = raft.LogConfiguration
	require.NoError(t, l.StoreLogs([]*raft.Log{want, logEntry(2, nil)}))
	require.Len(t, *l.append.(*observed), 1, "one timing per append")
	require.NoError(t, l.SetUint64([]byte("term"), 7))
	require.NoError(t, l.Close())

	l, err = testLog(t, dir)
	require.NoError(t, err)
	var got raft.Log
	require.NoError(t, l.GetLog(1, &got))
	require.Equal(t, *want, got)
	require.NoError(t, l.GetLog(2, &got))
	require.Equal(t, uint64(2), got.Index)
	require.ErrorIs(t, l.GetLog(3, &got), raft.ErrLogNotFound)
	term, err := l.GetUint64([]byte("term"))
	require.NoError(t, err)
	require.Equal(t, uint64(7), term)
	require.NoError(t, l.fail.Cause(), "a missing entry is no fault")
}

// segments returns the paths of a log's segments, oldest first.
func segments(t testing.TB, dir string) []string {
	paths, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	require.NoError(t, err)
	return paths
}

// flip inverts bits of one byte of a file.
func flip(t testing.TB, path string, at int64) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	require.NoError(t, err)
	b[0] ^= 0x40
	_, err = f.WriteAt(b[:], at)
	require.NoError(t, err)
}

// TestLogFindsEveryFlippedByte damages one byte after the other of a log with a sealed and an open segment. The log
// must refuse to open, or GetLog must refuse an entry; acknowledged entries must never be missing or different in
// silence. The last batch of the open segment is the exception: it cannot be told from one torn by a power cut.
func TestLogFindsEveryFlippedByte(t *testing.T) {
	const entries, size = 40, 2000
	pristine := t.TempDir()
	l, err := testLog(t, pristine)
	require.NoError(t, err)
	fill(t, l, 1, entries, size)
	require.NoError(t, l.Close())
	paths := segments(t, pristine)
	require.Len(t, paths, 2)
	used, err := surveyTail(vfs.OS(), paths[1], entries)
	require.NoError(t, err)
	lastBatch := used - entryHeaderSize - size - 8

	for seg, end := range []int64{60 << 10, lastBatch} {
		for at := int64(32); at < end; at += 797 {
			dir := t.TempDir()
			require.NoError(t, os.CopyFS(dir, os.DirFS(pristine)))
			flip(t, filepath.Join(dir, filepath.Base(paths[seg])), at)
			require.True(t, damageFound(t, dir, entries, size), "segment %d byte %d", seg, at)
		}
	}
}

// damageFound reports whether the log refuses something; if not, all entries must be right.
func damageFound(t *testing.T, dir string, entries uint64, size int) bool {
	l, err := testLog(t, dir)
	if err != nil {
		return true
	}
	defer l.Close()
	intact := true
	for i := uint64(1); i <= entries && intact; i++ {
		var e raft.Log
		if err := l.GetLog(i, &e); err != nil {
			require.Error(t, l.fail.Cause(), "a damaged entry poisons")
			return true
		}
		intact = e.Index == i && bytes.Equal(e.Data, bytes.Repeat([]byte{byte(i)}, size))
	}
	return intact && harmless(t, l, entries)
}

// harmless is a flip that changed nothing that is read: padding, or the index that raft-wal keeps in memory too.
func harmless(t *testing.T, l *Log, entries uint64) bool {
	last, err := l.LastIndex()
	require.NoError(t, err)
	return last == entries
}

func TestLogSeesLostEntries(t *testing.T) {
	dir := t.TempDir()
	l, err := testLog(t, dir)
	require.NoError(t, err)
	fill(t, l, 1, 10, 100)
	require.NoError(t, l.Close())
	// The type byte of the frame of entry 4: raft-wal takes it for the end of the log.
	b, err := os.ReadFile(segments(t, dir)[0])
	require.NoError(t, err)
	at := bytes.Index(b, bytes.Repeat([]byte{4}, 100)) - entryHeaderSize - 5 - 8 // headers: ours, raft-wal's of entry and frame
	b[at] = 0
	require.NoError(t, os.WriteFile(segments(t, dir)[0], b, 0o600))

	_, err = testLog(t, dir)
	require.Equal(t, errs.Corrupt, errs.KindOf(err))
	require.ErrorContains(t, err, "the log ends at entry 3")
}

func TestLogTakesATornBatch(t *testing.T) {
	for name, before := range map[string]uint64{"appended": 3, "in the place of others": 10} {
		t.Run(name, func(t *testing.T) { takesATornBatch(t, before) })
	}
}

// takesATornBatch tears entries 4 and 5, which are written to a log of before entries, of which those from 4 on are taken back.
func takesATornBatch(t *testing.T, before uint64) {
	dir := t.TempDir()
	l, err := testLog(t, dir)
	require.NoError(t, err)
	fill(t, l, 1, before, 100)
	require.NoError(t, l.DeleteRange(4, before))
	require.NoError(t, l.StoreLogs([]*raft.Log{logEntry(4, make([]byte, 100)), logEntry(5, make([]byte, 100))}))
	require.NoError(t, l.Close())
	all := segments(t, dir)
	path := all[len(all)-1]
	used, err := surveyTail(vfs.OS(), path, 5)
	require.NoError(t, err)
	flip(t, path, used-1)

	l, err = testLog(t, dir)
	require.NoError(t, err)
	last, err := l.LastIndex()
	require.NoError(t, err)
	require.Equal(t, uint64(3), last)
	fill(t, l, 4, 4, 10)
	require.NoError(t, l.Close())
	l, err = testLog(t, dir)
	require.NoError(t, err, "remains of the torn batch behind the end are no loss")
	last, _ = l.LastIndex()
	require.Equal(t, uint64(4), last)
}

// unrotate takes a log with two segments back to the moment when the first was full, its index written, and the
// metadata store did not know yet.
func unrotate(t *testing.T, dir string) (tail string) {
	db := new(metadb.BoltMetaDB)
	state, err := db.Load(dir)
	require.NoError(t, err)
	require.Len(t, state.Segments, 2)
	first := state.Segments[0]
	first.SealTime, first.MaxIndex, first.IndexStart = time.Time{}, 0, 0
	require.NoError(t, db.CommitState(types.PersistentState{NextSegmentID: state.NextSegmentID - 1, Segments: []types.SegmentInfo{first}}))
	require.NoError(t, db.Close())
	paths := segments(t, dir)
	require.NoError(t, os.Remove(paths[1]))
	return paths[0]
}

// TestLogDiesWhileSealing restarts between the batch that fills a segment and the note of it, with that batch whole
// and with it torn.
func TestLogDiesWhileSealing(t *testing.T) {
	for _, torn := range []bool{false, true} {
		t.Run(fmt.Sprint("torn ", torn), func(t *testing.T) {
			dir := t.TempDir()
			l, err := testLog(t, dir)
			require.NoError(t, err)
			last := uint64(0)
			for len(segments(t, dir)) < 2 {
				last++
				fill(t, l, last, last, 5000)
				require.NoError(t, l.wal.DeleteRange(last+1, last+1)) // nothing, but waits for a rotation that is due
			}
			require.NoError(t, l.Close())
			path := unrotate(t, dir)
			if torn {
				b, err := os.ReadFile(path)
				require.NoError(t, err)
				flip(t, path, int64(bytes.Index(b, bytes.Repeat([]byte{byte(last)}, 5000))))
				last--
			}
			bare := t.TempDir()
			require.NoError(t, os.CopyFS(bare, os.DirFS(dir)))
			w, err := wal.Open(bare, wal.WithSegmentSize(64<<10))
			require.NoError(t, err)
			require.ErrorIs(t, w.StoreLog(logEntry(last+1, nil)), wal.ErrSealed, "raft-wal has been mended: drop mendTail")
			require.NoError(t, w.Close())

			for range 2 {
				l, err = testLog(t, dir)
				require.NoError(t, err)
				got, err := l.LastIndex()
				require.NoError(t, err)
				require.Equal(t, last, got)
				fill(t, l, last+1, last+20, 5000)
				last += 20
				for i := uint64(1); i <= last; i++ {
					var e raft.Log
					require.NoError(t, l.GetLog(i, &e))
					require.Equal(t, bytes.Repeat([]byte{byte(i)}, 5000), e.Data)
				}
				require.NoError(t, l.Close())
			}
		})
	}
}

func TestLogPoisoned(t *testing.T) {
	l, err := testLog(t, t.TempDir())
	require.NoError(t, err)
	fill(t, l, 1, 1, 10)
	require.Error(t, l.StoreLog(logEntry(9, nil)), "a gap is refused by raft-wal")
	cause := l.fail.Cause()
	require.ErrorContains(t, cause, "append entries from 9")
	require.ErrorIs(t, l.StoreLog(logEntry(2, nil)), cause)
	require.ErrorIs(t, l.DeleteRange(1, 1), cause)
	require.ErrorIs(t, l.SetUint64([]byte("term"), 1), cause)

	ended := make(chan string)
	go func() {
		defer close(ended)
		_ = l.ForRaft(raft.NewDiscardSnapshotStore()).SetUint64([]byte("term"), 1)
		ended <- "raft's goroutine went on with a term that was not stored"
	}()
	require.Empty(t, <-ended)
}

func TestFullDiskIsNoPoison(t *testing.T) {
	write := func(path string) error {
		return fmt.Errorf("append: %w", &os.PathError{Op: "write", Path: path, Err: syscall.ENOSPC})
	}
	require.True(t, isRolledBack(write("/d/00000000000000000001-0000000000000000.wal")))
	require.False(t, isRolledBack(write("/d/wal-meta.db")), "bbolt")
	require.False(t, isRolledBack(&os.PathError{Op: "sync", Path: "x.wal", Err: syscall.ENOSPC}), "a failed sync is final")
	require.False(t, isRolledBack(wal.ErrSealed))
	require.False(t, isRolledBack(nil))
}

// TestLogSizes holds the estimates against exact sums.
func TestLogSizes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s sizes
		s.add(0, 0)
		upTo := []uint64{0}
		for range rapid.IntRange(1, 50).Draw(t, "entries") {
			n := rapid.SampledFrom([]uint64{60, 5000, 100_000}).Draw(t, "size")
			s.add(uint64(len(upTo)), n)
			upTo = append(upTo, upTo[len(upTo)-1]+n)
		}
		last := uint64(len(upTo) - 1)
		require.Equal(t, upTo[last], s.total)
		require.Equal(t, upTo[last], s.upTo(last))
		for i, want := range upTo {
			got := s.upTo(uint64(i))
			require.InDelta(t, want, got, sizeStep+100_000)
			require.LessOrEqual(t, got, s.upTo(uint64(min(i+1, int(last)))), "never falls")
		}
		n := rapid.Uint64Range(1, upTo[last]).Draw(t, "behind")
		at := s.indexBehind(n)
		require.GreaterOrEqual(t, upTo[last]-upTo[at], n)
		first := rapid.Uint64Range(1, last).Draw(t, "first")
		s.forget(first)
		require.Equal(t, upTo[last], s.upTo(last))
		require.InDelta(t, upTo[first-1], s.dropped, sizeStep+100_000)
	})
}

func TestLogSizesSurviveRestart(t *testing.T) {
	dir := t.TempDir()
	l, err := testLog(t, dir)
	require.NoError(t, err)
	fill(t, l, 1, 200, 1000)
	before := l.BytesAfter(100)
	require.InDelta(t, 100*1052, before, sizeStep)
	require.NoError(t, l.DeleteRange(1, 90))
	require.InDelta(t, 110*1052, l.Bytes(), sizeStep)
	require.NoError(t, l.Close())
	l, err = testLog(t, dir)
	require.NoError(t, err)
	require.InDelta(t, before, l.BytesAfter(100), 2*sizeStep)
	require.Less(t, len(segments(t, dir)), 4, "whole segments are given back")
}

func FuzzParseEntry(f *testing.F) {
	e := logEntry(3, []byte("data"))
	e.Extensions = []byte("x")
	f.Add(appendEntry(nil, e, 2))
	f.Fuzz(func(t *testing.T, data []byte) {
		fixCRC(data)
		e, err := parseEntry(data)
		if err != nil {
			require.Contains(t, []errs.Kind{errs.Corrupt, errs.FailedPrecondition}, errs.KindOf(err))
			return
		}
		l := e.log()
		require.Equal(t, e.size, entrySize(&l))
		again, err := parseEntry(appendEntry(nil, &l, e.synced))
		require.NoError(t, err)
		require.Equal(t, e, again)
	})
}

// fixCRC makes damage that a checksum does not catch.
func fixCRC(b []byte) {
	if len(b) >= entryHeaderSize {
		if size := binary.LittleEndian.Uint32(b[entrySizeAt:]); size >= entryHeaderSize && int64(size) <= int64(len(b)) {
			binary.LittleEndian.PutUint32(b[entryCRCAt:], entryCRC(b[:size]))
		}
	}
}

func TestEntryGolden(t *testing.T) {
	l := raft.Log{
		Index: 3, Term: 2, Type: raft.LogCommand, Data: []byte("data"), Extensions: []byte("ext"), AppendedAt: time.Unix(1, 5),
	}
	b := appendEntry(nil, &l, 2)
	golden, err := os.ReadFile("testdata/entry_v1.bin")
	require.NoError(t, err)
	require.Equal(t, golden, b)
	require.Equal(t, entryHeaderSize+7, len(golden))
	e, err := parseEntry(golden)
	require.NoError(t, err)
	require.Equal(t, l, e.log())
	require.Equal(t, uint64(2), e.synced)

	future := append([]byte("CLE2"), golden[4:]...)
	_, err = parseEntry(future)
	require.Equal(t, errs.Corrupt, errs.KindOf(err), "a damaged version is damage")
	fixCRC(future)
	_, err = parseEntry(future)
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(err), "a newer version is not")
}

// FuzzScanFrames reads damaged segments: what is called committed must be there, whole.
func FuzzScanFrames(f *testing.F) {
	dir := f.TempDir()
	l, err := testLog(f, dir)
	require.NoError(f, err)
	fill(f, l, 1, 5, 30)
	paths, err := filepath.Glob(filepath.Join(dir, "*.wal"))
	require.NoError(f, err)
	b, err := os.ReadFile(paths[0])
	require.NoError(f, err)
	require.Equal(f, 5, scanFrames(b).entries)
	f.Add(b[:2000])
	f.Fuzz(func(t *testing.T, data []byte) {
		got := scanFrames(data)
		require.LessOrEqual(t, got.committed, len(data))
		require.LessOrEqual(t, got.index, len(data))
		require.LessOrEqual(t, 8*got.entries, got.committed)
	})
}
