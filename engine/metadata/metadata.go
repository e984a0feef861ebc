// Package metadata owns the fields attached to a record: their types, their order, their binary and JSON forms.
//
// A Map is sorted by key and has unique keys, so equal maps have equal bytes on every replica. Values are what
// Pinecone's API admits: a string, a float64, a bool or a list of strings. The engine stores Maps, engine/filter
// evaluates over them, internal/api reads and writes them as JSON. It does no I/O.
package metadata

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

// Value is one metadata value. The zero Value has no kind and is not stored.
type Value struct {
	Kind    Kind
	Str     string
	Num     float64
	Boolean bool
	List    []string
}

// Field is one key with its value.
type Field struct {
	Key   string
	Value Value
}

// Map is a record's metadata, sorted by key (bytewise), each key once. nil means "no metadata".
type Map []Field
