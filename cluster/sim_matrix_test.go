package cluster

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/vfs"
)

// moveCell is a fault that comes to someone who has a part in a move when that gets to a phase.
type moveCell struct {
	phase movePhase
	role  string
	fault string
}

func (c moveCell) String() string { return fmt.Sprintf("%v,%s,%s", c.phase, c.role, c.fault) }

var (
	cellPhases = []movePhase{movePlanned, moveStaging, moveCopying, moveTailing, moveFenced, moveFlipped, moveSettled, moveAborting}
	cellRoles  = []string{"source", "target", "metadata", "two"}
	cellFaults = []string{"kill", "pause", "mute", "deaf", "stall", "full", "transfer"}
	// cellLinks are links between two who have a part, of which one direction alone is cut.
	cellLinks = []string{"source>target", "target>source", "source>metadata", "metadata>source", "target>metadata", "metadata>target"}
)

// linkCut is the fault of a cell whose role is one of cellLinks.
const linkCut = "cut"

// moveCells are all cells of the matrix.
func moveCells() (all []moveCell) {
	for _, p := range cellPhases {
		for _, r := range cellRoles {
			for _, f := range cellFaults {
				all = append(all, moveCell{p, r, f})
			}
		}
		for _, l := range cellLinks {
			all = append(all, moveCell{p, l, linkCut})
		}
	}
	return all
}

// moveMatrix runs the cells of the matrix as often as CROFT_MOVE_MATRIX says, each time from another seed; a few of them where it
// says nothing.
func moveMatrix(t *testing.T, seed uint64) {
	cells, rounds := moveCells(), cmp.Or(os.Getenv("CROFT_MOVE_MATRIX"), "0")
	n, err := strconv.ParseUint(rounds, 10, 32)
	require.NoError(t, err, "CROFT_MOVE_MATRIX")
	if n == 0 {
		rng := rand.New(rand.NewPCG(seed, 4))
		rng.Shuffle(len(cells), func(i, j int) { cells[i], cells[j] = cells[j], cells[i] })
		cells, n = cells[:3], 1
	}
	if only := os.Getenv("CROFT_MOVE_CELL"); only != "" {
		cells = slices.DeleteFunc(cells, func(c moveCell) bool { return c.String() != only })
	}
	var sum sums
	t.Run("cells", func(t *testing.T) {
		for i := range n {
			for _, c := range cells {
				o := simSettings{
					seed: seed + i, nodes: 3, mix: "move", tick: time.Second, replicas: 3, shards: 2, logRetain: 64 << 10,
					replaceAfter: 10 * time.Minute, think: 200 * time.Millisecond, clients: 6, swallow: (seed+i)%2 == 0,
				}
				o.script = func(s *simulation) { (&cellRun{moveCell: c, nemesis: newNemesis(s)}).run() }
				// Not in parallel: see simulation.made.
				t.Run(fmt.Sprintf("seed=%d,%v", o.seed, c), func(t *testing.T) { sum.add(simulate(t, o)) })
			}
		}
	})
	t.Logf("%d cells of a move's matrix:%v", len(cells)*int(n), sum.counts)
}

// cellRun is a move to which the fault of a cell happens.
type cellRun struct {
	moveCell
	*nemesis

	from, to uint16
	once     sync.Once
	reached  chan struct{} // closed when the move has got to the phase
	begun    chan struct{} // closed when the fault has begun
}

func (r *cellRun) run() {
	r.reached, r.begun = make(chan struct{}), make(chan struct{})
	r.mu.Lock()
	r.simulation.mu.Lock()
	r.onStep = r.step
	r.simulation.mu.Unlock()
	r.mu.Unlock()
	pause(r.stopped, 5*time.Second) // something is written
	id, ok := r.plan()
	if !ok {
		return
	}
	select {
	case <-r.reached:
	case <-time.After(3 * time.Minute):
		r.log.violate("setup", "migration %d never got to %v", id, r.phase)
		return
	case <-r.stopped.Done():
		return
	}
	heal := r.inject()
	close(r.begun)
	pause(r.stopped, time.Duration((0.2+0.8*r.rng.Float64())*float64(10*r.tick)))
	heal()
	r.healAll()
	r.until(r.aliveIn()+30*time.Second, fmt.Sprintf("migration %d has ended", id), func() bool { return r.ended(id) })
}

// plan moves a tenant from where it lives.
func (r *cellRun) plan() (id uint64, ok bool) {
	_, n := r.hosts[0].running()
	ctx, cancel := context.WithTimeout(r.stopped, time.Minute)
	defer cancel()
	t, err := n.DescribeTenant(ctx, "tenant0")
	if err != nil {
		r.log.violate("setup", "%v", err)
		return 0, false
	}
	r.from, r.to = uint16(t.Shard), uint16(1-t.Shard)
	if r.fault == linkCut {
		r.spread()
	}
	ok = r.made("a move", func() error {
		_, err := n.MoveTenant(ctx, "tenant0", 1-t.Shard, MoveOptions{})
		if all, _ := n.Migrations(ctx, MigrationFilter{}); len(all) > 0 { // also if nobody was told so
			id, err = all[0].ID, nil
		}
		return err
	})
	return id, ok
}

