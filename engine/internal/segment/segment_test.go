package segment

import (
	"bytes"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	iofs "io/fs"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

var update = flag.Bool("update", false, "write the fixtures anew")

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var testIdent = Ident{Shard: [16]byte{1, 2, 3, 15: 16}}

const testID = 0xC0FFEE

func newDisk(t require.TestingT) *vfs.Mem {
	disk := vfs.NewMem()
	require.NoError(t, disk.MkdirAll("/segments"))
	return disk
}

// makeExtent fills rows with values that tell their place.
func makeExtent(owner byte, dim, rows int) Extent {
	e := Extent{Owner: Owner{0: owner, 23: owner}, Dim: dim}
	for i := range rows {
		row := make([]float32, dim)
		for j := range row {
			row[j] = float32(i) + float32(j)/1024
		}
		e.Rows, e.IDs = append(e.Rows, row), append(e.IDs, fmt.Sprintf("id-%d-%d", owner, i))
	}
	return e
}

func sample() []Extent {
	return []Extent{makeExtent(1, 3, 5), makeExtent(2, 4, 1), makeExtent(1, 33, 9)}
}

// large has rows that cross blocks.
func large() []Extent {
	return []Extent{makeExtent(1, 20_000, 3), makeExtent(2, 5, 700), makeExtent(3, 1536, 20)}
}

func write(t require.TestingT, disk vfs.FS, extents []Extent) *Written {
	w, err := Write(disk, "/segments", testID, testIdent, extents)
	require.NoError(t, err)
	return w
}

func open(t require.TestingT, disk vfs.FS) *Segment {
	s, err := Open(disk, "/segments", testID, testIdent)
	require.NoError(t, err)
	return s
}

// check compares all that a segment tells with what was written.
func check(t require.TestingT, s *Segment, extents []Extent) {
	infos := s.Extents()
	require.Len(t, infos, len(extents))
	for i, e := range extents {
		info := infos[i]
		require.Equal(t, ExtentInfo{e.Owner, e.Dim, len(e.Rows), info.Off}, info)
		ids, err := s.IDs(i)
		require.NoError(t, err)
		require.Equal(t, e.IDs, ids)
		require.NoError(t, s.Verify(info.Off, info.Rows, e.Dim, e.Owner))
		for j, row := range e.Rows {
			off := info.Off + uint32(j)*Stride(e.Dim)
			require.NoError(t, s.Verify(off, 1, e.Dim, e.Owner))
			got := s.Row(off, e.Dim)
			require.True(t, bytes.Equal(codec.Float32Bytes(row), codec.Float32Bytes(got)), "extent %d row %d", i, j)
			require.Equal(t, unsafe.Add(s.Base(), uint64(off)*Unit), unsafe.Pointer(&got[0]))
			require.Zero(t, uintptr(unsafe.Pointer(&got[0]))%Unit)
		}
	}
	require.NoError(t, s.VerifyAll())
}

func TestRoundTrip(t *testing.T) {
	for name, disk := range map[string]vfs.FS{"memory": newDisk(t), "disk": vfs.OS()} {
		t.Run(name, func(t *testing.T) {
			dir := "/segments"
			if name == "disk" {
				dir = t.TempDir()
			}
			w, err := Write(disk, dir, testID, testIdent, large())
			require.NoError(t, err)
			s, err := Open(disk, dir, testID, testIdent)
			require.NoError(t, err)
			check(t, s, large())
			for i, e := range s.Extents() {
				require.Equal(t, w.Offsets[i], e.Off)
			}
			require.Equal(t, w.Bytes, s.Size())
			require.Equal(t, uint64(testID), s.ID())
			require.NoError(t, s.Close())
		})
	}
}

func TestRoundTripOfAnything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var extents []Extent
		for i := range rapid.IntRange(1, 6).Draw(t, "extents") {
			dim := rapid.OneOf(rapid.IntRange(1, 70), rapid.SampledFrom([]int{1536, 16383, 20_000})).Draw(t, "dim")
			rows := rapid.IntRange(1, max(1, 40_000/dim%50)).Draw(t, "rows")
			e := makeExtent(byte(i), dim, rows)
			for j := range e.IDs {
				e.IDs[j] = string(rapid.SliceOfN(rapid.Byte(), 0, 9).Draw(t, "id"))
				e.Rows[j][dim-1] = math.Float32frombits(rapid.Uint32().Draw(t, "bits"))
			}
			extents = append(extents, e)
		}
		disk := newDisk(t)
		w := write(t, disk, extents)
		s := open(t, disk)
		check(t, s, extents)
		require.Equal(t, s.Extents()[0].Off, w.Offsets[0])
		require.NoError(t, s.Close())
		require.Empty(t, disk.Handles())
	})
}

