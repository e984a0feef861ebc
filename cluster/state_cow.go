package cluster

import (
	"iter"
	"slices"
)

const cowFan = 256

// cowMap is an immutable map that is cheap to change into another one: two levels of 256 buckets, of which a change
// copies one path (8 KiB) whatever the size, so creating n entries one by one costs O(n) while n is below some
// millions. A lookup is two loads and a short scan, without allocation. The zero value is empty.
type cowMap[V any] struct {
	top *[cowFan]*[cowFan][]V
	n   int
}

// get returns the element with this hash that is wanted.
func (m cowMap[V]) get(hash uint64, wanted func(V) bool) (v V, ok bool) {
	for _, e := range m.bucket(hash) {
		if wanted(e) {
			return e, true
		}
	}
	return v, false
}

// bucket returns the elements whose hash shares its low 16 bits with hash. They must not be changed.
func (m cowMap[V]) bucket(hash uint64) []V {
	if m.top == nil || m.top[hash%cowFan] == nil {
		return nil
	}
	return m.top[hash%cowFan][hash/cowFan%cowFan]
}

// put returns a map in which v has taken the place of the element that it replaces, if any.
func (m cowMap[V]) put(hash uint64, v V, replaces func(V) bool) cowMap[V] {
	return m.with(hash, func(b []V) []V {
		if i := slices.IndexFunc(b, replaces); i >= 0 {
			b[i] = v
			return b
		}
		return append(b, v)
	})
}

// remove returns a map without the elements of this hash that are doomed.
func (m cowMap[V]) remove(hash uint64, doomed func(V) bool) cowMap[V] {
	return m.with(hash, func(b []V) []V { return slices.DeleteFunc(b, doomed) })
}

// with returns a map in which the bucket of a hash is changed; change gets a copy, with room for one element more.
func (m cowMap[V]) with(hash uint64, change func([]V) []V) cowMap[V] {
	var top [cowFan]*[cowFan][]V
	if m.top != nil {
		top = *m.top
	}
	var mid [cowFan][]V
	if old := top[hash%cowFan]; old != nil {
		mid = *old
	}
	at := &mid[hash/cowFan%cowFan]
	b := make([]V, len(*at), len(*at)+1)
	copy(b, *at)
	n := m.n - len(b)
	b = change(b)
	*at = b
	top[hash%cowFan] = &mid
	return cowMap[V]{top: &top, n: n + len(b)}
}

// all yields every element, in no useful order.
func (m cowMap[V]) all() iter.Seq[V] {
	return func(yield func(V) bool) {
		if m.top == nil {
			return
		}
		for _, mid := range m.top {
			if mid != nil && !yieldBuckets(mid, yield) {
				return
			}
		}
	}
}

func yieldBuckets[V any](mid *[cowFan][]V, yield func(V) bool) bool {
	for _, b := range mid {
		for _, v := range b {
			if !yield(v) {
				return false
			}
		}
	}
	return true
}
