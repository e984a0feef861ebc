package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// TestExportEachFailure fails every operation of an export in turn. It is given up with an error and without an open file, or
// it is whole; the shard goes on in any case, and a crash in between leaves nothing behind.
func TestExportEachFailure(t *testing.T) {
	for _, fault := range []vfs.Fault{{}, {Reads: true}, {Err: syscall.ENOSPC, All: true}} {
		mem := vfs.NewMem()
		failing := vfs.NewFailing(mem)
		s := newSubject(t, Options{InMemory: true, FS: failing, Logger: quiet()})
		rng := rand.New(rand.NewPCG(1, 1))
		for n := range 60 {
			s.apply(mixed(rng, n))
		}
		require.NoError(t, s.shard.flush())
		open := len(mem.Handles())
		want, err := s.shard.TenantDigest(TenantID{1})
		require.NoError(t, err)
		for at := 0; ; at++ {
			fault.At = at
			failing.Arm(fault)
			got, err := exported(s.shard, TenantID{1})
			failed := failing.Failed()
			failing.Disarm()
			require.Equal(t, failed != "", err != nil, "%s: %v", failed, err)
			require.Len(t, mem.Handles(), open, failed)
			require.NoError(t, s.shard.failure(), failed)
			reopened := openAt(t, s.dir, Options{InMemory: true, FS: mem.Clone(), Logger: quiet()})
			names, err := reopened.fs.ReadDir(s.dir)
			require.NoError(t, err)
			require.Len(t, names, 3, "%s leaves %v", failed, names)
			if failed == "" {
				require.Equal(t, want, got)
				require.GreaterOrEqual(t, at, 2, "the export must touch the disk")
				break
			}
		}
	}
}

// exported reads an export to its end.
func exported(s *Shard, t TenantID) (d TenantDigest, err error) {
	x, err := s.ExportTenant(context.Background(), t)
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, x.Close(), x.Close()) }()
	records := uint64(0)
	for last := false; !last; {
		c, err := x.Next(100)
		if err != nil {
			return d, err
		}
		records += uint64(len(c.Batch.records))
		last = c.Batch.Last
	}
	if records != x.Records() || x.Applied() != x.digest.Applied {
		err = errs.New(errs.Corrupt, "%d records, want %d", records, x.Records())
	}
	return x.Digest(), err
}

// TestExportFindsDamage flips a byte of a row: it is not handed out.
func TestExportFindsDamage(t *testing.T) {
	s := newSubject(t, Options{Logger: quiet()})
	rng := rand.New(rand.NewPCG(1, 1))
	for n := range 20 {
		s.apply(mixed(rng, n))
	}
	require.NoError(t, s.shard.flush())
	paths, err := filepath.Glob(filepath.Join(s.dir, segmentsDir, "*.seg"))
	require.NoError(t, err)
	require.Len(t, paths, 1)
	f, err := os.OpenFile(paths[0], os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{0xff}, 64)
	require.NoError(t, err)
	require.NoError(t, f.Close())
	_, err = exported(s.shard, TenantID{1})
	require.Equal(t, errs.Corrupt, errs.KindOf(err), "%v", err)
	require.NoError(t, s.shard.failure())
}

// TestExportOutlivesItsFiles empties the shard under an open export.
func TestExportOutlivesItsFiles(t *testing.T) {
	s := inMemory(t, Options{})
	rng := rand.New(rand.NewPCG(1, 1))
	for n := range 60 {
		s.apply(mixed(rng, n))
	}
	x, err := s.shard.ExportTenant(t.Context(), TenantID{1})
	require.NoError(t, err)
	want := x.Digest()
	s.apply(&Command{Op: OpDeleteAll, Key: testKey(1, 1)})
	for _, other := range []byte{2, 9} {
		s.apply(&Command{Op: OpDropTenant, Key: testKey(other, 1)})
	}
	for range 3 { // an epoch after the other
		upkeep(s.shard)
	}
	require.Zero(t, s.shard.Stats().Segments)

	to := inMemory(t, Options{})
	require.NoError(t, to.apply(order(OpStageTenant, 1, 1)).Err)
	for last := false; !last; {
		c, err := x.Next(500)
		require.NoError(t, err)
		c.Move, last = Move{1, 1}, c.Batch.Last
		require.NoError(t, to.apply(c).Err)
	}
	require.NoError(t, x.Close())
	_, err = x.Next(500)
	require.Equal(t, errs.NotFound, errs.KindOf(err))
	got, err := to.shard.TenantDigest(TenantID{1})
	require.NoError(t, err)
	require.Equal(t, want.Sum(), got.Sum())
}

