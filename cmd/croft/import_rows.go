package main

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"path/filepath"
	"strconv"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/croftdb/croft/internal/errs"
)

// row is one record of an import's input.
type row struct {
	number int64          // from 0; of a line, its number - 1
	end    int64          // offset of the first byte behind it
	id     string         // may be empty in a bad row
	record jsontext.Value // as the API takes it; nil in a bad row
	bad    string         // why it cannot be sent, empty: it can
	dim    int            // values in it
}

// rowReader yields the rows of a file in order, then io.EOF. Other errors mean that the rest cannot be read.
type rowReader interface {
	next() (row, error)
}

// position is where reading starts: at the first row, or behind one.
type position struct {
	number int64 // of the next row
	offset int64
}

var importFormats = []string{"jsonl", "fvecs", "bvecs"}

// importFormat is what the flag says, else what the file's name ends with.
func importFormat(flag, path string) (string, error) {
	format := flag
	switch ext := filepath.Ext(path); {
	case format != "":
	case ext == ".ndjson", ext == ".json":
		format = "jsonl"
	case ext != "":
		format = ext[1:]
	}
	for _, known := range importFormats {
		if format == known {
			return format, nil
		}
	}
	return "", usagef("the format of %s is not known", path).withHint("give it with --format jsonl|fvecs|bvecs")
}

// openRows positions a reader of the format in f.
func openRows(f *os.File, format string, at position, idPrefix string) (rowReader, error) {
	if _, err := f.Seek(at.offset, io.SeekStart); err != nil {
		return nil, fmt.Errorf("seek in input: %w", err)
	}
	in := bufio.NewReaderSize(f, 1<<20)
	switch format {
	case "fvecs":
		return &vecsReader{in: in, at: at, width: 4, idPrefix: idPrefix}, nil
	case "bvecs":
		return &vecsReader{in: in, at: at, width: 1, idPrefix: idPrefix}, nil
	}
	return &lineReader{in: in, at: at, idPrefix: idPrefix}, nil
}

// maxLine bounds a line; what is longer exceeds the server's limit on a whole request.
const maxLine = 2 << 20

// lineReader reads one JSON object a line. Empty lines are passed over.
type lineReader struct {
	in       *bufio.Reader
	at       position
	idPrefix string
	line     []byte
}

func (r *lineReader) next() (row, error) {
	for {
		size, tooLong, err := r.readLine()
		if err != nil {
			return row{}, err
		}
		out := row{number: r.at.number, end: r.at.offset + int64(size)}
		r.at = position{number: r.at.number + 1, offset: out.end}
		text := bytes.TrimSpace(r.line)
		switch {
		case tooLong:
			out.bad = fmt.Sprintf("the line is over %s", bytesText(maxLine))
		case len(text) == 0:
			continue
		default:
			parseRecord(&out, text, r.idPrefix)
		}
		return out, nil
	}
}

// readLine reads the next line into r.line, as much of it as is allowed, and returns its size in the file.
func (r *lineReader) readLine() (size int, tooLong bool, err error) {
	r.line = r.line[:0]
	for {
		chunk, err := r.in.ReadSlice('\n')
		size += len(chunk)
		if len(r.line)+len(chunk) > maxLine {
			tooLong = true
		} else {
			r.line = append(r.line, chunk...)
		}
		switch {
		case err == nil:
			return size, tooLong, nil
		case errors.Is(err, bufio.ErrBufferFull):
		case errors.Is(err, io.EOF) && size > 0:
			return size, tooLong, nil
		default:
			return size, tooLong, err
		}
	}
}

// inputRecord is a vector object as people write it: both spellings of sparse values are in use.
type inputRecord struct {
	ID           *string        `json:"id"`
	Values       jsontext.Value `json:"values"`
	SparseValues jsontext.Value `json:"sparseValues"`
	SparseSnake  jsontext.Value `json:"sparse_values"`
	Metadata     jsontext.Value `json:"metadata"`
}

