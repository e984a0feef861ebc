package segment

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/vfs"
)

// benchExtents are 64 MiB of rows of 784 values.
func benchExtents() []Extent { return []Extent{makeExtent(1, 784, 21_400)} }

func BenchmarkWrite(b *testing.B) {
	extents, dir := benchExtents(), b.TempDir()
	b.ReportAllocs()
	for b.Loop() {
		w, err := Write(vfs.OS(), dir, testID, testIdent, extents)
		require.NoError(b, err)
		b.SetBytes(w.Bytes)
	}
}

func BenchmarkOpen(b *testing.B) {
	dir := b.TempDir()
	_, err := Write(vfs.OS(), dir, testID, testIdent, benchExtents())
	require.NoError(b, err)
	b.ReportAllocs()
	for b.Loop() {
		s, err := Open(vfs.OS(), dir, testID, testIdent)
		require.NoError(b, err)
		require.NoError(b, s.Close())
	}
}

func BenchmarkVerify(b *testing.B) {
	dir, e := b.TempDir(), benchExtents()[0]
	w, err := Write(vfs.OS(), dir, testID, testIdent, []Extent{e})
	require.NoError(b, err)
	s, err := Open(vfs.OS(), dir, testID, testIdent)
	require.NoError(b, err)
	b.Run("all blocks afresh", func(b *testing.B) {
		b.SetBytes(w.Bytes)
		for b.Loop() {
			require.NoError(b, s.VerifyAll())
		}
	})
	b.Run("one row again", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if err := s.Verify(w.Offsets[0], 1, e.Dim, e.Owner); err != nil {
				b.Fatal(err)
			}
		}
	})
	require.NoError(b, s.Close())
}
