package cold

import (
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/vfs"
)

// diskRows are rows of random values in a mapped file.
type diskRows struct {
	path string
	m    vfs.Mapping
	dim  int
	gone uint32
}

func newDiskRows(t testing.TB, n, dim int) *diskRows {
	path := filepath.Join(t.TempDir(), "rows")
	file, err := os.Create(path)
	require.NoError(t, err)
	rng, row := rand.NewChaCha8([32]byte{7}), make([]byte, size(dim))
	for range n {
		rng.Read(row)
		_, err := file.Write(row)
		require.NoError(t, err)
	}
	require.NoError(t, file.Close())
	m, err := vfs.OS().Map(path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, m.Close()) })
	m.(vfs.Adviser).ReadAtRandom()
	return &diskRows{path: path, m: m, dim: dim, gone: 1 << 31}
}

func (r *diskRows) Vector(slot uint32) ([]float32, float32) {
	if slot == r.gone {
		return nil, 0
	}
	_, off := r.Where(slot)
	return codec.Float32sFromBytes(r.m.Bytes()[off : off+size(r.dim)]), float32(slot)
}

func (r *diskRows) Where(slot uint32) (vfs.Mapping, int) { return r.m, int(slot) * size(r.dim) }

// evict has the system forget the file; a disk in memory, as /tmp may be, keeps it: the test is skipped there.
func (r *diskRows) evict(t testing.TB) {
	f, err := os.Open(r.path)
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	require.NoError(t, unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED))
	require.NoError(t, f.Close())
	if r.m.(vfs.Adviser).InMemory(0) {
		t.Skip("the disk of the temporary directory lets nothing be evicted")
	}
}

// TestFetchReads finds the rows of a file that is not in memory as they are, whatever way they came, and keeps few of them.
func TestFetchReads(t *testing.T) {
	rows := newDiskRows(t, 2000, 1536)
	rows.evict(t)
	rng := rand.New(rand.NewPCG(3, 3))
	var r Reader
	r.spare.Store(3)
	brought := 0
	for range 20 {
		var slots []uint32
		for range 1 + rng.IntN(20) {
			slots = append(slots, rng.Uint32N(2000))
		}
		rows.gone = slots[len(slots)-1]
		f := r.Fetch(rows, rows.dim, slots)
		if f == nil {
			continue
		}
		brought += len(f.(*fetched).slots)
		for _, slot := range append(slots, 17) {
			want, scale := rows.Vector(slot)
			got, gotScale := f.Vector(slot)
			require.Equal(t, scale, gotScale)
			require.Equal(t, bits(want), bits(got), "slot %d", slot)
		}
		if i := slices.Index(slots, f.(*fetched).slots[0]); f.(*fetched).slots[0] != rows.gone {
			got, _ := f.Vector(slots[i])
			want, _ := rows.Vector(slots[i])
			require.NotSame(t, unsafe.SliceData(want), unsafe.SliceData(got), "it comes from the batch")
		}
		f.Release()
	}
	require.Greater(t, brought, 50)
}

func bits(v []float32) []byte { return codec.Float32Bytes(v) }

// TestHotRowsAreKept: a row that is asked for again and again is in memory before long.
func TestHotRowsAreKept(t *testing.T) {
	rows := newDiskRows(t, 100, 1536)
	rows.evict(t)
	var r Reader
	r.spare.Store(maxSpare)
	for n := 0; ; n++ {
		require.Less(t, n, 10_000)
		f := r.Fetch(rows, rows.dim, []uint32{3, 50})
		if f == nil {
			break
		}
		f.Release()
	}
}

// BenchmarkFetch reads a dozen rows of a file that is not in memory, and reads them by their mapping.
func BenchmarkFetch(b *testing.B) {
	rows := newDiskRows(b, 100_000, 1536)
	rng := rand.New(rand.NewPCG(4, 4))
	slots := make([]uint32, 12)
	draw := func() {
		for i := range slots {
			slots[i] = rng.Uint32N(100_000)
		}
	}
	touch := func(src interface {
		Vector(uint32) ([]float32, float32)
	}) (sum float32) {
		for _, slot := range slots {
			v, _ := src.Vector(slot)
			sum += v[0] + v[len(v)-1]
		}
		return sum
	}
	b.Run("fetched", func(b *testing.B) {
		rows.evict(b)
		var r Reader
		r.spare.Store(maxSpare)
		b.ReportAllocs()
		for b.Loop() {
			draw()
			if f := r.Fetch(rows, rows.dim, slots); f != nil {
				touch(f)
				f.Release()
			} else {
				touch(rows)
			}
		}
	})
	b.Run("asked for", func(b *testing.B) {
		rows.evict(b)
		for b.Loop() {
			draw()
			for _, slot := range slots {
				m, off := rows.Where(slot)
				m.(vfs.Adviser).WillNeed(off, size(rows.dim))
			}
			touch(rows)
		}
	})
}
