package filter

import (
	"slices"
	"unsafe"

	"github.com/RoaringBitmap/roaring/v2"
)

// set is a bitmap of slots that knows how many it holds and about how much memory it takes. Its bitmap is never
// handed out, never copied on write and never a view: results are clones.
type set struct {
	bits    roaring.Bitmap
	n       int
	bytes   int64 // as last measured
	changes int   // since then
}

const (
	setBytes       = int64(unsafe.Sizeof(set{}))
	containerBytes = 64 // of a roaring container beyond its contents: key, interface, header, allocation
)

func (s *set) add(slot uint32, mem *int64) bool {
	if !s.bits.CheckedAdd(slot) {
		return false
	}
	s.n++
	s.changed(mem)
	return true
}

func (s *set) remove(slot uint32, mem *int64) bool {
	if !s.bits.CheckedRemove(slot) {
		return false
	}
	s.n--
	s.changed(mem)
	return true
}

// changed measures the bitmap again after some changes. Measuring costs O(containers), of which there are at most n,
// so that a change costs O(1) on average.
func (s *set) changed(mem *int64) {
	if s.changes++; s.changes < 4+s.n/8 && s.n > 0 && s.bytes > 0 {
		return
	}
	st := s.bits.Stats()
	now := int64(s.bits.GetSizeInBytes()) + containerBytes*int64(st.Containers)
	*mem += now - s.bytes
	s.bytes, s.changes = now, 0
}

// posting holds the slots of one value, never none: one slot in place, a few in a sorted list, many in a set. Most
// values of most fields are unique or nearly so, for which a bitmap each would cost some 200 bytes.
type posting struct {
	slot uint32
	more *bucket // nil: slot alone
}

type bucket struct {
	list []uint32 // ascending, up to maxList
	set  *set     // instead of list
}

const (
	maxList     = 64
	minSet      = 32 // below it, a set becomes a list again
	bucketBytes = int64(unsafe.Sizeof(bucket{}))
)

func (p posting) len() int {
	switch {
	case p.more == nil:
		return 1
	case p.more.set != nil:
		return p.more.set.n
	}
	return len(p.more.list)
}

// add returns p with slot in it.
func (p posting) add(slot uint32, mem *int64) posting {
	if p.more == nil {
		if p.slot == slot {
			return p
		}
		p.more = &bucket{list: []uint32{min(p.slot, slot), max(p.slot, slot)}}
		*mem += bucketBytes + 8
		return p
	}
	p.more.add(slot, mem)
	return p
}

// remove returns p without slot, and false if nothing is left.
func (p posting) remove(slot uint32, mem *int64) (posting, bool) {
	if p.more == nil {
		return p, p.slot != slot
	}
	p.more.remove(slot, mem)
	if list := p.more.list; len(list) == 1 {
		*mem -= bucketBytes + 4*int64(cap(list))
		return posting{slot: list[0]}, true
	}
	return p, true
}

func (b *bucket) add(slot uint32, mem *int64) {
	if b.set != nil {
		b.set.add(slot, mem)
		return
	}
	i, found := slices.BinarySearch(b.list, slot)
	if found {
		return
	}
	before := cap(b.list)
	b.list = slices.Insert(b.list, i, slot)
	*mem += 4 * int64(cap(b.list)-before)
	if len(b.list) > maxList {
		b.toSet(mem)
	}
}

func (b *bucket) toSet(mem *int64) {
	*mem += setBytes - 4*int64(cap(b.list))
	b.set = new(set)
	for _, slot := range b.list {
		b.set.add(slot, mem)
	}
	b.list = nil
}

func (b *bucket) remove(slot uint32, mem *int64) {
	if b.set != nil {
		if b.set.remove(slot, mem); b.set.n < minSet {
			b.toList(mem)
		}
		return
	}
	i, found := slices.BinarySearch(b.list, slot)
	if !found {
		return
	}
	before := cap(b.list)
	if b.list = slices.Delete(b.list, i, i+1); before > 8 && len(b.list) <= before/4 {
		b.list = slices.Clone(b.list)
	}
	*mem += 4 * int64(cap(b.list)-before)
}

func (b *bucket) toList(mem *int64) {
	b.list = b.set.bits.ToArray()
	*mem += 4*int64(cap(b.list)) - setBytes - b.set.bytes
	b.set = nil
}

// postings maps values to postings. The zero value is empty.
type postings[K comparable] struct {
	m    map[K]posting
	peak int // most values since the map was made
}

// entryBytes is what an entry of a map with keys of size bytes takes, empty places included: Go's maps are filled to
// between 7/16 and 7/8, 2/3 on average, with one control byte a place.
func entryBytes(size uintptr) int64 { return int64(size+unsafe.Sizeof(posting{})+1) * 3 / 2 }

// add puts slot under k and keeps k; it reports whether k is new.
func (ps *postings[K]) add(k K, slot uint32, mem *int64) bool {
	if p, ok := ps.m[k]; ok {
		if q := p.add(slot, mem); q != p {
			ps.m[k] = q
		}
		return false
	}
	if ps.m == nil {
		ps.m = map[K]posting{}
	}
	ps.m[k] = posting{slot: slot}
	ps.peak = max(ps.peak, len(ps.m))
	*mem += entryBytes(unsafe.Sizeof(k))
	return true
}

// remove takes slot from under k and reports whether k is gone with it.
func (ps *postings[K]) remove(k K, slot uint32, mem *int64) bool {
	p, ok := ps.m[k]
	if !ok {
		return false
	}
	if q, left := p.remove(slot, mem); left {
		if q != p {
			ps.m[k] = q
		}
		return false
	}
	delete(ps.m, k)
	*mem -= entryBytes(unsafe.Sizeof(k))
	ps.shrink()
	return true
}

// shrink gives memory back after most values have gone: Go's maps keep theirs.
func (ps *postings[K]) shrink() {
	if ps.peak < 1024 || len(ps.m) > ps.peak/4 {
		return
	}
	m := make(map[K]posting, len(ps.m))
	for k, p := range ps.m {
		m[k] = p
	}
	ps.m, ps.peak = m, len(m)
}

// union gathers postings and makes one bitmap of them.
type union struct {
	slots []uint32          // in any order, repeated or not
	sets  []*roaring.Bitmap // may belong to the index
}

func (u *union) add(p posting) {
	switch {
	case p.more == nil:
		u.slots = append(u.slots, p.slot)
	case p.more.set != nil:
		u.sets = append(u.sets, &p.more.set.bits)
	default:
		u.slots = append(u.slots, p.more.list...)
	}
}

// view returns the union, and whether it is in memory of its own; else it belongs to the index.
func (u *union) view() (b *roaring.Bitmap, owned bool) {
	if len(u.slots) == 0 && len(u.sets) == 1 {
		return u.sets[0], false
	}
	return u.bitmap(), true
}

// bitmap returns the union in memory of its own.
func (u *union) bitmap() *roaring.Bitmap {
	b := roaring.FastOr(u.sets...)
	if len(u.slots) == 0 {
		return b
	}
	// Setting bits in a plain array and converting it once beats sorting, unless the slots are few and far between.
	words := int(slices.Max(u.slots)/64) + 1
	if words > 8*len(u.slots) {
		slices.Sort(u.slots)
		b.AddMany(u.slots)
		return b
	}
	b.Or(denseBitmap(u.slots, words))
	return b
}

func denseBitmap(slots []uint32, words int) *roaring.Bitmap {
	dense := make([]uint64, words)
	for _, s := range slots {
		dense[s/64] |= 1 << (s % 64)
	}
	b := roaring.New()
	b.FromDense(dense, true)
	return b
}
