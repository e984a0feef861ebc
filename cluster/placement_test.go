package cluster

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// run makes single changes until none is left, and checks each.
func (l *layout) run(t *rapid.T) (moved int) {
	for range 40 * (len(l.placed) + 1) {
		p, ok := l.next()
		if !ok {
			return moved
		}
		i := slices.IndexFunc(l.placed, func(o placement) bool { return o.shard == p.shard })
		before := l.placed[i].replicas
		require.NotEmpty(t, p.replicas)
		require.Len(t, slices.Compact(slices.Sorted(slices.Values(p.replicas))), len(p.replicas), "one replica a node")
		var added, removed int
		for _, id := range p.replicas {
			if !slices.Contains(before, id) {
				added++
				require.True(t, l.node(id).takes, "%s gets a replica", id)
			}
		}
		for _, id := range before {
			if !slices.Contains(p.replicas, id) {
				removed++
			}
		}
		require.LessOrEqual(t, max(added, removed), 1, "%v to %v", before, p.replicas)
		l.placed = slices.Clone(l.placed)
		l.placed[i] = p
		moved += added
	}
	t.Fatalf("no end: %+v", l)
	return 0
}

func (l *layout) spreadOf(figure func(string) int) int {
	lowest, highest := 1<<30, 0
	for _, n := range l.nodes {
		if n.takes {
			lowest, highest = min(lowest, figure(n.id)), max(highest, figure(n.id))
		}
	}
	return highest - lowest
}

func drawLayout(t *rapid.T, zones int) *layout {
	l := &layout{wanted: rapid.SampledFrom([]int{0, 1, 3, 5}).Draw(t, "wanted")}
	for i := range rapid.IntRange(1, 9).Draw(t, "nodes") {
		n := candidate{id: fmt.Sprint("n", i), takes: true}
		n.zone = n.id
		if zones > 0 {
			n.zone = fmt.Sprint("z", i%zones)
		}
		l.nodes = append(l.nodes, n)
	}
	for i := range rapid.IntRange(1, 12).Draw(t, "shards") {
		l.placed = append(l.placed, placement{uint16(i), []string{"n0"}})
	}
	return l
}

// TestPlacement grows layouts from one node on, loses nodes and gets others.
func TestPlacement(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayout(t, 0)
		l.run(t)
		check := func() {
			for _, p := range l.placed {
				require.Len(t, p.replicas, l.target(nil), "%+v", l)
			}
			require.LessOrEqual(t, l.spreadOf(l.load), 1, "replicas are even: %+v", l)
			require.LessOrEqual(t, l.spreadOf(l.leads), 1, "leaders are even: %+v", l)
		}
		check()

		// A node that joins gets its share and nothing else moves.
		before := l.placed
		l.nodes = append(l.nodes, candidate{id: "new", zone: "new", takes: true})
		target := len(before[0].replicas)
		slices.SortFunc(l.nodes, func(a, b candidate) int {
			if a.id < b.id {
				return -1
			}
			return 1
		})
		moved := l.run(t)
		if l.target(nil) == target {
			check()
			require.LessOrEqual(t, moved, l.load("new"), "only to the new node")
		}

		// One that is drained ends without replicas, if others can take them.
		i := rapid.IntRange(0, len(l.nodes)-1).Draw(t, "drained")
		n := &l.nodes[i]
		n.takes, n.leave, n.drop = false, true, true
		l.run(t)
		require.Zero(t, l.load(n.id), "%+v", l)
	})
}

// TestPlacementInZones keeps replicas of a shard in different zones where there are enough of them.
func TestPlacementInZones(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		zones := rapid.IntRange(2, 4).Draw(t, "zones")
		l := drawLayout(t, zones)
		l.run(t)
		there := min(zones, len(l.nodes))
		for _, p := range l.placed {
			used := map[string]bool{}
			for _, id := range p.replicas {
				used[l.node(id).zone] = true
			}
			require.Len(t, used, min(there, len(p.replicas)), "%+v", l)
		}
	})
}

// TestPlacementInBounds binds shards to zones: their replicas leave the others where they can, and come to an end.
func TestPlacementInBounds(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		l := drawLayout(t, rapid.IntRange(2, 4).Draw(t, "zones"))
		l.run(t)
		for _, p := range l.placed {
			if zones := rapid.SampledFrom([][]string{nil, {"z0"}, {"z1", "z2"}, {"z9"}}).Draw(t, "zones"); zones != nil {
				l.bounds = append(l.bounds, bound{shard: p.shard, zones: zones})
			}
		}
		l.run(t)
		for _, p := range l.placed {
			zones := l.zones(p.shard)
			if there := slices.ContainsFunc(l.nodes, func(n candidate) bool { return n.in(zones) }); !there {
				continue // it stays where it is: the last replica is never given up
			}
			require.GreaterOrEqual(t, len(p.replicas), l.target(zones))
			for _, id := range p.replicas {
				n := l.node(id)
				require.True(t, n.in(zones), "%+v", l)
			}
		}
	})
}

