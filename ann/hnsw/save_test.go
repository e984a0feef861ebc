package hnsw_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/ann/anntest"
	"github.com/croftdb/croft/ann/hnsw"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

const dim = 8

var config = hnsw.Config{Metric: ann.Euclidean, Dim: dim, M: 4, EfConstruction: 20}

// build makes a graph of n slots.
func build(t testing.TB, n int) (index, *anntest.Vectors) {
	src := anntest.NewVectors(config.Metric, 2*n+1)
	x := index{hnsw.New(config, src)}
	for i, v := range anntest.Clustered(3, n, dim) {
		src.Set(uint32(i), v)
		require.NoError(t, x.Insert(uint32(i)))
	}
	return x, src
}

func save(t testing.TB, x index) []byte {
	var b bytes.Buffer
	require.NoError(t, x.Save(&b))
	return b.Bytes()
}

func answers(t testing.TB, s ann.Searcher) (all [][]ann.Candidate) {
	for _, q := range anntest.Clustered(4, 20, dim) {
		got, err := s.Search(t.Context(), &ann.Request{Vector: q, K: 5, Ef: 20}, nil)
		require.NoError(t, err)
		all = append(all, got)
	}
	return all
}

func TestLoadGivesBackWhatWasSaved(t *testing.T) {
	oneGoroutine(t)
	for _, n := range []int{0, 1, 2, 15, 100, 1023, 1024, 1025, 3000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			x, src := build(t, n)
			for slot := range uint32(n / 3) {
				x.Delete(slot * 2)
			}
			if n == 15 || n == 100 {
				measure(t, x.Graph)
			}
			data := save(t, x)
			in := bytes.NewReader(append(bytes.Clone(data), "behind it"...))
			g, err := hnsw.Load(iotest.HalfReader(in), config, src)
			require.NoError(t, err)
			require.Equal(t, len("behind it"), in.Len(), "read to its end and not beyond")
			y := index{g}

			require.Equal(t, data, save(t, y))
			require.Equal(t, x.Effort(), y.Effort())
			require.Equal(t, answers(t, x), answers(t, y))
			require.Equal(t, [2]int{x.Len(), x.Dead()}, [2]int{y.Len(), y.Dead()})
			wantFreed, err := x.Reclaim()
			require.NoError(t, err)
			freed, err := y.Reclaim()
			require.NoError(t, err)
			require.ElementsMatch(t, wantFreed, freed, "deleted slots are known")
			src.Set(uint32(n), make([]float32, dim))
			require.NoError(t, y.Insert(uint32(n)))
			require.Equal(t, x.Len()+1, y.Len())
		})
	}
}

func TestSameInsertsGiveSameBytes(t *testing.T) {
	oneGoroutine(t)
	a, _ := build(t, 2000)
	b, _ := build(t, 2000)
	require.Equal(t, save(t, a), save(t, b))
}

func TestSaveBetweenTwoCallsOfRepair(t *testing.T) {
	oneGoroutine(t)
	x, src := build(t, 1500)
	for slot := range uint32(300) {
		x.Delete(slot)
	}
	var all []uint32
	for more := true; more; {
		freed, again, err := x.Repair(t.Context(), 200)
		require.NoError(t, err)
		more, all = again, append(all, freed...)

		g, err := hnsw.Load(bytes.NewReader(save(t, x)), config, src)
		require.NoError(t, err)
		rest, err := index{g}.Reclaim()
		require.NoError(t, err)
		require.Len(t, append(rest, all...), 300, "the loaded graph frees what is left")
		require.Equal(t, 1200, g.Len())
	}
}

// TestLoadNoticesEveryDamage flips bits and cuts the file short.
func TestLoadNoticesEveryDamage(t *testing.T) {
	oneGoroutine(t)
	x, src := build(t, 300)
	data := save(t, x)
	r := rand.New(rand.NewPCG(5, 5))
	for range 2000 {
		bad := bytes.Clone(data)
		at := r.IntN(len(bad))
		bad[at] ^= 1 << r.IntN(8)
		_, err := hnsw.Load(bytes.NewReader(bad), config, src)
		require.Equal(t, errs.Corrupt, errs.KindOf(err), "byte %d: %v", at, err)

		_, err = hnsw.Load(bytes.NewReader(data[:at]), config, src)
		require.Equal(t, errs.Corrupt, errs.KindOf(err), "cut at %d: %v", at, err)
	}
}

// reseal repairs the checksums of a file that was changed on purpose.
func reseal(data []byte) {
	for n := uint32(0); len(data) >= 8; n++ {
		size := binary.LittleEndian.Uint32(data)
		if uint64(len(data)) < 8+uint64(size) {
			return
		}
		sum := codec.CRC(binary.LittleEndian.AppendUint32(nil, n))
		binary.LittleEndian.PutUint32(data[4:], codec.UpdateCRC(sum, data[8:8+size]))
		data = data[8+size:]
	}
}

