package cluster

import (
	"cmp"
	"slices"
)

// candidate is a node as placement sees it.
type candidate struct {
	id    string
	zone  string // never empty: a node without one is a zone of its own
	takes bool   // may get replicas
	leave bool   // its replicas are to be made elsewhere, where there is an elsewhere
	drop  bool   // its replicas are given up even if nobody can take them, as long as another stays
}

// layout is the input of placement decisions: they depend on nothing else.
type layout struct {
	nodes  []candidate     // by id
	placed []placement     // by shard
	busy   map[uint16]bool // shards whose last change is still being carried out: they are left alone, but for those who are awaited
	// awaited are the nodes of busy shards that have no vote yet: another may be taken in their stead, since nothing counts on
	// them. One that is lost while it is filled would keep its shard busy for ever.
	awaited map[uint16][]string
	wanted  int     // replicas of a shard; 0: 3 when three nodes take replicas, else 1
	bounds  []bound // shards that may only be in some zones, by shard
}

// next returns the next single change to a shard's replica set that brings the layout closer to what is wanted; false if
// nothing is to be done now. A set changes by one node, or only in its order, at a time.
//
// In order of urgency: sets are filled up, replicas leave nodes that are going, sets that are too large shrink, replicas
// of a shard get into different zones, loads are evened out to within one, and so are preferred leaders.
func (l *layout) next() (placement, bool) {
	for _, rule := range []func() (placement, bool){l.fill, l.replace, l.shrink, l.spread, l.balance, l.lead} {
		if p, ok := rule(); ok {
			return p, true
		}
	}
	return placement{}, false
}

// zones are those that a shard is bound to; none: it may be anywhere.
func (l *layout) zones(shard uint16) []string {
	i, ok := slices.BinarySearchFunc(l.bounds, shard, func(b bound, id uint16) int { return cmp.Compare(b.shard, id) })
	if !ok {
		return nil
	}
	return l.bounds[i].zones
}

// in reports whether a node is in one of some zones, or these are none.
func (n *candidate) in(zones []string) bool { return len(zones) == 0 || inZones(n.zone, zones) }

// target is how many replicas a shard is to have that is bound to some zones, as far as there are nodes.
func (l *layout) target(zones []string) int {
	there := 0
	for _, n := range l.nodes {
		if n.takes && n.in(zones) {
			there++
		}
	}
	want := l.wanted
	if want == 0 {
		want = 3
		if there < 3 {
			want = 1
		}
	}
	if there < want { // an even number survives no more losses than the odd one below
		want = max(1, there-(there+1)%2)
	}
	return want
}

// free yields the shards that may be changed.
func (l *layout) free(yield func(placement) bool) {
	for _, p := range l.placed {
		if !l.busy[p.shard] && !yield(p) {
			return
		}
	}
}

func (l *layout) fill() (placement, bool) {
	for p := range l.free {
		zones := l.zones(p.shard)
		if len(p.replicas) >= l.target(zones) {
			continue
		}
		if id, ok := l.best(p.replicas, nil, zones); ok {
			return placement{p.shard, append(slices.Clone(p.replicas), id)}, true
		}
	}
	return placement{}, false
}

// replace takes a node that is going, or where the shard may not be, out of a set, for another if there is one, else for nobody if
// others stay.
func (l *layout) replace() (placement, bool) {
	for _, p := range l.placed {
		zones := l.zones(p.shard)
		for _, id := range p.replicas {
			n, stay := l.node(id), len(l.staying(p))
			if !n.leave && n.in(zones) || l.busy[p.shard] && !slices.Contains(l.awaited[p.shard], id) {
				continue
			}
			if other, ok := l.best(p.replicas, []string{id}, zones); ok && stay < max(l.target(zones), 1) {
				return placement{p.shard, swap(p.replicas, id, other)}, true
			}
			if (n.drop || !n.in(zones)) && stay > 0 {
				return placement{p.shard, without(p.replicas, id)}, true
			}
		}
	}
	return placement{}, false
}

func (l *layout) shrink() (placement, bool) {
	for p := range l.free {
		if l.wanted == 0 || len(p.replicas) <= max(l.wanted, l.target(l.zones(p.shard))) {
			continue
		}
		worst := slices.MaxFunc(p.replicas[1:], func(a, b string) int {
			return cmp.Or(cmp.Compare(l.crowd(p.replicas, a), l.crowd(p.replicas, b)), cmp.Compare(l.load(a), l.load(b)), cmp.Compare(a, b))
		})
		return placement{p.shard, without(p.replicas, worst)}, true
	}
	return placement{}, false
}

// spread moves one of two replicas of a shard in the same zone to a zone without one.
func (l *layout) spread() (placement, bool) {
	for p := range l.free {
		for _, id := range slices.Backward(p.replicas) {
			if l.crowd(p.replicas, id) < 2 {
				continue
			}
			other, ok := l.best(p.replicas, []string{id}, l.zones(p.shard))
			if next := swap(p.replicas, id, other); ok && l.crowding(next) < l.crowding(p.replicas) {
				return placement{p.shard, next}, true
			}
		}
	}
	return placement{}, false
}

