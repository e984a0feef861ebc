package cluster

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/internal/vfs"
)

// simMixes say how often each fault comes, in relation to the others.
var simMixes = map[string]map[string]int{
	"all": {
		"cut": 4, "cut both ways": 3, "isolate": 4, "mute": 3, "deaf": 3, "split": 3, "delay": 5, "pause": 4, "freeze": 2, "stall": 4,
		"slow disk": 3, "full disk": 2, "kill": 4, "power cut": 4, "power cuts": 2, "blackout": 2, "restart": 2, "transfer": 5,
		"transfer and cut": 3, "exchange": 1,
	},
	"network":    {"cut": 2, "isolate": 4, "mute": 3, "deaf": 3, "split": 2, "delay": 1, "pause": 2, "transfer and cut": 4},
	"transfer":   {"transfer and cut": 1},
	"power":      {"blackout": 4, "power cut": 2, "kill": 1},
	"restart":    {"kill": 3, "restart": 1, "power cut": 1},
	"checkpoint": {"exchange": 1, "kill": 1},
	"move":       {"kill": 3, "pause": 2, "freeze": 1, "cut": 2, "behind": 4, "isolate": 2, "stall": 2, "transfer": 4, "restart": 1},
}

// simFaults begin a fault and return what it is, and what ends it.
var simFaults = map[string]func(*nemesis) (what string, heal func()){
	"cut":              (*nemesis).cut,
	"cut both ways":    (*nemesis).cutBoth,
	"behind":           (*nemesis).behind,
	"isolate":          (*nemesis).isolate,
	"mute":             (*nemesis).mute,
	"deaf":             (*nemesis).deaf,
	"split":            (*nemesis).split,
	"delay":            (*nemesis).delay,
	"pause":            (*nemesis).pause,
	"freeze":           (*nemesis).freeze,
	"stall":            (*nemesis).stall,
	"slow disk":        (*nemesis).slow,
	"full disk":        (*nemesis).full,
	"kill":             (*nemesis).killOne,
	"power cut":        (*nemesis).powerOne,
	"power cuts":       (*nemesis).powerSome,
	"blackout":         (*nemesis).blackout,
	"restart":          (*nemesis).restart,
	"transfer":         (*nemesis).transfer,
	"transfer and cut": (*nemesis).transferAndCut,
	"exchange":         (*nemesis).exchange,
}

// nemesis makes faults.
type nemesis struct {
	*simulation
	rng *rand.Rand

	mu     sync.Mutex
	heals  map[int]func() // of the faults that are there
	nextID int
	// exchanging is set while a host is being replaced: what is asked of the cluster then needs it to be whole again.
	exchanging bool
}

func newNemesis(s *simulation) *nemesis {
	return &nemesis{simulation: s, rng: s.source(2), heals: map[int]func(){}}
}

// typical is how long a fault lasts, in the mean: some elections' time.
func (n *nemesis) typical() time.Duration { return 8 * n.tick }

// lasting draws how long a fault lasts.
func (n *nemesis) lasting() time.Duration {
	d := time.Duration(n.rng.ExpFloat64() * float64(n.typical()))
	return min(max(d, n.tick/2), time.Minute)
}

// run makes faults, with a time of rest now and then in which most of the cluster must work, and ends them all.
func (n *nemesis) run() {
	end := n.began.Add(n.length)
	for !n.log.isBroken() {
		stormy := min(time.Duration((0.5+n.rng.Float64())*float64(100*n.tick)), time.Until(end))
		if stormy <= 0 {
			break
		}
		n.storm(time.Now().Add(stormy))
		n.rest()
	}
	n.healAll()
}

// storm makes faults until a time.
func (n *nemesis) storm(until time.Time) {
	for !n.log.isBroken() {
		gap := time.Duration(n.rng.ExpFloat64() * float64(n.typical()))
		if gap > time.Until(until) {
			pause(n.stopped, time.Until(until))
			return
		}
		pause(n.stopped, gap)
		n.begin(n.pick(), n.lasting())
	}
}

// pick draws a kind of fault.
func (n *nemesis) pick() string {
	weights := simMixes[n.mix]
	kinds := slices.Sorted(maps.Keys(weights))
	sum := 0
	for _, k := range kinds {
		sum += weights[k]
	}
	at := n.rng.IntN(sum)
	for _, k := range kinds {
		if at -= weights[k]; at < 0 {
			return k
		}
	}
	return kinds[0]
}

