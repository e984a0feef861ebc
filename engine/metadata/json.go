package metadata

import (
	"math"
	"strconv"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/croftdb/croft/internal/errs"
)

var (
	_ json.UnmarshalerFrom = (*Map)(nil)
	_ json.MarshalerTo     = Map(nil)
)

// MarshalJSONTo writes m as an object, by key, numbers as the shortest text that gives the same float64 (42, not
// 42.0), in the form that encoding/json uses.
func (m Map) MarshalJSONTo(enc *jsontext.Encoder) error {
	if err := enc.WriteToken(jsontext.BeginObject); err != nil {
		return err
	}
	for i := range m {
		if err := enc.WriteToken(jsontext.String(m[i].Key)); err != nil {
			return err
		}
		if err := m[i].Value.MarshalJSONTo(enc); err != nil {
			return err
		}
	}
	return enc.WriteToken(jsontext.EndObject)
}

// MarshalJSONTo writes v as JSON.
func (v Value) MarshalJSONTo(enc *jsontext.Encoder) error {
	switch v.Kind {
	case String:
		return enc.WriteToken(jsontext.String(v.Str))
	case Number:
		return marshalNumber(enc, v.Num)
	case Bool:
		return enc.WriteToken(jsontext.Bool(v.Boolean))
	case Strings:
		return marshalList(enc, v.List)
	}
	return errs.New(errs.Internal, "write metadata value: it has no kind")
}

// marshalNumber refuses what the encoder would print as the strings "NaN" and "Infinity".
func marshalNumber(enc *jsontext.Encoder, f float64) error {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return errs.New(errs.Internal, "write metadata value: %v is not finite", f)
	}
	return enc.WriteToken(jsontext.Float(f))
}

func marshalList(enc *jsontext.Encoder, list []string) error {
	if err := enc.WriteToken(jsontext.BeginArray); err != nil {
		return err
	}
	for _, s := range list {
		if err := enc.WriteToken(jsontext.String(s)); err != nil {
			return err
		}
	}
	return enc.WriteToken(jsontext.EndArray)
}

// UnmarshalJSONFrom reads an object and validates it. Faults of ours have kind Invalid and name the field; faults of
// the JSON text (a key twice, bad UTF-8, a torn body) are the decoder's own errors. null is not an object.
func (m *Map) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	tok, err := dec.ReadToken()
	if err != nil {
		return err
	}
	if tok.Kind() != '{' {
		return errs.New(errs.Invalid, "metadata must be an object of fields, as {\"genre\":\"drama\"}, got %s", KindName(tok.Kind()))
	}
	fields := Map{}
	for dec.PeekKind() != '}' {
		f, err := readField(dec)
		if err != nil {
			return err
		}
		if len(fields) == MaxFields {
			return errs.New(errs.Invalid, "metadata has more than %d fields", MaxFields)
		}
		fields = append(fields, f)
	}
	if _, err := dec.ReadToken(); err != nil {
		return err
	}
	if fields, err = Make(fields...); err != nil {
		return err
	}
	*m = fields
	return fields.Validate()
}

func readField(dec *jsontext.Decoder) (Field, error) {
	tok, err := dec.ReadToken()
	if err != nil {
		return Field{}, err
	}
	f := Field{Key: tok.String()}
	f.Value, err = readValue(dec, f.Key)
	return f, err
}

func readValue(dec *jsontext.Decoder, key string) (Value, error) {
	tok, err := dec.ReadToken()
	if err != nil {
		return Value{}, err
	}
	switch tok.Kind() {
	case '"':
		return StringValue(tok.String()), nil
	case '0':
		f, err := tok.Float()
		if err != nil {
			return Value{}, badValue(key, "a number beyond the range of a float64")
		}
		return NumberValue(f), nil
	case 't', 'f':
		return BoolValue(tok.Bool()), nil
	case '[':
		return readList(dec, key)
	}
	return Value{}, badValue(key, KindName(tok.Kind()))
}

func readList(dec *jsontext.Decoder, key string) (Value, error) {
	list := []string{}
	for {
		tok, err := dec.ReadToken()
		if err != nil {
			return Value{}, err
		}
		switch k := tok.Kind(); k {
		case ']':
			return Value{Kind: Strings, List: list}, nil
		case '"':
			list = append(list, tok.String())
		default:
			return Value{}, badValue(key, "a list with "+KindName(k)+" in it")
		}
	}
}

// KindName names the kind of a JSON token for a message.
func KindName(k jsontext.Kind) string {
	switch k {
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	case '"':
		return "a string"
	case '0':
		return "a number"
	case '{':
		return "an object"
	case '[':
		return "a list"
	}
	return "nothing"
}

// Size returns the bytes of m's JSON form, the measure of its limit and of stored bytes. It allocates nothing.
func (m Map) Size() int {
	n := len("{}")
	for i := range m {
		n += jsonLen(m[i].Key) + len(":,") + m[i].Value.size()
	}
	if len(m) > 0 {
		n-- // no comma after the last
	}
	return n
}

func (v *Value) size() int {
	switch v.Kind {
	case String:
		return jsonLen(v.Str)
	case Number:
		return numberLen(v.Num)
	case Bool:
		if v.Boolean {
			return len("true")
		}
		return len("false")
	}
	n := len("[]")
	for _, s := range v.List {
		n += jsonLen(s) + len(",")
	}
	return n - min(1, len(v.List))
}

// jsonLen is the length of a string as JSON: quotes, the escapes that must be, all else as it is.
func jsonLen(s string) int {
	n := len(s) + len(`""`)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c >= utf8.RuneSelf:
		case c == '"', c == '\\', c == '\b', c == '\f', c == '\n', c == '\r', c == '\t':
			n++
		case c < ' ':
			n += len(`\u0000`) - 1
		}
	}
	return n
}

// numberLen is the length of a number as JSON: ECMAScript's form, which writes exponents below 1e-6 and from 1e21.
func numberLen(f float64) int {
	var buf [32]byte
	abs := math.Abs(f)
	if abs == 0 || (abs >= 1e-6 && abs < 1e21) {
		return len(strconv.AppendFloat(buf[:0], f, 'f', -1, 64))
	}
	n := len(strconv.AppendFloat(buf[:0], f, 'e', -1, 64))
	if abs < 1e-6 && abs >= 1e-9 {
		n-- // strconv pads the exponent to two digits: e-07 is e-7
	}
	return n
}
