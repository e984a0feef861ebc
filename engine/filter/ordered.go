package filter

import (
	"cmp"
	"slices"
	"sort"
	"unsafe"
)

// maxChunk is the most keys of a chunk: enough that the list of chunks stays short, few enough that moving half of
// one for an insertion costs some 100 ns.
const maxChunk = 512

// ordered maps numbers to postings in ascending order. The zero value is empty. -0 and 0 are one number.
//
// It is a sorted array cut in chunks, a B-tree of two levels. Against tidwall/btree it takes a third of the memory for
// unique numbers (12 to 16 bytes a number, 36 to 52 there), and a range of unique numbers is copied in runs.
type ordered struct {
	chunks []chunk // ascending, none empty
}

// chunk holds a run of numbers and their postings, column by column.
type chunk struct {
	keys  []float64
	slots []uint32  // posting.slot
	more  []*bucket // posting.more; nil while every number has one slot
}

const chunkBytes = int64(unsafe.Sizeof(chunk{}))

func (c *chunk) bytes() int64 {
	return chunkBytes + 8*int64(cap(c.keys)) + 4*int64(cap(c.slots)) + 8*int64(cap(c.more))
}

func (c *chunk) at(i int) posting {
	if c.more == nil {
		return posting{slot: c.slots[i]}
	}
	return posting{slot: c.slots[i], more: c.more[i]}
}

func (c *chunk) set(i int, p posting) {
	c.slots[i] = p.slot
	if p.more != nil && c.more == nil {
		c.more = make([]*bucket, len(c.keys))
	}
	if c.more != nil {
		c.more[i] = p.more
	}
}

func (c *chunk) insert(i int, key float64, slot uint32) {
	c.keys = slices.Insert(c.keys, i, key)
	c.slots = slices.Insert(c.slots, i, slot)
	if c.more != nil {
		c.more = slices.Insert(c.more, i, nil)
	}
}

func (c *chunk) delete(i int) {
	c.keys = slices.Delete(c.keys, i, i+1)
	c.slots = slices.Delete(c.slots, i, i+1)
	if c.more != nil {
		c.more = slices.Delete(c.more, i, i+1)
	}
}

// cut takes the keys from i on into a chunk of their own. Both get memory that fits.
func (c *chunk) cut(i int) chunk {
	tail := chunk{keys: slices.Clone(c.keys[i:]), slots: slices.Clone(c.slots[i:])}
	head := chunk{keys: slices.Clone(c.keys[:i]), slots: slices.Clone(c.slots[:i])}
	if c.more != nil {
		tail.more, head.more = slices.Clone(c.more[i:]), slices.Clone(c.more[:i])
	}
	*c = head
	return tail
}

// join appends the keys of next.
func (c *chunk) join(next chunk) {
	if c.more == nil && next.more != nil {
		c.more = make([]*bucket, len(c.keys))
	}
	if c.more != nil {
		c.more = append(c.more, next.more...)
		c.more = append(c.more, make([]*bucket, len(next.keys)-len(next.more))...)
	}
	c.keys = append(c.keys, next.keys...)
	c.slots = append(c.slots, next.slots...)
}

// place is where a key is, or would be put.
type place struct{ chunk, i int }

// find returns the place of f, which is at the end of a chunk rather than before the first of the next.
func (o *ordered) find(f float64) (at place, found bool) {
	n := sort.Search(len(o.chunks), func(i int) bool { return o.chunks[i].keys[0] > f })
	if n == 0 {
		return place{}, false
	}
	i, found := slices.BinarySearch(o.chunks[n-1].keys, f)
	return place{n - 1, i}, found
}

func (o *ordered) get(f float64) (posting, bool) {
	at, found := o.find(f)
	if !found {
		return posting{}, false
	}
	return o.chunks[at.chunk].at(at.i), true
}

func (o *ordered) add(f float64, slot uint32, mem *int64) {
	at, found := o.find(f)
	if !found {
		at = o.makeRoom(at, mem)
	}
	c := &o.chunks[at.chunk]
	before := c.bytes()
	if found {
		c.set(at.i, c.at(at.i).add(slot, mem))
	} else {
		c.insert(at.i, f, slot)
	}
	*mem += c.bytes() - before
}

