package metadata

import (
	"math"
	"math/bits"
	"unicode/utf8"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// The binary form of a Map, part of log entries and stored records. Integers are varints, strings are preceded by
// their length, numbers are the 8 little-endian bytes of a float64:
//
//	map    = nothing at all if empty, else count field*     (ascending by key)
//	field  = key kind value
//	value  = string | number | bool byte (0 or 1) | count string*
//
// It is canonical: Decode takes only what AppendBinary writes, so maps are equal exactly when their bytes are (but
// for -0, which is kept as it came).

// minField is the fewest bytes of a field: empty key, kind, one byte of value.
const minField = 3

// AppendBinary appends the binary form of m, which must be in order. It allocates at most once.
func AppendBinary(b []byte, m Map) []byte {
	if len(m) == 0 {
		return b
	}
	b = codec.AppendUvarint(b, uint64(len(m)))
	for i := range m {
		b = codec.AppendString(b, m[i].Key)
		b = appendValue(b, &m[i].Value)
	}
	return b
}

func appendValue(b []byte, v *Value) []byte {
	b = append(b, byte(v.Kind))
	switch v.Kind {
	case String:
		return codec.AppendString(b, v.Str)
	case Number:
		return codec.AppendFloat64(b, v.Num)
	case Bool:
		if v.Boolean {
			return append(b, 1)
		}
		return append(b, 0)
	case Strings:
		b = codec.AppendUvarint(b, uint64(len(v.List)))
		for _, s := range v.List {
			b = codec.AppendString(b, s)
		}
		return b
	}
	panic("metadata: value without a kind") // a defect of the caller: Validate refuses it
}

// Decode reads the whole of b. Its strings share one copy of b, so a Map is best kept or dropped as a whole. Bytes
// that AppendBinary does not write are refused with kind Corrupt.
func Decode(b []byte) (Map, error) {
	if len(b) == 0 {
		return nil, nil
	}
	d := decoder{r: codec.NewReader(b), text: string(b)}
	m := make(Map, d.r.Count(minField))
	for i := range m {
		m[i].Key = d.string()
		m[i].Value = d.value()
		if i > 0 && m[i-1].Key >= m[i].Key {
			d.fail("keys repeated or out of order")
		}
		if d.failed() {
			break
		}
	}
	if err := d.done(); err != nil {
		return nil, err
	}
	if len(m) == 0 || m.binarySize() != len(b) {
		return nil, errs.New(errs.Corrupt, "decode metadata: not in canonical form")
	}
	return m, nil
}

// decoder reads strings as parts of text, a copy of the whole input, which saves an allocation for each.
type decoder struct {
	r    *codec.Reader
	text string
	err  error
}

func (d *decoder) fail(what string) {
	if d.err == nil {
		d.err = errs.New(errs.Corrupt, "decode metadata: %s", what)
	}
}

func (d *decoder) failed() bool { return d.err != nil || d.r.Err() != nil }

func (d *decoder) done() error {
	if d.err != nil {
		return d.err
	}
	return errs.Wrap(errs.Corrupt, d.r.Done(), "decode metadata")
}

func (d *decoder) string() string {
	n := len(d.r.Bytes())
	end := len(d.text) - d.r.Len()
	s := d.text[end-n : end]
	if !utf8.ValidString(s) {
		d.fail("a string is not valid UTF-8")
	}
	return s
}

func (d *decoder) value() Value {
	switch k := Kind(d.r.Byte()); k {
	case String:
		return Value{Kind: k, Str: d.string()}
	case Number:
		return Value{Kind: k, Num: d.number()}
	case Bool:
		return Value{Kind: k, Boolean: d.bool()}
	case Strings:
		return Value{Kind: k, List: d.list()}
	}
	d.fail("unknown kind of value")
	return Value{}
}

func (d *decoder) number() float64 {
	f := d.r.Float64()
	if math.IsNaN(f) || math.IsInf(f, 0) {
		d.fail("a number is not finite")
	}
	return f
}

func (d *decoder) bool() bool {
	b := d.r.Byte()
	if b > 1 {
		d.fail("a bool is neither 0 nor 1")
	}
	return b == 1
}

func (d *decoder) list() []string {
	list := make([]string, d.r.Count(1))
	for i := range list {
		list[i] = d.string()
		if d.failed() {
			break
		}
	}
	return list
}

// binarySize is the length of the binary form. Decode compares it with its input to refuse varints with padding,
// the one freedom that the checks of the parts leave.
func (m Map) binarySize() int {
	if len(m) == 0 {
		return 0
	}
	n := uvarintLen(len(m))
	for i := range m {
		n += stringLen(m[i].Key) + 1 + m[i].Value.binarySize()
	}
	return n
}

func (v *Value) binarySize() int {
	switch v.Kind {
	case String:
		return stringLen(v.Str)
	case Number:
		return 8
	case Strings:
		n := uvarintLen(len(v.List))
		for _, s := range v.List {
			n += stringLen(s)
		}
		return n
	}
	return 1
}

func stringLen(s string) int { return uvarintLen(len(s)) + len(s) }

func uvarintLen(v int) int { return (bits.Len64(uint64(v)|1) + 6) / 7 }
