package hnsw

import "github.com/croftdb/croft/ann"

// rankBatch is how many vectors are measured between two looks at whether more are needed.
const rankBatch = 4

// rankMargin is how far, in standard deviations of an estimate's error, a candidate may seem to be behind the k-th and
// still be measured in full.
const rankMargin = 1.5

// rank appends the k nearest of s.pool to dst, measured in full. Estimates order the candidates; the first k are
// measured, then those that may, as far as the error of their estimate goes, belong before the k-th.
func (w *walker) rank(k int, dst []ann.Candidate) []ann.Candidate {
	s := w.s
	s.ranked = s.pool.appendAdmitted(s.ranked[:0])
	if w.g.quant == nil {
		for _, key := range s.ranked[:min(k, len(s.ranked))] {
			dst = append(dst, ann.Candidate{Slot: keySlot(key), Distance: keyDistance(key)})
		}
		return dst
	}
	s.results.Reset(k)
	for done := 0; done < len(s.ranked); {
		n := rankBatch
		if missing := k - s.results.Len(); missing > 0 {
			n = missing
		}
		batch := s.ranked[done:min(done+n, len(s.ranked))]
		if batch = w.promising(batch); len(batch) == 0 {
			break
		}
		w.measureFull(batch)
		done += len(batch)
	}
	return s.results.Sorted(dst)
}

// promising cuts a batch where no candidate is likely to be among the k nearest.
func (w *walker) promising(batch []uint64) []uint64 {
	worst, full := w.s.results.Worst()
	if !full {
		return batch
	}
	rows := &w.g.nodes.Load().codes
	for i, key := range batch {
		margin := rankMargin * w.s.from.coded.Margin(rows, keySlot(key))
		if keyDistance(key)-margin > worst.Distance {
			return batch[:i]
		}
	}
	return batch
}

// measureFull offers candidates by the distance of their vectors.
func (w *walker) measureFull(batch []uint64) {
	s := w.s
	s.slots = s.slots[:0]
	for _, key := range batch {
		s.slots = append(s.slots, keySlot(key))
	}
	if cap(s.out) < len(batch) {
		s.out = make([]float32, len(batch))
	}
	out := s.out[:len(batch)]
	s.from.full.Measure(w.g.src, s.slots, out)
	for i, slot := range s.slots {
		s.results.Offer(ann.Candidate{Slot: slot, Distance: out[i]})
	}
}
