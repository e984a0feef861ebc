package hnsw

import "context"

// maxTogether is how many nodes of a walk are expanded together at most, and togetherEvery after how many of them it
// becomes one more. Together they make a list of 60 codes to be read at random instead of one of 16, and of each list the
// first code is what takes long. But some of them would not have been expanded if what the others lead to had been known: a
// walk that is over after twenty nodes is better off with two at a time, a long one with four (docs/benchmarks.md).
const maxTogether, togetherEvery = 4, 8

// expand takes in what the candidates in s.pool lead to on a level, in a walk among a set those of the set, until there is
// nothing left to expand. The nodes that come next are chosen while codes of the last ones' neighbours have still to be
// measured, so that their lists arrive meanwhile.
func (w *walker) expand(ctx context.Context, level int, among bool) error {
	s := w.s
	var room [maxTogether]uint64
	nodes := w.next(room[:0], 1, level)
	for expanded := 0; len(nodes) > 0; {
		read := 0
		s.slots = s.slots[:0]
		for _, node := range nodes {
			if among {
				read += w.gather(w.slot(node))
			} else {
				s.slots = s.seen.addLinks(w.g.listAt(w.slot(node), level), s.slots)
			}
		}
		expanded += len(nodes)
		together := min(1+expanded/togetherEvery, maxTogether)
		farthest := nodes[len(nodes)-1]
		nodes = w.next(nodes[:0], together, level)
		measured := len(s.slots)
		out := s.room(measured)
		s.slots = s.slots[:s.from.near(w.g, s.slots, s.pool.reach, out)]
		w.offer(farthest, s.slots, out)
		if w.leash.k > 0 {
			w.tighten()
		}
		if w.likely > 0 && level == 0 {
			w.fetchLikely()
		}
		if err := w.spend(ctx, read+measured); err != nil {
			return err
		}
		if len(nodes) == 0 {
			nodes = w.next(nodes, together, level)
		}
	}
	return nil
}

// next appends the nearest candidates still to be expanded to dst, up to n, and asks for their lists.
func (w *walker) next(dst []uint64, n, level int) []uint64 {
	var slots [maxTogether]uint32
	for len(dst) < n {
		node, ok := w.s.pool.next()
		if !ok {
			break
		}
		slots[len(dst)] = w.slot(node)
		dst = append(dst, node)
	}
	if level == 0 {
		w.g.prefetch(slots[:len(dst)])
	}
	return dst
}
