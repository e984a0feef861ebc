package filter

import (
	"bytes"
	"math"
	"strings"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/croftdb/croft/engine/metadata"
)

var (
	_ json.UnmarshalerFrom = (*Expr)(nil)
	_ json.MarshalerTo     = (*Expr)(nil)
)

// String returns the filter as JSON in canonical form: shorthand written out, nested $and lifted, the values of $in
// sorted. Parsing it gives an equal tree.
func (e *Expr) String() string {
	var b bytes.Buffer
	enc := jsontext.NewEncoder(&b, jsontext.AllowInvalidUTF8(true))
	if err := e.MarshalJSONTo(enc); err != nil {
		return "invalid filter: " + err.Error()
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// MarshalJSONTo writes the canonical form.
func (e *Expr) MarshalJSONTo(enc *jsontext.Encoder) error {
	w := writer{enc: enc}
	w.expr(e)
	return w.err
}

// writer keeps the first error, so that the tree can be written without asking after each token.
type writer struct {
	enc *jsontext.Encoder
	err error
}

func (w *writer) put(toks ...jsontext.Token) {
	for _, t := range toks {
		if w.err == nil {
			w.err = w.enc.WriteToken(t)
		}
	}
}

func (w *writer) expr(e *Expr) {
	w.put(jsontext.BeginObject)
	switch {
	case e.IsEmpty():
	case e.op == opAnd, e.op == opOr:
		w.list(e)
	default:
		w.put(jsontext.String(e.field), jsontext.BeginObject)
		w.condition(e)
		w.put(jsontext.EndObject)
	}
	w.put(jsontext.EndObject)
}

func (w *writer) list(e *Expr) {
	name := "$and"
	if e.op == opOr {
		name = "$or"
	}
	w.put(jsontext.String(name), jsontext.BeginArray)
	for _, k := range e.kids {
		w.expr(k)
	}
	w.put(jsontext.EndArray)
}

func (w *writer) condition(e *Expr) {
	switch e.op {
	case opEq:
		w.put(jsontext.String("$eq"), e.args[0].token())
	case opNe:
		w.put(jsontext.String("$ne"), e.args[0].token())
	case opIn:
		w.values("$in", e.args)
	case opNin:
		w.values("$nin", e.args)
	case opExists:
		w.put(jsontext.String("$exists"), e.args[0].token())
	case opRange:
		w.bound(e.span.lo, e.span.loOpen, "$gt", "$gte")
		w.bound(e.span.hi, e.span.hiOpen, "$lt", "$lte")
	}
}

func (w *writer) values(name string, args []operand) {
	w.put(jsontext.String(name), jsontext.BeginArray)
	for _, a := range args {
		w.put(a.token())
	}
	w.put(jsontext.EndArray)
}

func (w *writer) bound(f float64, open bool, ifOpen, ifClosed string) {
	switch {
	case math.IsInf(f, 0):
	case open:
		w.put(jsontext.String(ifOpen), jsontext.Float(f))
	default:
		w.put(jsontext.String(ifClosed), jsontext.Float(f))
	}
}

func (o operand) token() jsontext.Token {
	switch o.kind {
	case metadata.String:
		return jsontext.String(o.str)
	case metadata.Number:
		return jsontext.Float(o.num)
	}
	return jsontext.Bool(o.bool())
}
