package cluster

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// simSettings are what a simulation follows from.
type simSettings struct {
	seed         uint64
	nodes        int
	length       time.Duration
	mix          string // of faults, see simMixes
	tick         time.Duration
	replicas     int
	shards       int
	logRetain    int64
	replaceAfter time.Duration
	think        time.Duration // between two operations of a client, in the mean
	clients      int
	swallow      bool              // links that are cut do not say so
	moves        time.Duration     // between two moves of tenants, in the mean; 0: none moves
	script       func(*simulation) // what happens; nil: faults of the mix
}

func (o simSettings) String() string {
	return fmt.Sprintf("CROFT_SEED=%d CROFT_SIM_NODES=%d CROFT_SIM_LENGTH=%v CROFT_SIM_MIX=%s (tick %v, %d replicas, %d bytes of log, replaced after %v, swallow %v)",
		o.seed, o.nodes, o.length, o.mix, o.tick, o.replicas, o.logRetain, o.replaceAfter, o.swallow)
}

// simulation is a cluster to which faults happen, and clients that want something of it all the while. It lives in a bubble
// of testing/synctest.
type simulation struct {
	simSettings
	net     *memoryNetwork
	began   time.Time
	rng     *rand.Rand
	log     *simLog
	clients *simClients
	applied *simApplied
	moving  *simMoves

	stopped context.Context // ends when all is over
	stop    context.CancelFunc
	work    sync.WaitGroup // all goroutines but the first

	mu    sync.Mutex
	hosts []*host
	ix    Index
	terms map[simTerm]string // who has led

	onStep func(*Node, *migration) // see Options.stepping
}

// simTerm is a term of a raft group.
type simTerm struct {
	group string
	term  uint64
}

func newSimulation(o simSettings, log *simLog) *simulation {
	s := &simulation{
		simSettings: o, net: newMemoryNetwork(), began: time.Now(), rng: rand.New(rand.NewPCG(o.seed, 0)),
		log: log, terms: map[simTerm]string{}, applied: newSimApplied(log), moving: newSimMoves(log),
	}
	s.log.began = s.began
	s.net.swallow, s.net.onAppend = o.swallow, s.noteLeader
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.clients = newSimClients(s)
	return s
}

// step is asked before each step of a migration.
func (s *simulation) step(l *life, m *migration) {
	s.mu.Lock()
	look := s.onStep
	s.mu.Unlock()
	if n := l.node.Load(); look != nil && n != nil {
		look(n, m)
	}
}

// noteLeader sees to it that nobody else leads in the same term.
func (s *simulation) noteLeader(group string, args *raft.AppendEntriesRequest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key, node := simTerm{group, args.Term}, string(args.ID)
	if first, ok := s.terms[key]; ok && first != node {
		s.log.violate("leaders", "term %d of %s is led by %s and by %s", args.Term, group, first, node)
	}
	s.terms[key] = node
}

// run is a simulation from its first node to its last check.
func (s *simulation) run() {
	defer time.Sleep(time.Minute) // messages under way arrive: a bubble's time stands still once it has ended
	defer s.work.Wait()
	defer s.stop()
	if !s.setUp() {
		return
	}
	clients, stopClients := context.WithCancel(s.stopped)
	var working sync.WaitGroup
	for i := range s.simSettings.clients {
		c := &simClient{simClients: s.clients, id: i, host: s.members()[i%s.nodes], rng: s.source(uint64(100 + i))}
		working.Go(func() { c.run(clients) })
	}
	if s.moves > 0 {
		working.Go(func() { s.moveTenants(clients, s.source(3)) })
	}
	if s.script != nil {
		s.script(s)
	} else {
		newNemesis(s).run()
	}
	stopClients()
	working.Wait()
	if !s.log.isBroken() {
		s.judge()
	}
	s.count()
}

// source is chance of its own for a part of the simulation.
func (s *simulation) source(part uint64) *rand.Rand { return rand.New(rand.NewPCG(s.seed, part)) }

