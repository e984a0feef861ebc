package store

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
)

// benchStore holds n records of 16-byte keys and 200-byte values.
func benchStore(b *testing.B, path string, n int) *Bolt {
	s, err := Open(path, Options{Buckets: []string{"a", "b"}})
	require.NoError(b, err)
	for from := 0; from < n; from += 10_000 {
		require.NoError(b, s.Update(func(rw RW) error {
			for i := from; i < min(n, from+10_000); i++ {
				if err := rw.Put(0, benchKey(i), make([]byte, 200)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
	return s
}

func benchKey(i int) []byte { return binary.BigEndian.AppendUint64(make([]byte, 8, 16), uint64(i)) }

func BenchmarkGet(b *testing.B) {
	s := benchStore(b, newTestPath(b), 100_000)
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	b.ReportAllocs()
	require.NoError(b, s.View(func(tx Tx) error {
		for i := 0; b.Loop(); i++ {
			if _, err := tx.Get(0, benchKey(i*7919%100_000)); err != nil {
				return err
			}
		}
		return nil
	}))
}

// BenchmarkUpdate commits 1,000 records at a time.
func BenchmarkUpdate(b *testing.B) {
	s := benchStore(b, newTestPath(b), 100_000)
	b.Cleanup(func() { require.NoError(b, s.Close()) })
	b.ReportAllocs()
	for round := 0; b.Loop(); round++ {
		require.NoError(b, s.Update(func(rw RW) error {
			for i := range 1000 {
				if err := rw.Put(0, benchKey((round*1000+i)*7919%200_000), make([]byte, 200)); err != nil {
					return err
				}
			}
			return nil
		}))
	}
}

// BenchmarkOpen opens a store of 1,000,000 records, from the page cache.
func BenchmarkOpen(b *testing.B) {
	path := newTestPath(b)
	s := benchStore(b, path, 1_000_000)
	b.SetBytes(s.Size())
	require.NoError(b, s.Close())
	b.Run("whole", func(b *testing.B) {
		for b.Loop() {
			s, err := Open(path, Options{Buckets: []string{"a", "b"}})
			require.NoError(b, err)
			require.NoError(b, s.Close())
		}
	})
	b.Run("preflight", func(b *testing.B) {
		for b.Loop() {
			require.NoError(b, preflight(path, Options{}))
		}
	})
}
