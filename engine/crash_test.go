package engine

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/faultdisk"
	"github.com/croftdb/croft/internal/vfs"
)

// writeLog applies a fixed mix of commands to a shard and keeps them, as a log would.
type writeLog struct {
	mu      sync.Mutex
	entries [][]byte
}

func (l *writeLog) at(i uint64) []byte {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[i-1]
}

func (l *writeLog) add(c *Command) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.entries = append(l.entries, AppendCommand(nil, c))
	return uint64(len(l.entries))
}

func (l *writeLog) len() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return uint64(len(l.entries))
}

// command is the n-th of the mix: replacing upserts into two partitions, updates, deletes, now and then all of one.
func mixed(rng *rand.Rand, n int) *Command {
	k := testKey(byte(1+n%2), 1)
	id := func() string { return "id-" + strconv.Itoa(rng.IntN(60)) }
	switch {
	case n == 0:
		return &Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 4, Metric: ann.Euclidean}}
	case n%97 == 96:
		return &Command{Op: OpDeleteAll, Key: k}
	case n%11 == 5:
		return costateOf(rng, n)
	case n%13 == 8:
		return copied(n / 13)
	case n%7 == 3:
		return &Command{Op: OpDelete, Key: k, Targets: []Target{{ID: id()}}}
	}
	c := &Command{Op: OpUpsert, Key: k}
	for range 3 {
		c.Records = append(c.Records, Record{ID: id(), Values: []float32{rng.Float32(), rng.Float32(), rng.Float32(), float32(n)}})
	}
	return c
}

// costateOf keeps and removes things of three tenants, now and then all of one.
func costateOf(rng *rand.Rand, n int) *Command {
	c := &Command{Op: OpCostate, Term: uint64(n / 100)}
	for range 3 {
		e := CostateEntry{Tenant: TenantID{byte(rng.IntN(3))}, Name: "name-" + strconv.Itoa(rng.IntN(9))}
		switch rng.IntN(8) {
		case 0:
			e.Name = ""
		case 1:
		case 2:
			e = StorageLimitEntry(e.Tenant, StorageLimit{uint64(rng.IntN(60)), uint64(rng.IntN(4000))})
		default:
			e.Value = []byte(strconv.Itoa(n))
		}
		c.Costate = append(c.Costate, e)
	}
	return c
}

// copied is the n-th order of those that make copies of tenant 9, one after the other, and drop them again.
func copied(n int) *Command {
	tenant, m, position := TenantID{9}, Move{uint64(n/7) + 1, 1}, uint64(100*n)
	c := &Command{Key: Key{Tenant: tenant}, Move: m}
	switch records, beside := batchOf(tenant, uint64(n%7)); n % 7 {
	case 0:
		c.Op = OpStageTenant
	case 1, 3:
		c.Op, c.Batch = OpStageBeside, beside
		beside.Last = n%7 == 3
		beside.beside.schemas, beside.beside.dropped = nil, nil
		beside.beside.origin.closed = false
		beside.Position = 100 * m.ID
	case 2:
		c.Op, c.Key.Index, c.Batch = OpStageRecords, 1, records
		for i := range records.records {
			records.records[i].values = []float32{1, 2, 3, float32(n)}
		}
		records.Position = 100 * m.ID
	case 4:
		upsert := &Command{Op: OpUpsert, Key: Key{tenant, 1}, Records: []Record{{ID: "b", Values: []float32{4, 3, 2, 1}}}, Once: onceOf(byte(n), 1, int64(n))}
		c.Op, c.Tail = OpStageTail, &Tail{From: 100 * m.ID, To: 100*m.ID + 9, Commands: [][]byte{AppendCommand(nil, &Command{Op: OpUnfenceTenant, Key: c.Key, Move: Move{3, 4}}), AppendCommand(nil, upsert)}}
	case 5:
		c.Op, c.Tail = OpStageTail, &Tail{From: 100*m.ID + 9, To: position + 99, Commands: [][]byte{AppendCommand(nil, &Command{Op: OpFenceTenant, Key: c.Key, Move: m})}}
	default:
		c.Op = OpForgetTenant
	}
	return c
}

