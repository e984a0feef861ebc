// Package storetest owns the conformance kit of store.KV: what every implementation must do, as tests. The tests of
// store call it for each implementation; it holds no code of the store itself.
package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/errs"
)

// Buckets are the key spaces that the kit expects of each store.
var Buckets = []string{"alpha", "beta", "gamma"}

// TB is what the makers of stores need of a test, be it a *testing.T or a *rapid.T.
type TB interface {
	require.TestingT
	Cleanup(func())
	Helper()
}

// Run tests the stores that open makes: new and empty, with Buckets, closed by t's cleanup.
func Run(t *testing.T, open func(t TB) store.KV) {
	t.Run("values", func(t *testing.T) { testValues(t, open(t)) })
	t.Run("limits", func(t *testing.T) { testLimits(t, open(t)) })
	t.Run("ascend", func(t *testing.T) { testAscend(t, open(t)) })
	t.Run("misuse", func(t *testing.T) { testMisuse(t, open(t)) })
	t.Run("rollback", func(t *testing.T) { testRollback(t, open(t)) })
	t.Run("isolation", func(t *testing.T) { testIsolation(t, open(t)) })
	t.Run("concurrent", func(t *testing.T) { testConcurrent(t, open(t)) })
	t.Run("close", func(t *testing.T) { testClose(t, open(t)) })
	t.Run("model", rapid.MakeCheck(func(t *rapid.T) { testModel(t, open(t)) }))
}

func put(t require.TestingT, kv store.KV, b store.Bucket, key, value string) {
	require.NoError(t, kv.Update(func(rw store.RW) error { return rw.Put(b, []byte(key), []byte(value)) }))
}

// content reads a whole bucket.
func content(t require.TestingT, kv store.KV, b store.Bucket) map[string]string {
	got := map[string]string{}
	require.NoError(t, kv.View(func(tx store.Tx) error { return read(tx, b, got) }))
	return got
}

func read(tx store.Tx, b store.Bucket, into map[string]string) error {
	return tx.Ascend(b, nil, func(k, v []byte) (bool, error) {
		into[string(k)] = string(v)
		return true, nil
	})
}

func testValues(t *testing.T, kv store.KV) {
	key, value := []byte("key"), []byte("value")
	require.NoError(t, kv.Update(func(rw store.RW) error {
		require.NoError(t, rw.Put(0, key, value))
		key[0], value[0] = 'X', 'X' // the store must have its own copies
		require.NoError(t, rw.Put(0, []byte("empty"), nil))
		got, err := rw.Get(0, []byte("key"))
		require.Equal(t, "value", string(got), "its own write")
		return err
	}))
	require.NoError(t, kv.View(func(tx store.Tx) error {
		got, err := tx.Get(0, []byte("key"))
		require.NoError(t, err)
		require.Equal(t, "value", string(got))
		got, err = tx.Get(0, []byte("empty"))
		require.NoError(t, err)
		require.NotNil(t, got)
		require.Empty(t, got)
		for _, absent := range []string{"", "ke", "keys", "zzz"} {
			got, err = tx.Get(0, []byte(absent))
			require.NoError(t, err)
			require.Nil(t, got, absent)
		}
		got, err = tx.Get(1, []byte("key"))
		require.Nil(t, got, "another bucket")
		return err
	}))
	require.NoError(t, kv.Update(func(rw store.RW) error {
		require.NoError(t, rw.Delete(0, []byte("absent")))
		return rw.Delete(0, []byte("empty"))
	}))
	require.Equal(t, map[string]string{"key": "value"}, content(t, kv, 0))
	require.Positive(t, kv.Size())
}

func testLimits(t *testing.T, kv store.KV) {
	longest := strings.Repeat("k", store.MaxKey)
	put(t, kv, 2, longest, strings.Repeat("v", 300<<10))
	require.Equal(t, map[string]string{longest: strings.Repeat("v", 300<<10)}, content(t, kv, 2))
	for _, key := range []string{"", longest + "k"} {
		err := kv.Update(func(rw store.RW) error { return rw.Put(2, []byte(key), nil) })
		require.Equal(t, errs.Invalid, errs.KindOf(err))
		require.ErrorContains(t, err, fmt.Sprint(len(key)))
		err = kv.Update(func(rw store.RW) error { return rw.Delete(2, []byte(key)) })
		require.Equal(t, errs.Invalid, errs.KindOf(err))
	}
}