func TestWriteRefuses(t *testing.T) {
	short := makeExtent(1, 3, 2)
	short.Rows[1] = short.Rows[1][:2]
	unnamed := makeExtent(1, 3, 2)
	unnamed.IDs = unnamed.IDs[:1]
	for want, extents := range map[string][]Extent{
		"no extents":         nil,
		"0 rows and 0 ids":   {{Dim: 3}},
		"2 rows and 1 ids":   {unnamed},
		"row 1 has 2 values": {makeExtent(1, 2, 1), short},
		"dimension 0":        {{Rows: [][]float32{{}}, IDs: []string{""}}},
		"dimension 1048577":  {{Dim: MaxDim + 1}},
	} {
		disk := newDisk(t)
		_, err := Write(disk, "/segments", testID, testIdent, extents)
		require.ErrorContains(t, err, want)
		require.Equal(t, errs.Invalid, errs.KindOf(err))
		names, err := disk.ReadDir("/segments")
		require.NoError(t, err)
		require.Empty(t, names)
	}
}

func TestWriteRefusesTooMuch(t *testing.T) {
	row := make([]float32, MaxDim)
	e := Extent{Dim: MaxDim, Rows: make([][]float32, 1<<14), IDs: make([]string, 1<<14)}
	for i := range e.Rows {
		e.Rows[i] = row
	}
	_, err := place([]Extent{e}) // 64 GiB and the header
	require.Equal(t, errs.TooLarge, errs.KindOf(err))
	e.Rows, e.IDs = e.Rows[1:], e.IDs[1:]
	offsets, err := place([]Extent{e, makeExtent(1, 4, 1)})
	require.NoError(t, err)
	require.Equal(t, []uint32{4, 4 + (1<<14-1)<<18}, offsets)
}

func TestStride(t *testing.T) {
	for dim, want := range map[int]uint32{1: 1, 4: 1, 5: 2, 8: 2, 1536: 384, MaxDim: MaxDim / 4} {
		require.Equal(t, want, Stride(dim), dim)
	}
}

func TestOpenOfAnothers(t *testing.T) {
	disk := newDisk(t)
	write(t, disk, sample())
	_, err := Open(disk, "/segments", testID, Ident{Shard: [16]byte{9}})
	require.Equal(t, errs.Corrupt, errs.KindOf(err))
	require.ErrorContains(t, err, "belongs to another shard")
	require.NoError(t, disk.Rename(Path("/segments", testID), Path("/segments", 7)))
	_, err = Open(disk, "/segments", 7, testIdent)
	require.Equal(t, errs.Corrupt, errs.KindOf(err))
	require.ErrorContains(t, err, "another's name")
	_, err = Open(disk, "/segments", testID, testIdent)
	require.Equal(t, errs.NotFound, errs.KindOf(err))
	require.ErrorIs(t, err, iofs.ErrNotExist)
	require.Empty(t, disk.Handles())
}

func TestVerifyRefusesWrongPlaces(t *testing.T) {
	disk := newDisk(t)
	w := write(t, disk, sample())
	s := open(t, disk)
	one, two := Owner{0: 1, 23: 1}, Owner{0: 2, 23: 2}
	last := w.Offsets[2]
	for name, err := range map[string]error{
		"another's":         s.Verify(w.Offsets[0], 1, 3, two),
		"own, but beyond":   s.Verify(w.Offsets[0], 6, 3, one),
		"more than int":     s.Verify(w.Offsets[0], math.MaxInt, 3, one),
		"no rows":           s.Verify(w.Offsets[0], 0, 3, one),
		"other dim":         s.Verify(w.Offsets[0], 1, 4, one),
		"header":            s.Verify(0, 1, 3, one),
		"between rows":      s.Verify(last+1, 1, 33, one),
		"behind all":        s.Verify(last+9*Stride(33), 1, 33, one),
		"far behind all":    s.Verify(math.MaxUint32, 1, 33, one),
		"last row and more": s.Verify(last+8*Stride(33), 2, 33, one),
	} {
		require.Equal(t, errs.Corrupt, errs.KindOf(err), name)
	}
	require.NoError(t, s.Verify(last+8*Stride(33), 1, 33, one))
	require.Panics(t, func() { s.Row(last+9*Stride(33), 33) })
	require.NoError(t, s.Close())
}

