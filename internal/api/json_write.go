package api

import (
	"math"
	"strconv"
	"sync"

	"github.com/go-json-experiment/json"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
)

// reply is what a handler returns. appendJSON is called once, before anything is sent, so that it may still fail.
type reply interface {
	appendJSON(b []byte) ([]byte, error)
}

// empty is an answer without fields. It is a body all the same: clients that parse every answer fail on none.
type empty struct{}

func (empty) appendJSON(b []byte) ([]byte, error) { return append(b, "{}"...), nil }

// document is an answer off the hot path, encoded from Go values.
type document struct{ v any }

// owners are the tenants that the document tells of, if it knows.
func (d document) owners() []string {
	if o, ok := d.v.(owned); ok {
		return o.owners()
	}
	return nil
}

func (d document) appendJSON(b []byte) ([]byte, error) {
	out, err := json.Marshal(d.v, json.Deterministic(true))
	return append(b, out...), err
}

// buffers are the bodies of requests and answers. One that has grown beyond maxPooled is left to the collector.
var buffers = sync.Pool{New: func() any { b := make([]byte, 0, 4<<10); return &b }}

const maxPooled = 4 << 20

func getBuffer() *[]byte { return buffers.Get().(*[]byte) }

func putBuffer(b *[]byte) {
	if cap(*b) <= maxPooled {
		*b = (*b)[:0]
		buffers.Put(b)
	}
}

// appendFloat32 appends the shortest text that reads back as f: 0.4, never 0.4000000059604645.
func appendFloat32(b []byte, f float32) ([]byte, error) {
	return appendFloat(b, float64(f), 32)
}

// appendFloat appends a number as ECMAScript prints it. JSON has no word for NaN and infinity; that one came this far
// is a defect, and is told as one.
func appendFloat(b []byte, f float64, bits int) ([]byte, error) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return b, errs.New(errs.Internal, "encode: %v is no JSON number", f)
	}
	form := byte('f')
	if a := math.Abs(f); a != 0 && (bits == 64 && (a < 1e-6 || a >= 1e21) ||
		bits == 32 && (float32(a) < 1e-6 || float32(a) >= 1e21)) {
		form = 'e'
	}
	b = strconv.AppendFloat(b, f, form, -1, bits)
	if n := len(b); form == 'e' && b[n-4] == 'e' && b[n-2] == '0' {
		b[n-2] = b[n-1] // e-09 is e-9
		b = b[:n-1]
	}
	return b, nil
}

func appendFloats32(b []byte, values []float32) (_ []byte, err error) {
	b = append(b, '[')
	for i, v := range values {
		if i > 0 {
			b = append(b, ',')
		}
		if b, err = appendFloat32(b, v); err != nil {
			return b, err
		}
	}
	return append(b, ']'), nil
}

func appendSparse(b []byte, s engine.Sparse) ([]byte, error) {
	b = append(b, `{"indices":[`...)
	for i, x := range s.Indices {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendUint(b, uint64(x), 10)
	}
	b, err := appendFloats32(append(b, `],"values":`...), s.Values)
	return append(b, '}'), err
}

func appendMetadata(b []byte, m metadata.Map) (_ []byte, err error) {
	b = append(b, '{')
	for i, f := range m {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(appendQuoted(b, f.Key), ':')
		if b, err = appendMetadataValue(b, f.Value); err != nil {
			return b, err
		}
	}
	return append(b, '}'), nil
}

func appendMetadataValue(b []byte, v metadata.Value) ([]byte, error) {
	switch v.Kind {
	case metadata.String:
		return appendQuoted(b, v.Str), nil
	case metadata.Number:
		return appendFloat(b, v.Num, 64)
	case metadata.Bool:
		return strconv.AppendBool(b, v.Boolean), nil
	case metadata.Strings:
		b = append(b, '[')
		for i, s := range v.List {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendQuoted(b, s)
		}
		return append(b, ']'), nil
	}
	return b, errs.New(errs.Internal, "encode: metadata kind %d", v.Kind)
}

// appendRecord appends the members of a record but for its id: values always, as clients expect an array even when
// they asked for none, the others if there are any.
func appendRecord(b []byte, r *engine.Record) (_ []byte, err error) {
	if b, err = appendFloats32(append(b, `,"values":`...), r.Values); err != nil {
		return b, err
	}
	if len(r.Sparse.Indices) > 0 {
		if b, err = appendSparse(append(b, `,"sparseValues":`...), r.Sparse); err != nil {
			return b, err
		}
	}
	if len(r.Metadata) > 0 {
		if b, err = appendMetadata(append(b, `,"metadata":`...), r.Metadata); err != nil {
			return b, err
		}
	}
	return b, nil
}

func appendUsage(b []byte, readUnits int) []byte {
	b = append(b, `,"usage":{"readUnits":`...)
	return append(strconv.AppendInt(b, int64(readUnits), 10), '}')
}

func appendNext(b []byte, token string) []byte {
	if token == "" {
		return b // the last page has no "pagination" at all
	}
	b = append(b, `,"pagination":{"next":`...)
	return append(appendQuoted(b, token), '}')
}