// spread has the metadata plane led by a host that leads neither shard, so that there are links between all who have a part.
func (r *cellRun) spread() {
	busy := map[*host]bool{}
	for _, role := range []string{"source", "target"} {
		h, _ := r.leading(role)
		busy[h] = true
	}
	h, g := r.leading("metadata")
	if g == nil || !busy[h] {
		return
	}
	for _, other := range r.members() {
		if !busy[other] {
			ctx, cancel := context.WithTimeout(r.stopped, 5*r.tick)
			defer cancel()
			_ = g.transfer(ctx, other.name()) // where it fails, the link is one to somebody else
			return
		}
	}
}

// step is asked before each step of the move. The fault begins while it waits.
func (r *cellRun) step(n *Node, m *migration) {
	if r.phase == moveAborting && m.phase == moveTailing {
		_, _ = n.CancelMigration(r.stopped, m.id)
		return
	}
	if m.phase != r.phase {
		return
	}
	r.once.Do(func() { close(r.reached) })
	select {
	case <-r.begun:
	case <-r.stopped.Done():
	}
}

// ended reports whether all know that the move is over, and where the tenant lives then.
func (r *cellRun) ended(id uint64) bool {
	nodes := r.nodesRunning()
	for _, n := range nodes {
		s := n.meta.state()
		m, ok := s.migration(id)
		if !ok || m.phase.running() {
			return false
		}
		home := r.from
		if m.phase != moveAborted {
			home = r.to
		}
		if t, _ := s.tenant("tenant0"); s.home(t) != home {
			r.log.violate("move", "migration %d is %v, and its tenant lives on shard %d", id, m.phase, s.home(t))
		}
	}
	return len(nodes) > 0
}

// groupOf is the group that someone with a part in the move leads.
func (r *cellRun) groupOf(n *Node, role string) *group {
	switch role {
	case "source":
		return n.replica(r.from).group
	case "target":
		return n.replica(r.to).group
	default:
		return n.meta.group
	}
}

// leading finds the host that has a part in the move.
func (r *cellRun) leading(role string) (*host, *group) {
	for _, h := range r.members() {
		if _, n := h.running(); n != nil && r.groupOf(n, role).leads() {
			return h, r.groupOf(n, role)
		}
	}
	return r.someHost(r.rng), nil // an election is under way
}

// inject lets the fault happen to all who have the role.
func (r *cellRun) inject() (heal func()) {
	if r.fault == linkCut {
		return r.cutLink()
	}
	roles := []string{r.role}
	if r.role == "two" {
		roles = []string{"source", "target", "metadata"}
		r.rng.Shuffle(3, func(i, j int) { roles[i], roles[j] = roles[j], roles[i] })
		roles = roles[:2]
	}
	var heals []func()
	hit := map[*host]bool{}
	for _, role := range roles {
		h, g := r.leading(role)
		if hit[h] { // one host has both parts
			h = r.someHost(r.rng)
		}
		hit[h] = true
		r.log.note("%s: %v, which leads as %s", r.fault, h, role)
		heals = append(heals, r.strike(h, g))
	}
	return func() {
		for _, heal := range heals {
			heal()
		}
	}
}

// cutLink loses what one who has a part sends to another; the other direction, and all other links, are as they were.
func (r *cellRun) cutLink() (heal func()) {
	from, to, _ := strings.Cut(r.role, ">")
	a, _ := r.leading(from)
	b, _ := r.leading(to)
	for a == b { // one host has both parts
		b = r.someHost(r.rng)
	}
	r.log.note("%s: from %v to %v", r.role, a, b)
	r.net.cut(a.name(), b.name())
	return func() { r.net.heal(a.name(), b.name()) }
}

func (r *cellRun) strike(h *host, g *group) (heal func()) {
	switch r.fault {
	case "kill":
		h.hold((*vfs.Sim).Kill)
		return h.release
	case "pause":
		return h.pauseProcess(true)
	case "mute":
		return r.cutAll(h.name(), r.net.cut)
	case "deaf":
		return r.cutAll(h.name(), func(id, other string) { r.net.cut(other, id) })
	case "stall":
		return h.ail((*vfs.Sim).Stall, (*vfs.Sim).Resume)
	case "full":
		return h.ail(func(d *vfs.Sim) { d.SetFull(true) }, func(d *vfs.Sim) { d.SetFull(false) })
	}
	if g != nil {
		r.handOn(g)
	}
	return func() {}
}

// handOn hands a group's leadership to another voter.
func (r *cellRun) handOn(g *group) {
	for _, id := range ids(g.servers(), raft.Voter) {
		if id == string(g.opts.node) {
			continue
		}
		ctx, cancel := context.WithTimeout(r.stopped, 5*r.tick)
		defer cancel()
		_ = g.transfer(ctx, id)
		return
	}
}