// contents is the state of a shard: of every partition, what is kept beside them, and where tenants live.
type contents struct {
	heads   map[Key]head
	costate []CostateEntry
	tenants []TenantFigures
	digests []Digest
}

func contentsOf(t testing.TB, s *Shard) contents {
	c := contents{heads: digests(s), costate: allCostate(t, s), tenants: s.Tenants(TenantID{}, 100)}
	for i := range c.tenants {
		d, err := s.TenantDigest(c.tenants[i].Tenant)
		require.NoError(t, err)
		c.digests = append(c.digests, d.Sum())
	}
	return c
}

// digests tells the state of every partition.
func digests(s *Shard) map[Key]head {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := map[Key]head{}
	s.registry.all(func(p *partition) bool {
		h := p.head
		h.Number = 0
		all[p.key] = h
		return true
	})
	return all
}

// replayed is the state that the first n entries lead to, on a healthy disk.
func replayed(t testing.TB, l *writeLog, n uint64) contents {
	e, err := Open(Options{InMemory: true, FS: vfs.NewMem()})
	require.NoError(t, err)
	defer e.Close()
	s, err := e.OpenShard("/shard")
	require.NoError(t, err)
	replay(t, s, l, n)
	return contentsOf(t, s)
}

func replay(t testing.TB, s *Shard, l *writeLog, n uint64) {
	for i := s.AppliedIndex() + 1; i <= n; i++ {
		_, err := s.Apply(i, l.at(i))
		require.NoError(t, err)
	}
}

// readBack reads every record of a shard and checks the digests against what is really there.
func readBack(t testing.TB, s *Shard) {
	recount(t, s)
	for k, h := range digests(s) {
		var sum digest
		n := uint64(0)
		p := s.registry.find(k)
		_, err := s.walk(context.Background(), p, "", "", 1<<30, func(id string, f *found) (bool, error) { // also of copies
			n++
			r, err := s.record(p, id, f)
			sum.add(digestRecord(id, r.Version, r.Values, r.Sparse, f.meta))
			return true, err
		})
		require.NoError(t, err)
		require.Equal(t, h.Digest, sum, "records of %s", k)
		require.Equal(t, h.Records, n)
	}
}

// TestPowerCut cuts the power under a shard that writes, flushes, sweeps and rewrites all the time, at random
// moments, and opens what the disk may then hold: together with the log it must lead to the same state. CROFT_CUTS
// sets how many states are opened.
func TestPowerCut(t *testing.T) {
	cuts := 25
	if testing.Short() {
		cuts = 4
	}
	if n, err := strconv.Atoi(os.Getenv("CROFT_CUTS")); err == nil {
		cuts = n
	}
	rng := rand.New(rand.NewPCG(testSeed(t), 2))
	disk := faultdisk.Mount(t, faultdisk.Options{})
	log := &writeLog{}
	e, err := Open(Options{FlushBytes: 8 << 10, GraphAbove: 20, FlatBelow: 10})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	s, err := e.OpenShard(filepath.Join(disk.Dir(), "shard"))
	require.NoError(t, err)

	stop := keepWriting(t, s, log, rng, func(n int) {
		if n%40 == 39 {
			_, err := s.Flush(context.Background())
			if err != nil {
				t.Errorf("flush: %v", err)
			}
		}
	})
	for i := range cuts {
		for target := log.len() + uint64(rng.IntN(60)); log.len() < target && !t.Failed(); {
			runtime.Gosched() // the writer's turn
		}
		dst := filepath.Join(t.TempDir(), strconv.Itoa(i))
		disk.Cut(rng, dst)
		// All that the cut state has applied had been appended to the log before.
		reopen(t, filepath.Join(dst, "shard"), log, log.len())
	}
	stop()
}

// keepWriting applies drawn commands until it is stopped, and calls then after each, with its number.
func keepWriting(t *testing.T, s *Shard, log *writeLog, rng *rand.Rand, then func(n int)) (stop func()) {
	done := make(chan struct{})
	var writer sync.WaitGroup
	rng = rand.New(rand.NewPCG(rng.Uint64(), 3))
	writer.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				return
			default:
			}
			i := log.add(mixed(rng, n))
			if _, err := s.Apply(i, log.at(i)); err != nil {
				t.Errorf("apply: %v", err)
				return
			}
			then(n)
		}
	})
	return func() { close(done); writer.Wait() }
}

