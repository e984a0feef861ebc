// Package metadata owns the fields attached to a record: their types, their order, their binary and JSON forms.
//
// A Map is sorted by key and has unique keys, so equal maps have equal bytes on every replica. Values are what
// Pinecone's API admits: a string, a float64, a bool or a list of strings. The engine stores Maps, engine/filter
// evaluates over them, internal/api reads and writes them as JSON. It does no I/O.
package metadata

import (
	"cmp"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/croftdb/croft/internal/errs"
)

const (
	// MaxSize is the most bytes that a Map may take in its JSON form (Pinecone's 40 KB).
	MaxSize = 40 << 10
	// MaxFields is the most fields that a Map may have.
	MaxFields = 1000
)

// Kind is the type of a Value.
type Kind uint8

const (
	// String is a UTF-8 string.
	String Kind = iota + 1
	// Number is a finite float64.
	Number
	// Bool is true or false.
	Bool
	// Strings is a list of UTF-8 strings.
	Strings
)

func (k Kind) String() string {
	switch k {
	case String:
		return "string"
	case Number:
		return "number"
	case Bool:
		return "boolean"
	case Strings:
		return "list of strings"
	}
	return "kind(" + strconv.Itoa(int(k)) + ")"
}

// Value is one metadata value. The zero Value has no kind and is not stored.
type Value struct {
	Kind    Kind
	Str     string
	Num     float64
	Boolean bool
	List    []string
}

// StringValue returns a string as a Value.
func StringValue(s string) Value { return Value{Kind: String, Str: s} }

// NumberValue returns a number as a Value. It must be finite to pass Validate.
func NumberValue(f float64) Value { return Value{Kind: Number, Num: f} }

// BoolValue returns a bool as a Value.
func BoolValue(b bool) Value { return Value{Kind: Bool, Boolean: b} }

// StringsValue returns a list of strings as a Value, which keeps list. The order and repetitions are kept too.
func StringsValue(list ...string) Value { return Value{Kind: Strings, List: list} }

// Equal reports whether two values have the same kind and content. -0 equals 0; a list equals one in the same order.
func (v Value) Equal(w Value) bool {
	return v.Kind == w.Kind && v.Str == w.Str && v.Num == w.Num && v.Boolean == w.Boolean && slices.Equal(v.List, w.List)
}

// Field is one key with its value.
type Field struct {
	Key   string
	Value Value
}

// Map is a record's metadata, sorted by key (bytewise), each key once. nil means "no metadata".
type Map []Field

// Make sorts fields into a Map. It refuses a key that stands twice (kind Invalid) and keeps fields' memory. It does
// not look at the values: see Validate.
func Make(fields ...Field) (Map, error) {
	if len(fields) == 0 {
		return nil, nil
	}
	slices.SortFunc(fields, byKey)
	for i := 1; i < len(fields); i++ {
		if fields[i].Key == fields[i-1].Key {
			return nil, errs.New(errs.Invalid, "metadata field %s stands more than once", QuoteKey(fields[i].Key))
		}
	}
	return Map(fields), nil
}

func byKey(a, b Field) int { return cmp.Compare(a.Key, b.Key) }

// Get returns the value of a key, and whether it is there.
func (m Map) Get(key string) (Value, bool) {
	i, ok := slices.BinarySearchFunc(m, key, func(f Field, key string) int { return cmp.Compare(f.Key, key) })
	if !ok {
		return Value{}, false
	}
	return m[i].Value, true
}

// Equal reports whether two maps have the same keys with equal values.
func (m Map) Equal(o Map) bool {
	return slices.EqualFunc(m, o, func(a, b Field) bool { return a.Key == b.Key && a.Value.Equal(b.Value) })
}

// Merge returns base with the fields of patch put over it, key by key. Neither is changed; the result may share
// their memory. A merged map can be over the limits although both parts are within them: call Validate.
func Merge(base, patch Map) Map {
	if len(patch) == 0 {
		return base
	}
	if len(base) == 0 {
		return patch
	}
	out := make(Map, 0, len(base)+len(patch))
	for len(base) > 0 && len(patch) > 0 {
		switch c := byKey(base[0], patch[0]); {
		case c < 0:
			out, base = append(out, base[0]), base[1:]
		case c > 0:
			out, patch = append(out, patch[0]), patch[1:]
		default:
			out, base, patch = append(out, patch[0]), base[1:], patch[1:]
		}
	}
	return append(append(out, base...), patch...)
}

// Validate checks m against everything that a stored map promises: order, limits, keys and values. Its errors have
// kind Invalid and name the field.
func (m Map) Validate() error {
	if len(m) > MaxFields {
		return errs.New(errs.Invalid, "metadata has %d fields, the limit is %d", len(m), MaxFields)
	}
	for i, f := range m {
		if i > 0 && m[i-1].Key >= f.Key {
			return errs.New(errs.Invalid, "metadata field %s is repeated or out of order", QuoteKey(f.Key))
		}
		if err := f.validate(); err != nil {
			return err
		}
	}
	if n := m.Size(); n > MaxSize {
		return errs.New(errs.Invalid, "metadata takes %d bytes as JSON, the limit is %d bytes per record", n, MaxSize)
	}
	return nil
}

func (f Field) validate() error {
	if strings.HasPrefix(f.Key, "$") {
		return errs.New(errs.Invalid, "metadata field %s: a key may not start with \"$\", which marks operators", QuoteKey(f.Key))
	}
	if !utf8.ValidString(f.Key) {
		return errs.New(errs.Invalid, "metadata field %s: the key is not valid UTF-8", QuoteKey(f.Key))
	}
	switch v := f.Value; v.Kind {
	case String:
		return f.checkText(v.Str)
	case Number:
		if math.IsNaN(v.Num) || math.IsInf(v.Num, 0) {
			return badValue(f.Key, "a number that is not finite")
		}
	case Bool:
	case Strings:
		for _, s := range v.List {
			if err := f.checkText(s); err != nil {
				return err
			}
		}
	default:
		return badValue(f.Key, v.Kind.String())
	}
	return nil
}

func (f Field) checkText(s string) error {
	if !utf8.ValidString(s) {
		return errs.New(errs.Invalid, "metadata field %s: the value is not valid UTF-8", QuoteKey(f.Key))
	}
	return nil
}

// badValue is the error for everything that is not a metadata value, in the words that Pinecone's clients know.
func badValue(key, got string) error {
	return errs.New(errs.Invalid, "metadata field %s: Metadata value must be a string, number, boolean or list of strings, got %s",
		QuoteKey(key), got)
}

// QuoteKey quotes a key for a message, shortened to some 64 bytes so that a hostile key cannot fill a log.
func QuoteKey(key string) string {
	const most = 64
	if len(key) <= most {
		return strconv.Quote(key)
	}
	return strconv.Quote(strings.ToValidUTF8(key[:most], "")) + "..."
}
