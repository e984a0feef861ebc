package bench

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"

	"github.com/croftdb/croft/internal/errs"
)

// The formats of the ANN literature: per row a little-endian int32 length, then that many values.
// fvecs holds float32, bvecs uint8, ivecs int32.
var valueSizes = map[string]int{".fvecs": 4, ".bvecs": 1, ".ivecs": 4}

const (
	headSize   = 4       // bytes of a row's length
	maxDim     = 1 << 20 // a longer row is a damaged file
	bufferSize = 1 << 20
)

// rows reads the rows of one file as bytes. All rows have the same length.
type rows struct {
	path  string
	file  *os.File
	in    *bufio.Reader
	dim   int
	count int
	size  int // bytes of a value
	next  int
	buf   []byte
}

// openRows opens a file with one of the extensions and checks that its size fits its first row.
func openRows(path string, extensions ...string) (*rows, error) {
	size, err := valueSize(path, extensions)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	r := &rows{path: path, file: f, in: bufio.NewReaderSize(f, bufferSize), size: size}
	if err := r.measure(); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return r, nil
}

func valueSize(path string, extensions []string) (int, error) {
	for _, e := range extensions {
		if filepath.Ext(path) == e {
			return valueSizes[e], nil
		}
	}
	return 0, errs.New(errs.Invalid, "%s: its name ends in none of %v", path, extensions)
}

// measure finds dimension and number of rows.
func (r *rows) measure() error {
	info, err := r.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() == 0 {
		return nil
	}
	head, err := r.in.Peek(headSize)
	if err != nil {
		return r.fault(0, "it ends within the length: %v", err)
	}
	dim := int32(binary.LittleEndian.Uint32(head))
	if dim < 1 || dim > maxDim {
		return r.fault(0, "length %d is outside 1 to %d", dim, maxDim)
	}
	r.dim = int(dim)
	r.buf = make([]byte, r.rowSize())
	r.count = int(info.Size() / int64(r.rowSize()))
	if rest := info.Size() % int64(r.rowSize()); rest != 0 {
		return r.fault(r.count, "%d bytes where a row of %d values takes %d", rest, r.dim, r.rowSize())
	}
	return nil
}

func (r *rows) rowSize() int { return headSize + r.dim*r.size }

func (r *rows) fault(row int, format string, args ...any) error {
	return errs.New(errs.Invalid, "%s: row %d: %s", r.path, row, fmt.Sprintf(format, args...))
}

// read returns the values of the next row as bytes until the next call, io.EOF after the last.
func (r *rows) read() ([]byte, error) {
	if r.next == r.count {
		return nil, io.EOF
	}
	if _, err := io.ReadFull(r.in, r.buf); err != nil {
		return nil, r.fault(r.next, "read: %v", err)
	}
	r.next++
	return r.values(r.next - 1)
}

// readAt returns the values of any row as bytes until the next call.
func (r *rows) readAt(row int) ([]byte, error) {
	if row < 0 || row >= r.count {
		return nil, r.fault(row, "there are only %d rows", r.count)
	}
	if _, err := r.file.ReadAt(r.buf, int64(row)*int64(r.rowSize())); err != nil {
		return nil, r.fault(row, "read: %v", err)
	}
	return r.values(row)
}

func (r *rows) values(row int) ([]byte, error) {
	if dim := int32(binary.LittleEndian.Uint32(r.buf)); int(dim) != r.dim {
		return nil, r.fault(row, "length %d, the rows before have %d", dim, r.dim)
	}
	return r.buf[headSize:], nil
}

// Vectors reads an fvecs or bvecs file row by row. It is for one goroutine.
type Vectors struct{ rows *rows }

// OpenVectors opens a file whose name ends in .fvecs or .bvecs.
func OpenVectors(path string) (*Vectors, error) {
	r, err := openRows(path, ".fvecs", ".bvecs")
	if err != nil {
		return nil, err
	}
	return &Vectors{rows: r}, nil
}

// Dim returns the number of values in a row, 0 for an empty file.
func (v *Vectors) Dim() int { return v.rows.dim }

// Len returns the number of rows.
func (v *Vectors) Len() int { return v.rows.count }

