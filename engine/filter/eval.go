package filter

import (
	"slices"

	"github.com/RoaringBitmap/roaring/v2"
)

const (
	// recheckCost is what reading one stored record and matching it costs, in visits to a number of an ordered field:
	// a visit was measured at 5 ns, decoding and matching a record at 1 µs, and reading it is about as much again.
	recheckCost = 400
	// lookupCost is what finding the posting of one value costs, in visits.
	lookupCost = 16
	// spareVisits and visitsPerSlot bound the values that one evaluation visits in ranges, so that a filter of a
	// thousand ranges cannot hold the lock for seconds.
	spareVisits   = 1 << 16
	visitsPerSlot = 4
)

// Eval returns the slots whose records pass e, in memory that belongs to the caller. If exact is false they are a
// superset, and the caller must put the stored metadata of each to e.Match.
//
// A superset comes from a field that is not indexed, a string over 256 bytes, ranges beyond the bound on visits, or a
// conjunction of which one part leaves so few slots that matching their records is cheaper than evaluating the rest.
func (x *Index) Eval(e *Expr) (set *roaring.Bitmap, exact bool) {
	x.mu.RLock()
	defer x.mu.RUnlock()
	ev := evaluation{Index: x, visits: spareVisits + visitsPerSlot*x.all.n}
	var r result
	if e != nil && e.op == opAnd {
		r = ev.and(e.kids, true)
	} else {
		r = ev.eval(e)
	}
	if !r.owned {
		r.set = r.set.Clone()
	}
	return r.set, r.exact || r.set.IsEmpty()
}

// evaluation is one Eval, under the read lock.
type evaluation struct {
	*Index
	visits int // left
}

// result is a set of slots: exact, or a superset. One that is not owned belongs to the index and must not be changed.
type result struct {
	set   *roaring.Bitmap
	owned bool
	exact bool
}

func (ev *evaluation) eval(e *Expr) result {
	switch {
	case e.IsEmpty():
		return result{set: &ev.all.bits, exact: true}
	case e.op == opAnd:
		return ev.and(e.kids, false)
	case e.op == opOr:
		return ev.or(e.kids)
	case e.negative():
		return ev.subtract(result{set: &ev.all.bits, exact: true}, e)
	}
	var u union
	exact := ev.gather(e, &u, true)
	set, owned := u.view()
	return result{set, owned, exact}
}

// and intersects the kids, those with the fewest slots first. At the root it may leave out what costs more than
// matching the records that are left.
func (ev *evaluation) and(kids []*Expr, root bool) result {
	kids = ev.fewestFirst(kids)
	acc := ev.eval(kids[0])
	for _, k := range kids[1:] {
		n := int(acc.set.GetCardinality())
		switch {
		case n == 0:
			return result{set: acc.set, owned: acc.owned, exact: true}
		case root && ev.cost(k) > recheckCost*n:
			acc.exact = false
		case k.negative():
			acc = ev.subtract(acc, k)
		default:
			acc = intersect(acc, ev.eval(k))
		}
	}
	return acc
}

// fewestFirst orders conditions by their estimates.
func (x *Index) fewestFirst(kids []*Expr) []*Expr {
	type sized struct {
		e *Expr
		n int
	}
	order := make([]sized, len(kids))
	for i, k := range kids {
		order[i] = sized{k, x.estimate(k)}
	}
	slices.SortStableFunc(order, func(a, b sized) int { return a.n - b.n })
	sorted := make([]*Expr, len(kids))
	for i := range order {
		sorted[i] = order[i].e
	}
	return sorted
}

// intersect may change and keep whichever of a and b is owned.
func intersect(a, b result) result {
	exact := a.exact && b.exact
	switch {
	case a.owned:
		a.set.And(b.set)
		return result{a.set, true, exact}
	case b.owned:
		b.set.And(a.set)
		return result{b.set, true, exact}
	}
	return result{roaring.And(a.set, b.set), true, exact}
}

// subtract takes from acc the slots that certainly fail the negative condition e.
func (ev *evaluation) subtract(acc result, e *Expr) result {
	var u union
	exact := ev.gather(e, &u, false) && acc.exact
	fail, _ := u.view()
	if acc.owned {
		acc.set.AndNot(fail)
		return result{acc.set, true, exact}
	}
	return result{roaring.AndNot(acc.set, fail), true, exact}
}

func (ev *evaluation) or(kids []*Expr) result {
	var u union
	exact := true
	for _, k := range kids {
		if k.op == opAnd || k.negative() {
			r := ev.eval(k)
			u.sets = append(u.sets, r.set)
			exact = exact && r.exact
		} else {
			exact = ev.gather(k, &u, true) && exact
		}
	}
	return result{u.bitmap(), true, exact}
}

// gather adds to u the slots that pass a condition over one field, or for a negative one, its opposite: with maybe
// all that might, without it only those that certainly do. It reports whether that is exactly who does.
func (ev *evaluation) gather(e *Expr, u *union, maybe bool) (exact bool) {
	f := ev.fields[e.field]
	switch {
	case f == nil && !ev.unindexed(e.field):
		return true
	case f == nil:
		if maybe {
			u.sets = append(u.sets, &ev.loose.bits)
		}
		return false
	case e.op == opExists:
		u.sets = append(u.sets, &f.present.bits)
		return true
	case e.op == opRange:
		return ev.gatherRange(f, e.span, u)
	}
	return f.gatherValues(e.args, u, maybe)
}

func (f *field) gatherValues(args []operand, u *union, maybe bool) (exact bool) {
	exact = true
	for _, a := range args {
		p, found, sure := f.find(a)
		if found && (sure || maybe) {
			u.add(p)
		}
		exact = exact && sure
	}
	return exact
}

// gatherRange visits the numbers inside the range or those outside, whichever are fewer. Out of visits, it settles for
// all slots with the field.
func (ev *evaluation) gatherRange(f *field, s interval, u *union) (exact bool) {
	r := f.locate(s)
	if r.visits > ev.visits {
		u.sets = append(u.sets, &f.present.bits)
		return false
	}
	ev.visits -= r.visits
	if !r.byOutside {
		u.slots = slices.Grow(u.slots, r.visits)
		f.numbers.gather(r.from, r.to, u)
		return true
	}
	rest := union{slots: make([]uint32, 0, r.visits)}
	f.numbers.gather(place{}, r.from, &rest)
	f.numbers.gather(r.to, f.numbers.end(), &rest)
	fail, _ := rest.view()
	u.sets = append(u.sets, roaring.AndNot(&f.present.bits, fail))
	return true
}

// located is a range found among the numbers of a field.
type located struct {
	from, to        place
	inside, outside int  // distinct numbers
	visits          int  // to be made to gather it
	byOutside       bool // by taking the numbers outside from all slots, which takes that all have a number
}

func (f *field) locate(s interval) located {
	from, to := f.numbers.bounds(s)
	r := located{from: from, to: to, inside: f.numbers.count(from, to)}
	r.outside = f.numbers.count(place{}, from) + f.numbers.count(to, f.numbers.end())
	r.byOutside = r.outside < r.inside && f.numeric == f.present.n
	r.visits = r.inside
	if r.byOutside {
		r.visits = r.outside
	}
	return r
}

// cost is about what an evaluation of e costs, in visits.
func (x *Index) cost(e *Expr) int {
	switch f := x.fields[e.field]; {
	case e.op == opAnd || e.op == opOr:
		sum := 0
		for _, k := range e.kids {
			sum += x.cost(k)
		}
		return sum
	case e.op == opRange && f != nil:
		return f.locate(e.span).visits
	}
	return lookupCost * len(e.args)
}