// parseRecord checks the shape of a record and writes it anew; what its parts hold is for the server to judge.
func parseRecord(out *row, text []byte, idPrefix string) {
	var in inputRecord
	if err := json.Unmarshal(text, &in, json.RejectUnknownMembers(true)); err != nil {
		out.bad = "not a vector object: " + err.Error()
		return
	}
	if in.ID == nil || *in.ID == "" {
		out.bad = "it has no id"
		return
	}
	if in.SparseValues == nil {
		in.SparseValues = in.SparseSnake
	}
	out.id = idPrefix + *in.ID
	out.dim = countValues(in.Values)
	b := make([]byte, 0, len(text)+len(idPrefix)+8)
	b = append(b, `{"id":`...)
	b, _ = jsontext.AppendQuote(b, out.id) // it was decoded from JSON, so it is UTF-8
	b = appendMember(b, "values", in.Values)
	b = appendMember(b, "sparseValues", in.SparseValues)
	b = appendMember(b, "metadata", in.Metadata)
	out.record = append(b, '}')
}

func appendMember(b []byte, name string, v jsontext.Value) []byte {
	if len(v) == 0 || v.Kind() == 'n' {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, '"', ':')
	return append(b, v...)
}

// countValues counts the elements of a flat array.
func countValues(v jsontext.Value) int {
	if len(v) == 0 || v.Kind() != '[' || len(bytes.TrimSpace(v[1:len(v)-1])) == 0 {
		return 0
	}
	return bytes.Count(v, []byte(",")) + 1
}

// maxDimension bounds a row of a vector file, so that a damaged count does not ask for gigabytes.
const maxDimension = 20000

// vecsReader reads fvecs (width 4: float32) and bvecs (width 1: bytes): per row a little-endian int32 with the
// number of values, then the values. The id is the row's number.
type vecsReader struct {
	in       *bufio.Reader
	at       position
	width    int
	idPrefix string
	dim      int
	raw      []byte
}

func (r *vecsReader) damaged(dim int, expected string) error {
	return errs.New(errs.Invalid, "row %d at byte %d says it has %d values, %s: the file is damaged or of another format",
		r.at.number, r.at.offset, dim, expected)
}

func (r *vecsReader) next() (row, error) {
	var head [4]byte
	if _, err := io.ReadFull(r.in, head[:]); err != nil {
		return row{}, r.cut(err)
	}
	dim := int(int32(binary.LittleEndian.Uint32(head[:])))
	if dim < 1 || dim > maxDimension {
		return row{}, r.damaged(dim, fmt.Sprintf("1 to %d are possible", maxDimension))
	}
	if r.dim != 0 && dim != r.dim {
		return row{}, r.damaged(dim, fmt.Sprintf("the rows before have %d", r.dim))
	}
	r.dim = dim
	if len(r.raw) != dim*r.width {
		r.raw = make([]byte, dim*r.width)
	}
	if _, err := io.ReadFull(r.in, r.raw); err != nil {
		return row{}, r.cut(err)
	}
	out := row{number: r.at.number, end: r.at.offset + int64(4+len(r.raw)), dim: dim}
	r.at = position{number: out.number + 1, offset: out.end}
	r.encode(&out)
	return out, nil
}

func (r *vecsReader) cut(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("row %d at byte %d is cut off: the file is damaged or of another format", r.at.number, r.at.offset)
	}
	return err
}

func (r *vecsReader) encode(out *row) {
	out.id = r.idPrefix + strconv.FormatInt(out.number, 10)
	b := make([]byte, 0, 32+len(out.id)+r.dim*(r.width+5))
	b = append(b, `{"id":`...)
	b, _ = jsontext.AppendQuote(b, out.id) // bytes of the prefix that are not UTF-8 are replaced
	b = append(b, `,"values":[`...)
	for i := range r.dim {
		if i > 0 {
			b = append(b, ',')
		}
		if r.width == 1 {
			b = strconv.AppendUint(b, uint64(r.raw[i]), 10)
			continue
		}
		v := math.Float32frombits(binary.LittleEndian.Uint32(r.raw[4*i:]))
		if v-v != 0 {
			out.bad = fmt.Sprintf("value %d is %v", i, v)
			return
		}
		b = strconv.AppendFloat(b, float64(v), 'g', -1, 32)
	}
	out.record = append(b, "]}"...)
}