func testAscend(t *testing.T, kv store.KV) {
	for _, k := range []string{"b", "a", "c\x00", "c", "\xff", "aa"} {
		put(t, kv, 1, k, "of "+k)
	}
	ascend := func(from string, limit int) (keys []string) {
		require.NoError(t, kv.View(func(tx store.Tx) error {
			return tx.Ascend(1, []byte(from), func(k, v []byte) (bool, error) {
				require.Equal(t, "of "+string(k), string(v))
				keys = append(keys, string(k))
				return len(keys) < limit, nil
			})
		}))
		return keys
	}
	require.Equal(t, []string{"a", "aa", "b", "c", "c\x00", "\xff"}, ascend("", 99))
	require.Equal(t, []string{"aa", "b"}, ascend("a\x00", 2))
	require.Equal(t, []string{"c", "c\x00", "\xff"}, ascend("c", 3))
	require.Empty(t, ascend("\xff\xff", 99))
	stop := errors.New("stop")
	err := kv.View(func(tx store.Tx) error {
		return tx.Ascend(1, nil, func(k, v []byte) (bool, error) { return true, stop })
	})
	require.ErrorIs(t, err, stop)
}

func testMisuse(t *testing.T, kv store.KV) {
	put(t, kv, 0, "k", "v")
	var kept store.Tx
	require.NoError(t, kv.View(func(tx store.Tx) error { kept = tx; return nil }))
	_, err := kept.Get(0, []byte("k"))
	require.ErrorContains(t, err, "after its end")
	err = kv.View(func(tx store.Tx) error { _, err := tx.Get(3, []byte("k")); return err })
	require.ErrorContains(t, err, "no bucket 3")
	err = kv.Update(func(rw store.RW) error {
		return rw.Ascend(0, nil, func(k, v []byte) (bool, error) { return true, rw.Delete(0, k) })
	})
	require.ErrorContains(t, err, "within an Ascend")
	require.Equal(t, map[string]string{"k": "v"}, content(t, kv, 0))
}

func testRollback(t *testing.T, kv store.KV) {
	put(t, kv, 0, "k", "old")
	change := func(rw store.RW) {
		require.NoError(t, rw.Put(0, []byte("k"), []byte("new")))
		require.NoError(t, rw.Put(1, []byte("more"), []byte("x")))
		require.NoError(t, rw.Delete(0, []byte("k")))
	}
	refused := errors.New("refused")
	require.ErrorIs(t, kv.Update(func(rw store.RW) error { change(rw); return refused }), refused)
	require.PanicsWithValue(t, "boom", func() {
		kv.Update(func(rw store.RW) error { change(rw); panic("boom") })
	})
	require.PanicsWithValue(t, "boom", func() {
		kv.View(func(tx store.Tx) error {
			return tx.Ascend(0, nil, func(k, v []byte) (bool, error) { panic("boom") })
		})
	})
	require.Equal(t, map[string]string{"k": "old"}, content(t, kv, 0))
	require.Empty(t, content(t, kv, 1))
	put(t, kv, 0, "k", "later") // no lock was left behind
}

// testIsolation changes the store while a reader looks at it.
func testIsolation(t *testing.T, kv store.KV) {
	put(t, kv, 0, "k", "old")
	require.NoError(t, kv.View(func(tx store.Tx) error {
		wrote := make(chan error)
		go func() {
			wrote <- kv.Update(func(rw store.RW) error {
				return errors.Join(rw.Put(0, []byte("k"), []byte("new")), rw.Put(0, []byte("l"), []byte("new")))
			})
		}()
		require.NoError(t, <-wrote)
		got := map[string]string{}
		require.NoError(t, read(tx, 0, got))
		require.Equal(t, map[string]string{"k": "old"}, got)
		require.Equal(t, map[string]string{"k": "new", "l": "new"}, content(t, kv, 0), "a later reader")
		return nil
	}))
}

