package filter

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
)

// operators lists what may stand inside a field.
const operators = "$eq, $ne, $gt, $gte, $lt, $lte, $in, $nin, $exists"

// Parse reads one filter and nothing after it. {} gives nil: whether an empty filter is allowed is the caller's
// affair. Every error has kind Invalid; those about a condition name its field and operator and show the right form.
func Parse(b []byte) (*Expr, error) {
	dec := jsontext.NewDecoder(bytes.NewBuffer(b))
	var e Expr
	err := e.UnmarshalJSONFrom(dec)
	if err == nil {
		if _, err = dec.ReadToken(); errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			err = errs.New(errs.Invalid, "filter: there is more after its end")
		}
	}
	if own := (*errs.Error)(nil); err != nil && !errors.As(err, &own) {
		err = errs.Wrap(errs.Invalid, err, "filter is not valid JSON")
	}
	if err != nil || e.IsEmpty() {
		return nil, err
	}
	return &e, nil
}

// UnmarshalJSONFrom reads one filter; {} gives an Expr that IsEmpty. Faults of the JSON text are returned as the
// decoder tells them, so that a failed read is not taken for a bad filter.
func (e *Expr) UnmarshalJSONFrom(dec *jsontext.Decoder) error {
	p := parser{dec: dec}
	tok, err := dec.ReadToken()
	if err != nil {
		return err
	}
	if tok.Kind() != '{' {
		return errs.New(errs.Invalid, `filter must be an object, as {"genre":{"$eq":"drama"}}, got %s`, metadata.KindName(tok.Kind()))
	}
	root, err := p.object(0)
	if err != nil {
		return err
	}
	if root == nil {
		root = &Expr{}
	}
	if root.depth() > MaxDepth {
		return tooDeep()
	}
	*e = *root
	return nil
}

// parser reads a filter token by token. Its recursion is bounded by MaxDepth.
type parser struct {
	dec        *jsontext.Decoder
	conditions int
}

// object reads what follows a brace: conditions that must all hold. depth counts the $and and $or around it.
func (p *parser) object(depth int) (*Expr, error) {
	var kids []*Expr
	for {
		tok, err := p.dec.ReadToken()
		if err != nil {
			return nil, err
		}
		if tok.Kind() == '}' {
			return all(kids), nil
		}
		kid, err := p.member(tok.String(), depth)
		if err != nil {
			return nil, err
		}
		kids = append(kids, kid)
	}
}

func (p *parser) member(key string, depth int) (*Expr, error) {
	switch {
	case key == "$and":
		kids, err := p.list(key, depth+1)
		return all(kids), err
	case key == "$or":
		kids, err := p.list(key, depth+1)
		return either(kids), err
	case strings.HasPrefix(key, "$"):
		return nil, errs.New(errs.Invalid, `filter: %s may not stand here, only $and and $or may; operators go inside a field, as {"genre":{"$eq":"drama"}}`,
			metadata.QuoteKey(key))
	}
	return p.field(key)
}

// list reads the filters under $and or $or.
func (p *parser) list(name string, depth int) ([]*Expr, error) {
	if depth > MaxDepth {
		return nil, tooDeep()
	}
	form := func(got string) error {
		return errs.New(errs.Invalid, `filter: %s wants a list of one or more filters, none of them empty, as {"%s":[{"genre":"drama"},{"year":{"$gte":2020}}]}, got %s`,
			name, name, got)
	}
	tok, err := p.dec.ReadToken()
	if err != nil {
		return nil, err
	}
	if tok.Kind() != '[' {
		return nil, form(metadata.KindName(tok.Kind()))
	}
	var kids []*Expr
	for {
		tok, err := p.dec.ReadToken()
		if err != nil {
			return nil, err
		}
		switch k := tok.Kind(); {
		case k == ']' && kids == nil:
			return nil, form("an empty list")
		case k == ']':
			return kids, nil
		case k != '{':
			return nil, form(metadata.KindName(k) + " in the list")
		}
		kid, err := p.object(depth)
		if err != nil {
			return nil, err
		}
		if kid == nil {
			return nil, form("an empty filter in the list")
		}
		kids = append(kids, kid)
	}
}

func tooDeep() error {
	return errs.New(errs.Invalid, "filter: $and and $or are nested more than %d deep (an object with several conditions counts as an $and)", MaxDepth)
}

// count charges one condition.
func (p *parser) count() error {
	if p.conditions++; p.conditions > MaxConditions {
		return errs.New(errs.Invalid, `filter has more than %d conditions; many values of one field go into one condition, as {"genre":{"$in":["drama","comedy"]}}`,
			MaxConditions)
	}
	return nil
}

// field reads a value, the short form of $eq, or an object of operators.
func (p *parser) field(field string) (*Expr, error) {
	tok, err := p.dec.ReadToken()
	if err != nil {
		return nil, err
	}
	switch tok.Kind() {
	case '{':
		return p.operators(field)
	case '[':
		return nil, fail(field, "", "a list cannot be compared with", `{"$in":["drama","comedy"]}`)
	}
	if err := p.count(); err != nil {
		return nil, err
	}
	arg, instead := scalar(tok)
	if instead != "" {
		return nil, fail(field, "", "wants a string, number or boolean, got "+instead, `{"$eq":"drama"}`)
	}
	return &Expr{op: opEq, field: field, args: []operand{arg}}, nil
}

