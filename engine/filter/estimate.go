package filter

// maxWalk is how many numbers an estimate of a range visits to add up their slots; with more, it goes by their count.
const maxWalk = 128

// Estimate returns an upper bound of the number of slots that Eval finds if exact, without building a set. It is
// tight for single conditions. A condition costs O(values); a range O(log n) and a look at each chunk's length.
func (x *Index) Estimate(e *Expr) int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.estimate(e)
}

func (x *Index) estimate(e *Expr) int {
	n := x.all.n
	switch {
	case e.IsEmpty():
	case e.op == opAnd:
		for _, k := range e.kids {
			n = min(n, x.estimate(k))
		}
	case e.op == opOr:
		sum := 0
		for _, k := range e.kids {
			sum += x.estimate(k)
		}
		n = min(n, sum)
	case e.negative():
		_, least := x.estimateField(e)
		n -= least
	default:
		most, _ := x.estimateField(e)
		n = most
	}
	return n
}

// estimateField bounds the slots that pass a condition over one field, or the opposite of a negative one.
func (x *Index) estimateField(e *Expr) (most, least int) {
	f := x.fields[e.field]
	switch {
	case f == nil && !x.unindexed(e.field):
		return 0, 0
	case f == nil:
		return x.loose.n, 0
	case e.op == opExists:
		return f.present.n, f.present.n
	case e.op == opRange:
		return f.estimateRange(e.span), 0
	}
	return f.estimateValues(e.args)
}

// estimateValues adds postings up. A slot with a list may be in several of them, so that with lists only the largest
// posting is sure.
func (f *field) estimateValues(args []operand) (most, least int) {
	largest, sum := 0, 0
	for _, a := range args {
		p, found, sure := f.find(a)
		if !found {
			continue
		}
		n := p.len()
		most += n
		if sure {
			sum += n
			largest = max(largest, n)
		}
	}
	if f.lists == 0 {
		largest = sum
	}
	return min(most, f.present.n), largest
}

// estimateRange uses that every number outside the range has a slot at least, which is exact when all are unique.
func (f *field) estimateRange(s interval) int {
	switch r := f.locate(s); {
	case r.inside == 0:
		return 0
	case r.inside > maxWalk:
		return f.numeric - r.outside
	default:
		return f.numbers.slots(r.from, r.to)
	}
}
