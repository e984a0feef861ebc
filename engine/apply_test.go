package engine

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// inMemory is a shard that touches no disk.
func inMemory(t testing.TB, opts Options) *subject {
	opts.InMemory, opts.FS, opts.Logger = true, vfs.NewMem(), quiet()
	return newSubject(t, opts)
}

// TestFlushTakesWholeEntries flushes while entries are applied: what a flush stores goes with the index that it
// stores, or a crash would have the entry in between applied twice.
func TestFlushTakesWholeEntries(t *testing.T) {
	s := inMemory(t, Options{})
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 1, Metric: ann.Euclidean}})
	s.apply(&Command{Op: OpCreatePartition, Key: testKey(1, 1)})
	var stop atomic.Bool
	var wg sync.WaitGroup
	wg.Go(func() {
		for !stop.Load() {
			if err := s.shard.flush(); err != nil {
				t.Errorf("flush: %v", err)
				return
			}
			applied, version := storedState(t, s.shard)
			if applied > 0 && applied-1 != version { // the first entry defines the index
				t.Errorf("stored: applied index %d with %d of %d entries of the partition", applied, version, applied-1)
				return
			}
		}
	})
	for range 20_000 {
		if t.Failed() {
			break
		}
		s.apply(&Command{Op: OpDelete, Key: testKey(1, 1), Targets: nil})
		s.apply(&Command{Op: OpCreatePartition, Key: testKey(1, 1)})
	}
	stop.Store(true)
	wg.Wait()
}

// storedState tells what records.db holds: the applied index and the version of the one partition.
func storedState(t testing.TB, s *Shard) (applied, version uint64) {
	err := s.kv.View(func(tx store.Tx) error {
		st, err := storedShardState(tx)
		if err != nil {
			return err
		}
		applied = st.Applied
		v, err := tx.Get(bucketPartitions, appendKey(nil, testKey(1, 1)))
		if err != nil || v == nil {
			return err
		}
		h, err := decodeHead(v)
		version = h.Version
		return err
	})
	if err != nil {
		t.Errorf("read store: %v", err)
	}
	return applied, version
}

func sparseOf(values []float32, indices ...uint32) Sparse {
	return Sparse{Indices: indices, Values: values}
}

