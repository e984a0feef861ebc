package filter

import (
	"math"

	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// The binary form of a filter, in which it travels between nodes. Integers are varints, strings are preceded by their
// length, numbers are the 8 little-endian bytes of a float64:
//
//	expr  = op | ($and, $or) op count expr* | (leaf) op field operands
//	operands = operand | ($in, $nin) count operand* | (range) lo hi open
//	operand  = kind value

const (
	openLow  = 1 << iota // a range begins behind its lower end
	openHigh             // and ends before its upper one
)

// AppendBinary appends the binary form of e; nil has one too.
func AppendBinary(b []byte, e *Expr) []byte {
	if e.IsEmpty() {
		return append(b, byte(opAll))
	}
	b = append(b, byte(e.op))
	if e.op == opAnd || e.op == opOr {
		b = codec.AppendUvarint(b, uint64(len(e.kids)))
		for _, k := range e.kids {
			b = AppendBinary(b, k)
		}
		return b
	}
	b = codec.AppendString(b, e.field)
	switch e.op {
	case opRange:
		b = codec.AppendFloat64(codec.AppendFloat64(b, e.span.lo), e.span.hi)
		return append(b, openBits(e.span))
	case opIn, opNin:
		b = codec.AppendUvarint(b, uint64(len(e.args)))
	}
	for _, a := range e.args {
		b = appendOperand(b, a)
	}
	return b
}

func openBits(s interval) (bits byte) {
	if s.loOpen {
		bits |= openLow
	}
	if s.hiOpen {
		bits |= openHigh
	}
	return bits
}

func appendOperand(b []byte, o operand) []byte {
	b = append(b, byte(o.kind))
	switch o.kind {
	case metadata.String:
		return codec.AppendString(b, o.str)
	case metadata.Number:
		return codec.AppendFloat64(b, o.num)
	}
	return append(b, byte(o.num))
}

// ReadBinary reads what AppendBinary wrote; a filter that matches all is nil. What does not have the shape of a parsed
// filter fails r with kind Corrupt.
func ReadBinary(r *codec.Reader) *Expr {
	d := binaryReader{Reader: r}
	e := d.expr(0)
	if r.Err() != nil || e.IsEmpty() {
		return nil
	}
	return e
}

type binaryReader struct {
	*codec.Reader
	conditions int
}

func (d *binaryReader) fail(what string) *Expr {
	d.Fail(errs.New(errs.Corrupt, "decode filter: %s", what))
	return nil
}

// expr reads one filter below depth $and and $or.
func (d *binaryReader) expr(depth int) *Expr {
	e := &Expr{op: op(d.Byte())}
	switch e.op {
	case opAll:
		if depth > 0 {
			return d.fail("an empty filter stands inside another")
		}
		return e
	case opAnd, opOr:
		return d.join(e, depth+1)
	case opEq, opNe, opIn, opNin, opExists, opRange:
		if d.conditions++; d.conditions > MaxConditions {
			return d.fail("it has too many conditions")
		}
		e.field = d.String()
		return d.leaf(e)
	}
	return d.fail("an operator is unknown")
}

func (d *binaryReader) join(e *Expr, depth int) *Expr {
	n := d.Count(2)
	if n < 2 || depth > MaxDepth {
		return d.fail("$and and $or are too deep or too short")
	}
	for range n {
		k := d.expr(depth)
		if d.Err() != nil {
			return nil
		}
		if k.op == e.op {
			return d.fail("an operator stands inside its like")
		}
		e.kids = append(e.kids, k)
	}
	return e
}

func (d *binaryReader) leaf(e *Expr) *Expr {
	switch e.op {
	case opRange:
		return d.bounds(e)
	case opIn, opNin:
		n := d.Count(2)
		if n > MaxValues {
			return d.fail("a list has too many values")
		}
		if n > 0 {
			e.args = make([]operand, n)
		}
	default:
		e.args = make([]operand, 1)
	}
	for i := range e.args {
		e.args[i] = d.operand()
		if i > 0 && compareOperands(e.args[i-1], e.args[i]) >= 0 {
			return d.fail("the values of a list are repeated or out of order")
		}
	}
	if e.op == opExists && e.args[0].kind != metadata.Bool {
		return d.fail("$exists has no boolean")
	}
	return e
}

func (d *binaryReader) bounds(e *Expr) *Expr {
	e.span = interval{lo: d.Float64(), hi: d.Float64()}
	open := d.Byte()
	e.span.loOpen, e.span.hiOpen = open&openLow != 0, open&openHigh != 0
	if math.IsNaN(e.span.lo) || math.IsNaN(e.span.hi) || open > openLow|openHigh {
		return d.fail("a range has no bounds")
	}
	return e
}

func (d *binaryReader) operand() operand {
	switch k := metadata.Kind(d.Byte()); k {
	case metadata.String:
		return stringOperand(d.String())
	case metadata.Number:
		f := d.Float64()
		if math.IsNaN(f) || math.IsInf(f, 0) {
			d.fail("a number is not finite")
		}
		return operand{kind: k, num: f}
	case metadata.Bool:
		b := d.Byte()
		if b > 1 {
			d.fail("a boolean is neither 0 nor 1")
		}
		return boolOperand(b == 1)
	}
	d.fail("a value has no kind")
	return operand{}
}
