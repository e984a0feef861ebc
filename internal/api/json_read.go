package api

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"sync"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/croftdb/croft/internal/errs"
)

// maxDepth is how deep a body may nest.
const maxDepth = 32

// reader reads one JSON body. It refuses what is not exactly one JSON value of valid UTF-8 without duplicate names
// (jsontext sees to that), and through object, names that the caller does not list.
type reader struct {
	dec *jsontext.Decoder
	buf bytes.Buffer
}

var readers = sync.Pool{New: func() any { return &reader{dec: jsontext.NewDecoder(new(bytes.Buffer))} }}

// decode reads body by f and gives every fault the kind Invalid.
func decode(body []byte, f func(*reader) error) error {
	r := readers.Get().(*reader)
	defer func() {
		r.buf = bytes.Buffer{} // let go of the body
		r.dec.Reset(&r.buf)
		readers.Put(r)
	}()
	r.buf = *bytes.NewBuffer(body)
	r.dec.Reset(&r.buf)
	if len(body) == 0 {
		return errs.New(errs.Invalid, "the body is empty, a JSON object is needed")
	}
	err := f(r)
	if err == nil {
		err = r.end()
	}
	return invalidBody(err)
}

// decodeObject is decode of an object with the given fields.
func decodeObject[T any](body []byte, into *T, fields []field[T]) error {
	return decode(body, func(r *reader) error { return object(r, into, fields) })
}

// end fails if anything but space follows the value.
func (r *reader) end() error {
	switch _, err := r.dec.ReadToken(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return faultf("something follows the JSON value at byte %d", r.dec.InputOffset())
}

// field is one member of a JSON object that becomes a T.
type field[T any] struct {
	name string
	read func(*T, *reader) error
}

// object reads a JSON object member by member. A member that is null counts as absent, since generated clients send
// those; names must be spelt exactly.
func object[T any](r *reader, into *T, fields []field[T]) error {
	if k := r.dec.PeekKind(); k != '{' {
		return r.mismatch("an object")
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	if r.dec.StackDepth() > maxDepth {
		return faultf("nested deeper than %d", maxDepth)
	}
	for r.dec.PeekKind() != '}' {
		name, err := r.dec.ReadValue()
		if err != nil {
			return err
		}
		f, err := findField(fields, name)
		if err != nil {
			return err
		}
		if r.dec.PeekKind() == 'n' {
			_, err = r.dec.ReadToken()
		} else {
			err = f.read(into, r)
		}
		if err != nil {
			return within(err, f.name)
		}
	}
	_, err := r.dec.ReadToken()
	return err
}

func findField[T any](fields []field[T], quoted []byte) (*field[T], error) {
	name := quoted[1 : len(quoted)-1]
	if bytes.IndexByte(name, '\\') >= 0 {
		name, _ = jsontext.AppendUnquote(nil, quoted)
	}
	for i := range fields {
		if string(name) == fields[i].name {
			return &fields[i], nil
		}
	}
	known := make([]string, len(fields))
	for i := range fields {
		known[i] = fields[i].name
	}
	return nil, faultf("unknown field %q; %s", clip(name), suggest(string(name), known))
}

// textField is a member that is a string.
func textField[T any](name string, at func(*T) *string) field[T] {
	return field[T]{name, func(t *T, r *reader) (err error) {
		*at(t), err = r.text()
		return err
	}}
}

// boolField is a member that is true or false.
func boolField[T any](name string, at func(*T) *bool) field[T] {
	return field[T]{name, func(t *T, r *reader) (err error) {
		*at(t), err = r.boolean()
		return err
	}}
}

// intField is a member that is a whole number from lo to hi.
func intField[T any](name string, lo, hi int64, at func(*T) *int) field[T] {
	return field[T]{name, func(t *T, r *reader) error {
		n, err := r.integer(lo, hi)
		*at(t) = int(n)
		return err
	}}
}

// array reads a JSON array, calling f before each element.
func (r *reader) array(f func(i int) error) error {
	if k := r.dec.PeekKind(); k != '[' {
		return r.mismatch("an array")
	}
	if _, err := r.dec.ReadToken(); err != nil {
		return err
	}
	for i := 0; r.dec.PeekKind() != ']'; i++ {
		if err := f(i); err != nil {
			return within(err, index(i))
		}
	}
	_, err := r.dec.ReadToken()
	return err
}

// mismatch tells what was found where something else is wanted.
func (r *reader) mismatch(want string) error {
	raw, err := r.dec.ReadValue()
	if err != nil {
		return err
	}
	return wantGot(want, raw)
}

// value reads a raw value of the given kind; it aliases the body.
func (r *reader) value(kind jsontext.Kind, want string) ([]byte, error) {
	raw, err := r.dec.ReadValue()
	if err != nil {
		return nil, err
	}
	if raw.Kind() != kind {
		return nil, wantGot(want, raw)
	}
	return raw, nil
}

// text reads a string into memory of its own.
func (r *reader) text() (string, error) {
	raw, err := r.value('"', "a string")
	if err != nil {
		return "", err
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw[1 : len(raw)-1]), nil
	}
	b, err := jsontext.AppendUnquote(nil, raw)
	return string(b), err
}

// textOrNull reads a string; null is an empty one.
func (r *reader) textOrNull() (string, error) {
	if r.dec.PeekKind() == 'n' {
		_, err := r.dec.ReadToken()
		return "", err
	}
	return r.text()
}

// boolean reads true or false.
func (r *reader) boolean() (bool, error) {
	raw, err := r.dec.ReadValue()
	if err != nil {
		return false, err
	}
	if k := raw.Kind(); k != 't' && k != 'f' {
		return false, wantGot("true or false", raw)
	}
	return raw.Kind() == 't', nil
}

// number reads a finite number.
func (r *reader) number() (float64, error) {
	raw, err := r.value('0', "a number")
	if err != nil {
		return 0, err
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil {
		return 0, faultf("%s is out of range", clip(raw))
	}
	return f, nil
}

// integer reads a whole number from lo to hi; 10.0 and 1e1 are 10.
func (r *reader) integer(lo, hi int64) (int64, error) {
	raw, err := r.value('0', "a whole number")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(raw), 10, 64)
	if err != nil {
		f, ferr := strconv.ParseFloat(string(raw), 64)
		if ferr != nil || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
			return 0, wantGot("a whole number", raw)
		}
		n = int64(f)
	}
	if n < lo || n > hi {
		return 0, faultf("%d is not between %d and %d", n, lo, hi)
	}
	return n, nil
}

