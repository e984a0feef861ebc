package store_test

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/engine/internal/store/storetest"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func options() store.Options {
	return store.Options{Buckets: storetest.Buckets, GrowBytes: 64 << 10, MapBytes: 16 << 20}
}

func TestBoltConforms(t *testing.T) {
	storetest.Run(t, func(t storetest.TB) store.KV {
		dir, err := os.MkdirTemp("", "store")
		require.NoError(t, err)
		kv, err := store.Open(filepath.Join(dir, "records.db"), options())
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, kv.Close())
			require.NoError(t, os.RemoveAll(dir))
		})
		return kv
	})
}

func TestMemConforms(t *testing.T) {
	storetest.Run(t, func(t storetest.TB) store.KV {
		kv, err := store.OpenMem(vfs.NewMem(), "/records.db", options())
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, kv.Close()) })
		return kv
	})
}

func TestOptionsAreChecked(t *testing.T) {
	for name, o := range map[string]store.Options{
		"want 1 to 32": {},
		"unique":       {Buckets: []string{"a", "a"}},
		"not empty":    {Buckets: []string{""}},
		"negative":     {Buckets: []string{"a"}, MapBytes: -1},
	} {
		_, err := store.Open(filepath.Join(t.TempDir(), "x"), o)
		require.ErrorContains(t, err, name)
		require.Equal(t, errs.Invalid, errs.KindOf(err))
		_, err = store.OpenMem(vfs.NewMem(), "/records.db", o)
		require.ErrorContains(t, err, name)
	}
}

// TestCopyIsTheView copies a store while it is changed: the copy opens as the state of the view.
func TestCopyIsTheView(t *testing.T) {
	bolt, err := store.Open(filepath.Join(t.TempDir(), "records.db"), options())
	require.NoError(t, err)
	mem, err := store.OpenMem(vfs.NewMem(), "/records.db", options())
	require.NoError(t, err)
	for name, kv := range map[string]store.KV{"bolt": bolt, "mem": mem} {
		t.Run(name, func(t *testing.T) {
			defer func() { require.NoError(t, kv.Close()) }()
			fill := func(value string) {
				require.NoError(t, kv.Update(func(rw store.RW) error {
					for i := range 3000 {
						if err := rw.Put(1, []byte(fmt.Sprint("key-", i)), []byte(value)); err != nil {
							return err
						}
					}
					return rw.Put(0, []byte("empty"), nil)
				}))
			}
			fill("old")
			var copied bytes.Buffer
			require.NoError(t, kv.View(func(tx store.Tx) error {
				fill("new")
				return tx.Copy(&copied)
			}))
			got := reopened(t, name, copied.Bytes())
			require.NoError(t, got.View(func(tx store.Tx) error {
				n := 0
				require.NoError(t, tx.Ascend(1, nil, func(_, v []byte) (bool, error) {
					n++
					return string(v) == "old", nil
				}))
				require.Equal(t, 3000, n)
				v, err := tx.Get(0, []byte("empty"))
				require.NotNil(t, v)
				return err
			}))
			require.NoError(t, got.Update(func(rw store.RW) error { return rw.Put(0, []byte("more"), nil) }))
			require.NoError(t, got.Close())
		})
	}
}

func reopened(t *testing.T, kind string, b []byte) store.KV {
	if kind == "mem" {
		kv, err := store.OpenMem(journalOf(t, b), "/records.db", options())
		require.NoError(t, err)
		return kv
	}
	path := filepath.Join(t.TempDir(), "copy.db")
	require.NoError(t, os.WriteFile(path, b, 0o600))
	kv, err := store.Open(path, options())
	require.NoError(t, err)
	return kv
}