func TestLoadRefuses(t *testing.T) {
	x, src := build(t, 300)
	measure(t, x.Graph)
	data := save(t, x)
	const header, slots = 8, 8 + 64 + 8
	set := func(at int, v uint32) func([]byte) {
		return func(b []byte) { binary.LittleEndian.PutUint32(b[at:], v) }
	}
	tests := []struct {
		name string
		kind errs.Kind
		edit func([]byte)
	}{
		{"magic", errs.Corrupt, set(header, 1)},
		{"newer version", errs.FailedPrecondition, set(header+8, 4)},
		{"other metric", errs.FailedPrecondition, set(header+12, 1)},
		{"other dimension", errs.FailedPrecondition, set(header+16, 9)},
		{"other M", errs.FailedPrecondition, set(header+20, 5)},
		{"more chunks than there are", errs.Corrupt, set(header+28, 1<<31)},
		{"more upper lists than there are", errs.Corrupt, set(header+32, 1<<31)},
		{"wrong count", errs.Corrupt, set(header+36, 299)},
		{"entry not in use", errs.Corrupt, set(header+40, 1000)},
		{"entry beyond the slots", errs.Corrupt, set(header+40, 1<<31)},
		{"empty but for its slots", errs.Corrupt, set(header+44, 0)},
		{"leaving slot", errs.Corrupt, set(slots, 5<<29)},
		{"upper list out of range", errs.Corrupt, set(slots, 1<<31|15<<24|1000)},
		{"other codes", errs.FailedPrecondition, set(header+48, 4)},
		{"centre of another length", errs.Corrupt, set(header+52, 3)},
		{"link to itself", errs.Corrupt, set(slots+4096, 0)},
		{"link out of range", errs.Corrupt, set(slots+4096, 1<<30)},
		{"link to a slot not in use", errs.Corrupt, set(slots+4096, 500)},
		{"links of a slot not in use", errs.Corrupt, set(slots+4096+500*32, 1)},
		{"effort that finds more than all", errs.Corrupt, set(len(data)-4, math.Float32bits(1.5))},
		{"effort that is not a number", errs.Corrupt, set(len(data)-4, 0x7fc00000)},
	}
	for _, tt := range tests {
		bad := bytes.Clone(data)
		tt.edit(bad)
		reseal(bad)
		_, err := hnsw.Load(bytes.NewReader(bad), config, src)
		require.Error(t, err, tt.name)
		require.Equal(t, tt.kind, errs.KindOf(err), "%s: %v", tt.name, err)
	}
}

func TestIOErrorsAreNotCorruption(t *testing.T) {
	x, src := build(t, 300)
	data := save(t, x)
	broken := errors.New("disk on fire")
	_, err := hnsw.Load(io.MultiReader(bytes.NewReader(data[:100]), iotest.ErrReader(broken)), config, src)
	require.ErrorIs(t, err, broken)
	require.NotEqual(t, errs.Corrupt, errs.KindOf(err))
	for room := range 3 { // header, slots, upper lists
		require.ErrorIs(t, x.Save(&failingWriter{room, broken}), broken)
	}
}

// failingWriter fails after some writes.
type failingWriter struct {
	room int
	err  error
}

func (w *failingWriter) Write(b []byte) (int, error) {
	if w.room--; w.room < 0 {
		return 0, w.err
	}
	return len(b), nil
}

// FuzzLoad loads damaged files with right checksums: whatever loads must bear searches, inserts and repair.
func FuzzLoad(f *testing.F) {
	x, src := build(f, 40)
	x.Delete(7)
	data := save(f, x)
	f.Add(uint32(0), uint32(0), uint32(0), uint32(0))
	f.Add(uint32(80), uint32(1<<31), uint32(4176), uint32(8))
	f.Add(uint32(36), uint32(1), uint32(84), uint32(0xC1000003))
	f.Fuzz(func(t *testing.T, at1, value1, at2, value2 uint32) {
		bad := bytes.Clone(data)
		for at, value := range map[uint32]uint32{at1: value1, at2: value2} {
			binary.LittleEndian.PutUint32(bad[int(at)%(len(bad)-3):], value)
		}
		reseal(bad)
		g, err := hnsw.Load(bytes.NewReader(bad), config, src)
		if err != nil {
			return
		}
		y := index{g}
		answers(t, y)
		if !y.Holds(45) {
			src.Set(45, make([]float32, dim))
			require.NoError(t, y.Insert(45))
		}
		for slot := range uint32(50) {
			y.Delete(slot)
		}
		_, err = y.Reclaim()
		require.NoError(t, err)
	})
}

// newReader returns what x saves.
func newReader(t testing.TB, x index) io.Reader { return bytes.NewReader(save(t, x)) }