// stagedGraph is a shard with a staged partition, and the graph that belongs to it.
func stagedGraph(t testing.TB, fsys vfs.FS) (*subject, []byte) {
	opts := Options{InMemory: true, GraphAbove: 50, FlatBelow: 10, Logger: quiet()}
	from := inMemory(t, opts)
	fillGraph(from, 120)
	opts.FS = fsys
	to := newSubject(t, opts)
	stageAll(t, from, to, TenantID{1}, Move{1, 1}, 1<<20)
	require.NoError(t, to.shard.flush())
	g, err := from.shard.ExportGraph(testKey(1, 1))
	require.NoError(t, err)
	b := make([]byte, g.Size)
	_, err = g.ReadAt(b, 0)
	require.NoError(t, err)
	require.NoError(t, g.Close())
	return to, b
}

// TestImportGraphCrash fails every operation of taking a graph in turn, or cuts the power there. The graph is there as a whole
// or not at all, nothing else is left behind, and the partition answers in any case.
func TestImportGraphCrash(t *testing.T) {
	mem := vfs.NewMem()
	s, graph := stagedGraph(t, mem)
	require.NoError(t, s.engine.Close())
	rng := rand.New(rand.NewPCG(testSeed(t), 21))
	for at := 0; ; at++ {
		disk := mem.Clone()
		failing := vfs.NewFailing(disk)
		opts := s.opts
		opts.FS = failing
		to := openAt(t, s.dir, opts)
		failing.Arm(vfs.Fault{At: at, All: true})
		err := to.ImportGraph(t.Context(), testKey(1, 1), bytes.NewReader(graph))
		failed := failing.Failed()
		failing.Disarm()
		require.Equal(t, failed != "", err != nil, "%s: %v", failed, err)
		for _, after := range []*vfs.Mem{disk.Clone(), disk.CrashClone(rng), disk.CrashClone(nil)} {
			opts.FS = after
			again := openAt(t, s.dir, opts)
			names, readErr := after.ReadDir(filepath.Join(s.dir, graphsDir))
			require.NoError(t, readErr)
			require.LessOrEqual(t, len(names), 1, "%s leaves %v", failed, names)
			require.NoError(t, again.Warm(t.Context(), testKey(1, 1)))
			sp := again.registry.find(testKey(1, 1)).space.Load()
			v := sp.view.Load()
			if err == nil {
				require.Len(t, names, 1)
				require.NotNil(t, v.graph)
			}
			require.Equal(t, 120, searched(sp, v))
		}
		if err == nil {
			require.Greater(t, at, 3, "it must touch the disk")
			return
		}
	}
}

// searched counts the slots that a search of v looks at. While a graph is built, some are in it and still pending.
func searched(sp *space, v *view) (n int) {
	pending := map[uint32]bool{}
	for _, slot := range v.pending {
		pending[slot] = true
	}
	sp.mu.Lock()
	defer sp.mu.Unlock()
	for slot := range sp.next {
		if pending[slot] || v.graph != nil && v.graph.Has(slot) {
			n++
		}
	}
	return n
}

// TestImportGraphRefuses gives graphs that are cut short, damaged, another's or late.
func TestImportGraphRefuses(t *testing.T) {
	mem := vfs.NewMem()
	s, graph := stagedGraph(t, mem)
	key := testKey(1, 1)
	give := func(k Key, b []byte) error { return s.shard.ImportGraph(t.Context(), k, bytes.NewReader(b)) }
	for n := 0; n < graphHeadBytes+8*120+4; n += 7 {
		require.Equal(t, errs.Corrupt, errs.KindOf(give(key, graph[:n])), "cut to %d bytes", n)
		damaged := bytes.Clone(graph)
		damaged[n] ^= 1
		if err := give(key, damaged); n < graphIdentAt || n >= graphIdentAt+16 { // the identity is replaced, but summed up, too
			require.Equal(t, errs.Corrupt, errs.KindOf(err), "byte %d: %v", n, err)
		} else {
			require.Error(t, err)
		}
	}
	require.Equal(t, errs.NotFound, errs.KindOf(give(testKey(2, 1), graph)))
	require.NoError(t, s.apply(&Command{Op: OpCreatePartition, Key: testKey(2, 1)}).Err)
	require.Equal(t, errs.Corrupt, errs.KindOf(give(testKey(2, 1), graph)), "another tenant's")
	huge := codec.AppendUint64(bytes.Clone(graph[:graphHeadBytes-8]), 1<<60)
	require.Equal(t, errs.Corrupt, errs.KindOf(give(key, huge)))
	broken := errors.New("connection lost")
	err := s.shard.ImportGraph(t.Context(), key, io.MultiReader(bytes.NewReader(graph[:100]), errorReader{broken}))
	require.ErrorIs(t, err, broken)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, s.shard.ImportGraph(ctx, key, bytes.NewReader(graph)), context.Canceled)

	require.NoError(t, s.shard.Warm(t.Context(), key))
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(give(key, graph)), "it is in memory")
	names, err := mem.ReadDir(filepath.Join(s.dir, graphsDir))
	require.NoError(t, err)
	require.NotContains(t, names, "0000000000000001.graph"+importSuffix)
}

type errorReader struct{ err error }

func (r errorReader) Read([]byte) (int, error) { return 0, r.err }