func flip(t require.TestingT, disk vfs.FS, at int64) {
	f, err := disk.OpenAppend(Path("/segments", testID))
	require.NoError(t, err)
	var b [1]byte
	_, err = f.ReadAt(b[:], at)
	require.NoError(t, err)
	_, err = f.WriteAt([]byte{b[0] ^ 1<<(at%8)}, at)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

// TestEachFlippedByte leaves no byte of the file unguarded: the frame is found by Open, rows and padding by Verify.
func TestEachFlippedByte(t *testing.T) {
	disk := newDisk(t)
	w := write(t, disk, sample())
	s := open(t, disk)
	infos, rowsEnd := s.Extents(), int64(len(s.data))
	require.NoError(t, s.Close())
	for at := range w.Bytes {
		flip(t, disk, at)
		s, err := Open(disk, "/segments", testID, testIdent)
		if inRows := at >= headerLen && at < rowsEnd; inRows {
			require.NoError(t, err)
			for _, e := range infos {
				err = s.Verify(e.Off, e.Rows, e.Dim, e.Owner)
				require.Equal(t, errs.Corrupt, errs.KindOf(err), "byte %d", at)
			}
			require.Equal(t, errs.Corrupt, errs.KindOf(s.VerifyAll()))
			require.NoError(t, s.Close())
		} else {
			require.Equal(t, errs.Corrupt, errs.KindOf(err), "byte %d: %v", at, err)
		}
		flip(t, disk, at)
	}
	require.Empty(t, disk.Handles())
}

// TestDamageIsLocal damages one block of several: only the rows in it are refused, by a scrub for good.
func TestDamageIsLocal(t *testing.T) {
	disk := newDisk(t)
	w := write(t, disk, large())
	s := open(t, disk)
	require.Greater(t, s.Blocks(), 4)
	require.NoError(t, s.VerifyAll())
	file := s.file
	file[2*blockLen+17] ^= 4 // memory of the disk in memory
	first, stride := large()[0], Stride(20_000)
	require.NoError(t, s.Verify(w.Offsets[0], 3, 20_000, first.Owner), "verified before")
	err := s.VerifyAll()
	require.Equal(t, errs.Corrupt, errs.KindOf(err))
	require.ErrorContains(t, err, "block 2 ")
	require.NoError(t, s.Verify(w.Offsets[0], 1, 20_000, first.Owner))
	require.Error(t, s.Verify(w.Offsets[0]+stride, 1, 20_000, first.Owner))
	require.Error(t, s.Verify(w.Offsets[0], 3, 20_000, first.Owner))
	require.NoError(t, s.Verify(w.Offsets[2], 20, 1536, large()[2].Owner))
	file[2*blockLen+17] ^= 4
	require.NoError(t, s.VerifyAll())
	file[s.trailer.tableAt] ^= 1
	require.Equal(t, errs.Corrupt, errs.KindOf(s.VerifyAll()))
	file[s.trailer.tableAt] ^= 1
	file[s.trailer.dataEnd+1] ^= 1
	_, err = s.IDs(0)
	require.Equal(t, errs.Corrupt, errs.KindOf(err))
	file[s.trailer.dataEnd+1] ^= 1
	require.NoError(t, s.Close())
}

func TestVerifyIsSharedByReaders(t *testing.T) {
	disk := newDisk(t)
	w := write(t, disk, large())
	s := open(t, disk)
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for i, e := range large() {
				if err := s.Verify(w.Offsets[i], len(e.Rows), e.Dim, e.Owner); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	e := large()[2]
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if s.Verify(w.Offsets[2], len(e.Rows), e.Dim, e.Owner) != nil || len(s.Row(w.Offsets[2], e.Dim)) != e.Dim {
			t.Error("a verified row was refused")
		}
	}))
	require.NoError(t, s.Close())
}

func TestCutShort(t *testing.T) {
	disk := newDisk(t)
	write(t, disk, sample())
	whole, err := vfs.ReadFile(disk, Path("/segments", testID))
	require.NoError(t, err)
	for size := range whole {
		put(t, disk, whole[:size])
		_, err := Open(disk, "/segments", testID, testIdent)
		require.Equal(t, errs.Corrupt, errs.KindOf(err), "%d of %d bytes: %v", size, len(whole), err)
	}
	put(t, disk, append(whole, 0))
	_, err = Open(disk, "/segments", testID, testIdent)
	require.Equal(t, errs.Corrupt, errs.KindOf(err))
	require.Empty(t, disk.Handles())
}

