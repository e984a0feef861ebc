package engine

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// stage copies what is missing of a checkpoint into a directory and seals it.
func stage(c *Checkpoint, fsys vfs.FS, dir string) (copied int, err error) {
	ctx := context.Background()
	st, err := OpenStaging(ctx, fsys, dir, c.Manifest)
	if err != nil {
		return 0, err
	}
	defer st.Close()
	chunks, _ := st.Missing()
	for _, ch := range chunks {
		b, err := c.AppendChunk(nil, ch.File, ch.Index)
		if err == nil {
			err = st.Put(ch, b)
		}
		if err != nil {
			return copied, err
		}
		copied++
	}
	return copied, st.Seal()
}

// ship makes a checkpoint of a shard and installs it on another disk.
func ship(t testing.TB, s *Shard, fsys vfs.FS, dir string) *Manifest {
	c, err := s.Checkpoint(context.Background(), "test/shard 1")
	require.NoError(t, err)
	defer func() { require.NoError(t, c.Close()) }()
	_, err = stage(c, fsys, dir+".staged")
	require.NoError(t, err)
	require.NoError(t, InstallCheckpoint(context.Background(), fsys, dir+".staged", dir, c.Manifest))
	return c.Manifest
}

// openAt opens a shard of an engine of its own.
func openAt(t testing.TB, dir string, opts Options) *Shard {
	e, err := Open(opts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, e.Close()) })
	s, err := e.OpenShard(dir)
	require.NoError(t, err)
	return s
}

// TestCheckpointIsOneEntry ships a shard time after time while it is written to, swept and rewritten. What is installed is
// the state of the entry that the manifest names, and goes on from there to the same end.
func TestCheckpointIsOneEntry(t *testing.T) {
	rng := rand.New(rand.NewPCG(testSeed(t), 11))
	log := &writeLog{}
	opts := Options{FlushBytes: 8 << 10, GraphAbove: 20, FlatBelow: 10, Logger: quiet()}
	s := openAt(t, filepath.Join(t.TempDir(), "source"), opts)
	stop := keepWriting(t, s, log, rng, func(n int) {
		if n%50 == 49 {
			upkeep(s)
		}
	})
	var installed []*Shard
	for i := range 6 {
		before := s.AppliedIndex()
		dir := filepath.Join(t.TempDir(), strconv.Itoa(i))
		m := ship(t, s, vfs.OS(), dir)
		require.GreaterOrEqual(t, m.Applied, before)
		got := openAt(t, dir, opts)
		require.Equal(t, m.Applied, got.AppliedIndex())
		require.Equal(t, replayed(t, log, m.Applied), contentsOf(t, got))
		readBack(t, got)
		installed = append(installed, got)
	}
	stop()
	want, applied, err := s.Digest(t.Context())
	require.NoError(t, err)
	require.Equal(t, log.len(), applied)
	for _, got := range installed {
		replay(t, got, log, log.len())
		d, at, err := got.Digest(t.Context())
		require.NoError(t, err)
		require.Equal(t, log.len(), at)
		require.Equal(t, want, d)
	}
	names, err := os.ReadDir(s.dir)
	require.NoError(t, err)
	require.Len(t, names, 3, "nothing is left beside the shard's files: %v", names)
}

// TestCheckpointOutlivesItsFiles empties the shard under an open checkpoint: rewrites take its segments away and
// demotion its graph, but not from the checkpoint.
func TestCheckpointOutlivesItsFiles(t *testing.T) {
	s := newSubject(t, Options{FlushBytes: 1 << 30, GraphAbove: 50, FlatBelow: 10, Logger: quiet()})
	fillGraph(s, 300)
	c, err := s.shard.Checkpoint(t.Context(), "test")
	require.NoError(t, err)
	want := digests(s.shard)
	s.apply(&Command{Op: OpDeleteAll, Key: testKey(1, 1)})
	require.Eventually(t, func() bool { // the builder's step may be the last to look at them
		upkeep(s.shard)
		left := 0
		for i := range c.Manifest.Files {
			if there, err := vfs.Exists(vfs.OS(), filepath.Join(s.dir, c.Manifest.Files[i].Name)); err != nil || there {
				left++
			}
		}
		return left == 1 // records.db
	}, time.Minute, time.Millisecond)
	dir := filepath.Join(t.TempDir(), "copy")
	_, err = stage(c, vfs.OS(), dir+".staged")
	require.NoError(t, err)
	require.NoError(t, InstallCheckpoint(t.Context(), vfs.OS(), dir+".staged", dir, c.Manifest))
	require.NoError(t, c.Close())
	_, err = c.AppendChunk(nil, 0, 0)
	require.Equal(t, errs.Unavailable, errs.KindOf(err), "%v", err)
	got := openAt(t, dir, s.opts)
	require.Equal(t, want, digests(got))
	readBack(t, got)
}