func TestPlacementLeavesTheLastReplica(t *testing.T) {
	l := &layout{
		nodes:  []candidate{{id: "a", zone: "a", leave: true, drop: true}},
		placed: []placement{{0, []string{"a"}}},
	}
	_, ok := l.next()
	require.False(t, ok, "nobody else has it")
	l.nodes = append(l.nodes, candidate{id: "b", zone: "b", takes: true})
	l.busy = map[uint16]bool{0: true}
	_, ok = l.next()
	require.False(t, ok, "the change before is not carried out yet")
	l.busy = nil
	p, ok := l.next()
	require.True(t, ok)
	require.Equal(t, []string{"b"}, p.replicas)
}

// TestPlacementGivesUpWhoIsAwaited takes another node in the stead of one that was lost before it had its vote, and moves nothing else
// of that shard.
func TestPlacementGivesUpWhoIsAwaited(t *testing.T) {
	l := &layout{wanted: 3, placed: []placement{{0, letters("abd")}}, busy: map[uint16]bool{0: true}}
	for _, id := range letters("abcdef") {
		l.nodes = append(l.nodes, candidate{id: id, zone: id, takes: !slices.Contains(letters("bcd"), id), leave: slices.Contains(letters("bcd"), id)})
	}
	_, ok := l.next()
	require.False(t, ok, "its leader has not told who votes")
	l.awaited = map[uint16][]string{0: letters("d")}
	p, ok := l.next()
	require.True(t, ok)
	require.Equal(t, letters("abe"), p.replicas)
	l.placed, l.awaited = []placement{p}, map[uint16][]string{0: letters("e")}
	_, ok = l.next()
	require.False(t, ok, "b has its vote, so it is e's turn first")
}

// TestChanges is the way of a group from one set of replicas to another.
func TestChanges(t *testing.T) {
	status := func(voters, learners string, last uint64) groupStatus {
		return groupStatus{State: "leader", Last: last, Commit: last, Applied: last, Voters: letters(voters), Learners: letters(learners)}
	}
	for _, c := range []struct {
		name             string
		wanted           string
		voters, learners string
		others           map[string]groupStatus
		want             change
	}{
		{"a learner first", "abc", "a", "", nil, change{changeLearner, "b"}},
		{"not heard of", "abc", "a", "bc", nil, change{op: changeWait}},
		{"behind", "abc", "a", "bc", map[string]groupStatus{"b": status("a", "bc", 100)}, change{op: changeWait}},
		{"caught up", "abc", "a", "bc", map[string]groupStatus{"c": status("a", "bc", 950)}, change{changeVoter, "c"}},
		{"voter does not know yet", "abc", "ab", "c", map[string]groupStatus{"b": status("a", "bc", 1000), "c": status("ab", "c", 1000)}, change{op: changeWait}},
		{"done", "abc", "abc", "", nil, change{}},
		{"the one to go is needed", "acd", "abc", "", nil, change{changeLearner, "d"}},
		{"others must be there", "acd", "abcd", "", map[string]groupStatus{"c": status("abcd", "", 1000)}, change{changeRemove, "b"}},
		{"others are not there", "acd", "abcd", "", nil, change{op: changeWait}},
		{"leader last", "bc", "abc", "", map[string]groupStatus{"b": status("abc", "", 1000)}, change{changeTransfer, "b"}},
		{"leader has nobody", "bc", "abc", "", nil, change{op: changeWait}},
		{"preferred", "bac", "abc", "", map[string]groupStatus{"b": status("abc", "", 990)}, change{changeTransfer, "b"}},
		{"preferred lags", "bac", "abc", "", map[string]groupStatus{"b": status("abc", "", 90)}, change{}},
	} {
		s := situation{self: "a", wanted: letters(c.wanted), own: status(c.voters, c.learners, 1000), others: c.others}
		require.Equal(t, c.want, s.next(), c.name)
	}
	short := situation{self: "a", wanted: letters("ab"), own: status("a", "b", 30), others: map[string]groupStatus{"b": {}}}
	require.Equal(t, change{changeVoter, "b"}, short.next(), "an empty replica that the log reaches back to")
	short.own.First = 20
	require.Equal(t, change{op: changeWait}, short.next(), "an empty replica that needs a checkpoint")
	short.others["b"] = groupStatus{Last: 19, Applied: 19}
	require.Equal(t, change{changeVoter, "b"}, short.next(), "it has its checkpoint")
}

// TestReplicasAreClosedForGood decides when a group counts on a node no more.
func TestReplicasAreClosedForGood(t *testing.T) {
	g := groupStatus{State: "leader", Voters: letters("ab"), Learners: letters("c"), Settled: true}
	require.True(t, g.without("d"))
	require.False(t, g.without("b"))
	require.False(t, g.without("c"))
	g.Settled = false
	require.False(t, g.without("d"), "the change may come to nothing")
	g.Settled, g.State = true, "follower"
	require.False(t, g.without("d"), "there may be a newer configuration")
}

func letters(s string) (all []string) {
	for _, r := range s {
		all = append(all, string(r))
	}
	return all
}
