package cluster

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
)

func TestMemoryPeers(t *testing.T) {
	testPeers(t, func(*testing.T) newPeers {
		n := newMemoryNetwork()
		return func(node string) peers { return n.peers(node) }
	})
}

// inMemory runs test in a bubble of its own time, with the nodes a and b, which echo.
func inMemory(t *testing.T, test func(t *testing.T, n *memoryNetwork, a peers)) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemoryNetwork()
		build := func(node string) peers { return n.peers(node) }
		a := started(t, build, "a", echo)
		started(t, build, "b", echo)
		test(t, n, a)
	})
}

func kindOfCall(t *testing.T, p peers, to string, patience time.Duration) (errs.Kind, time.Duration) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begin := time.Now()
	_, err := p.call(ctx, to, methodStatus, nil, nil)
	if err == nil {
		return kindFine, time.Since(begin)
	}
	return errs.KindOf(err), time.Since(begin)
}

// kindFine stands for no error.
const kindFine = errs.Kind(255)

func TestMemoryCuts(t *testing.T) {
	cases := []struct {
		name   string
		change func(n *memoryNetwork)
		want   errs.Kind
		after  time.Duration
	}{
		{"plain", func(n *memoryNetwork) {}, kindFine, 0},
		{"cut there", func(n *memoryNetwork) { n.cut("a", "b") }, errs.Unavailable, 0},
		{"cut back", func(n *memoryNetwork) { n.cut("b", "a") }, errs.OutcomeUnknown, time.Minute},
		{"cut elsewhere", func(n *memoryNetwork) { n.cutBoth("a", "c") }, kindFine, 0},
		{"healed", func(n *memoryNetwork) { n.cutBoth("a", "b"); n.heal("b", "a") }, kindFine, 0},
		{"isolated", func(n *memoryNetwork) { n.isolate("b") }, errs.Unavailable, 0},
		{"rejoined", func(n *memoryNetwork) { n.isolate("b"); n.rejoin("b") }, kindFine, 0},
		{"all healed", func(n *memoryNetwork) { n.isolate("b"); n.cutBoth("a", "b"); n.healAll() }, kindFine, 0},
		{"delayed", func(n *memoryNetwork) { n.delay("a", "b", time.Second); n.delay("b", "a", 2*time.Second) }, kindFine, 3 * time.Second},
		{"delayed too long", func(n *memoryNetwork) { n.delay("b", "a", time.Hour) }, errs.OutcomeUnknown, time.Minute},
		{"dropped", func(n *memoryNetwork) { n.drop("b") }, errs.Unavailable, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, n *memoryNetwork, a peers) {
				c.change(n)
				kind, after := kindOfCall(t, a, "b", time.Minute)
				require.Equal(t, c.want, kind, "got %s", kind)
				require.Equal(t, c.after, after, "by the bubble's clock")
			})
		})
	}
}

// TestMemoryCutUnderWay cuts links while a message is on them.
func TestMemoryCutUnderWay(t *testing.T) {
	cases := []struct {
		name     string
		from, to string // the direction that is cut
	}{{"request", "a", "b"}, {"answer", "b", "a"}}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			inMemory(t, func(t *testing.T, n *memoryNetwork, a peers) {
				n.delay(c.from, c.to, time.Second)
				go func() {
					time.Sleep(time.Second / 2)
					n.cut(c.from, c.to)
				}()
				kind, after := kindOfCall(t, a, "b", time.Minute)
				require.Equal(t, errs.OutcomeUnknown, kind)
				require.Equal(t, time.Minute, after, "nobody tells of a cut")
			})
		})
	}
}

func TestMemoryDropUnderWay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newMemoryNetwork()
		build := func(node string) peers { return n.peers(node) }
		a := started(t, build, "a", nil)
		started(t, build, "b", func(_ context.Context, _ string, _, dst []byte) ([]byte, error) {
			n.drop("b")
			return dst, nil
		})
		kind, after := kindOfCall(t, a, "b", time.Minute)
		if kind != kindFine { // the answer may have left before
			require.Equal(t, errs.OutcomeUnknown, kind)
		}
		require.Zero(t, after, "the caller learns at once")
		started(t, build, "b", echo)
		kind, _ = kindOfCall(t, a, "b", time.Minute)
		require.Equal(t, kindFine, kind, "a node that was dropped may come back")
	})
}

// TestMemoryFailover elects a leader among three, cuts it off, and expects the others to go on without it.
func TestMemoryFailover(t *testing.T) {
	for name, cut := range map[string]func(n *memoryNetwork, leader string){
		"isolated": func(n *memoryNetwork, leader string) { n.isolate(leader) },
		"unheard": func(n *memoryNetwork, leader string) {
			for _, id := range []string{"a", "b", "c"} {
				if id != leader {
					n.cut(leader, id)
				}
			}
		},
		"deaf": func(n *memoryNetwork, leader string) {
			for _, id := range []string{"a", "b", "c"} {
				if id != leader {
					n.cut(id, leader)
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { testFailover(t, cut) })
		})
	}
}

func testFailover(t *testing.T, cut func(n *memoryNetwork, leader string)) {
	n := newMemoryNetwork()
	trio := newTrio(t, func(node string) peers { return n.peers(node) })
	first := trio.leader(nil)
	require.NoError(t, first.Apply([]byte("before"), 0).Error())
	var id string
	for node, r := range trio.rafts {
		if r == first {
			id = node
		}
	}

	cut(n, id)
	second := trio.leader(first)
	require.NoError(t, second.Apply([]byte("without the first"), 0).Error())
	trio.await(func() bool { return first.State() != raft.Leader })

	n.healAll()
	for _, r := range trio.rafts {
		trio.await(func() bool { return r.AppliedIndex() >= second.AppliedIndex() })
	}
}
