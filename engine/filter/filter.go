// Package filter owns metadata filters: the tree that a filter is parsed into, its plain evaluation over one record,
// the bitmaps that answer it for a whole partition, and the choice between scanning what matches and walking a graph.
//
// Parse promises a bounded tree, whatever the input; Match defines what a filter means; Index.Eval promises the
// same answer as Match over every record, or a superset that it calls one. internal/api parses, the engine keeps one
// Index for each loaded partition and asks it. The package does no I/O, reads no clock and starts no goroutine.
package filter

import (
	"cmp"
	"math"
	"slices"

	"github.com/croftdb/croft/engine/metadata"
)

const (
	// MaxDepth is how deep $and and $or may be nested, objects with several conditions counted as an $and.
	MaxDepth = 16
	// MaxConditions is how many conditions (operators over a field) a filter may have.
	MaxConditions = 1000
	// MaxValues is how many values $in and $nin may list.
	MaxValues = 10_000
)

// Expr is a parsed filter. It is immutable and safe for use by many goroutines. nil and the zero Expr match all.
//
// A tree alternates between $and and $or, each with two kids or more; a leaf is a condition over one field. The
// numeric bounds that an $and puts on one field are one leaf.
type Expr struct {
	op    op
	field string    // of a leaf
	args  []operand // of $eq and $ne: one; of $in and $nin: sorted, unique; of $exists: one bool
	span  interval  // of a range
	kids  []*Expr   // of $and and $or
}

type op uint8

const (
	opAll op = iota
	opAnd
	opOr
	opEq
	opNe
	opIn
	opNin
	opExists
	opRange // $gt, $gte, $lt, $lte
)

// negative reports whether the condition holds for records without the field too: that is, whether it is the
// complement of another.
func (e *Expr) negative() bool {
	return e.op == opNe || e.op == opNin || e.op == opExists && !e.args[0].bool()
}

// operand is a scalar to compare with. A bool is the number 0 or 1 under its own kind. Go's == on it is the
// language's equality: strict in types, -0 equal to 0.
type operand struct {
	kind metadata.Kind
	num  float64
	str  string
}

func (o operand) bool() bool { return o.num != 0 }

func stringOperand(s string) operand { return operand{kind: metadata.String, str: s} }

func boolOperand(b bool) operand {
	if b {
		return operand{kind: metadata.Bool, num: 1}
	}
	return operand{kind: metadata.Bool}
}

func compareOperands(a, b operand) int {
	return cmp.Or(cmp.Compare(a.kind, b.kind), cmp.Compare(a.num, b.num), cmp.Compare(a.str, b.str))
}

// interval is a range of numbers; an end at infinity is no bound, since stored numbers are finite.
type interval struct {
	lo, hi         float64
	loOpen, hiOpen bool // the end itself is outside
}

func everyNumber() interval { return interval{lo: math.Inf(-1), hi: math.Inf(1)} }

func (s interval) below(f float64) bool { return f < s.lo || s.loOpen && f == s.lo } // f lies before the interval
func (s interval) above(f float64) bool { return f > s.hi || s.hiOpen && f == s.hi } // f lies after it

func (s interval) contains(f float64) bool { return !s.below(f) && !s.above(f) }

func (s interval) intersect(o interval) interval {
	if o.lo > s.lo || o.lo == s.lo && o.loOpen {
		s.lo, s.loOpen = o.lo, o.loOpen
	}
	if o.hi < s.hi || o.hi == s.hi && o.hiOpen {
		s.hi, s.hiOpen = o.hi, o.hiOpen
	}
	return s
}

// IsEmpty reports whether e has no condition, as the filter {} has.
func (e *Expr) IsEmpty() bool { return e == nil || e.op == opAll }

// Match reports whether a record with metadata m passes. It is the meaning of a filter: types are strict (42 is not
// "42"), a list passes if any of its elements does, a missing field passes only $ne, $nin and $exists:false, as in
// MongoDB.
func (e *Expr) Match(m metadata.Map) bool {
	if e.IsEmpty() {
		return true
	}
	switch e.op {
	case opAnd:
		return !slices.ContainsFunc(e.kids, func(k *Expr) bool { return !k.Match(m) })
	case opOr:
		return slices.ContainsFunc(e.kids, func(k *Expr) bool { return k.Match(m) })
	}
	v, ok := m.Get(e.field)
	passes := ok && e.accepts(v)
	return passes != e.negative()
}

// accepts reports whether a present value passes the condition, or for a negative one, its opposite.
func (e *Expr) accepts(v metadata.Value) bool {
	switch {
	case e.op == opExists:
		return true
	case e.op == opRange:
		return v.Kind == metadata.Number && e.span.contains(v.Num)
	}
	switch v.Kind {
	case metadata.String:
		return e.names(stringOperand(v.Str))
	case metadata.Number:
		return e.names(operand{kind: metadata.Number, num: v.Num})
	case metadata.Bool:
		return e.names(boolOperand(v.Boolean))
	}
	return slices.ContainsFunc(v.List, func(s string) bool { return e.names(stringOperand(s)) })
}

// names reports whether o is among the operands.
func (e *Expr) names(o operand) bool {
	if len(e.args) == 1 {
		return e.args[0] == o
	}
	_, ok := slices.BinarySearchFunc(e.args, o, compareOperands)
	return ok
}

// all joins conditions by $and: nested ones are lifted, bounds on one field become one range. It may keep and change
// kids, and returns nil for none.
func all(kids []*Expr) *Expr {
	var flat []*Expr
	ranges := map[string]*Expr{}
	for _, k := range lift(opAnd, kids) {
		if k.op == opRange {
			if r := ranges[k.field]; r != nil {
				r.span = r.span.intersect(k.span)
				continue
			}
			ranges[k.field] = k
		}
		flat = append(flat, k)
	}
	return join(opAnd, flat)
}

// either joins conditions by $or.
func either(kids []*Expr) *Expr { return join(opOr, lift(opOr, kids)) }

// lift puts the kids of kids that are of the same operator in their place.
func lift(o op, kids []*Expr) []*Expr {
	var flat []*Expr
	for _, k := range kids {
		if k.op == o {
			flat = append(flat, k.kids...)
		} else {
			flat = append(flat, k)
		}
	}
	return flat
}

func join(o op, kids []*Expr) *Expr {
	switch len(kids) {
	case 0:
		return nil
	case 1:
		return kids[0]
	}
	return &Expr{op: o, kids: kids}
}

func (e *Expr) depth() int {
	deepest := 0
	for _, k := range e.kids {
		deepest = max(deepest, k.depth())
	}
	if e.op == opAnd || e.op == opOr {
		deepest++
	}
	return deepest
}