// setUp makes a cluster on which all is well.
func (s *simulation) setUp() bool {
	for i := range s.nodes {
		h := s.addHost()
		h.start()
		if !s.until(time.Minute, fmt.Sprintf("node %d runs", i), func() bool { _, n := h.running(); return n != nil }) {
			return false
		}
	}
	if !s.until(5*time.Minute, "the new cluster has settled", s.settled) {
		return false
	}
	_, n := s.hosts[0].running()
	var ix Index
	made := s.made("an index", func() (err error) {
		if ix, err = n.CreateIndex(s.stopped, Index{Name: "i", Dim: simDim, Metric: ann.Euclidean}); errs.Is(err, errs.AlreadyExists) {
			ix, _ = n.Index("i")
		}
		return err
	})
	s.mu.Lock()
	s.ix = ix
	s.mu.Unlock()
	for i := 0; i < simTenants && made; i++ {
		made = s.made("a tenant", func() error {
			_, err := n.CreateNamespace(s.stopped, ix, fmt.Sprint("tenant", i))
			return err
		})
	}
	return made
}

// made repeats what makes something until it is there. A leader may step down although no fault has happened: bubbles that run at the same
// time share locks, those of the runtime's pools among them, and while one bubble has such a lock time goes on in the others.
func (s *simulation) made(what string, try func() error) bool {
	var err error
	return s.until(time.Minute, what+" is made", func() bool {
		switch err = try(); {
		case err == nil || errs.Is(err, errs.AlreadyExists):
			return true
		case !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.OutcomeUnknown):
			s.log.violate("setup", "%v", err)
		}
		return false
	})
}

func (s *simulation) index() Index {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ix
}

// addHost makes a machine with an empty disk.
func (s *simulation) addHost() *host {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := &host{sim: s, index: len(s.hosts), disk: vfs.NewSim()}
	s.hosts = append(s.hosts, h)
	return h
}

// members are the hosts that have not been removed.
func (s *simulation) members() []*host {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.hosts), (*host).isGone)
}

func (h *host) isGone() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.gone
}

func (s *simulation) someHost(rng *rand.Rand) *host {
	m := s.members()
	return m[rng.IntN(len(m))]
}

// nodesRunning are the nodes that have started up.
func (s *simulation) nodesRunning() []*Node {
	var nodes []*Node
	for _, h := range s.members() {
		if _, n := h.running(); n != nil {
			nodes = append(nodes, n)
		}
	}
	return nodes
}

// until waits for a condition, and reports whether it came in time. It is a violation if it did not.
func (s *simulation) until(limit time.Duration, what string, ready func() bool) bool {
	for begin := time.Now(); time.Since(begin) < limit; {
		if ready() {
			return true
		}
		if s.log.isBroken() || !pause(s.stopped, 200*time.Millisecond) {
			return false
		}
	}
	s.log.violate("liveness", "not in %v: %s\n%s", limit, what, s.dump())
	return false
}

// settled reports whether all hosts run and all groups are as they are wanted.
func (s *simulation) settled() bool {
	nodes := s.nodesRunning()
	c := &simCluster{nodes: nodes}
	return len(nodes) == len(s.members()) && c.settled()
}

// dump tells what the nodes know.
func (s *simulation) dump() string {
	out := ""
	for _, h := range s.members() {
		_, n := h.running()
		if n == nil {
			out += fmt.Sprintf("%v (%s): does not run\n", h, h.name())
			continue
		}
		st := n.status(statusRequest{All: true})
		out += fmt.Sprintf("%v %s: %v %v\n  meta %+v\n", h, n.id.NodeID, n.meta.state().members, n.meta.state().placed, st.Meta)
		for _, g := range st.Groups {
			out += fmt.Sprintf("  %+v\n", g)
		}
	}
	return out
}

// count adds up what was done.
func (s *simulation) count() {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	s.log.counts["histories"]++
	s.log.counts["operations judged"] += s.clients.history.Len()
	s.log.counts["terms"] += len(s.terms)
	s.log.counts["virtual seconds"] += int(time.Since(s.began).Seconds())
}