// texts reads an array of at most limit strings.
func (r *reader) texts(limit int) ([]string, error) {
	var list []string
	err := r.array(func(i int) error {
		if i == limit {
			return faultf("more than %d elements", limit)
		}
		s, err := r.text()
		list = append(list, s)
		return err
	})
	return list, err
}

// floats appends an array of numbers to dst.
func (r *reader) floats(dst []float32) ([]float32, error) {
	raw, err := r.dec.ReadValue()
	if err != nil {
		return dst, err
	}
	return appendFloats(dst, raw)
}

// rawObject reads a raw object that nests no deeper than a body may; it aliases the body.
func (r *reader) rawObject() ([]byte, error) {
	raw, err := r.value('{', "an object")
	if err != nil {
		return nil, err
	}
	return raw, checkDepth(raw, maxDepth-r.dec.StackDepth())
}

// checkDepth fails if valid JSON nests deeper than limit, without recursion.
func checkDepth(raw []byte, limit int) error {
	depth, inString := 0, false
	for i := 0; i < len(raw); i++ {
		switch c := raw[i]; {
		case inString && c == '\\':
			i++
		case c == '"':
			inString = !inString
		case inString:
		case c == '{' || c == '[':
			if depth++; depth > limit {
				return faultf("nested deeper than %d", maxDepth)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}

// fault is wrong input at a place in a body, for example vectors[3].values[17].
type fault struct {
	path, text, hint string
	record           string // id of the record around it, if known
}

func (f *fault) Error() string {
	s := f.text
	if f.path != "" {
		s = f.path + ": " + s
	}
	if f.record != "" {
		s += fmt.Sprintf(" (record %q)", clip(f.record))
	}
	return s
}

func faultf(format string, args ...any) *fault { return &fault{text: fmt.Sprintf(format, args...)} }

func wantGot(want string, got []byte) *fault { return faultf("want %s, got %s", want, clip(got)) }

func index(i int) string { return "[" + strconv.Itoa(i) + "]" }

// within puts a step before the place of a fault. Faults of other packages become ones of ours; syntax errors stay as
// they are, since they name their place themselves.
func within(err error, step string) error {
	if err == nil {
		return nil
	}
	var f *fault
	if !errors.As(err, &f) {
		var e *errs.Error
		if !errors.As(err, &e) {
			return err
		}
		f = &fault{text: e.Message, hint: e.Hint}
	}
	if f.path != "" && f.path[0] != '[' {
		step += "."
	}
	f.path = step + f.path
	return f
}

// invalidBody turns what decoding returned into an Invalid error.
func invalidBody(err error) error {
	var f *fault
	var s *jsontext.SyntacticError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &f):
		e := errs.New(errs.Invalid, "%s", f.Error())
		e.Hint = f.hint
		return e
	case errors.As(err, &s):
		return errs.New(errs.Invalid, "the body is not valid JSON: %s", strings.TrimPrefix(s.Error(), "jsontext: "))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return errs.New(errs.Invalid, "the body is not valid JSON: it ends too early")
	case errs.Is(err, errs.Internal):
		return errs.New(errs.Invalid, "the body is not valid: %s", strings.TrimPrefix(err.Error(), "jsontext: "))
	}
	return err
}

// invalid is an Invalid error about one field.
func invalid(path, format string, args ...any) *errs.Error {
	return errs.New(errs.Invalid, "%s: %s", path, fmt.Sprintf(format, args...))
}

// clip shortens input for a message.
func clip[T ~[]byte | ~string](b T) string {
	const most = 60
	if len(b) <= most {
		return string(b)
	}
	return strings.ToValidUTF8(string(b[:most]), "") + "…"
}