// makeRoom makes sure that the chunk of a place has room for one key, and returns where the place is then. Past the
// last key of all it starts a chunk, so that numbers that come in ascending order, as times do, fill chunks wholly.
func (o *ordered) makeRoom(at place, mem *int64) place {
	switch {
	case len(o.chunks) == 0:
		o.chunks = append(o.chunks, chunk{})
		*mem += chunkBytes
		return place{}
	case len(o.chunks[at.chunk].keys) < maxChunk:
		return at
	case at.chunk == len(o.chunks)-1 && at.i == maxChunk:
		o.chunks = append(o.chunks, chunk{})
		*mem += chunkBytes
		return place{at.chunk + 1, 0}
	}
	c := &o.chunks[at.chunk]
	*mem -= c.bytes()
	tail := c.cut(maxChunk / 2)
	*mem += c.bytes() + tail.bytes()
	o.chunks = slices.Insert(o.chunks, at.chunk+1, tail)
	if at.i > maxChunk/2 {
		return place{at.chunk + 1, at.i - maxChunk/2}
	}
	return at
}

func (o *ordered) remove(f float64, slot uint32, mem *int64) {
	at, found := o.find(f)
	if !found {
		return
	}
	c := &o.chunks[at.chunk]
	if p, left := c.at(at.i).remove(slot, mem); left {
		c.set(at.i, p)
		return
	}
	c.delete(at.i)
	o.tidy(at.chunk, mem)
}

// tidy drops a chunk that has become empty, and joins it with a neighbour when both are far from full.
func (o *ordered) tidy(i int, mem *int64) {
	if len(o.chunks[i].keys) == 0 {
		*mem -= o.chunks[i].bytes()
		o.chunks = slices.Delete(o.chunks, i, i+1)
		return
	}
	i = max(i-1, 0)
	if i+1 == len(o.chunks) || len(o.chunks[i].keys)+len(o.chunks[i+1].keys) > maxChunk/2 {
		return
	}
	c, next := &o.chunks[i], o.chunks[i+1]
	*mem -= c.bytes() + next.bytes()
	c.join(next)
	*mem += c.bytes()
	o.chunks = slices.Delete(o.chunks, i+1, i+2)
}

// bounds returns the place of the first number in s, and of the first after it.
func (o *ordered) bounds(s interval) (from, to place) {
	from = o.first(func(f float64) bool { return !s.below(f) })
	to = o.first(s.above)
	if cmp.Or(cmp.Compare(to.chunk, from.chunk), cmp.Compare(to.i, from.i)) < 0 {
		to = from // the interval holds no number at all
	}
	return from, to
}

// first returns the place of the first number for which past holds, as it does for all after it.
func (o *ordered) first(past func(f float64) bool) place {
	n := sort.Search(len(o.chunks), func(i int) bool { keys := o.chunks[i].keys; return past(keys[len(keys)-1]) })
	if n == len(o.chunks) {
		return o.end()
	}
	keys := o.chunks[n].keys
	return place{n, sort.Search(len(keys), func(i int) bool { return past(keys[i]) })}
}

func (o *ordered) end() place { return place{len(o.chunks), 0} }

// count returns how many numbers lie between two places.
func (o *ordered) count(from, to place) int {
	n := to.i - from.i
	for i := from.chunk; i < to.chunk; i++ {
		n += len(o.chunks[i].keys)
	}
	return n
}

// runs calls visit for the part of each chunk that lies between two places.
func (o *ordered) runs(from, to place, visit func(c *chunk, start, stop int)) {
	for n := from.chunk; n < len(o.chunks) && n <= to.chunk; n++ {
		c := &o.chunks[n]
		start, stop := 0, len(c.keys)
		if n == from.chunk {
			start = from.i
		}
		if n == to.chunk {
			stop = to.i
		}
		visit(c, start, stop)
	}
}

// gather adds the postings between two places to u.
func (o *ordered) gather(from, to place, u *union) {
	o.runs(from, to, func(c *chunk, start, stop int) {
		if c.more == nil {
			u.slots = append(u.slots, c.slots[start:stop]...)
			return
		}
		for i := start; i < stop; i++ {
			u.add(c.at(i))
		}
	})
}

// slots adds up the lengths of the postings between two places.
func (o *ordered) slots(from, to place) (sum int) {
	o.runs(from, to, func(c *chunk, start, stop int) {
		for i := start; i < stop; i++ {
			sum += c.at(i).len()
		}
	})
	return sum
}
