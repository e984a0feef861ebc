package hnsw

import (
	"context"
	"math/bits"
	"slices"

	"github.com/croftdb/croft/ann"
)

// walkAmong is walk on level 0 for a walker that is to find slots of a set only. Slots outside of it are not measured
// but looked through, as in ACORN (Patel et al., 2024): it is a walk over the graph that the slots of the set would
// form if each were linked with those among the neighbours of its neighbours.
//
// How the set lies around the start, where the query is, decides how hard that will be. The fewer slots are in the set the
// more links each is to have: neighbours of neighbours are not as near as neighbours, nor chosen to lie in different
// directions. Where half are in the set, a third of a list's room will do; one and a quarter of it is as much as pays for
// queries that have matches around them.
//
// A query has less of the set around it than there is elsewhere when what it asks for is not where it is. From far away
// many slots are at about the same distance, the nearest of which are hard to tell from the rest: even a graph of nothing but
// the set takes three times the breadth there (clustered-1536, half of the records: 120 instead of 40 for a recall of
// 0.96). So such walks have more links, some more breadth and a longer leash, or none.
//
// The graph need not be connected, nor near to the start: from far away, the walk begins from slots all over the set as
// well, or gives up at once if its limit is less than that takes. One that has ended with fewer than ef slots, or k on a
// leash, goes on as walk does, by way of everything.
func (w *walker) walkAmong(ctx context.Context, start uint64, ef int) error {
	s := w.s
	s.seen.reset(w.g.slots())
	s.seen.add(w.slot(start))
	around := w.around(w.slot(start))
	away := 1 - min(around/w.admit.among.share(w.g.slots()), 1)
	outside := 1 - around
	if w.leash.k == 0 { // one whose breadth is all that says how far it goes
		ef += int(float64(ef) * outside * outside)
	}
	ef += int(breadthAway * away * float64(ef))
	w.leash.stretch *= float32(1 + stretchAway*away)
	w.wanted = int((linksNear + (linksFar-linksNear)*away) * float64(w.g.width) * outside * outside)
	s.pool.reset(ef)
	s.pool.insert(w.flagged(start))
	if away < farAway {
		if err := w.expand(ctx, 0, true); err != nil || w.satisfied(ef) {
			return err
		}
	} else if w.leash = (leash{}); w.limit > 0 && float64(w.limit) < farWork*float64(w.g.cfg.M*ef) {
		return ann.ErrLimit
	}
	w.sow()
	if err := w.expand(ctx, 0, true); err != nil || w.satisfied(ef) {
		return err
	}
	return w.flood(ctx)
}

const (
	// linksNear and linksFar are how many links a slot is to have in terms of a list's room, where hardly any of the slots
	// around are in the set: with as many matches around the query as anywhere, and with none.
	linksNear, linksFar = 1.25, 2.5
	// breadthAway and stretchAway are how much broader a walk is, and how much longer its leash, with no matches around.
	breadthAway, stretchAway = 0.75, 0.25
	// farAway is from which share of its matches missing around the start on the set is somewhere else.
	farAway = 0.9
	// farWork is about what a walk from there takes, for each unit of M and breadth: 1.5 on mnist-784, 2.0 on
	// clustered-1536, and it may miss what is nearest if the set is in several parts. Whoever has an exact answer for not
	// much more is to give it.
	farWork = 2.5
)

// satisfied reports whether a walk of breadth ef has found what it is to find.
func (w *walker) satisfied(ef int) bool {
	if w.leash.k > 0 {
		ef = w.leash.k
	}
	return w.s.pool.admitted >= ef
}

// around returns the share of the neighbours of a slot, and of theirs, that are in the set.
func (w *walker) around(slot uint32) float64 {
	s := w.s
	all, passing := 0, 0
	count := func(links list) {
		s.passing = w.admit.among.appendPassing(links, s.passing[:0])
		all += links.len()
		passing += len(s.passing)
	}
	links := w.g.listAt(slot, 0)
	count(links)
	s.around = links.appendTo(s.around[:0])
	w.g.prefetch(s.around)
	for _, slot := range s.around {
		count(w.g.listAt(slot, 0))
	}
	return float64(passing) / float64(max(all, 1))
}

// gather appends to s.slots those slots of the set that a node leads to and that are new, and returns how many lists it has
// read. A slot outside of the set is looked through once in a walk.
func (w *walker) gather(node uint32) (read int) {
	s := w.s
	links := w.g.listAt(node, 0)
	found := w.collect(links)
	if found >= w.wanted {
		return 1
	}
	s.around = w.appendOutside(links, s.around[:0])
	w.g.prefetch(s.around)
	for i, slot := range s.around {
		if found >= w.wanted {
			return 1 + i
		}
		s.seen.add(slot)
		found += w.collect(w.g.listAt(slot, 0))
	}
	return 1 + len(s.around)
}

