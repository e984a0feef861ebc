package filter

import (
	"sort"
	"strings"
	"unsafe"

	"github.com/tidwall/btree"

	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/codec"
)

// maxText is the longest string, in bytes, that is kept whole. Longer ones are known by their hash alone, which finds
// a superset: a long text is hardly ever asked for by its value, and must not cost its length again in memory.
const maxText = 256

// field indexes one key. A slot is in present once, and in a posting for each value that its record has under the key.
type field struct {
	present set
	texts   postings[string] // strings and elements of lists
	longs   postings[uint64] // those over maxText
	bools   postings[bool]
	numbers ordered
	numeric int // slots whose value is a number
	lists   int // slots whose value is a list; without any, no slot is in two postings
}

const fieldBytes = int64(unsafe.Sizeof(field{})) + 64

func (f *field) add(slot uint32, v *metadata.Value, mem *int64) {
	f.present.add(slot, mem)
	switch v.Kind {
	case metadata.String:
		f.addText(v.Str, slot, mem)
	case metadata.Number:
		f.numeric++
		f.numbers.add(v.Num, slot, mem)
	case metadata.Bool:
		f.bools.add(v.Boolean, slot, mem)
	case metadata.Strings:
		f.lists++
		for _, s := range v.List {
			f.addText(s, slot, mem)
		}
	}
}

func (f *field) remove(slot uint32, v *metadata.Value, mem *int64) {
	f.present.remove(slot, mem)
	switch v.Kind {
	case metadata.String:
		f.removeText(v.Str, slot, mem)
	case metadata.Number:
		f.numeric--
		f.numbers.remove(v.Num, slot, mem)
	case metadata.Bool:
		f.bools.remove(v.Boolean, slot, mem)
	case metadata.Strings:
		f.lists--
		for _, s := range v.List {
			f.removeText(s, slot, mem)
		}
	}
}

// addText keeps a copy of a new s, which would otherwise hold on to the whole metadata that it was cut from.
func (f *field) addText(s string, slot uint32, mem *int64) {
	if len(s) > maxText {
		f.longs.add(codec.HashString(s), slot, mem)
		return
	}
	if _, known := f.texts.m[s]; !known {
		s = strings.Clone(s)
		*mem += textBytes(s)
	}
	f.texts.add(s, slot, mem)
}

func (f *field) removeText(s string, slot uint32, mem *int64) {
	if len(s) > maxText {
		f.longs.remove(codec.HashString(s), slot, mem)
	} else if f.texts.remove(s, slot, mem) {
		*mem -= textBytes(s)
	}
}

// textBytes is what a string of its own takes, rounded as the allocator does.
func textBytes(s string) int64 { return int64(len(s)+15) &^ 15 }

// find returns the posting of a value. exact is false if it may hold slots with another value.
func (f *field) find(o operand) (p posting, found, exact bool) {
	exact = true
	switch {
	case o.kind == metadata.Number:
		p, found = f.numbers.get(o.num)
	case o.kind == metadata.Bool:
		p, found = f.bools.m[o.bool()]
	case len(o.str) > maxText:
		p, found = f.longs.m[codec.HashString(o.str)]
		exact = !found
	default:
		p, found = f.texts.m[o.str]
	}
	return p, found, exact
}

// ordered maps numbers to postings in order. The zero value is empty. -0 and 0 are one number.
type ordered struct {
	tree btree.Map[float64, posting]
}

// numberBytes is what an entry of the tree takes: 36 to 52 bytes in random and in ascending order, measured.
const numberBytes = 44

func (o *ordered) get(f float64) (posting, bool) { return o.tree.Get(f) }

func (o *ordered) add(f float64, slot uint32, mem *int64) {
	if p, ok := o.tree.Get(f); ok {
		if q := p.add(slot, mem); q != p {
			o.tree.Set(f, q)
		}
		return
	}
	o.tree.Set(f, posting{slot: slot})
	*mem += numberBytes
}

func (o *ordered) remove(f float64, slot uint32, mem *int64) {
	p, ok := o.tree.Get(f)
	if !ok {
		return
	}
	if q, left := p.remove(slot, mem); left {
		if q != p {
			o.tree.Set(f, q)
		}
		return
	}
	o.tree.Delete(f)
	*mem -= numberBytes
}

// count returns how many distinct numbers lie in s and how many outside, in O(log² n).
func (o *ordered) count(s interval) (inside, outside int) {
	n := o.tree.Len()
	first := sort.Search(n, func(i int) bool { f, _, _ := o.tree.GetAt(i); return !s.below(f) })
	end := sort.Search(n, func(i int) bool { f, _, _ := o.tree.GetAt(i); return s.above(f) })
	inside = max(0, end-first)
	return inside, n - inside
}

// inside calls visit for the postings of the numbers in s, in order, until it returns false.
func (o *ordered) inside(s interval, visit func(posting) bool) {
	o.tree.Ascend(s.lo, func(f float64, p posting) bool {
		if s.below(f) {
			return true
		}
		return !s.above(f) && visit(p)
	})
}

// outside calls visit for the postings of the numbers that are not in s, which must contain a number.
func (o *ordered) outside(s interval, visit func(posting)) {
	o.tree.Scan(func(f float64, p posting) bool {
		if !s.below(f) {
			return false
		}
		visit(p)
		return true
	})
	o.tree.Ascend(s.hi, func(f float64, p posting) bool {
		if s.above(f) {
			visit(p)
		}
		return true
	})
}