// testConcurrent lets readers look for a torn state while two writers change two keys together.
func testConcurrent(t *testing.T, kv store.KV) {
	const rounds = 40
	done := make(chan error)
	for w := range 2 {
		go func() {
			var err error
			for i := range rounds {
				v := fmt.Appendf(nil, "%d/%d", w, i)
				err = errors.Join(err, kv.Update(func(rw store.RW) error {
					return errors.Join(rw.Put(0, []byte("a"), v), rw.Put(2, []byte("b"), v))
				}))
			}
			done <- err
		}()
		go func() {
			var err error
			for range rounds * 5 {
				err = errors.Join(err, kv.View(func(tx store.Tx) error {
					a, errA := tx.Get(0, []byte("a"))
					b, errB := tx.Get(2, []byte("b"))
					if !bytes.Equal(a, b) {
						return fmt.Errorf("torn: %q and %q", a, b)
					}
					return errors.Join(errA, errB)
				}))
			}
			done <- err
		}()
	}
	for range 4 {
		require.NoError(t, <-done)
	}
}

func testClose(t *testing.T, kv store.KV) {
	put(t, kv, 0, "k", "v")
	require.NoError(t, kv.Close())
	require.NoError(t, kv.Close(), "twice")
	require.Zero(t, kv.Size())
	for _, err := range []error{
		kv.View(func(store.Tx) error { panic("ran") }),
		kv.Update(func(store.RW) error { panic("ran") }),
	} {
		require.Equal(t, errs.Unavailable, errs.KindOf(err))
		require.ErrorContains(t, err, "closed")
	}
}

// testModel compares random transactions, some of them refused, with plain maps.
func testModel(t *rapid.T, kv store.KV) {
	model := make([]map[string]string, len(Buckets))
	for b := range model {
		model[b] = map[string]string{}
	}
	key := rapid.StringMatching(`[abc]{1,3}`)
	value := rapid.Custom(func(t *rapid.T) string {
		return strings.Repeat(rapid.StringN(0, 4, -1).Draw(t, "part"), rapid.SampledFrom([]int{1, 2000}).Draw(t, "times"))
	})
	refused := errors.New("refused")
	for range rapid.IntRange(1, 12).Draw(t, "transactions") {
		next := []map[string]string{maps.Clone(model[0]), maps.Clone(model[1]), maps.Clone(model[2])}
		refuse := rapid.IntRange(0, 3).Draw(t, "refuse") == 0
		err := kv.Update(func(rw store.RW) error {
			for range rapid.IntRange(0, 12).Draw(t, "changes") {
				b, k := rapid.IntRange(0, len(Buckets)-1).Draw(t, "bucket"), key.Draw(t, "key")
				if rapid.Bool().Draw(t, "delete") {
					delete(next[b], k)
					require.NoError(t, rw.Delete(store.Bucket(b), []byte(k)))
					continue
				}
				next[b][k] = value.Draw(t, "value")
				require.NoError(t, rw.Put(store.Bucket(b), []byte(k), []byte(next[b][k])))
			}
			checkModel(t, rw, next)
			if refuse {
				return refused
			}
			return nil
		})
		if refuse {
			require.ErrorIs(t, err, refused)
		} else {
			require.NoError(t, err)
			model = next
		}
		require.NoError(t, kv.View(func(tx store.Tx) error { checkModel(t, tx, model); return nil }))
	}
}

func checkModel(t require.TestingT, tx store.Tx, model []map[string]string) {
	for b, m := range model {
		want := slices.Sorted(maps.Keys(m))
		var got []string
		require.NoError(t, tx.Ascend(store.Bucket(b), nil, func(k, v []byte) (bool, error) {
			require.Equal(t, m[string(k)], string(v))
			got = append(got, string(k))
			return true, nil
		}))
		require.Equal(t, want, got)
		for _, k := range want {
			v, err := tx.Get(store.Bucket(b), []byte(k))
			require.NoError(t, err)
			require.Equal(t, m[k], string(v))
		}
	}
}
