package engine

import (
	"encoding/binary"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/errs"
)

func onceOf(key, body byte, at int64) *Once {
	return &Once{Key: [16]byte{key}, Body: [16]byte{body}, At: at}
}

func onceShard(t testing.TB) *subject {
	s := newSubject(t, Options{})
	s.apply(&Command{Op: OpDefineIndex, Schema: Schema{ID: 1, Dim: 2, Metric: ann.Euclidean}})
	return s
}

func upsertOnce(tenant byte, n int, o *Once) *Command {
	c := &Command{Op: OpUpsert, Key: testKey(tenant, 1), Once: o}
	for i := range n {
		c.Records = append(c.Records, Record{ID: strconv.Itoa(i), Values: []float32{1, 2}})
	}
	return c
}

func TestOnce(t *testing.T) {
	s := onceShard(t)
	first := s.apply(upsertOnce(1, 3, onceOf(1, 1, 1000)))
	require.Equal(t, Applied{Index: 2, Affected: 3, Version: 1}, first)
	for name, between := range map[string]func(){
		"at once":       func() {},
		"after a flush": func() { require.NoError(t, s.shard.flush()) },
		"after a stop":  func() { s.restart(false) },
		"after a crash": func() { s.restart(true) },
	} {
		between()
		again := s.apply(upsertOnce(1, 3, onceOf(1, 1, 2000)))
		require.True(t, again.Repeated, name)
		require.Equal(t, []any{3, uint64(1), uint64(2)}, []any{again.Affected, again.Version, again.First}, name)
	}
	other := s.apply(upsertOnce(1, 2, onceOf(1, 2, 3000)))
	require.Equal(t, errs.AlreadyExists, errs.KindOf(other.Err), "another request under the same key")
	stats, _, err := s.shard.Partition(testKey(1, 1))
	require.NoError(t, err)
	require.EqualValues(t, 3, stats.Records)

	require.False(t, s.apply(upsertOnce(2, 1, onceOf(1, 2, 3000))).Repeated, "keys are a tenant's own")

	drop := func() Applied {
		return s.apply(&Command{Op: OpDropPartition, Key: testKey(1, 1), Once: onceOf(7, 7, 4000)})
	}
	require.Equal(t, 3, drop().Affected)
	require.True(t, drop().Repeated, "what is gone is not missed the second time")
	require.NoError(t, drop().Err)

	missing := &Command{Op: OpDeleteAll, Key: testKey(9, 1), Once: onceOf(8, 8, 4000)}
	require.Equal(t, errs.NotFound, errs.KindOf(s.apply(missing).Err))
	require.Equal(t, errs.NotFound, errs.KindOf(s.apply(missing).Err), "a refusal is not remembered")

	many := s.apply(&Command{Op: OpDelete, Key: testKey(2, 1), Targets: []Target{{ID: "0"}}, Once: &Once{Key: [16]byte{9}, At: 5000, Before: 40}})
	require.Equal(t, 41, many.Affected)
}

func TestOnceForgets(t *testing.T) {
	s := onceShard(t)
	del := func(tenant byte, key uint32, at int64) bool {
		o := &Once{At: at}
		binary.LittleEndian.PutUint32(o.Key[:], key)
		return s.apply(&Command{Op: OpDelete, Key: testKey(tenant, 1), Once: o}).Repeated
	}
	for _, tenant := range []byte{1, 2} {
		s.apply(upsertOnce(tenant, 1, nil))
	}
	require.False(t, del(2, OnceLimit, 1000))
	require.False(t, del(1, 0, 1000))
	require.False(t, del(1, 1, 1<<60), "a clock that is years ahead")
	require.True(t, del(1, 0, 1000), "makes nothing forgotten")
	for at := int64(1); at < 24; at++ {
		require.False(t, del(1, uint32(100+at), 1000+at*onceStep))
	}
	require.True(t, del(1, 1, 0))
	require.False(t, del(1, 50, 1000+26*onceStep))
	require.False(t, del(1, 0, 0), "a day later")
	require.True(t, del(2, OnceLimit, 0), "clocks are a tenant's own")

	for key := range uint32(OnceLimit + 1) {
		require.False(t, del(2, key, 1000))
		if key == OnceLimit/2 {
			require.NoError(t, s.shard.flush())
		}
	}
	require.True(t, del(2, 1, 1000))
	require.False(t, del(2, 0, 1000), "as many newer ones")
	require.NoError(t, s.shard.flush())
	require.Less(t, s.onceKeys(), 2*OnceLimit+100, "two keys for each that is remembered")
}

func (s *subject) onceKeys() (n int) {
	require.NoError(s.t, s.shard.kv.View(func(tx store.Tx) error {
		return tx.Ascend(bucketOnce, nil, func(_, _ []byte) (bool, error) { n++; return true, nil })
	}))
	return n
}

// TestOnceModel compares repetitions with a plain map, over flushes, stops and crashes.
func TestOnceModel(t *testing.T) {
	type done struct {
		body    byte
		at      int64
		applied Applied
	}
	rapid.Check(t, func(rt *rapid.T) {
		s := onceShard(t)
		model, now, clock, version := map[byte]done{}, int64(0), int64(1), uint64(0)
		rt.Repeat(map[string]func(*rapid.T){
			"flush":   func(*rapid.T) { require.NoError(rt, s.shard.flush()) },
			"restart": func(rt *rapid.T) { s.restart(rapid.Bool().Draw(rt, "crash")) },
			"write": func(rt *rapid.T) {
				clock += rapid.Int64Range(-1, 8).Draw(rt, "hours") * onceStep
				key, body := rapid.ByteRange(1, 5).Draw(rt, "key"), rapid.ByteRange(1, 2).Draw(rt, "body")
				got := s.apply(upsertOnce(1, int(body), onceOf(key, body, clock)))
				old, known := model[key]
				switch {
				case known && old.at > now-onceKept && old.body != body:
					require.Equal(rt, errs.AlreadyExists, errs.KindOf(got.Err))
				case known && old.at > now-onceKept:
					require.Equal(rt, []any{true, old.applied.Index, old.applied.Affected}, []any{got.Repeated, got.First, got.Affected})
				default:
					version++
					now = advance(now, clock)
					require.Equal(rt, Applied{Index: uint64(len(s.log)), Affected: int(body), Version: version}, got)
					model[key] = done{body, now, got}
				}
			},
		})
	})
}
