package raftlog

import "sort"

// sizeStep is the distance of two samples of a log's size in bytes: how exact the figures of sizes are.
const sizeStep = 64 << 10

// sizes knows how many bytes of a log lie before an index, from samples at least sizeStep apart; in between, all
// entries count as equally large.
type sizes struct {
	samples []sizeSample // ascending in both fields
	total   uint64       // bytes of all entries ever counted
	dropped uint64       // of these, bytes deleted from the head
}

// sizeSample says that the entries up to index have that many bytes.
type sizeSample struct{ index, bytes uint64 }

// add counts the entries up to index, which have n bytes together.
func (s *sizes) add(index, n uint64) {
	s.total += n
	k := len(s.samples)
	if k > 1 && s.total-s.samples[k-2].bytes < sizeStep {
		s.samples[k-1] = sizeSample{index, s.total} // the last one is always exact
		return
	}
	s.samples = append(s.samples, sizeSample{index, s.total})
}

// forget drops what is known of entries before first, which were deleted.
func (s *sizes) forget(first uint64) {
	s.dropped = s.upTo(first - 1)
	k := sort.Search(len(s.samples), func(i int) bool { return s.samples[i].index >= first })
	if k > 1 {
		s.samples = append(s.samples[:0], s.samples[k-1:]...)
	}
}

// upTo estimates the bytes of the entries up to index.
func (s *sizes) upTo(index uint64) uint64 {
	k := sort.Search(len(s.samples), func(i int) bool { return s.samples[i].index >= index })
	switch {
	case k == len(s.samples):
		return s.total
	case k == 0:
		return s.samples[0].bytes
	}
	a, b := s.samples[k-1], s.samples[k]
	return a.bytes + (b.bytes-a.bytes)*(index-a.index)/(b.index-a.index)
}

// indexBehind returns the largest sampled index behind which there are at least n bytes, or the first one.
func (s *sizes) indexBehind(n uint64) uint64 {
	if len(s.samples) == 0 {
		return 0
	}
	k := sort.Search(len(s.samples), func(i int) bool { return s.total-s.samples[i].bytes < n })
	return s.samples[max(k-1, 0)].index
}
