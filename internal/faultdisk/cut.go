//go:build linux

package faultdisk

import (
	"errors"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// sectorSize is the unit that a disk writes whole or not at all.
const sectorSize = 512

// cut writes one state after a power cut to dst.
func (r *recorder) cut(rng *rand.Rand, dst string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.cutDirLocked(rng, r.root, dst)
}

func (r *recorder) cutDirLocked(rng *rand.Rand, n *inode, dst string) error {
	if err := os.Mkdir(dst, 0o700); err != nil {
		return err
	}
	names := maps.Clone(n.durable)
	keep := drawShare(rng)
	for _, c := range n.changes {
		if keep() {
			c.apply(names)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		cutOne := r.cutFileLocked
		if names[name].dir {
			cutOne = r.cutDirLocked
		}
		if err := cutOne(rng, names[name], filepath.Join(dst, name)); err != nil {
			return err
		}
	}
	return nil
}

func (r *recorder) cutFileLocked(rng *rand.Rand, n *inode, dst string) (err error) {
	f, err := os.OpenFile(dst, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := copySparse(f, r.shadowPath(n)); err != nil {
		return err
	}
	keep := drawShare(rng)
	torn := rng != nil && rng.IntN(2) == 0
	for _, e := range n.edits {
		if torn && e.kind == editWrite {
			err = e.applyTorn(f, rng, keep)
		} else if keep() {
			err = e.apply(f)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// applyTorn writes the sectors of a write for which keep holds. The length may have grown further than the sectors that
// were kept: what is missing reads as zeros.
func (e edit) applyTorn(f *os.File, rng *rand.Rand, keep func() bool) error {
	end := e.off + int64(len(e.data))
	for lo := e.off; lo < end; {
		hi := min(end, lo-lo%sectorSize+sectorSize)
		if keep() {
			if _, err := f.WriteAt(e.data[lo-e.off:hi-e.off], lo); err != nil {
				return err
			}
		}
		lo = hi
	}
	if rng.IntN(4) == 0 {
		return extend(f, end)
	}
	return nil
}

// drawShare decides for one file or directory whether a cut keeps all, nothing or a mixture, and returns the draw for
// each part. The extremes are drawn often, since many bugs only show there; in a mixture neighbours share their fate
// for runs of some length, for the same reason.
func drawShare(rng *rand.Rand) func() bool {
	if rng == nil {
		return func() bool { return false }
	}
	switch rng.IntN(5) {
	case 0:
		return func() bool { return false }
	case 1:
		return func() bool { return true }
	}
	run := 1 << rng.IntN(6)
	kept, left := false, 0
	return func() bool {
		if left == 0 {
			kept, left = rng.IntN(2) == 0, 1+rng.IntN(run)
		}
		left--
		return kept
	}
}

// copySparse copies the file at path, if there is one, and leaves its holes out: preallocated log segments are mostly
// holes.
func copySparse(dst *os.File, path string) error {
	src, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer src.Close()
	info, err := src.Stat()
	if err != nil {
		return err
	}
	for off := int64(0); ; {
		lo, err := unix.Seek(int(src.Fd()), off, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return dst.Truncate(info.Size())
		}
		if err != nil {
			return err
		}
		hi, err := unix.Seek(int(src.Fd()), lo, unix.SEEK_HOLE)
		if err != nil {
			return err
		}
		if _, err := io.Copy(io.NewOffsetWriter(dst, lo), io.NewSectionReader(src, lo, hi-lo)); err != nil {
			return err
		}
		off = hi
	}
}