// TestCheckpointShipsGraphs finds all records in the graph that came along, none waiting to be inserted.
func TestCheckpointShipsGraphs(t *testing.T) {
	s := newSubject(t, Options{GraphAbove: 50, FlatBelow: 10, Logger: quiet()})
	fillGraph(s, 600)
	want := queryAll(s, 20)
	dir := filepath.Join(t.TempDir(), "copy")
	ship(t, s.shard, vfs.OS(), dir)

	got := openAt(t, dir, s.opts)
	p := got.registry.find(testKey(1, 1))
	pin := got.epochs.pin()
	defer got.epochs.unpin(pin)
	sp, err := got.acquire(t.Context(), p)
	require.NoError(t, err)
	v := sp.view.Load()
	require.NotNil(t, v.graph)
	require.Equal(t, 600, v.graph.Len())
	require.Empty(t, v.pending)
	require.Zero(t, sp.builder.changes)
	other := &subject{t: t, shard: got}
	require.Equal(t, want, queryAll(other, 20))
}

// TestInstallCrash cuts the power, or fails the disk for once, at every operation of staging and installing. There is
// nothing at the shard's place or all of it, and trying again succeeds.
func TestInstallCrash(t *testing.T) {
	rng := rand.New(rand.NewPCG(testSeed(t), 12))
	s := inMemory(t, Options{FlushBytes: 1 << 30, GraphAbove: 50, FlatBelow: 10})
	fillGraph(s, 120)
	c, err := s.shard.Checkpoint(t.Context(), "test")
	require.NoError(t, err)
	defer c.Close()
	install := func(fsys vfs.FS) error {
		if _, err := stage(c, fsys, "/data/staged"); err != nil {
			return err
		}
		return InstallCheckpoint(context.Background(), fsys, "/data/staged", "/data/1", c.Manifest)
	}
	for _, fault := range []vfs.Fault{{}, {All: true}, {Reads: true}} {
		for at := 0; ; at++ {
			mem := vfs.NewMem()
			require.NoError(t, mem.MkdirAll("/data"))
			failing := vfs.NewFailing(mem)
			fault.At = at
			failing.Arm(fault)
			err := install(failing)
			failed := failing.Failed()
			require.Equal(t, failed != "", err != nil, "%s: %v", failed, err)
			require.Empty(t, mem.Handles(), failed)
			for _, disk := range []*vfs.Mem{mem, mem.CrashClone(rng), mem.CrashClone(nil)} {
				there, existsErr := vfs.Exists(disk, "/data/1")
				require.NoError(t, existsErr)
				if err == nil {
					require.True(t, there, "installed, and gone after a power cut")
				}
				if !there {
					require.NoError(t, install(disk), failed)
				}
				require.NoError(t, verifyStaged(t.Context(), disk, "/data/1", c.Manifest), failed)
			}
			if err == nil {
				require.Greater(t, at, 10, "the run must touch the disk")
				break
			}
		}
	}
}

// TestCheckpointFailure fails every operation of making a checkpoint: no handle is left open, and the shard goes on.
func TestCheckpointFailure(t *testing.T) {
	mem := vfs.NewMem()
	failing := vfs.NewFailing(mem)
	s := newSubject(t, Options{InMemory: true, FS: failing, FlushBytes: 1 << 30, GraphAbove: 50, FlatBelow: 10, Logger: quiet()})
	fillGraph(s, 120)
	upkeep(s.shard)
	idle := mem.Handles()
	for _, fault := range []vfs.Fault{{}, {Reads: true}} {
		for at := 0; ; at++ {
			fault.At = at
			failing.Arm(fault)
			c, err := s.shard.Checkpoint(t.Context(), "test")
			failing.Disarm()
			if err == nil && failing.Failed() == "" {
				require.NoError(t, c.Close())
				break
			}
			require.Error(t, err, failing.Failed())
			require.Equal(t, idle, mem.Handles(), failing.Failed())
		}
	}
	require.NoError(t, s.shard.failure())
	require.Equal(t, idle, mem.Handles())
}