func (p *parser) operators(field string) (*Expr, error) {
	var kids []*Expr
	for {
		tok, err := p.dec.ReadToken()
		if err != nil {
			return nil, err
		}
		if tok.Kind() == '}' {
			break
		}
		if err := p.count(); err != nil {
			return nil, err
		}
		kid, err := p.condition(field, tok.String())
		if err != nil {
			return nil, err
		}
		kids = append(kids, kid)
	}
	if kids == nil {
		return nil, fail(field, "", "has no operator", `{"$eq":"drama"}`)
	}
	return all(kids), nil
}

func (p *parser) condition(field, name string) (*Expr, error) {
	switch name {
	case "$eq":
		return p.compare(opEq, field, name)
	case "$ne":
		return p.compare(opNe, field, name)
	case "$gt", "$gte", "$lt", "$lte":
		return p.bound(field, name)
	case "$in":
		return p.values(opIn, field, name)
	case "$nin":
		return p.values(opNin, field, name)
	case "$exists":
		return p.exists(field, name)
	case "$and", "$or":
		return nil, errs.New(errs.Invalid, `filter: field %s: %s stands around fields, not inside one, as {"%s":[{%s:1},{%s:2}]}`,
			metadata.QuoteKey(field), name, name, metadata.QuoteKey(field), metadata.QuoteKey(field))
	}
	if !strings.HasPrefix(name, "$") {
		return nil, fail(field, "", "holds "+metadata.QuoteKey(name)+", which is not an operator; fields are not nested", `{"$eq":"drama"}`)
	}
	return nil, fail(field, name, "is not an operator; there are "+operators, `{"$eq":"drama"}`)
}

func (p *parser) compare(o op, field, name string) (*Expr, error) {
	tok, err := p.dec.ReadToken()
	if err != nil {
		return nil, err
	}
	arg, instead := scalar(tok)
	if instead != "" {
		return nil, fail(field, name, "wants a string, number or boolean, got "+instead, `{"`+name+`":"drama"}`)
	}
	return &Expr{op: o, field: field, args: []operand{arg}}, nil
}

func (p *parser) bound(field, name string) (*Expr, error) {
	tok, err := p.dec.ReadToken()
	if err != nil {
		return nil, err
	}
	arg, instead := scalarOf(metadata.Number, tok)
	if instead != "" {
		return nil, fail(field, name, "wants a number, got "+instead, `{"`+name+`":2020}`)
	}
	e := &Expr{op: opRange, field: field, span: everyNumber()}
	open := !strings.HasSuffix(name, "e")
	if strings.HasPrefix(name, "$g") {
		e.span.lo, e.span.loOpen = arg.num, open
	} else {
		e.span.hi, e.span.hiOpen = arg.num, open
	}
	return e, nil
}

func (p *parser) exists(field, name string) (*Expr, error) {
	tok, err := p.dec.ReadToken()
	if err != nil {
		return nil, err
	}
	arg, instead := scalarOf(metadata.Bool, tok)
	if instead != "" {
		return nil, fail(field, name, "wants a boolean, got "+instead, `{"$exists":true}`)
	}
	return &Expr{op: opExists, field: field, args: []operand{arg}}, nil
}

func (p *parser) values(o op, field, name string) (*Expr, error) {
	form := `{"` + name + `":["drama","comedy"]}`
	tok, err := p.dec.ReadToken()
	if err != nil {
		return nil, err
	}
	if tok.Kind() != '[' {
		return nil, fail(field, name, "wants a list of strings, numbers or booleans, got "+metadata.KindName(tok.Kind()), form)
	}
	var args []operand
	for {
		tok, err := p.dec.ReadToken()
		if err != nil {
			return nil, err
		}
		if tok.Kind() == ']' {
			slices.SortFunc(args, compareOperands)
			return &Expr{op: o, field: field, args: slices.Compact(args)}, nil
		}
		arg, instead := scalar(tok)
		if instead != "" {
			return nil, fail(field, name, "wants strings, numbers or booleans in its list, got "+instead, form)
		}
		if len(args) == MaxValues {
			return nil, errs.New(errs.Invalid, "filter: field %s: %s lists more than %d values; split them over several requests",
				metadata.QuoteKey(field), name, MaxValues)
		}
		args = append(args, arg)
	}
}

// scalar turns a token into an operand, or tells what it is instead. A number beyond float64 is no operand, as no
// record can hold it.
func scalar(tok jsontext.Token) (arg operand, instead string) {
	switch tok.Kind() {
	case '"':
		return stringOperand(tok.String()), ""
	case '0':
		f, err := tok.Float()
		if err != nil {
			return operand{}, "a number beyond the range of a float64"
		}
		return operand{kind: metadata.Number, num: f}, ""
	case 't', 'f':
		return boolOperand(tok.Bool()), ""
	}
	return operand{}, metadata.KindName(tok.Kind())
}

// scalarOf is scalar for operators that take one kind only.
func scalarOf(kind metadata.Kind, tok jsontext.Token) (arg operand, instead string) {
	if arg, instead = scalar(tok); instead == "" && arg.kind != kind {
		instead = "a " + arg.kind.String()
	}
	return arg, instead
}

// fail tells what is wrong with a condition; form is the right one, for that field.
func fail(field, operator, what, form string) error {
	if operator != "" {
		what = metadata.QuoteKey(operator) + " " + what
	}
	key := metadata.QuoteKey(field)
	return errs.New(errs.Invalid, "filter: field %s: %s; write {%s:%s}", key, what, key, form)
}