// Close closes the file.
func (v *Vectors) Close() error { return v.rows.file.Close() }

// Next reads the next row into dst, of length Dim. It returns io.EOF after the last.
func (v *Vectors) Next(dst []float32) error {
	b, err := v.rows.read()
	if err != nil {
		return err
	}
	return v.decode(dst, b, v.rows.next-1)
}

// rewind makes the first row the next.
func (v *Vectors) rewind() error {
	if _, err := v.rows.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	v.rows.in.Reset(v.rows.file)
	v.rows.next = 0
	return nil
}

// At reads any row into dst, of length Dim, without moving Next.
func (v *Vectors) At(row int, dst []float32) error {
	b, err := v.rows.readAt(row)
	if err != nil {
		return err
	}
	return v.decode(dst, b, row)
}

func (v *Vectors) decode(dst []float32, b []byte, row int) error {
	if v.rows.size == 1 {
		for i := range dst[:v.rows.dim] {
			dst[i] = float32(b[i])
		}
		return nil
	}
	for i := range dst[:v.rows.dim] {
		dst[i] = math.Float32frombits(binary.LittleEndian.Uint32(b[4*i:]))
		if d := float64(dst[i]); math.IsNaN(d) || math.IsInf(d, 0) {
			return v.rows.fault(row, "value %d is %v, not a finite number", i, d)
		}
	}
	return nil
}

// ReadVectors reads all rows of a file.
func ReadVectors(path string) (all [][]float32, err error) {
	v, err := OpenVectors(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, v.Close()) }()
	slab := make([]float32, v.Len()*v.Dim())
	for i := range v.Len() {
		row := slab[i*v.Dim() : (i+1)*v.Dim() : (i+1)*v.Dim()]
		if err := v.Next(row); err != nil {
			return nil, err
		}
		all = append(all, row)
	}
	return all, nil
}

// ReadNeighbours reads an ivecs file of row numbers.
func ReadNeighbours(path string) (all [][]int32, err error) {
	r, err := openRows(path, ".ivecs")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, r.file.Close()) }()
	for range r.count {
		b, err := r.read()
		if err != nil {
			return nil, err
		}
		row := make([]int32, r.dim)
		for i := range row {
			row[i] = int32(binary.LittleEndian.Uint32(b[4*i:]))
		}
		all = append(all, row)
	}
	return all, nil
}

// WriteVectors writes rows of equal length to a new file; its name ends in .fvecs or .bvecs. A bvecs file holds whole
// numbers from 0 to 255 only.
func WriteVectors(path string, all [][]float32) error {
	size, err := valueSize(path, []string{".fvecs", ".bvecs"})
	if err != nil {
		return err
	}
	return writeRows(path, len(all), func(b []byte, i int) ([]byte, error) {
		if len(all[i]) != len(all[0]) {
			return nil, errs.New(errs.Invalid, "%s: row %d: length %d, the rows before have %d", path, i, len(all[i]), len(all[0]))
		}
		b = binary.LittleEndian.AppendUint32(b, uint32(len(all[i])))
		for j, x := range all[i] {
			switch {
			case size == 4:
				b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
			case x == float32(uint8(x)):
				b = append(b, uint8(x))
			default:
				return nil, errs.New(errs.Invalid, "%s: row %d: value %d is %v, not a whole number from 0 to 255", path, i, j, x)
			}
		}
		return b, nil
	})
}

// WriteNeighbours writes rows of row numbers to a new .ivecs file.
func WriteNeighbours(path string, all [][]int32) error {
	if _, err := valueSize(path, []string{".ivecs"}); err != nil {
		return err
	}
	return writeRows(path, len(all), func(b []byte, i int) ([]byte, error) {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(all[i])))
		for _, x := range all[i] {
			b = binary.LittleEndian.AppendUint32(b, uint32(x))
		}
		return b, nil
	})
}

func writeRows(path string, n int, appendRow func(b []byte, i int) ([]byte, error)) (err error) {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	out := bufio.NewWriterSize(f, bufferSize)
	var b []byte
	for i := range n {
		if b, err = appendRow(b[:0], i); err != nil {
			return err
		}
		if _, err := out.Write(b); err != nil {
			return err
		}
	}
	return out.Flush()
}
