// Package segment owns the immutable files that hold vectors: rows of many partitions in one file, mapped for reading.
//
// It promises that a written segment is whole and durable or not there at all; that Open refuses a file of another
// shard, of another number, of a newer format or with a damaged frame; and that Verify finds any change of the rows
// since they were written and rows that belong to another partition. No file handle outlives a call. The engine calls
// it. It never changes a segment, never reads rows that nobody asked for, and does not count readers: its caller does.
// The bytes are described in docs/format/segment.md.
//
// A file that is cut short while it is mapped turns a read into a fault (SIGBUS), which ends the process unless the
// goroutine has called debug.SetPanicOnFault: then it is a panic. This package does so for its own reads and returns
// Corrupt; who reads rows by Row or Base must do the same.
package segment

import (
	"errors"
	"fmt"
	iofs "io/fs"
	"path/filepath"
	"strings"
	"unsafe"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// Unit is the alignment of rows in bytes; offsets count units, so that 32 bits reach 64 GiB.
const Unit = 16

// MaxDim bounds the values of a row.
const MaxDim = 1 << 20

// Owner is the key of the partition that rows belong to.
type Owner [24]byte

// Ident names the incarnation of the shard that a file belongs to.
type Ident struct{ Shard [16]byte }

// Extent is rows of one partition, to be written.
type Extent struct {
	Owner Owner
	Dim   int         // values of a row, 1 to MaxDim
	IDs   []string    // any bytes; as many as Rows
	Rows  [][]float32 // at least one, each of Dim values
}

// Written tells where Write has put the rows.
type Written struct {
	Offsets []uint32 // of row 0 of each extent, in units; row i is i*Stride(Dim) behind it
	Bytes   int64    // size of the file
}

// ExtentInfo describes rows of one partition in a segment.
type ExtentInfo struct {
	Owner Owner
	Dim   int
	Rows  int
	Off   uint32 // of row 0, in units
}

// Stride returns the units that a row of dim values takes.
func Stride(dim int) uint32 { return uint32((dim*4 + Unit - 1) / Unit) }

// Suffix ends the name of a segment's file.
const Suffix = ".seg"

const (
	tempSuffix = ".tmp" // what vfs.WriteAtomic adds until the file is whole
)

// Path returns the name of segment id in dir.
func Path(dir string, id uint64) string {
	return filepath.Join(dir, fmt.Sprintf("%016x%s", id, Suffix))
}

// Remove deletes a segment for good; one that is missing is no error. Mappings of it stay usable.
func Remove(fs vfs.FS, dir string, id uint64) error {
	err := fs.Remove(Path(dir, id))
	if err == nil || errors.Is(err, iofs.ErrNotExist) {
		err = fs.SyncDir(dir)
	}
	return errs.Wrap(errs.Internal, err, "remove segment %016x", id)
}

// List returns the segments in dir in ascending order. Other files, unfinished segments among them, are left out.
func List(fs vfs.FS, dir string) ([]uint64, error) {
	names, err := fs.ReadDir(dir)
	if err != nil {
		return nil, errs.Wrap(errs.Internal, err, "list segments")
	}
	var ids []uint64
	for _, name := range names {
		if id, ok := parseName(name); ok {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

// parseName accepts what Path makes and nothing else.
func parseName(name string) (id uint64, ok bool) {
	hex, ok := strings.CutSuffix(name, Suffix)
	if !ok {
		return 0, false
	}
	if _, err := fmt.Sscanf(hex, "%x", &id); err != nil {
		return 0, false
	}
	return id, name == filepath.Base(Path("", id))
}

// RemoveTemp deletes the unfinished segments that a crash left in dir and returns their names. No Write may be running.
func RemoveTemp(fs vfs.FS, dir string) (removed []string, err error) {
	names, err := fs.ReadDir(dir)
	if err != nil {
		return nil, errs.Wrap(errs.Internal, err, "list unfinished segments")
	}
	for _, name := range names {
		segment, isTemp := strings.CutSuffix(name, tempSuffix)
		if _, ok := parseName(segment); !ok || !isTemp {
			continue
		}
		if err := fs.Remove(filepath.Join(dir, name)); err != nil {
			return removed, errs.Wrap(errs.Internal, err, "remove unfinished segment")
		}
		removed = append(removed, name)
	}
	return removed, nil
}

// Base returns the address of byte 0: row off starts off*Unit bytes behind it, where Verify has checked it. It is nil
// after Close.
func (s *Segment) Base() unsafe.Pointer { return unsafe.Pointer(unsafe.SliceData(s.data)) }

// Size returns the bytes of the file.
func (s *Segment) Size() int64 { return s.size }

// ID returns the number of the segment.
func (s *Segment) ID() uint64 { return s.id }

// Extents describes all rows of the segment in the order of their offsets.
func (s *Segment) Extents() []ExtentInfo {
	infos := make([]ExtentInfo, len(s.extents))
	for i, e := range s.extents {
		infos[i] = e.ExtentInfo
	}
	return infos
}