// TestApplyRefuses names inputs that are well formed and must not get into a shard's state. They are refused whole, and
// the shard goes on.
func TestApplyRefuses(t *testing.T) {
	nan, inf := float32(math.NaN()), float32(math.Inf(1))
	ok := Record{ID: "a", Values: []float32{1, 2}}
	long := strings.Repeat("x", maxIDBytes+1)
	schema := func(change func(*Schema)) *Command {
		sc := Schema{ID: 7, Dim: 2, Metric: ann.DotProduct}
		change(&sc)
		return &Command{Op: OpDefineIndex, Schema: sc}
	}
	upsert := func(recs ...Record) *Command { return &Command{Op: OpUpsert, Key: testKey(1, 1), Records: recs} }
	update := func(u Update) *Command {
		u.Targets = []Target{{ID: "there"}}
		return &Command{Op: OpUpdate, Key: testKey(1, 1), Update: u}
	}
	unsorted, doubled := sparseOf([]float32{1, 2}, 9, 3), sparseOf([]float32{1, 2}, 3, 3)
	cases := map[string]*Command{
		"index zero":          schema(func(sc *Schema) { sc.ID = 0 }),
		"unknown metric":      schema(func(sc *Schema) { sc.Metric = 77 }),
		"no metric":           schema(func(sc *Schema) { sc.Metric = 0 }),
		"huge dimension":      schema(func(sc *Schema) { sc.Dim = 1 << 30 }),
		"one link":            schema(func(sc *Schema) { sc.M = 1 }),
		"huge breadth":        schema(func(sc *Schema) { sc.EfConstruction = 1 << 30 }),
		"codes of 3 bits":     schema(func(sc *Schema) { sc.Bits = 3 }),
		"codes below none":    schema(func(sc *Schema) { sc.Bits = NoCodes - 1 }),
		"sparse by cosine":    schema(func(sc *Schema) { sc.Dim, sc.Metric = 0, ann.Cosine }),
		"empty id":            upsert(ok, Record{Values: []float32{1, 2}}),
		"long id":             upsert(ok, Record{ID: long, Values: []float32{1, 2}}),
		"no values":           upsert(ok, Record{ID: "b"}),
		"dimension":           upsert(ok, Record{ID: "b", Values: []float32{1, 2, 3}}),
		"not a number":        upsert(ok, Record{ID: "b", Values: []float32{nan, 2}}),
		"infinite":            upsert(ok, Record{ID: "b", Values: []float32{-inf, 2}}),
		"unsorted":            upsert(ok, Record{ID: "b", Values: []float32{1, 2}, Sparse: unsorted}),
		"doubled":             upsert(ok, Record{ID: "b", Values: []float32{1, 2}, Sparse: doubled}),
		"sparse infinite":     upsert(ok, Record{ID: "b", Values: []float32{1, 2}, Sparse: sparseOf([]float32{inf}, 1)}),
		"update dimension":    update(Update{Values: []float32{1}}),
		"update not a number": update(Update{Values: []float32{1, nan}}),
		"update unsorted":     update(Update{Sparse: &unsorted}),
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			s := inMemory(t, Options{})
			s.apply(schema(func(sc *Schema) { sc.ID = 1 }))
			s.apply(upsert(Record{ID: "there", Values: []float32{1, 2}}))
			before := digests(s.shard)[testKey(1, 1)].Digest
			a := s.apply(c)
			require.Equal(t, errs.Invalid, errs.KindOf(a.Err), "%v", a.Err)
			require.Zero(t, a.Affected)
			require.Equal(t, before, digests(s.shard)[testKey(1, 1)].Digest)
			require.NoError(t, s.apply(upsert(ok)).Err)
			upkeep(s.shard)
			require.NoError(t, s.shard.failure())
		})
	}
}

// TestUpdateCountsWhatItChanged refuses a merge that makes metadata too large for one record and not for the other.
func TestUpdateCountsWhatItChanged(t *testing.T) {
	s := inMemory(t, Options{})
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 1, Metric: ann.Euclidean}})
	text := func(key string, n int) metadata.Map {
		m, err := metadata.Make(metadata.Field{Key: key, Value: metadata.StringValue(strings.Repeat("x", n))})
		require.NoError(t, err)
		return m
	}
	s.apply(&Command{Op: OpUpsert, Key: testKey(1, 1), Records: []Record{
		{ID: "full", Values: []float32{1}, Metadata: text("a", 39_000)}, {ID: "free", Values: []float32{1}},
	}})
	a := s.apply(&Command{Op: OpUpdate, Key: testKey(1, 1), Update: Update{
		Targets: []Target{{ID: "full"}, {ID: "free"}}, SetMetadata: text("b", 30_000),
	}})
	require.Equal(t, errs.Invalid, errs.KindOf(a.Err), "%v", a.Err)
	require.Equal(t, 1, a.Affected)
}

// TestTimingChangesNothing feeds one log to shards that flush, sweep, rewrite, drop from memory, load and restart at
// different moments: the state is a function of the log.
func TestTimingChangesNothing(t *testing.T) {
	seed := testSeed(t)
	rng := rand.New(rand.NewPCG(seed, 1))
	log := &writeLog{}
	for n := range 1500 {
		c := mixed(rng, n)
		switch {
		case n%131 == 130:
			c = &Command{Op: OpDropPartition, Key: testKey(byte(1+n%2), 1)}
		case n%5 == 4:
			c = &Command{Op: OpUpdate, Key: c.Key, Update: Update{Targets: []Target{{ID: fmt.Sprint("id-", n%60)}}, SetMetadata: metadata.Map{}}}
		}
		log.add(c)
	}
	want := exact(replayedShard(t, log).shard)
	for i := range 3 {
		t.Run(fmt.Sprint("timing ", i), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, uint64(i+2)))
			s := newSubject(t, Options{FlushBytes: 4 << 10, GraphAbove: 20, FlatBelow: 10, Logger: quiet()})
			for n := range log.len() {
				s.log = append(s.log, log.at(n+1))
				_, err := s.shard.Apply(n+1, log.at(n+1))
				require.NoError(t, err)
				disturb(s, rng)
			}
			require.Equal(t, want, exact(s.shard))
			s.restart(true)
			require.Equal(t, want, exact(s.shard))
			readBack(t, s.shard)
		})
	}
}

