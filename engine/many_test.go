package engine

import (
	"encoding/binary"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

func manyKey(i int) Key {
	var k Key
	binary.BigEndian.PutUint32(k.Tenant[:], uint32(i))
	k.Index = 1
	return k
}

// TestManyPartitions opens a shard of many partitions: none is loaded, all are found, and those that come and go leave
// the registry no larger.
func TestManyPartitions(t *testing.T) {
	n := 10_000
	if raceEnabled {
		n = 500
	}
	s := newSubject(t, Options{Logger: quiet()})
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 4, Metric: ann.Euclidean}})
	for i := range n {
		s.apply(&Command{Op: OpUpsert, Key: manyKey(i), Records: []Record{{ID: "a", Values: []float32{float32(i), 1, 2, 3}}}})
	}
	start := time.Now()
	s.engine.dropUnused()
	t.Logf("looking for unused ones among %d loaded: %v", n, time.Since(start))
	s.restart(false)
	start = time.Now()
	st := s.shard.Stats()
	t.Logf("stats of %d: %v", n, time.Since(start))
	require.Equal(t, n, st.Partitions)
	require.Zero(t, st.Loaded)
	require.EqualValues(t, n, st.Records)
	var res Result
	require.NoError(t, s.shard.Query(t.Context(), manyKey(n/2), &Query{Vector: make([]float32, 4), K: 1, IncludeValues: true}, &res))
	require.Equal(t, float32(n/2), res.Matches[0].Values[0])

	size := len(s.shard.registry.table.Load().slots)
	for i := range n {
		s.apply(&Command{Op: OpDropPartition, Key: manyKey(i)})
		s.apply(&Command{Op: OpCreatePartition, Key: manyKey(n + i)})
	}
	require.LessOrEqual(t, len(s.shard.registry.table.Load().slots), 2*size)
	require.Equal(t, n, s.shard.registry.len())
	upkeep(s.shard)
	records, garbage := countStored(t, s.shard)
	require.Zero(t, records+garbage)
	require.Eventually(t, func() bool { return s.shard.Stats().SegmentBytes == 0 }, time.Minute, time.Millisecond,
		"the janitor may be the one that drops the last segments")
}

// TestFilterBeyondIndexedFields filters by a field that came after those that are indexed: the stored metadata decides,
// also when the record has changed meanwhile.
func TestFilterBeyondIndexedFields(t *testing.T) {
	s := newSubject(t, Options{Logger: quiet()})
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 1, Metric: ann.Euclidean}})
	one := func(key, value string) metadata.Map {
		m, err := metadata.Make(metadata.Field{Key: key, Value: metadata.StringValue(value)})
		require.NoError(t, err)
		return m
	}
	c := &Command{Op: OpUpsert, Key: testKey(1, 1)}
	for i := range 1100 {
		name := "f" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + time.Duration(i).String()
		c.Records = append(c.Records, Record{ID: name, Values: []float32{float32(i)}, Metadata: one(name, "v")})
	}
	require.NoError(t, s.apply(c).Err)
	late := one("late", "yes")
	s.apply(&Command{Op: OpUpsert, Key: testKey(1, 1), Records: []Record{
		{ID: "a", Values: []float32{1}, Metadata: late}, {ID: "b", Values: []float32{2}, Metadata: late}, {ID: "c", Values: []float32{3}},
	}})
	f, err := filter.Parse([]byte(`{"late":"yes"}`))
	require.NoError(t, err)
	_, exact := s.space(testKey(1, 1)).filter.Eval(f)
	require.False(t, exact)
	for range 2 {
		ts, err := s.shard.Resolve(t.Context(), testKey(1, 1), f)
		require.NoError(t, err)
		require.Len(t, ts, 2)
		var res Result
		require.NoError(t, s.shard.Query(t.Context(), testKey(1, 1), &Query{Vector: []float32{0}, K: 9, Filter: f}, &res))
		require.Len(t, res.Matches, 2)
		s.restart(true)
	}
	ts, err := s.shard.Resolve(t.Context(), testKey(1, 1), f)
	require.NoError(t, err)
	s.apply(&Command{Op: OpUpsert, Key: testKey(1, 1), Records: []Record{{ID: "b", Values: []float32{2}}}})
	require.Equal(t, 1, s.apply(&Command{Op: OpDelete, Key: testKey(1, 1), Targets: ts}).Affected, "b has another version by now")
}

// TestFlushAfterFullDisk flushes both what waited for space and what came after it: all that was applied.
func TestFlushAfterFullDisk(t *testing.T) {
	failing := vfs.NewFailing(vfs.OS())
	s := newSubject(t, Options{FS: failing, FlushBytes: 64, Logger: quiet()})
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 4, Metric: ann.Euclidean}})
	failing.Arm(vfs.Fault{Err: syscall.ENOSPC, All: true})
	s.apply(&Command{Op: OpUpsert, Key: testKey(1, 1), Records: []Record{{ID: "early", Values: []float32{1, 2, 3, 4}}}})
	_, err := s.shard.Flush(t.Context())
	require.Equal(t, errs.StorageFull, errs.KindOf(s.shard.Admit(t.Context(), 1<<30)), "%v", err)
	s.apply(&Command{Op: OpUpsert, Key: testKey(1, 1), Records: []Record{{ID: "late", Values: []float32{1, 2, 3, 4}}}})
	failing.Disarm()
	flushed, err := s.shard.Flush(t.Context())
	require.NoError(t, err)
	require.Equal(t, s.shard.AppliedIndex(), flushed)
	readBack(t, s.shard)
}