// collect appends those links that are in the set and new to s.slots, and returns how many are in the set.
func (w *walker) collect(links list) int {
	s := w.s
	s.passing = w.admit.among.appendPassing(links, s.passing[:0])
	s.slots = s.seen.addNew(s.passing, s.slots)
	return len(s.passing)
}

// appendOutside appends those links that are not in the set and have not been looked through, without a branch on either.
func (w *walker) appendOutside(links list, dst []uint32) []uint32 {
	from, n := len(dst), 0
	dst = slices.Grow(dst, len(links))
	among, seen, room := w.admit.among, w.s.seen.bits, dst[from:from+len(links)]
	for i := range links {
		slot := links.at(i)
		if slot == noLink {
			break
		}
		var word, was uint64
		if at := int(slot / 64); at < len(seen) {
			was = seen[at]
			if at < len(among) {
				word = among[at]
			}
		}
		room[n] = slot
		n += int(^(word | was) >> (slot % 64) & 1)
	}
	return dst[:from+n]
}

// members is an ann.Set that walks look up.
type members ann.Set

// Has is ann.Set's.
func (m members) Has(slot uint32) bool { return ann.Set(m).Has(slot) }

// appendPassing appends those links that are in the set. What is in it follows no pattern that a branch could be
// predicted by, so that there is none.
func (m members) appendPassing(links list, dst []uint32) []uint32 {
	from, n := len(dst), 0
	dst = slices.Grow(dst, len(links))
	room := dst[from : from+len(links)]
	for i := range links {
		slot := links.at(i)
		word := int(slot / 64)
		if word >= len(m) {
			if slot == noLink {
				break
			}
			continue
		}
		room[n] = slot
		n += int(m[word] >> (slot % 64) & 1)
	}
	return dst[:from+n]
}

// addNew puts slots in and appends those that were not there before to dst.
func (v *visited) addNew(slots, dst []uint32) []uint32 {
	from, n := len(dst), 0
	dst = slices.Grow(dst, len(slots))
	room := dst[from : from+len(slots)]
	for _, slot := range slots {
		word := int(slot / 64)
		if word >= len(v.bits) { // the graph has grown since reset
			v.grow(int(slot) + 1)
		}
		old := v.bits[word]
		v.bits[word] = old | 1<<(slot%64)
		room[n] = slot
		n += int(^old >> (slot % 64) & 1)
	}
	v.added = append(v.added, room[:n]...)
	return dst[:from+n]
}

// seeds is how many slots of a set a walk begins from.
const seeds = 64

// sow takes slots from all over the set into the pool.
func (w *walker) sow() {
	s := w.s
	s.slots = s.slots[:0]
	among := w.admit.among
	for i := range seeds {
		from, to := i*len(among)/seeds, (i+1)*len(among)/seeds
		if slot, ok := among.first(from, to); ok && w.g.findable(slot) && s.seen.add(slot) {
			s.slots = append(s.slots, slot)
		}
	}
	out := s.room(len(s.slots))
	s.from.measure(w.g, s.slots, out)
	for i, slot := range s.slots {
		if isGone(out[i]) {
			continue
		}
		if key := w.key(slot, out[i]); key < s.pool.bound {
			s.pool.insert(w.flagged(key))
		}
	}
}

// share returns about which share of so many slots is in the set, never 0: at most sampledWords words of it are counted.
func (m members) share(slots int) float64 {
	step := max(1, len(m)/sampledWords)
	n, words := 0, 0
	for i := 0; i < len(m); i += step {
		n += bits.OnesCount64(m[i])
		words++
	}
	in := float64(max(n, 1)) / float64(max(64*words, 1)) * float64(64*len(m))
	return min(in/float64(max(slots, 1)), 1)
}

// sampledWords is how many words of a set tell how many are in it.
const sampledWords = 1024

// first returns the lowest slot in the words of a range.
func (m members) first(from, to int) (slot uint32, ok bool) {
	for i, word := range m[from:to] {
		if word != 0 {
			return uint32((from+i)*64 + bits.TrailingZeros64(word)), true
		}
	}
	return 0, false
}

// findable reports whether slot is in the graph, with its code and its links.
func (g *Graph) findable(slot uint32) bool {
	return g.state(slot)&(statePresent|stateBusy) == statePresent
}

// flood goes on from everything in the pool as walk does, by way of slots outside of the set.
func (w *walker) flood(ctx context.Context) error {
	s := w.s
	s.seen.reset(w.g.slots())
	for i, key := range s.pool.keys {
		s.seen.add(w.slot(key))
		s.pool.keys[i] = key &^ keyExpanded
	}
	s.pool.cursor = 0
	return w.expand(ctx, 0, false)
}

// spend counts work, and looks at the limit and, now and then, the context.
func (w *walker) spend(ctx context.Context, work int) error {
	w.work += work
	if w.limit > 0 && w.work > w.limit {
		return ann.ErrLimit
	}
	if w.unpolled += work; w.unpolled >= pollEvery {
		w.unpolled = 0
		return ctx.Err()
	}
	return nil
}