// reopen opens a shard as a crash left it, replays the log and compares.
func reopen(t testing.TB, dir string, log *writeLog, upTo uint64) {
	e, err := Open(Options{FlushBytes: 1 << 20, GraphAbove: 20, FlatBelow: 10})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	s, err := e.OpenShard(dir)
	require.NoError(t, err)
	require.LessOrEqual(t, s.AppliedIndex(), upTo)
	readBack(t, s)
	replay(t, s, log, upTo)
	require.Equal(t, replayed(t, log, upTo), contentsOf(t, s))
	readBack(t, s)
}

// TestEachFailure fails every operation on segments and checkpoints in turn, once or for ever, by a full disk or a
// broken one. What follows a restart on a healthy disk is always the state of the log.
func TestEachFailure(t *testing.T) {
	for _, fault := range []vfs.Fault{{}, {All: true}, {Err: syscall.ENOSPC}, {Err: syscall.ENOSPC, All: true}} {
		t.Run(fmt.Sprintf("%v/all=%v", fault.Err, fault.All), func(t *testing.T) {
			t.Parallel()
			failing := vfs.NewFailing(vfs.OS())
			for at := 0; ; at++ {
				fault.At = at
				dir := filepath.Join(t.TempDir(), "shard")
				log := &writeLog{}
				failing.Arm(fault)
				acknowledged := writeUntilFault(t, failing, dir, log)
				survived := failing.Failed() == ""
				failing.Disarm()
				if vfsExists(t, dir) {
					reopen(t, dir, log, acknowledged)
				}
				if survived {
					require.Greater(t, at, 20, "the run must touch the disk")
					return
				}
			}
		})
	}
}

func vfsExists(t testing.TB, dir string) bool {
	ok, err := vfs.Exists(vfs.OS(), dir)
	require.NoError(t, err)
	return ok
}

// writeUntilFault writes and flushes until an error, and returns the last entry that was applied without one.
func writeUntilFault(t testing.TB, fs vfs.FS, dir string, log *writeLog) uint64 {
	s := &subject{t: t, dir: dir, opts: Options{FS: fs, FlushBytes: 1 << 30, GraphAbove: 20, FlatBelow: 10}}
	s.opts.Logger = quiet()
	var err error
	s.engine, err = Open(s.opts)
	require.NoError(t, err)
	if s.shard, err = s.engine.OpenShard(dir); err != nil {
		require.NoError(t, s.engine.Close())
		return 0
	}
	defer s.crash()
	rng := rand.New(rand.NewPCG(1, 1))
	for n := range 100 {
		i := log.add(mixed(rng, n))
		if _, err := s.shard.Apply(i, log.at(i)); err != nil {
			return i - 1
		}
		if n%33 == 32 {
			upkeep(s.shard)
		}
	}
	return log.len()
}

// upkeep does at once what the janitor and the builder do in the background. Errors are theirs to report: what
// counts is the state afterwards.
func upkeep(s *Shard) {
	_ = s.flush()
	s.epochs.reclaim()
	for more := true; more; {
		more, _ = s.sweep()
	}
	_ = s.rewrite()
	_ = s.saveGraphs()
	s.epochs.reclaim()
}

// TestFullDiskKeepsTheBuffer shows that a flush that finds no space loses nothing, tells so, and succeeds later.
func TestFullDiskKeepsTheBuffer(t *testing.T) {
	failing := vfs.NewFailing(vfs.OS())
	s := newSubject(t, Options{FS: failing, FlushBytes: 4 << 10, Logger: quiet()})
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 4, Metric: ann.Euclidean}})
	_, err := s.shard.Flush(context.Background())
	require.NoError(t, err)

	failing.Arm(vfs.Fault{Err: syscall.ENOSPC, All: true})
	rng := rand.New(rand.NewPCG(1, 1))
	for n := 1; s.shard.bufferBytes() <= 2*s.opts.FlushBytes; n++ {
		require.NoError(t, s.apply(mixed(rng, n)).Err)
	}
	_, err = s.shard.Flush(context.Background())
	require.True(t, vfs.IsFull(err), "%v", err)
	err = s.shard.Admit(context.Background(), 100)
	require.Equal(t, errs.StorageFull, errs.KindOf(err), "%v", err)
	readBack(t, s.shard)

	failing.Disarm()
	_, err = s.shard.Flush(context.Background())
	require.NoError(t, err)
	require.NoError(t, s.shard.Admit(context.Background(), 100))
	readBack(t, s.shard)
	s.restart(true)
	readBack(t, s.shard)
}