// TestCheckpointInMemory ships a shard whose records are kept in memory, as simulations do.
func TestCheckpointInMemory(t *testing.T) {
	s := inMemory(t, Options{FlushBytes: 1 << 30, GraphAbove: 50, FlatBelow: 10})
	fillGraph(s, 120)
	disk := vfs.NewMem()
	require.NoError(t, disk.MkdirAll("/data"))
	ship(t, s.shard, disk, "/data/1")
	opts := s.opts
	opts.FS = disk
	got := openAt(t, "/data/1", opts)
	want, _, err := s.shard.Digest(t.Context())
	require.NoError(t, err)
	d, _, err := got.Digest(t.Context())
	require.NoError(t, err)
	require.Equal(t, want, d)
}

// large fills a shard so that its files take several chunks.
func large(t testing.TB) *subject {
	s := newSubject(t, Options{Logger: quiet()})
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 1024, Metric: ann.Euclidean}})
	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 12 {
		c := &Command{Op: OpUpsert, Key: testKey(1, 1)}
		for j := range 100 {
			v := make([]float32, 1024)
			for k := range v {
				v[k] = rng.Float32()
			}
			c.Records = append(c.Records, Record{ID: fmt.Sprint(i, "-", j), Values: v})
		}
		s.apply(c)
	}
	return s
}

// TestStagingResumes breaks a transfer off after each tenth of it, also with a newer checkpoint than it was begun with:
// what is there already is not asked for again.
func TestStagingResumes(t *testing.T) {
	s := large(t)
	c, err := s.shard.Checkpoint(t.Context(), "test")
	require.NoError(t, err)
	dir := filepath.Join(t.TempDir(), "staged")
	total, left := 0, -1
	for round := range 11 {
		if round == 5 {
			s.apply(&Command{Op: OpUpsert, Key: testKey(2, 1), Records: []Record{{ID: "new", Values: make([]float32, 1024)}}})
			require.NoError(t, c.Close())
			c, err = s.shard.Checkpoint(t.Context(), "test")
			require.NoError(t, err)
			left = -1 // other files, but for the large one
		}
		st, err := OpenStaging(t.Context(), vfs.OS(), dir, c.Manifest)
		require.NoError(t, err)
		chunks, bytes := st.Missing()
		if round == 0 {
			total = len(chunks)
			require.Equal(t, c.Manifest.Bytes(), bytes)
			require.Greater(t, total, 5)
			require.Equal(t, errs.FailedPrecondition, errs.KindOf(st.Seal()))
		}
		if left >= 0 {
			require.Len(t, chunks, left)
		}
		for _, ch := range chunks[:min(len(chunks), (total+9)/10)] {
			b, err := c.AppendChunk(nil, ch.File, ch.Index)
			require.NoError(t, err)
			require.Equal(t, errs.Corrupt, errs.KindOf(st.Put(ch, b[1:])))
			require.NoError(t, st.Put(ch, b))
		}
		chunks, _ = st.Missing()
		left = len(chunks)
		require.NoError(t, st.Close())
	}
	copied, err := stage(c, vfs.OS(), dir)
	require.NoError(t, err)
	require.LessOrEqual(t, copied, total/2, "the large segment was not asked for again")
	target := filepath.Join(filepath.Dir(dir), "1")
	require.NoError(t, InstallCheckpoint(t.Context(), vfs.OS(), dir, target, c.Manifest))
	require.NoError(t, c.Close())
	require.Equal(t, digests(s.shard), digests(openAt(t, target, s.opts)))
}

// TestInstallRefuses names what must not become a shard's directory.
func TestInstallRefuses(t *testing.T) {
	s := large(t)
	c, err := s.shard.Checkpoint(t.Context(), "test")
	require.NoError(t, err)
	defer c.Close()
	segment := ""
	for i := range c.Manifest.Files {
		if f := &c.Manifest.Files[i]; f.Name != recordsFile && f.Size > ChunkSize {
			segment = f.Name
		}
	}
	require.NotEmpty(t, segment)
	for name, spoil := range map[string]func(t *testing.T, dir string){
		"flipped byte": func(t *testing.T, dir string) { flip(t, filepath.Join(dir, segment), 2*ChunkSize+5) },
		"last chunk dropped": func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, segment), ChunkSize))
		},
		"last chunk zero": func(t *testing.T, dir string) {
			require.NoError(t, os.Truncate(filepath.Join(dir, segment), ChunkSize))
			require.NoError(t, os.Truncate(filepath.Join(dir, segment), c.Manifest.find(segment).Size))
		},
		"missing file":  func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, recordsFile))) },
		"other segment": func(t *testing.T, dir string) { touch(t, filepath.Join(dir, segmentsDir, "00000000000000ff.seg")) },
		"other graph":   func(t *testing.T, dir string) { touch(t, filepath.Join(dir, graphsDir, "x")) },
		"taken":         func(t *testing.T, dir string) { require.NoError(t, os.Mkdir(dir+".1", 0o700)) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "staged")
			_, err := stage(c, vfs.OS(), dir)
			require.NoError(t, err)
			touch(t, filepath.Join(dir, "raft")) // the caller's own goes along
			spoil(t, dir)
			require.Error(t, InstallCheckpoint(t.Context(), vfs.OS(), dir, dir+".1", c.Manifest))
			there, err := vfs.Exists(vfs.OS(), filepath.Join(dir+".1", recordsFile))
			require.NoError(t, err)
			require.False(t, there)
			require.NoError(t, os.RemoveAll(dir+".1"))
			_, err = stage(c, vfs.OS(), dir)
			require.NoError(t, err, "staging again mends it")
			require.NoError(t, InstallCheckpoint(t.Context(), vfs.OS(), dir, dir+".1", c.Manifest))
		})
	}
}

