package hnsw

import "github.com/croftdb/croft/ann"

// rankBatch is how many vectors are measured between two looks at whether more are needed.
const rankBatch = 4

// rankMargin is how far, in standard deviations of an estimate's error, a candidate may seem to be behind the k-th and
// still be measured in full. On mnist-784 with 4 bits and ef 40, 0.5, 1, 2 and 3 measure 10.7, 11.0, 11.7 and 12.5
// vectors for k 10 and find 0.984, 0.989, 0.992 and 0.993; measuring all 40 finds 0.9935.
const rankMargin = 2

// rank appends the k nearest of s.pool to dst, measured in full.
func (w *walker) rank(k int, dst []ann.Candidate) []ann.Candidate {
	w.s.ranked = w.s.pool.appendAdmitted(w.s.ranked[:0])
	return w.rankKeys(k, rankMargin, dst)
}

// rankKeys appends the k nearest of s.ranked to dst. Estimates order the candidates; the first k are measured, then those
// that may, as far as a number of standard deviations of their estimate's error goes, belong before the k-th.
func (w *walker) rankKeys(k int, margin float32, dst []ann.Candidate) []ann.Candidate {
	s := w.s
	if w.g.quant == nil {
		for _, key := range s.ranked[:min(k, len(s.ranked))] {
			dst = append(dst, ann.Candidate{Slot: keySlot(key), Distance: keyDistance(key)})
		}
		return dst
	}
	s.results.Reset(k)
	likely := w.expected(k, margin)
	ahead := 0 // those before it have been fetched, or are in memory
	for done := 0; done < len(s.ranked); {
		n := rankBatch
		if missing := k - s.results.Len(); missing > 0 {
			n = min(missing, ann.FetchLen)
		}
		batch := w.promising(s.ranked[done:min(done+n, len(s.ranked))], margin)
		if len(batch) == 0 {
			break
		}
		if done+len(batch) > ahead {
			ahead = max(done+len(batch), min(likely, done+ann.FetchLen))
			if done > 0 {
				w.release() // it has room for so many, and those were measured
			}
			w.fetch(s.ranked[done:ahead])
		}
		w.measureFull(batch)
		done += len(batch)
	}
	w.release()
	return s.results.Sorted(dst)
}

// expected returns how many of s.ranked are likely to be measured: the first k, and those that promising would let pass if
// the k-th's distance were what it seems to be.
func (w *walker) expected(k int, margin float32) int {
	ranked := w.s.ranked
	n := min(k, len(ranked))
	if n == 0 || w.g.fetcher == nil {
		return n
	}
	rows := &w.g.nodes.Load().codes
	kth := keyDistance(ranked[n-1])
	for n < len(ranked) {
		estimate := keyDistance(ranked[n])
		if estimate-margin*w.s.from.coded.MarginAt(rows, keySlot(ranked[n]), estimate) > kth {
			break
		}
		n++
	}
	return n
}

// promising cuts a batch where no candidate is likely to be among the k nearest.
func (w *walker) promising(batch []uint64, margin float32) []uint64 {
	worst, full := w.s.results.Worst()
	if !full {
		return batch
	}
	rows := &w.g.nodes.Load().codes
	for i, key := range batch {
		estimate := keyDistance(key)
		if estimate-margin*w.s.from.coded.MarginAt(rows, keySlot(key), estimate) > worst.Distance {
			return batch[:i]
		}
	}
	return batch
}

// fetchLikely begins to fetch the nearest as soon as half of them have been expanded: nineteen in twenty will be measured
// (clustered-1536 at 2 bits, k 10, ef 16 to 64), and the disk works while the walk goes on.
func (w *walker) fetchLikely() {
	p := &w.s.pool
	if p.cursor < (w.likely+1)/2 || p.admitted < w.likely {
		return
	}
	s := w.s
	s.ranked = p.appendNearest(s.ranked[:0], w.likely)
	w.likely = 0
	w.fetch(s.ranked)
}

// fetch begins to read the vectors that lie on a disk, which takes hardly longer for all of them than for one.
func (w *walker) fetch(keys []uint64) {
	if w.g.fetcher == nil {
		return
	}
	s := w.s
	s.fetch = s.fetch[:0]
	for _, key := range keys {
		s.fetch = append(s.fetch, keySlot(key))
	}
	if w.near != nil {
		w.near.Add(s.fetch)
	} else {
		w.near = w.g.fetcher.Fetch(s.fetch)
	}
}

// release gives up what fetch has read.
func (w *walker) release() {
	if w.near != nil {
		w.near.Release()
		w.near = nil
	}
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
	src := w.g.src
	if w.near != nil {
		src = w.near
	}
	s.from.full.Measure(src, s.slots, out)
	for i, slot := range s.slots {
		s.results.Offer(ann.Candidate{Slot: slot, Distance: out[i]})
	}
}