// TestDamagedGraphIsRebuilt flips bytes of a checkpoint: it must be thrown away, never trusted.
func TestDamagedGraphIsRebuilt(t *testing.T) {
	s := newSubject(t, Options{GraphAbove: 50, FlatBelow: 10, Logger: quiet()})
	fillGraph(s, 300)
	require.NoError(t, s.engine.Close())
	names, err := os.ReadDir(filepath.Join(s.dir, graphsDir))
	require.NoError(t, err)
	require.Len(t, names, 1)
	path := filepath.Join(s.dir, graphsDir, names[0].Name())
	whole, err := os.ReadFile(path)
	require.NoError(t, err)
	rng := rand.New(rand.NewPCG(testSeed(t), 4))
	for range 40 {
		damaged := append([]byte(nil), whole...)
		damaged[rng.IntN(len(damaged))] ^= 1 << rng.IntN(8)
		require.NoError(t, os.WriteFile(path, damaged, 0o600))
		s.open()
		require.Len(t, queryAll(s, 300), 300)
		s.crash()
	}
	s.open()
}

// TestOpenFailsCleanly opens a shard whose record store cannot be made.
func TestOpenFailsCleanly(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, recordsFile), 0o700)) // a directory in the place of the file
	e, err := Open(Options{Logger: quiet()})
	require.NoError(t, err)
	defer func() { require.NoError(t, e.Close()) }()
	_, err = e.OpenShard(dir)
	require.Error(t, err)
}

// TestRottenSegmentStaysAside flips a byte of a segment that is due to be rewritten: its rows must not get a new
// checksum, and the shard must go on without them.
func TestRottenSegmentStaysAside(t *testing.T) {
	s := newSubject(t, Options{FlushBytes: 1 << 30, Logger: quiet()})
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 4, Metric: ann.Euclidean}})
	put := func(n int, ids ...string) {
		c := &Command{Op: OpUpsert, Key: testKey(1, 1)}
		for _, id := range ids {
			c.Records = append(c.Records, Record{ID: id, Values: []float32{1, 2, 3, float32(n)}})
		}
		require.NoError(t, s.apply(c).Err)
		require.NoError(t, s.shard.flush())
	}
	put(1, "a", "b", "c")
	paths, err := filepath.Glob(filepath.Join(s.dir, segmentsDir, "*.seg"))
	require.NoError(t, err)
	require.Len(t, paths, 1)
	whole, err := os.ReadFile(paths[0])
	require.NoError(t, err)
	f, err := os.OpenFile(paths[0], os.O_WRONLY, 0)
	require.NoError(t, err)
	at := bytes.Index(whole, codec.Float32Bytes([]float32{1, 2, 3, 1}))
	require.Positive(t, at)
	_, err = f.WriteAt([]byte{whole[at] ^ 1}, int64(at))
	require.NoError(t, err)
	require.NoError(t, f.Close())
	put(2, "a", "b") // two thirds of the first segment are dead now

	err = s.shard.rewrite()
	require.Equal(t, errs.Corrupt, errs.KindOf(err), "%v", err)
	require.NoError(t, s.shard.rewrite(), "once told, it is passed over")
	put(3, "d")
	recs, err := s.shard.Fetch(t.Context(), testKey(1, 1), []string{"a", "d"})
	require.NoError(t, err)
	require.Len(t, recs, 2)
	_, err = s.shard.Fetch(t.Context(), testKey(1, 1), []string{"c"})
	require.Equal(t, errs.Corrupt, errs.KindOf(err), "%v", err)
}