func touch(t testing.TB, path string) { require.NoError(t, os.WriteFile(path, nil, 0o600)) }

func flip(t testing.TB, path string, at int64) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer f.Close()
	b := make([]byte, 1)
	_, err = f.ReadAt(b, at)
	require.NoError(t, err)
	b[0] ^= 1
	_, err = f.WriteAt(b, at)
	require.NoError(t, err)
}

// TestRotDoesNotSpread ships a segment that has rotted at its source: the manifest agrees with it, its own sums do not.
func TestRotDoesNotSpread(t *testing.T) {
	s := large(t)
	_, err := s.shard.Flush(t.Context())
	require.NoError(t, err)
	paths, err := filepath.Glob(filepath.Join(s.dir, segmentsDir, "*.seg"))
	require.NoError(t, err)
	flip(t, paths[0], 70_000)
	c, err := s.shard.Checkpoint(t.Context(), "test")
	require.NoError(t, err)
	defer c.Close()
	dir := filepath.Join(t.TempDir(), "staged")
	_, err = stage(c, vfs.OS(), dir)
	require.NoError(t, err)
	err = InstallCheckpoint(t.Context(), vfs.OS(), dir, dir+".1", c.Manifest)
	require.Equal(t, errs.Corrupt, errs.KindOf(err), "%v", err)
	_, _, err = s.shard.Digest(t.Context())
	require.Equal(t, errs.Corrupt, errs.KindOf(err), "%v", err)
}

// TestCheckpointNeedsRoom asks a disk for more than it has.
func TestCheckpointNeedsRoom(t *testing.T) {
	mem := vfs.NewMemSize(16 << 20)
	s := newSubject(t, Options{InMemory: true, FS: mem, FlushBytes: 1 << 30, GraphAbove: 1 << 30, Logger: quiet()})
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 1, Metric: ann.Euclidean}})
	c := &Command{Op: OpUpsert, Key: testKey(1, 1)}
	for i := range 6000 {
		c.Records = append(c.Records, Record{ID: fmt.Sprintf("%060d", i), Values: []float32{1}})
	}
	s.apply(c)
	_, err := s.shard.Flush(t.Context())
	require.NoError(t, err)
	free, err := mem.Free("/")
	require.NoError(t, err)
	f, err := mem.Create("/others")
	require.NoError(t, err)
	require.NoError(t, f.Truncate(int64(free)-100_000))
	require.NoError(t, f.Close())
	_, err = s.shard.Checkpoint(t.Context(), "test")
	require.Equal(t, errs.StorageFull, errs.KindOf(err), "%v", err)
}

// TestExportsAreRemoved opens a shard whose process died between making a copy of its records and taking away the name.
func TestExportsAreRemoved(t *testing.T) {
	s := newSubject(t, Options{})
	s.restart(true)
	touch(t, filepath.Join(s.dir, "export-7.tmp"))
	touch(t, filepath.Join(s.dir, "notes.txt"))
	s.restart(true)
	for name, want := range map[string]bool{"export-7.tmp": false, "notes.txt": true} {
		there, err := vfs.Exists(vfs.OS(), filepath.Join(s.dir, name))
		require.NoError(t, err)
		require.Equal(t, want, there, name)
	}
}

func TestManifestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := &Manifest{Owner: rapid.String().Draw(t, "owner"), Applied: rapid.Uint64().Draw(t, "applied"), Files: []FileSums{}}
		size := rapid.Int64Range(0, 5*ChunkSize)
		add := func(name string) {
			f := FileSums{Name: name, Size: size.Draw(t, "size")}
			f.Sums = make([]uint64, chunksOf(f.Size))
			for i := range f.Sums {
				f.Sums[i] = rapid.Uint64().Draw(t, "sum")
			}
			m.Files = append(m.Files, f)
		}
		for n := range rapid.Uint64Range(0, 3).Draw(t, "graphs") {
			add(fmt.Sprintf("graphs/%016x.graph", n))
		}
		add(recordsFile)
		for n := range rapid.Uint64Range(0, 3).Draw(t, "segments") {
			add(fmt.Sprintf("segments/%016x.seg", n))
		}
		b := m.Append(nil)
		got, err := DecodeManifest(b)
		require.NoError(t, err)
		require.Equal(t, m, got)
		b[rapid.IntRange(0, len(b)-1).Draw(t, "at")] ^= 1 << rapid.IntRange(0, 7).Draw(t, "bit")
		_, err = DecodeManifest(b)
		require.Error(t, err)
	})
}

// TestManifestRefusesNames keeps a manifest from reaching outside of its directory or into what is not a shard's.
func TestManifestRefusesNames(t *testing.T) {
	for _, name := range []string{
		"", "/etc/passwd", "../records.db", "segments/../../x.seg", "raft/wal-meta.db", "segments/1.seg", "segments",
		"segments/0000000000000001.seg.tmp", "graphs/0000000000000001.seg", "segments/000000000000000G.seg", "segments/+00000000000000a.seg",
		"./records.db", "segments//0000000000000001.seg", "records.db/x", "graphs/0000000000000001.graph/x",
	} {
		m := &Manifest{Files: []FileSums{{Name: name}, {Name: recordsFile}}}
		if name > recordsFile {
			m.Files[0], m.Files[1] = m.Files[1], m.Files[0]
		}
		_, err := DecodeManifest(m.Append(nil))
		require.Equal(t, errs.Corrupt, errs.KindOf(err), "%q: %v", name, err)
	}
	for name, files := range map[string][]FileSums{
		"no records": {}, "twice": {{Name: recordsFile}, {Name: recordsFile}},
		"order": {{Name: recordsFile}, {Name: "graphs/0000000000000001.graph"}},
	} {
		_, err := DecodeManifest((&Manifest{Files: files}).Append(nil))
		require.Equal(t, errs.Corrupt, errs.KindOf(err), name)
	}
}

func FuzzManifest(f *testing.F) {
	m := &Manifest{Owner: "cluster/shard 1", Applied: 7, Files: []FileSums{
		{Name: "graphs/0000000000000001.graph", Size: 5, Sums: []uint64{1}}, {Name: recordsFile, Size: 2 * ChunkSize, Sums: []uint64{1, 2}},
		{Name: "segments/000000000000000a.seg", Size: 2*ChunkSize + 1, Sums: []uint64{1, 2, 3}},
	}}
	b := m.Append(nil)
	f.Add(b)
	f.Add(b[:len(b)-4])
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, codec.AppendUint32(bytes.Clone(b), codec.CRC(b))} { // also behind a good checksum
			m, err := DecodeManifest(b)
			if err != nil {
				continue
			}
			again, err := DecodeManifest(m.Append(nil))
			require.NoError(t, err)
			require.Equal(t, m, again)
		}
	})
}

// TestDigestFindsDifferences compares shards by their digests alone.
func TestDigestFindsDifferences(t *testing.T) {
	digest := func(change func(n int, c *Command) *Command) Digest {
		s := inMemory(t, Options{})
		rng := rand.New(rand.NewPCG(7, 7))
		for n := range 50 {
			if c := change(n, mixed(rng, n)); c != nil {
				s.apply(c)
			}
		}
		d, at, err := s.shard.Digest(t.Context())
		require.NoError(t, err)
		require.EqualValues(t, len(s.log), at)
		return d
	}
	same := func(_ int, c *Command) *Command { return c }
	want := digest(same)
	require.Equal(t, want, digest(same))
	require.NotEqual(t, want, digest(func(n int, c *Command) *Command {
		if n == 49 {
			return nil // lost
		}
		return c
	}))
	require.NotEqual(t, want, digest(func(_ int, c *Command) *Command {
		for i := range c.Costate {
			if c.Costate[i].Value != nil {
				c.Costate[i].Value = []byte("other")
			}
		}
		return c
	}))
	require.NotEqual(t, want, digest(func(n int, c *Command) *Command {
		if n > 40 && len(c.Records) > 0 { // one may be refused for a quota
			c.Records[0].Values[1]++
		}
		return c
	}))
}
