package cluster

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// host is a machine: its disk outlives the processes that run on it, one at a time.
type host struct {
	sim   *simulation
	index int

	mu      sync.Mutex
	disk    *vfs.Sim
	faults  int           // of the disk that are there
	ailing  time.Time     // when there last was one
	life    *life         // of the process; nil: there is none
	holds   int           // faults that want none
	joined  bool          // its node was let into the cluster
	leaving bool          // and is being removed: it may find that it was
	gone    bool          // and has been
	id      string        // of its node, empty before its first start
	paused  chan struct{} // closed when the machine goes on; nil: it does
}

// life is one process. What it does after its end, nobody sees: it has no disk, and no links.
type life struct {
	ctx    context.Context // ends with the process
	end    context.CancelFunc
	links  atomic.Pointer[memoryPeers]
	node   atomic.Pointer[Node] // nil while it starts
	closed chan struct{}        // when nothing of it runs any more
}

// restartAfter is how long a supervisor waits before it starts a process again that has ended by itself.
const restartAfter = 2 * time.Second

func (h *host) String() string { return fmt.Sprintf("host %d", h.index) }

// running returns the process and its node, nil if there is none or it has not started up.
func (h *host) running() (*life, *Node) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life == nil {
		return nil, nil
	}
	n := h.life.node.Load()
	if n == nil {
		return nil, nil
	}
	return h.life, n
}

// name is the id of the host's node, empty before its first start.
func (h *host) name() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.id
}

// start runs a process, and another one whenever it ends by itself. It does not wait for it.
func (h *host) start() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life != nil || h.holds > 0 || h.gone || h.sim.stopped.Err() != nil {
		return
	}
	l := &life{closed: make(chan struct{})}
	l.ctx, l.end = context.WithCancel(h.sim.stopped)
	h.life = l
	disk, joined := h.disk, h.joined || h.index == 0
	h.sim.work.Go(func() {
		defer close(l.closed)
		h.run(l, disk, joined)
	})
}

// run is a process from its start to its end.
func (h *host) run(l *life, disk *vfs.Sim, joined bool) {
	o := h.sim.nodeOptions(h, l, disk)
	if !joined {
		if o.Join, o.JoinToken = h.sim.invite(l.ctx); o.Join == "" {
			return
		}
	}
	n, err := Open(l.ctx, o)
	if err != nil {
		h.ended(l, "did not start", err)
		return
	}
	h.mu.Lock()
	h.joined = true
	l.node.Store(n)
	h.mu.Unlock()
	select {
	case <-l.ctx.Done():
	case <-n.Failed():
		h.ended(l, "failed", n.Failure())
	}
	_ = n.Close() // what is written here is lost, or the disk is gone
}

func (s *simulation) nodeOptions(h *host, l *life, disk *vfs.Sim) Options {
	links := func(node string) peers {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.id = node
		p := s.net.peers(node)
		l.links.Store(p)
		if l.ctx.Err() != nil && h.life != l {
			p.leave()
		}
		return p
	}
	return Options{
		Dir: "/data", Shards: s.shards, Replicas: s.replicas, RaftTick: s.tick, SegmentSize: 64 << 10, LogRetain: s.logRetain,
		DiskReserve: -1, ReplaceAfter: s.replaceAfter, CheckpointRate: -1, Logger: s.log.logger(h),
		URL: fmt.Sprintf("http://host%d", h.index), Engine: engine.Options{BuildThreads: 1}, disk: disk, network: links, MoveRate: 16 << 10, KeepMoved: 2 * time.Minute,
		applied: func(e appliedEntry) { s.applied.note(h, e); s.moving.note(e) }, decided: s.moving.decide,
		stepping: func(m *migration) { s.step(l, m) },
	}
}

// invite returns a member to join and a token, nothing if ctx ended before.
func (s *simulation) invite(ctx context.Context) (member, token string) {
	for pause(ctx, time.Second) {
		for _, h := range s.members() {
			_, n := h.running()
			if n == nil {
				continue
			}
			asking, cancel := context.WithTimeout(ctx, simPatience)
			token, err := n.NewJoinToken(asking, time.Hour)
			cancel()
			if err == nil {
				return n.id.NodeID, token
			}
		}
	}
	return "", ""
}

// ended is called when a process has ended by itself. Only its disk may be the reason, or that it found nobody.
func (h *host) ended(l *life, what string, err error) {
	if l.ctx.Err() != nil {
		return
	}
	removed := h.isLeaving() && errs.Is(err, errs.FailedPrecondition)
	if removed || h.wasIll() || what == "did not start" && errs.Is(err, errs.Unavailable) {
		h.sim.log.note("%v %s: %v", h, what, err)
	} else {
		h.sim.log.violate("process", "%v %s: %v", h, what, err)
	}
	if h.kill(l, (*vfs.Sim).Kill) {
		h.sim.work.Go(func() {
			if pause(h.sim.stopped, restartAfter) {
				h.start()
			}
		})
	}
}

func (h *host) isLeaving() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.leaving
}

// wasIll reports whether the disk has, or had a moment ago, a fault that a process need not survive.
func (h *host) wasIll() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.faults > 0 || time.Since(h.ailing) < time.Minute
}

// ail begins a fault of the disk. The function that it returns ends it.
func (h *host) ail(begin, end func(*vfs.Sim)) (heal func()) {
	h.mu.Lock()
	defer h.mu.Unlock()
	disk := h.disk
	h.faults++
	begin(disk)
	return func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		end(disk) // which a power cut may have replaced by a sound one
		h.faults--
		h.ailing = time.Now()
	}
}

// kill ends the process, if there is one, or only if it is a certain one. after says what is left on the disk.
func (h *host) kill(only *life, after func(*vfs.Sim) *vfs.Sim) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.life
	if only != nil && only != l {
		return false
	}
	h.life = nil
	if l != nil {
		l.end()
		if p := l.links.Load(); p != nil {
			p.leave()
		}
	}
	h.disk = after(h.disk)
	return true
}

// hold keeps the host from having a process until release, and ends the one that is there.
func (h *host) hold(after func(*vfs.Sim) *vfs.Sim) {
	h.mu.Lock()
	h.holds++
	h.mu.Unlock()
	h.kill(nil, after)
}

func (h *host) release() {
	h.mu.Lock()
	h.holds--
	h.mu.Unlock()
	h.start()
}

// shutDown ends the process in order, and waits for that.
func (h *host) shutDown() {
	h.mu.Lock()
	l := h.life
	h.mu.Unlock()
	if l == nil {
		return
	}
	l.end()
	<-l.closed
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.life == l {
		h.life = nil
	}
}

// pauseProcess lets the machine stand still: it hears and says nothing, and its disk, unless whole is false, does nothing.
// This is less than stopping it: its timers go on, so it will notice by itself what a stopped one would only learn later.
func (h *host) pauseProcess(whole bool) (goOn func()) {
	var resume func()
	if whole {
		resume = h.ail((*vfs.Sim).Stall, (*vfs.Sim).Resume)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	id := h.id
	h.sim.net.freeze(id)
	if h.paused == nil {
		h.paused = make(chan struct{})
	}
	return func() {
		h.sim.net.thaw(id)
		if resume != nil {
			resume()
		}
		h.mu.Lock()
		defer h.mu.Unlock()
		if h.paused != nil {
			close(h.paused)
			h.paused = nil
		}
	}
}

// awake waits until the machine is not paused.
func (h *host) awake() {
	for {
		h.mu.Lock()
		p := h.paused
		h.mu.Unlock()
		if p == nil {
			return
		}
		<-p
	}
}

// pause waits, and reports whether ctx has not ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