// TestCutShortWhileMapped needs a real disk: the fault must become an error.
func TestCutShortWhileMapped(t *testing.T) {
	dir := t.TempDir()
	w, err := Write(vfs.OS(), dir, testID, testIdent, large())
	require.NoError(t, err)
	s, err := Open(vfs.OS(), dir, testID, testIdent)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(Path(dir, testID), 4096))
	err = s.Verify(w.Offsets[2], 20, 1536, large()[2].Owner)
	require.Equal(t, errs.Corrupt, errs.KindOf(err))
	require.ErrorContains(t, err, "cut short")
	require.Equal(t, errs.Corrupt, errs.KindOf(s.VerifyAll()))
	_, err = s.IDs(0)
	require.Equal(t, errs.Corrupt, errs.KindOf(err))
	require.NoError(t, s.Close())
}

func put(t require.TestingT, disk vfs.FS, b []byte) {
	f, err := disk.Create(Path("/segments", testID))
	require.NoError(t, err)
	_, err = f.Write(b)
	require.NoError(t, err)
	require.NoError(t, f.Close())
}

func TestListRemoveTemp(t *testing.T) {
	disk := newDisk(t)
	for _, id := range []uint64{3, 1 << 60, 2} {
		_, err := Write(disk, "/segments", id, testIdent, sample())
		require.NoError(t, err)
	}
	for _, name := range []string{"0000000000000009.seg.tmp", "9.seg", "000000000000000A.seg", "note", "note.tmp", "00000000000000000.seg"} {
		f, err := disk.Create("/segments/" + name)
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	ids, err := List(disk, "/segments")
	require.NoError(t, err)
	require.Equal(t, []uint64{2, 3, 1 << 60}, ids)
	removed, err := RemoveTemp(disk, "/segments")
	require.NoError(t, err)
	require.Equal(t, []string{"0000000000000009.seg.tmp"}, removed)
	require.NoError(t, Remove(disk, "/segments", 3))
	require.NoError(t, Remove(disk, "/segments", 3), "again")
	after := disk.CrashClone(nil)
	ids, err = List(after, "/segments")
	require.NoError(t, err)
	require.Equal(t, []uint64{2, 1 << 60}, ids)
	_, err = List(disk, "/nowhere")
	require.ErrorIs(t, err, iofs.ErrNotExist)
}

// absentOrWhole checks what is left of a Write and returns whether the segment is there.
func absentOrWhole(t *testing.T, disk vfs.FS, extents []Extent) bool {
	t.Helper()
	_, err := RemoveTemp(disk, "/segments")
	require.NoError(t, err)
	names, err := disk.ReadDir("/segments")
	require.NoError(t, err)
	if len(names) == 0 {
		return false
	}
	require.Equal(t, []string{filepath.Base(Path("", testID))}, names)
	s := open(t, disk)
	check(t, s, extents)
	require.NoError(t, s.Close())
	return true
}

// TestEachFailingOperation fails each operation of a Write in turn, then cuts the power.
func TestEachFailingOperation(t *testing.T) {
	for _, cause := range []error{syscall.EIO, syscall.ENOSPC} {
		for _, all := range []bool{false, true} {
			for n := 0; ; n++ {
				base := newDisk(t)
				disk := vfs.NewFailing(base)
				disk.Arm(vfs.Fault{At: n, Err: cause, All: all})
				_, err := Write(disk, "/segments", testID, testIdent, large())
				require.Empty(t, base.Handles())
				if err == nil {
					require.Greater(t, n, 5)
					require.True(t, absentOrWhole(t, base.CrashClone(nil), large()))
					break
				}
				require.ErrorIs(t, err, cause)
				require.Equal(t, errors.Is(cause, syscall.ENOSPC), errs.Is(err, errs.StorageFull))
				for seed := range uint64(8) {
					absentOrWhole(t, base.CrashClone(rand.New(rand.NewPCG(seed, 0))), large())
				}
				absentOrWhole(t, base, large())
				write(t, base, large()) // on the repaired disk
				require.True(t, absentOrWhole(t, base.CrashClone(nil), large()))
			}
		}
	}
}

// cuttingDisk clones its disk as after a power cut before each operation of a Write.
type cuttingDisk struct {
	*vfs.Mem
	cut func()
}

func (d cuttingDisk) Create(path string) (vfs.File, error) {
	d.cut()
	f, err := d.Mem.Create(path)
	return cuttingFile{f, d.cut}, err
}

func (d cuttingDisk) Rename(from, to string) error { d.cut(); return d.Mem.Rename(from, to) }

func (d cuttingDisk) SyncDir(path string) error { d.cut(); return d.Mem.SyncDir(path) }

type cuttingFile struct {
	vfs.File
	cut func()
}

func (f cuttingFile) Write(p []byte) (int, error) { f.cut(); return f.File.Write(p) }

func (f cuttingFile) Sync() error { f.cut(); return f.File.Sync() }

func TestPowerCutAtEachOperation(t *testing.T) {
	cuts, whole := 0, 0
	disk := cuttingDisk{Mem: newDisk(t)}
	disk.cut = func() {
		for seed := range uint64(20) {
			cuts++
			if absentOrWhole(t, disk.CrashClone(rand.New(rand.NewPCG(seed, uint64(cuts)))), large()) {
				whole++
			}
		}
	}
	write(t, disk, large())
	require.Positive(t, whole, "some cuts between rename and sync of the directory keep the name")
	require.Less(t, whole, cuts)
	require.True(t, absentOrWhole(t, disk.CrashClone(nil), large()), "durable on return")
}

func TestFixtures(t *testing.T) {
	disk := newDisk(t)
	write(t, disk, sample())
	v1, err := vfs.ReadFile(disk, Path("/segments", testID))
	require.NoError(t, err)
	future := append([]byte(nil), v1[:headerLen]...)
	binary.LittleEndian.PutUint32(future[8:], version+1)
	binary.LittleEndian.PutUint32(future[headerLen-4:], codec.CRC(future[:headerLen-4]))
	future = append(future, "all that follows is of a layout not known yet, but long enough to be a file"...)
	for name, b := range map[string][]byte{"testdata/v1.seg": v1, "testdata/future.seg": future} {
		if *update {
			require.NoError(t, os.MkdirAll("testdata", 0o755))
			require.NoError(t, os.WriteFile(name, b, 0o644))
		}
	}
	stored, err := os.ReadFile("testdata/v1.seg")
	require.NoError(t, err)
	require.Equal(t, stored, v1, "the writer's bytes have changed: that is another version")
	put(t, disk, stored)
	s := open(t, disk)
	check(t, s, sample())
	require.NoError(t, s.Close())

	stored, err = os.ReadFile("testdata/future.seg")
	require.NoError(t, err)
	put(t, disk, stored)
	_, err = Open(disk, "/segments", testID, testIdent)
	require.Equal(t, errs.FailedPrecondition, errs.KindOf(err))
	require.ErrorContains(t, err, "newer version")
	require.NotEmpty(t, errs.HintOf(err))
}

// reseal makes the checksums of a frame right, so that what is behind them is put to the test.
func reseal(b []byte) []byte {
	b = append([]byte(nil), b...)
	if len(b) < headerLen+trailerLen {
		return b
	}
	copy(b, appendHeader(nil, testID, testIdent))
	tail := b[len(b)-trailerLen:]
	t := trailer{dataEnd: binary.LittleEndian.Uint64(tail), tableAt: binary.LittleEndian.Uint64(tail[8:])}
	if footer := b[:len(b)-trailerLen]; t.dataEnd <= uint64(len(footer)) {
		t.footerCRC = codec.CRC(footer[t.dataEnd:])
	}
	t.append(tail[:0])
	return b
}

func FuzzOpen(f *testing.F) {
	disk := newDisk(f)
	for _, extents := range [][]Extent{sample(), {makeExtent(7, 1, 1)}} {
		write(f, disk, extents)
		b, err := vfs.ReadFile(disk, Path("/segments", testID))
		require.NoError(f, err)
		f.Add(b)
		cut := append([]byte(nil), b...)
		cut[len(cut)-trailerLen-60] ^= 0xff
		f.Add(cut)
	}
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		for _, b := range [][]byte{b, reseal(b)} {
			disk := newDisk(t)
			put(t, disk, b)
			s, err := Open(disk, "/segments", testID, testIdent)
			if err != nil {
				require.Contains(t, []errs.Kind{errs.Corrupt, errs.FailedPrecondition}, errs.KindOf(err))
				require.Empty(t, disk.Handles())
				continue
			}
			readAnything(t, s)
			require.NoError(t, s.Close())
		}
	})
}

func readAnything(t *testing.T, s *Segment) {
	for i, e := range s.Extents() {
		if ids, err := s.IDs(i); err == nil {
			require.Len(t, ids, e.Rows)
		}
		if s.Verify(e.Off, e.Rows, e.Dim, e.Owner) == nil {
			require.Len(t, s.Row(e.Off+uint32(e.Rows-1)*Stride(e.Dim), e.Dim), e.Dim)
		}
	}
	_ = s.VerifyAll()
}