// begin makes a fault that ends by itself.
func (n *nemesis) begin(kind string, lasts time.Duration) {
	what, heal := simFaults[kind](n)
	if what == "" {
		return
	}
	n.log.count("fault: " + kind)
	if heal == nil {
		n.log.note("%s: %s", kind, what)
		return
	}
	n.log.note("%s: %s, for %v", kind, what, lasts.Round(time.Millisecond))
	n.mu.Lock()
	n.nextID++
	id := n.nextID
	n.heals[id] = heal
	n.mu.Unlock()
	n.work.Go(func() {
		if pause(n.stopped, lasts) {
			n.heal(id)
		}
	})
}

// heal ends a fault, once.
func (n *nemesis) heal(id int) {
	n.mu.Lock()
	heal := n.heals[id]
	delete(n.heals, id)
	n.mu.Unlock()
	if heal != nil {
		heal()
	}
}

// healAll ends all faults.
func (n *nemesis) healAll() {
	n.mu.Lock()
	ids := slices.Sorted(maps.Keys(n.heals))
	n.mu.Unlock()
	for _, id := range ids {
		n.heal(id)
	}
	n.net.healAll()
	for _, h := range n.members() {
		h.start()
	}
	n.log.note("healed")
}

// aliveIn is how long a majority without a fault may take until it takes all writes again: some elections, a process that
// starts again after its disk hung, and the pause of up to 10 s that raft makes after failures.
func (n *nemesis) aliveIn() time.Duration { return 30*time.Second + 15*n.tick }

// rest ends all faults but those of a minority, and looks whether the others work.
func (n *nemesis) rest() {
	n.healAll()
	if n.rng.IntN(2) == 0 { // else who starts meets a cluster that is still at odds
		pause(n.stopped, metaPatience+5*n.tick)
	}
	hosts := n.members()
	n.rng.Shuffle(len(hosts), func(i, j int) { hosts[i], hosts[j] = hosts[j], hosts[i] })
	ill := slices.Clone(hosts[:n.rng.IntN((n.nodes-1)/2+1)])
	for len(ill) > 0 && !n.spares(ill) {
		ill = ill[1:]
	}
	hosts = slices.DeleteFunc(hosts, func(h *host) bool { return slices.Contains(ill, h) })
	for _, h := range ill {
		if n.rng.IntN(2) == 0 {
			n.log.note("%v stays down", h)
			h.hold((*vfs.Sim).Kill)
			defer h.release()
		} else {
			n.log.note("%v stays cut off", h)
			n.net.isolate(h.name())
			defer n.net.rejoin(h.name())
		}
	}
	n.proveAlive(hosts, n.aliveIn())
	pause(n.stopped, time.Duration(n.rng.Int64N(int64(10*n.tick))))
}

// spares reports whether all groups have a majority without some hosts, by what any node knows of their voters.
func (n *nemesis) spares(ill []*host) bool {
	if n.isExchanging() || len(n.nodesRunning()) < len(n.members()) {
		return false
	}
	for _, node := range n.nodesRunning() {
		for _, g := range node.groups() {
			voters := ids(g.servers(), raft.Voter)
			lost := 0
			for _, h := range ill {
				if slices.Contains(voters, h.name()) {
					lost++
				}
			}
			if 2*(len(voters)-lost) <= len(voters) && len(voters) > 0 {
				return false
			}
		}
	}
	return true
}

func (n *nemesis) isExchanging() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.exchanging
}

// host draws a host, often one that leads something.
func (n *nemesis) host() *host {
	if n.rng.IntN(2) == 0 {
		if g := n.led(); g != nil {
			for _, h := range n.members() {
				if h.name() == string(g.opts.node) {
					return h
				}
			}
		}
	}
	return n.someHost(n.rng)
}

// led draws a group and returns its leader's replica, nil if it has none.
func (n *nemesis) led() *group {
	var leaders []*group
	for _, node := range n.nodesRunning() {
		for _, g := range node.groups() {
			if g.leads() {
				leaders = append(leaders, g)
			}
		}
	}
	if len(leaders) == 0 {
		return nil
	}
	return leaders[n.rng.IntN(len(leaders))]
}

// two draws two hosts.
func (n *nemesis) two() (a, b string) {
	h := n.members()
	i := n.rng.IntN(len(h))
	j := (i + 1 + n.rng.IntN(len(h)-1)) % len(h)
	return h[i].name(), h[j].name()
}

// others are the names of all hosts but one.
func (n *nemesis) others(name string) []string {
	var names []string
	for _, h := range n.members() {
		if o := h.name(); o != name {
			names = append(names, o)
		}
	}
	return names
}

