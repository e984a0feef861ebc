package cluster

import (
	"context"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/internal/errs"
)

// A leader whose disk hangs goes on sending heartbeats, from goroutines that touch no disk: its followers wait for it and its
// group stands still (hashicorp/raft #503, #666, #614). So the time that calls of the logs take is watched.
const (
	stallTold  = 3 * time.Second  // of a stall: it is logged
	stallQuiet = 5 * time.Second  // the node falls silent where it leads, so that others are elected
	stallFatal = 20 * time.Second // the process ends: who waits for it learns that it is gone
	watchEvery = 250 * time.Millisecond
)

// watchdog watches the logs of a node, which lie on one disk: when one of them hangs, all groups that the node leads are as
// good as stuck.
type watchdog struct {
	groups func() []*group
	alone  func() bool // nobody could take over
	fail   *failure
	logger *slog.Logger

	told  bool
	quiet bool
}

func (w *watchdog) run(ctx context.Context) {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			w.look(time.Now())
		case <-ctx.Done():
			return
		}
	}
}

// look takes the steps that the longest stall at a moment asks for.
func (w *watchdog) look(now time.Time) {
	var longest time.Duration
	name := ""
	groups := w.groups()
	for _, g := range groups {
		if d := g.log.Stalled(now); d > longest {
			longest, name = d, g.name
		}
	}
	w.tell(longest, name)
	w.silence(groups, longest >= stallQuiet)
	if longest >= stallFatal && !w.alone() {
		w.fail.Poison(errs.New(errs.Unavailable, "the disk has not answered the log of %s for %v", name, longest.Round(time.Second)).
			WithHint("other replicas have taken over; start this node again when its disk is well"))
	}
}

func (w *watchdog) tell(longest time.Duration, name string) {
	switch stalled := longest >= stallTold; {
	case stalled && !w.told:
		w.logger.Error("the disk does not answer", "group", name, "for", longest.Round(time.Millisecond))
		w.told = true
	case !stalled && w.told:
		w.logger.Warn("the disk answers again")
		w.told = false
	}
}

// silence makes all groups of the node quiet, or lets them speak again. One that leads is then not heard from, which is
// what makes its followers elect another leader; a transfer of leadership would wait for the disk as well.
func (w *watchdog) silence(groups []*group, quiet bool) {
	if quiet && !w.quiet {
		w.logger.Error("falling silent until the disk answers, so that other nodes take over")
	}
	w.quiet = quiet
	for _, g := range groups {
		g.quiet.Store(quiet)
	}
}

// fullTransport is what all our transports are.
type fullTransport interface {
	raft.Transport
	raft.WithPreVote
	raft.WithClose
}

// quietTransport sends nothing while its group is quiet. What it receives it hands on: a node that is silent learns of new
// leaders all the same.
type quietTransport struct {
	fullTransport
	quiet *atomic.Bool
}

func quieten(t raft.Transport, quiet *atomic.Bool) raft.Transport {
	return quietTransport{t.(fullTransport), quiet}
}

var errQuiet = errs.New(errs.Unavailable, "this node is silent until its disk answers")

func (t quietTransport) AppendEntries(id raft.ServerID, to raft.ServerAddress, req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) error {
	if t.quiet.Load() {
		return errQuiet
	}
	return t.fullTransport.AppendEntries(id, to, req, resp)
}

func (t quietTransport) AppendEntriesPipeline(id raft.ServerID, to raft.ServerAddress) (raft.AppendPipeline, error) {
	if t.quiet.Load() {
		return nil, errQuiet
	}
	p, err := t.fullTransport.AppendEntriesPipeline(id, to)
	if err != nil {
		return nil, err
	}
	return quietPipeline{p, t.quiet}, nil
}

func (t quietTransport) RequestVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestVoteRequest, resp *raft.RequestVoteResponse) error {
	if t.quiet.Load() {
		return errQuiet
	}
	return t.fullTransport.RequestVote(id, to, req, resp)
}

func (t quietTransport) RequestPreVote(id raft.ServerID, to raft.ServerAddress, req *raft.RequestPreVoteRequest, resp *raft.RequestPreVoteResponse) error {
	if t.quiet.Load() {
		return errQuiet
	}
	return t.fullTransport.RequestPreVote(id, to, req, resp)
}

// quietPipeline ends a stream of entries when its group falls quiet: raft then goes back to single requests.
type quietPipeline struct {
	raft.AppendPipeline
	quiet *atomic.Bool
}

func (p quietPipeline) AppendEntries(req *raft.AppendEntriesRequest, resp *raft.AppendEntriesResponse) (raft.AppendFuture, error) {
	if p.quiet.Load() {
		return nil, errQuiet
	}
	return p.AppendPipeline.AppendEntries(req, resp)
}
