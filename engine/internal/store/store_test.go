package store_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/engine/internal/store/storetest"
	"github.com/croftdb/croft/internal/errs"
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
		kv, err := store.NewMem(options())
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
		_, err = store.NewMem(o)
		require.ErrorContains(t, err, name)
	}
}