// balance moves a replica from a node to one with at least two fewer, most uneven pairs first.
func (l *layout) balance() (placement, bool) {
	for _, pair := range l.uneven(l.load) {
		for p := range l.free {
			to := l.node(pair.fewer)
			if !slices.Contains(p.replicas, pair.more) || slices.Contains(p.replicas, pair.fewer) || !to.in(l.zones(p.shard)) {
				continue
			}
			if next := swap(p.replicas, pair.more, pair.fewer); l.crowding(next) <= l.crowding(p.replicas) {
				return placement{p.shard, next}, true
			}
		}
	}
	return placement{}, false
}

// lead evens out preferred leaders. Leadership may have to be passed along a chain of shards that share nodes; the last
// link comes first, so that each step leaves the rest of the chain one shorter.
func (l *layout) lead() (placement, bool) {
	for _, pair := range l.uneven(l.leads) {
		via := map[string]placement{pair.more: {}} // node → the shard whose leadership it would get
		for queue := []string{pair.more}; len(queue) > 0; queue = queue[1:] {
			for p := range l.free {
				if p.replicas[0] != queue[0] {
					continue
				}
				for _, id := range p.replicas[1:] {
					if _, seen := via[id]; seen || !l.node(id).takes {
						continue
					}
					via[id] = p
					if l.leads(id) <= l.leads(pair.more)-2 {
						return placement{p.shard, preferring(p.replicas, id)}, true
					}
					queue = append(queue, id)
				}
			}
		}
	}
	return placement{}, false
}

type unevenPair struct{ more, fewer string }

// uneven lists pairs of nodes that take replicas and whose figures differ by two or more, most uneven first.
func (l *layout) uneven(figure func(string) int) []unevenPair {
	var pairs []unevenPair
	for _, a := range l.nodes {
		for _, b := range l.nodes {
			if a.takes && b.takes && figure(a.id)-figure(b.id) >= 2 {
				pairs = append(pairs, unevenPair{a.id, b.id})
			}
		}
	}
	slices.SortStableFunc(pairs, func(a, b unevenPair) int {
		return cmp.Compare(figure(b.more)-figure(b.fewer), figure(a.more)-figure(a.fewer))
	})
	return pairs
}

// best returns the node in one of some zones, or anywhere if these are none, that should get a replica: in the zone with the fewest of
// them, then with the least load. leaving are replicas that do not count because they go.
func (l *layout) best(replicas, leaving, zones []string) (string, bool) {
	stay := slices.DeleteFunc(slices.Clone(replicas), func(id string) bool { return slices.Contains(leaving, id) })
	var found candidate
	rank := func(n candidate) [2]int { return [2]int{l.inZone(stay, n.zone), l.load(n.id)} }
	for _, n := range l.nodes {
		if !n.takes || !n.in(zones) || slices.Contains(replicas, n.id) {
			continue
		}
		if a, b := rank(n), rank(found); found.id == "" || a[0] < b[0] || a[0] == b[0] && a[1] < b[1] {
			found = n
		}
	}
	return found.id, found.id != ""
}

func (l *layout) node(id string) candidate {
	i, ok := slices.BinarySearchFunc(l.nodes, id, func(n candidate, id string) int { return cmp.Compare(n.id, id) })
	if !ok {
		return candidate{id: id, leave: true, drop: true}
	}
	return l.nodes[i]
}

// staying returns the replicas of a set that are not to go.
func (l *layout) staying(p placement) []string {
	zones := l.zones(p.shard)
	return slices.DeleteFunc(slices.Clone(p.replicas), func(id string) bool {
		n := l.node(id)
		return n.leave || !n.in(zones)
	})
}

// load is how many replicas a node is to have.
func (l *layout) load(id string) (n int) {
	for _, p := range l.placed {
		if slices.Contains(p.replicas, id) {
			n++
		}
	}
	return n
}

// leads is how many shards a node is to lead.
func (l *layout) leads(id string) (n int) {
	for _, p := range l.placed {
		if p.replicas[0] == id {
			n++
		}
	}
	return n
}

// inZone counts the replicas in a zone.
func (l *layout) inZone(replicas []string, zone string) (n int) {
	for _, id := range replicas {
		if l.node(id).zone == zone {
			n++
		}
	}
	return n
}

// crowd counts the replicas in the zone of one of them.
func (l *layout) crowd(replicas []string, id string) int {
	return l.inZone(replicas, l.node(id).zone)
}

// crowding is what zones with several replicas of one shard have in excess.
func (l *layout) crowding(replicas []string) (n int) {
	for _, id := range replicas {
		n += l.crowd(replicas, id) - 1
	}
	return n
}

// swap returns replicas with one node in the place of another.
func swap(replicas []string, from, to string) []string {
	next := slices.Clone(replicas)
	if i := slices.Index(next, from); i >= 0 {
		next[i] = to
	}
	return next
}

// preferring returns replicas with one of them first.
func preferring(replicas []string, id string) []string {
	next := slices.Clone(replicas)
	i := slices.Index(next, id)
	next[0], next[i] = next[i], next[0]
	return next
}

func without(replicas []string, id string) []string {
	return slices.DeleteFunc(slices.Clone(replicas), func(r string) bool { return r == id })
}
