package cluster

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// mover carries migrations out. Every node has one; only that of the metadata plane's leader acts. What is to be done follows
// from a migration's phase, each step may be done twice, and each names the attempt: so another leader goes on where the one
// before was, and what that one still does counts for nothing.
type mover struct {
	node   *Node
	pace   time.Duration
	logger *slog.Logger

	mu     sync.Mutex
	driven map[uint64]*drive
	done   sync.WaitGroup

	faults   moveFaults
	received atomic.Uint64 // bytes of tenants, at shards that are led here
	longest  atomic.Int64  // a write's wait for its tenant's new home, in nanoseconds
}

// drive is a migration that is carried out here.
type drive struct {
	*mover
	id     uint64
	cancel context.CancelFunc
	logger *slog.Logger

	progress progress
}

func newMover(n *Node) *mover {
	return &mover{node: n, pace: n.opts.pace(), logger: n.logger, driven: map[uint64]*drive{}}
}

// run looks when the metadata plane changes and, while there is something to be done, at its pace.
func (mv *mover) run(ctx context.Context) {
	defer mv.done.Wait()
	for {
		s := mv.node.meta.state()
		var tick <-chan time.Time
		if mv.look(ctx, s) {
			tick = time.After(mv.pace)
		}
		select {
		case <-s.superseded:
		case <-tick:
		case <-ctx.Done():
			return
		}
	}
}

// look begins what is to be done, and reports whether there may be more of it without a change. Of those that are planned it begins
// one: whether the next may begin depends on that.
func (mv *mover) look(ctx context.Context, s *state) (more bool) {
	leads, begun := mv.node.meta.group.leads(), false
	busy := s.busyNodes()
	for _, m := range s.moves {
		if more = more || !m.phase.over(); !leads || ctx.Err() != nil {
			continue
		}
		switch {
		case m.phase.working(), m.phase == moveSettled && time.Now().UnixNano() >= m.kept:
			mv.drive(ctx, m.id)
		case m.phase == movePlanned && !begun && s.checkStart(m, mv.node.opts.MovesPerNode, busy) == nil:
			begun = mv.drive(ctx, m.id)
		}
	}
	if !leads {
		mv.stop()
	}
	return more
}

// drive carries a migration out, and reports false if that is done already.
func (mv *mover) drive(ctx context.Context, id uint64) bool {
	mv.mu.Lock()
	defer mv.mu.Unlock()
	if mv.driven[id] != nil {
		return false
	}
	d := &drive{mover: mv, id: id, logger: mv.logger.With("migration", id)}
	ctx, d.cancel = context.WithCancel(ctx)
	mv.driven[id] = d
	mv.done.Go(func() {
		defer mv.forget(d)
		d.run(ctx)
	})
	return true
}

func (mv *mover) forget(d *drive) {
	mv.mu.Lock()
	defer mv.mu.Unlock()
	d.cancel()
	delete(mv.driven, d.id)
}

// stop gives up what is carried out here: another node leads.
func (mv *mover) stop() {
	mv.mu.Lock()
	defer mv.mu.Unlock()
	for _, d := range mv.driven {
		d.cancel()
	}
}

const (
	// movePause and maxMovePause are the first and the longest pause after a step that failed.
	movePause, maxMovePause = 50 * time.Millisecond, 2 * time.Second
	// callPatience bounds what is asked of others: what takes longer is not answered any more, and asked again.
	callPatience = 10 * time.Second
	// cutPatience bounds how long writes wait: a cut-over that is not done by then is given up, and tried again later.
	cutPatience = 3 * time.Second
	// maxAttempts is how often a migration is begun.
	maxAttempts = 5
	// stuckAfter is how long a migration may come no further before it is taken back, as long as that can be.
	stuckAfter = 15 * time.Minute
)

// run takes step after step until there is none, or another is to take them.
func (d *drive) run(ctx context.Context) {
	moved, failed := time.Now(), 0
	for ctx.Err() == nil && d.node.meta.group.leads() {
		m, ok := d.node.meta.state().migration(d.id)
		if !ok || m.phase.over() {
			return
		}
		if look := d.node.opts.stepping; look != nil {
			look(m)
		}
		next, err := d.step(ctx, m)
		if err == nil && next != nil && next.phase != m.phase {
			err = d.node.stepMove(ctx, *next)
		}
		switch {
		case err == nil && next == nil: // it waits for others, or for its time
			return
		case err == nil:
			moved, failed = time.Now(), 0
			continue
		case ctx.Err() != nil:
			return
		}
		d.logger.Info("a step of a migration failed", "tenant", m.tenant.String(), "phase", m.phase.String(), "attempt", m.attempt, "err", err)
		if instead := d.instead(m, err, time.Since(moved) > stuckAfter); instead != nil {
			_ = d.node.stepMove(ctx, *instead) // if that fails as well, the step comes again
		}
		if failed++; sleep(ctx, min(movePause<<min(failed-1, 10), maxMovePause)) != nil {
			return
		}
	}
}

// instead is what follows a step that failed: nothing, and it is taken again; or the next attempt; or the end.
func (d *drive) instead(m *migration, err error, stuck bool) *moveStep {
	if !m.phase.revocable() {
		return nil
	}
	again, hopeless := true, stuck || m.attempt >= maxAttempts
	switch errs.KindOf(err) {
	case errs.Unavailable, errs.OutcomeUnknown, errs.DeadlineExceeded, errs.Canceled:
		_, late := errors.AsType[*cutError](err)
		again = late
		hopeless = stuck || late && hopeless
	case errs.StorageFull:
		hopeless = true
	}
	step := &moveStep{id: m.id, attempt: m.attempt, at: time.Now(), fault: cutText(err.Error())}
	switch {
	case hopeless:
		step.phase = moveAborting
	case again && m.phase != movePlanned:
		step.phase = moveStaging
	default:
		return nil
	}
	return step
}

func cutText(text string) string { return text[:min(len(text), maxMoveText)] }

// cutError says that a cut-over has taken too long.
type cutError struct{ err error }

func (e *cutError) Error() string { return "writes have waited for too long: " + e.err.Error() }
func (e *cutError) Unwrap() error { return e.err }