func replayedShard(t testing.TB, l *writeLog) *subject {
	s := inMemory(t, Options{})
	replay(t, s.shard, l, l.len())
	return s
}

// disturb does now and then what the background may do at any moment.
func disturb(s *subject, rng *rand.Rand) {
	switch rng.IntN(200) {
	case 0:
		upkeep(s.shard)
	case 1, 2, 3:
		evictAll(s.shard)
	case 4, 5, 6, 7, 8:
		var res Result
		q := &Query{Vector: make([]float32, 4), K: 5, IncludeMetadata: true}
		require.NoError(s.t, s.shard.Query(context.Background(), testKey(1, 1), q, &res))
	case 9:
		s.restart(rng.IntN(2) == 0)
	}
}

// exact is the whole replicated state of a shard, numbers included.
func exact(s *Shard) map[Key]head {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := map[Key]head{{}: {Number: s.nextNumber}}
	s.registry.all(func(p *partition) bool {
		all[p.key] = p.head
		return true
	})
	return all
}

// FuzzApply applies anything: it is refused or done, never a panic or a broken shard, and what decodes means the same
// when it is encoded again.
func FuzzApply(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for n := range 12 {
		f.Add(AppendCommand(nil, mixed(rng, n)))
	}
	f.Add(AppendCommand(nil, &Command{Op: OpUpdate, Key: testKey(1, 1), Update: Update{Targets: []Target{{ID: "id-1", Version: 3}}, Sparse: &Sparse{Indices: []uint32{1}, Values: []float32{2}}}}))
	f.Add(AppendCommand(nil, &Command{Op: OpDropIndex, Key: Key{Index: 1}}))
	f.Add(AppendCommand(nil, &Command{Op: OpDropPartition, Key: testKey(1, 1)}))
	f.Add(AppendCommand(nil, &Command{Op: OpDropTenant, Key: testKey(1, 1)}))
	f.Add(AppendCommand(nil, &Command{Op: OpDefineIndex, Schema: Schema{ID: 2, Metric: ann.DotProduct}}))
	f.Add(AppendCommand(nil, &Command{Op: OpDeleteAll, Key: testKey(1, 1), Once: &Once{Key: [16]byte{1}, At: 99, Before: 3}}))
	f.Add(AppendCommand(nil, &Command{Op: OpCostate, Term: 7, Costate: []CostateEntry{keep(1, "a", ""), {TenantID{1}, "b", nil}, {Tenant: TenantID{2}}}}))
	for n := range 7 {
		f.Add(AppendCommand(nil, copied(n)))
	}
	for _, c := range append(moveCommands(TenantID{1}), moveCommands(TenantID{9})...) {
		f.Add(AppendCommand(nil, c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = TailCommand(b, TenantID{1})
		if c, err := DecodeCommand(b); err == nil {
			again, err := DecodeCommand(AppendCommand(nil, c))
			require.NoError(t, err)
			require.Equal(t, AppendCommand(nil, c), AppendCommand(nil, again))
		}
		s := inMemory(t, Options{GraphAbove: 2, FlatBelow: 1})
		for n := range 4 {
			s.apply(mixed(rand.New(rand.NewPCG(1, 2)), n))
		}
		for n := range len(b) % 6 { // a copy that has come so far
			s.apply(copied(n))
		}
		for range 2 {
			s.log = append(s.log, b)
			_, err := s.shard.Apply(uint64(len(s.log)), b)
			require.NoError(t, err)
			upkeep(s.shard)
		}
		require.NoError(t, s.shard.failure())
	})
}

// TestSchemaWithoutBits keeps what was written before a schema had a width of codes readable, and indexes that leave
// the width to the dimension readable for the croft of that time.
func TestSchemaWithoutBits(t *testing.T) {
	old := []byte{byte(OpDefineIndex), 9, 0, 0, 0, 0, 0, 0, 0, 4, byte(ann.Cosine), 8, 99, 7}
	want := &Command{Op: OpDefineIndex, Schema: Schema{ID: 9, Dim: 4, Metric: ann.Cosine, M: 8, EfConstruction: 99, EfSearch: 7}}
	got, err := DecodeCommand(old)
	require.NoError(t, err)
	require.Equal(t, want, got)
	require.Equal(t, old, AppendCommand(nil, want))
	for i := range old[:len(old)-1] {
		_, err := DecodeCommand(old[:i])
		require.Error(t, err, "cut to %d bytes", i)
	}
}

// TestCommandRoundTrip encodes commands of every kind at every alignment.
func TestCommandRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		floats := rapid.SliceOfN(rapid.Float32(), 1, 9)
		sparse := func(name string) Sparse {
			indices := rapid.SliceOfNDistinct(rapid.Uint32(), 1, 5, rapid.ID[uint32]).Draw(t, name)
			return Sparse{Indices: indices, Values: rapid.SliceOfN(rapid.Float32(), len(indices), len(indices)).Draw(t, name+" values")}
		}
		targets := []Target{{ID: rapid.String().Draw(t, "id"), Version: rapid.Uint64().Draw(t, "version")}}
		key := Key{Tenant: TenantID{rapid.Byte().Draw(t, "tenant")}, Index: IndexID(rapid.Uint64().Draw(t, "index"))}
		sp := sparse("sparse")
		for _, c := range []*Command{
			{Op: OpDefineIndex, Schema: Schema{ID: key.Index, Dim: 4, Metric: ann.Cosine, M: 8, EfConstruction: 99, EfSearch: 7,
				Bits: rapid.SampledFrom([]int{NoCodes, 0, 1, 2, 4, 8}).Draw(t, "bits")}},
			{Op: OpDropIndex, Key: Key{Index: key.Index}}, {Op: OpDropTenant, Key: Key{Tenant: key.Tenant}},
			{Op: OpCreatePartition, Key: key}, {Op: OpDropPartition, Key: key}, {Op: OpDeleteAll, Key: key},
			{Op: OpUpsert, Key: key, Records: []Record{{ID: targets[0].ID, Values: floats.Draw(t, "values"), Sparse: sp}}},
			{Op: OpDelete, Key: key, Targets: targets},
			{Op: OpCostate, Term: rapid.Uint64().Draw(t, "term"), Costate: []CostateEntry{
				{key.Tenant, targets[0].ID, rapid.SliceOf(rapid.Byte()).Draw(t, "value")}, {key.Tenant, targets[0].ID, nil}, {Tenant: key.Tenant},
			}},
			{Op: OpUpdate, Key: key, Update: Update{Targets: targets, Values: floats.Draw(t, "values"), Sparse: &sp}},
		} {
			prefix := make([]byte, rapid.IntRange(0, 7).Draw(t, "prefix"))
			b := AppendCommand(prefix, c)[len(prefix):]
			got, err := DecodeCommand(b)
			require.NoError(t, err)
			require.Equal(t, c, got)
			if c.Op.wide() {
				continue
			}
			c.Once = &Once{Key: key.Tenant, At: rapid.Int64().Draw(t, "at"), Before: rapid.IntRange(0, 1<<30).Draw(t, "before")}
			got, err = DecodeCommand(AppendCommand(nil, c))
			require.NoError(t, err)
			require.Equal(t, c, got)
		}
	})
}