func (n *nemesis) cut() (string, func()) {
	a, b := n.two()
	n.net.cut(a, b)
	return a + " to " + b, func() { n.net.heal(a, b) }
}

// behind keeps a host from hearing what the metadata plane's leader decides: it goes by an old state.
func (n *nemesis) behind() (string, func()) {
	for _, node := range n.nodesRunning() {
		if from := string(node.meta.group.opts.node); node.meta.group.leads() {
			others := n.others(from)
			to := others[n.rng.IntN(len(others))]
			n.net.cut(from, to)
			return to + " of " + from, func() { n.net.heal(from, to) }
		}
	}
	return "", nil
}

func (n *nemesis) cutBoth() (string, func()) {
	a, b := n.two()
	n.net.cutBoth(a, b)
	return a + " and " + b, func() { n.net.heal(a, b) }
}

func (n *nemesis) isolate() (string, func()) {
	h := n.host()
	id := h.name()
	n.net.isolate(id)
	return h.String(), func() { n.net.rejoin(id) }
}

func (n *nemesis) mute() (string, func()) {
	h := n.host()
	return h.String(), n.cutAll(h.name(), n.net.cut)
}

func (n *nemesis) deaf() (string, func()) {
	h := n.host()
	return h.String(), n.cutAll(h.name(), func(id, other string) { n.net.cut(other, id) })
}

// cutAll cuts the links between a host and all others.
func (n *nemesis) cutAll(id string, cut func(id, other string)) (heal func()) {
	others := n.others(id)
	for _, o := range others {
		cut(id, o)
	}
	return func() {
		for _, o := range others {
			n.net.heal(id, o)
		}
	}
}

func (n *nemesis) split() (string, func()) {
	h := n.members()
	n.rng.Shuffle(len(h), func(i, j int) { h[i], h[j] = h[j], h[i] })
	at := 1 + n.rng.IntN(len(h)-1)
	var heals []func()
	for _, a := range h[:at] {
		for _, b := range h[at:] {
			n.net.cutBoth(a.name(), b.name())
			heals = append(heals, func() { n.net.heal(a.name(), b.name()) })
		}
	}
	return fmt.Sprint(h[:at], " from ", h[at:]), func() {
		for _, heal := range heals {
			heal()
		}
	}
}

func (n *nemesis) delay() (string, func()) {
	h := n.host()
	id, others := h.name(), n.others(h.name())
	most := n.rng.Float64() * float64(n.tick) * 0.7
	set := func(d func() time.Duration) {
		for _, o := range others {
			n.net.delay(id, o, d())
			n.net.delay(o, id, d())
		}
	}
	set(func() time.Duration { return time.Duration(n.rng.Float64() * most) })
	return fmt.Sprintf("%v by up to %v", h, time.Duration(most).Round(time.Millisecond)), func() { set(func() time.Duration { return 0 }) }
}

// pause stalls the disk too, so it should end before the watchdog ends the process: a process that does not run has none.
func (n *nemesis) pause() (string, func()) {
	h := n.host()
	return h.String(), h.pauseProcess(true)
}

func (n *nemesis) freeze() (string, func()) {
	h := n.host()
	return h.String(), h.pauseProcess(false)
}

func (n *nemesis) stall() (string, func()) {
	h := n.host()
	return h.String(), h.ail((*vfs.Sim).Stall, (*vfs.Sim).Resume)
}

func (n *nemesis) slow() (string, func()) {
	h := n.host()
	d := time.Duration(n.rng.Float64() * float64(n.tick/4))
	return fmt.Sprintf("%v, %v a sync", h, d.Round(time.Millisecond)),
		h.ail(func(disk *vfs.Sim) { disk.SetSyncTime(d) }, func(disk *vfs.Sim) { disk.SetSyncTime(0) })
}

func (n *nemesis) full() (string, func()) {
	h := n.host()
	return h.String(), h.ail(func(disk *vfs.Sim) { disk.SetFull(true) }, func(disk *vfs.Sim) { disk.SetFull(false) })
}

func (n *nemesis) killOne() (string, func()) {
	h := n.host()
	h.hold((*vfs.Sim).Kill)
	return h.String(), h.release
}

func (n *nemesis) powerOne() (string, func()) {
	h := n.host()
	h.hold(n.crash)
	return h.String(), h.release
}

// crash cuts the power of a disk.
func (n *nemesis) crash(disk *vfs.Sim) *vfs.Sim {
	if n.rng.IntN(3) == 0 {
		return disk.Crash(nil)
	}
	return disk.Crash(n.rng)
}

