package filter

import (
	"bytes"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

func readBinary(b []byte) (*Expr, error) {
	r := codec.NewReader(b)
	e := ReadBinary(r)
	return e, r.Done()
}

func TestBinaryForm(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawFilter(t)
		got, err := readBinary(AppendBinary(nil, e))
		require.NoError(t, err)
		require.Equal(t, e, got)
	})
	for _, empty := range []*Expr{nil, {}} {
		got, err := readBinary(AppendBinary(nil, empty))
		require.NoError(t, err)
		require.Nil(t, got)
	}
}

// TestBinaryLimits: what Parse admits at its limits travels, and what is beyond them is refused.
func TestBinaryLimits(t *testing.T) {
	deep := `{"a":1}`
	for i := range MaxDepth {
		deep = `{"` + []string{"$and", "$or"}[i%2] + `":[` + deep + `,{"b":2}]}`
	}
	e := mustParse(t, deep)
	got, err := readBinary(AppendBinary(nil, e))
	require.NoError(t, err)
	require.Equal(t, e, got)

	beyond := &Expr{op: opOr, kids: []*Expr{e, e}}
	if e.op == opOr {
		beyond.op = opAnd
	}
	many := &Expr{op: opOr, kids: make([]*Expr, MaxConditions+1)}
	for i := range many.kids {
		many.kids[i] = mustParse(t, `{"a":1}`)
	}
	one := mustParse(t, `{"a":1}`)
	for name, e := range map[string]*Expr{
		"deep": beyond, "many": many, "alone": {op: opAnd, kids: []*Expr{one}}, "nested": {op: opAnd, kids: []*Expr{one, {op: opAnd, kids: []*Expr{one, one}}}},
		"empty inside": {op: opAnd, kids: []*Expr{one, {}}}, "unsorted": {op: opIn, field: "a", args: []operand{boolOperand(true), boolOperand(true)}},
		"exists": {op: opExists, field: "a", args: []operand{stringOperand("x")}}, "operator": {op: 77, field: "a"},
	} {
		_, err := readBinary(AppendBinary(nil, e))
		require.True(t, errs.Is(err, errs.Corrupt), "%s: %v", name, err)
	}
	_, err = readBinary(bytes.Repeat([]byte{byte(opAnd), 2}, 1<<16))
	require.True(t, errs.Is(err, errs.Corrupt), "%v", err)
}

func FuzzReadBinary(f *testing.F) {
	for _, s := range []string{`{"a":1}`, `{"a":{"$gt":-1,"$lte":7},"b":{"$in":["x",true]},"$or":[{"c":{"$exists":false}},{"d":{"$ne":"x"}}]}`} {
		f.Add(AppendBinary(nil, mustParse(f, s)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := readBinary(b)
		if err != nil {
			if !errs.Is(err, errs.Corrupt) {
				t.Fatal(err)
			}
			return
		}
		if again, err := readBinary(AppendBinary(nil, e)); err != nil || again.String() != e.String() {
			t.Fatal(e, again, err)
		}
		e.Match(nil)
	})
}
