package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path/filepath"
	"unsafe"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/bench"
	"github.com/croftdb/croft/internal/vfs"
)

// Files of a data set in the cache: rows of float32 without lengths between them, so that they can be mapped, and per
// row what ann.Scale gives.
const (
	rowsFile   = "base.f32"
	scalesFile = "scales.f32"
)

// rows are the vectors to index, row number = id: in memory, or mapped from rowsFile.
type rows struct {
	metric ann.Metric
	n, dim int
	dir    string
	values []float32

	mapping vfs.Mapping // nil in memory
}

func (r *rows) row(i int) []float32 {
	at := i * r.dim
	return r.values[at : at+r.dim : at+r.dim]
}

// loadRows reads all rows into memory, for building: every library then reads them from the same place.
func loadRows(dir string, metric ann.Metric, dim int) (*rows, error) {
	values, err := readFloats(filepath.Join(dir, rowsFile))
	return &rows{metric: metric, n: len(values) / dim, dim: dim, dir: dir, values: values}, err
}

// mapRows maps the rows, for searching, by the engine's own means. Reads are announced as random, so that a page is not
// read for its neighbour's sake.
func mapRows(dir string, metric ann.Metric, dim int) (*rows, error) {
	m, err := vfs.OS().Map(filepath.Join(dir, rowsFile))
	if err != nil {
		return nil, err
	}
	values := floatsOf(m.Bytes())
	r := &rows{metric: metric, n: len(values) / dim, dim: dim, dir: dir, values: values, mapping: m}
	if a, ok := m.(vfs.Adviser); ok {
		a.ReadAtRandom()
	}
	return r, nil
}

func (r *rows) close() error {
	if r.mapping == nil {
		return nil
	}
	return r.mapping.Close()
}

// scales returns the factor of each row's inner products.
func (r *rows) scales() ([]float32, error) { return readFloats(filepath.Join(r.dir, scalesFile)) }

// units returns the rows for libraries that compare by cosine as inner products of unit vectors: scaled under cosine, as
// they are otherwise.
func (r *rows) units() []float32 {
	if r.metric != ann.Cosine {
		return r.values
	}
	units := make([]float32, 0, len(r.values))
	for i := range r.n {
		units = appendUnit(units, r.row(i))
	}
	return units
}

// appendUnit appends v scaled to unit length.
func appendUnit(dst, v []float32) []float32 {
	scale := ann.Scale(ann.Cosine, v)
	for _, x := range v {
		dst = append(dst, x*scale)
	}
	return dst
}

// floatsOf sees bytes, aligned to 4, as float32 of this machine.
func floatsOf(b []byte) []float32 {
	return unsafe.Slice((*float32)(unsafe.Pointer(unsafe.SliceData(b))), len(b)/4)
}

// bytesOf sees floats as bytes.
func bytesOf(values []float32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(values))), 4*len(values))
}

func readFloats(path string) ([]float32, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	values := make([]float32, info.Size()/4)
	_, err = io.ReadFull(f, bytesOf(values))
	return values, err
}

// writeRows writes the files of d to dir, each under another name until it is complete and synced.
func writeRows(dir string, d *bench.Dataset) error {
	row := make([]float32, d.Base.Dim())
	scales := make([]float32, 0, d.Base.Len())
	err := writeFile(filepath.Join(dir, rowsFile), func(out *bufio.Writer) error {
		for range d.Base.Len() {
			if err := d.Base.Next(row); err != nil {
				return err
			}
			scales = append(scales, ann.Scale(d.Metric, row))
			if _, err := out.Write(bytesOf(row)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	return writeFile(filepath.Join(dir, scalesFile), func(out *bufio.Writer) error {
		_, err := out.Write(bytesOf(scales))
		return err
	})
}

// writeFile writes a file that is either there and complete, or not there.
func writeFile(path string, write func(out *bufio.Writer) error) (err error) {
	f, err := os.Create(path + partial)
	if err != nil {
		return err
	}
	defer func() {
		err = errors.Join(err, f.Close())
		if err == nil {
			err = os.Rename(path+partial, path)
		}
	}()
	out := bufio.NewWriterSize(f, 1<<20)
	return errors.Join(write(out), out.Flush(), f.Sync())
}

// partial ends the names of files that are being written.
const partial = ".partial"