func (n *nemesis) powerSome() (string, func()) {
	h := n.members()
	n.rng.Shuffle(len(h), func(i, j int) { h[i], h[j] = h[j], h[i] })
	return n.darken(h[:1+n.rng.IntN((len(h)-1)/2)])
}

func (n *nemesis) blackout() (string, func()) { return n.darken(n.members()) }

// darken cuts the power of hosts. It comes back to each at a time of its own.
func (n *nemesis) darken(hosts []*host) (string, func()) {
	for _, h := range hosts {
		h.hold(n.crash)
	}
	waits := make([]time.Duration, len(hosts))
	for i := range waits {
		waits[i] = time.Duration(n.rng.Float64() * float64(2*n.tick))
	}
	return fmt.Sprint(hosts), func() {
		for i, h := range hosts {
			n.work.Go(func() {
				pause(n.stopped, waits[i])
				h.release()
			})
		}
	}
}

func (n *nemesis) restart() (string, func()) {
	h := n.host()
	n.work.Go(func() {
		h.shutDown()
		h.start()
	})
	return h.String(), nil
}

// transferring hands a group's leadership to another voter, in the background.
func (n *nemesis) transferring() (what string, from string) {
	g := n.led()
	if g == nil {
		return "", ""
	}
	var voters []string
	for _, id := range ids(g.servers(), raft.Voter) {
		if id != string(g.opts.node) {
			voters = append(voters, id)
		}
	}
	if len(voters) == 0 {
		return "", ""
	}
	to := voters[n.rng.IntN(len(voters))]
	n.work.Go(func() {
		ctx, cancel := context.WithTimeout(n.stopped, 5*n.tick)
		defer cancel()
		_ = g.transfer(ctx, to)
	})
	return fmt.Sprintf("%s from %s to %s", g.name, g.opts.node, to), string(g.opts.node)
}

func (n *nemesis) transfer() (string, func()) {
	what, _ := n.transferring()
	return what, nil
}

// transferAndCut cuts a leader off in the moment when it has asked another to take over, which is then elected although
// the old one was heard a moment ago.
func (n *nemesis) transferAndCut() (string, func()) {
	what, from := n.transferring()
	if what == "" {
		return "", nil
	}
	deaf := n.cutAll(from, func(id, other string) { n.net.cut(other, id) })
	return what, deaf
}

// exchange takes a new host in and then another one out.
func (n *nemesis) exchange() (string, func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.exchanging {
		return "", nil
	}
	n.exchanging = true
	old := n.someHost(n.rng)
	old.mu.Lock()
	old.leaving = true
	old.mu.Unlock()
	fresh := n.addHost()
	fresh.start()
	n.work.Go(func() {
		defer func() {
			n.mu.Lock()
			defer n.mu.Unlock()
			n.exchanging = false
		}()
		n.carryOutExchange(old, fresh)
	})
	return fmt.Sprintf("%v by %v", old, fresh), nil
}

// carryOutExchange asks until it is done, which faults may hold up for long.
func (n *nemesis) carryOutExchange(old, fresh *host) {
	for pause(n.stopped, time.Second) {
		s := n.newestState()
		if s == nil {
			continue
		}
		m, _ := s.member(fresh.name())
		o, _ := s.member(old.name())
		var err error
		ctx, cancel := context.WithTimeout(n.stopped, 5*time.Second)
		node := n.nodesRunning()[0]
		switch {
		case m.state != memberActive:
		case o.state == memberActive:
			err = node.DrainNode(ctx, o.id)
		case o.state == memberDraining && len(carried(s, o.id)) == 0:
			err = node.RemoveNode(ctx, o.id, false)
		case o.state == memberRemoved:
			cancel()
			n.log.note("%v is replaced by %v", old, fresh)
			n.log.count("exchanges done")
			old.retire()
			return
		}
		cancel()
		_ = err // asked again
	}
}

// newestState is the metadata of the node that is furthest, nil if none runs.
func (n *nemesis) newestState() (newest *state) {
	for _, node := range n.nodesRunning() {
		if s := node.meta.state(); newest == nil || s.index > newest.index {
			newest = s
		}
	}
	return newest
}

func carried(s *state, node string) (shards []uint16) {
	for _, p := range s.placed {
		if slices.Contains(p.replicas, node) {
			shards = append(shards, p.shard)
		}
	}
	return shards
}

// retire ends a host for good.
func (h *host) retire() {
	h.mu.Lock()
	h.gone = true
	h.mu.Unlock()
	h.kill(nil, (*vfs.Sim).Kill)
}
