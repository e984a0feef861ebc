package cluster

import (
	"context"
	"math"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// step does what a migration's phase asks for, and returns what follows, which may be the same phase; nil, if nothing does for now.
func (d *drive) step(ctx context.Context, m *migration) (*moveStep, error) {
	if m.phase == moveCopying {
		return d.copy(ctx, m)
	}
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	switch m.phase {
	case movePlanned:
		return d.begin(ctx, m)
	case moveStaging:
		return d.stage(ctx, m)
	case moveTailing:
		return d.tail(ctx, m)
	case moveFenced:
		return d.cutOver(ctx, m)
	case moveFlipped:
		return d.settle(ctx, m)
	case moveSettled:
		return d.collect(ctx, m)
	case moveAborting:
		return d.takeBack(ctx, m)
	}
	return nil, nil
}

func (m *migration) next(phase movePhase) *moveStep {
	return &moveStep{id: m.id, attempt: m.attempt, phase: phase, at: time.Now()}
}

func (m *migration) move() engine.Move { return engine.Move{ID: m.id, Attempt: m.attempt} }

// order has a shard's log say where the tenant lives.
func (d *drive) order(ctx context.Context, shard uint16, op engine.Op, move engine.Move, m *migration) (Written, error) {
	v := applyVerb{command: &engine.Command{Op: op, Key: engine.Key{Tenant: m.tenant}, Move: move, Epoch: m.epoch}}
	err := d.node.ask(ctx, &route{shard: shard}, &v)
	return v.written, err
}

// begin looks whether the target has room, and takes one of the places that nodes have.
func (d *drive) begin(ctx context.Context, m *migration) (*moveStep, error) {
	s := d.node.meta.state()
	if s.checkStart(m, d.node.opts.MovesPerNode, s.busyNodes()) != nil {
		return nil, nil // it waits for its turn
	}
	v := residentVerb{tenant: m.tenant}
	if err := d.node.ask(ctx, &route{shard: m.from}, &v); err != nil {
		return nil, err
	}
	silent, err := d.node.checkRoom(ctx, m.to, v.records, v.bytes)
	if err != nil {
		return nil, err
	}
	step := m.next(moveStaging)
	step.limit, step.fault = d.node.opts.MovesPerNode, silentText(silent)
	return step, nil
}

// stage lets writes through that the last attempt has stopped, and begins a copy at the target.
func (d *drive) stage(ctx context.Context, m *migration) (*moveStep, error) {
	if m.attempt > 1 {
		last := engine.Move{ID: m.id, Attempt: m.attempt - 1}
		if _, err := d.order(ctx, m.from, engine.OpUnfenceTenant, last, m); err != nil {
			return nil, err
		}
	}
	if _, err := d.order(ctx, m.to, engine.OpStageTenant, m.move(), m); err != nil {
		return nil, err
	}
	from := leaveVerb{op: leaveOpen, move: m.move(), tenant: m.tenant}
	if err := d.node.ask(ctx, &route{shard: m.from}, &from); err != nil {
		return nil, err
	}
	if from.to == 0 { // it takes some time
		return m.next(moveStaging), nil
	}
	d.progress.begin(from.bytes)
	return m.next(moveCopying), nil
}

// copy takes in what the tenant has, slice by slice, and then what is needed to serve it at once.
func (d *drive) copy(ctx context.Context, m *migration) (*moveStep, error) {
	slice, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	v, err := d.arrive(slice, m, arriveCopy)
	if err != nil {
		return nil, err
	}
	if !v.done {
		return m.next(moveCopying), nil
	}
	d.warm(ctx, m)
	step := m.next(moveTailing)
	step.copied = d.progress.copied.Load()
	return step, nil
}

func (d *drive) arrive(ctx context.Context, m *migration, op byte) (arriveVerb, error) {
	v := arriveVerb{op: op, move: m.move(), tenant: m.tenant, from: m.from}
	err := d.node.ask(ctx, &route{shard: m.to}, &v)
	if err == nil {
		d.progress.copied.Add(v.bytes)
		d.progress.lag.Store(v.lag)
	}
	return v, err
}

// The source is followed closely when at most fewEntries of its log are left and a round takes no longer than shortTail, for one round
// after the other: then what is left at the fence takes some milliseconds. How many depends on what was copied before, which is what keeps the
// target's replicas busy: one for each calmBytes, at most calmRounds. calmPatience is how long that is waited for.
const (
	fewEntries   = 64
	shortTail    = 20 * time.Millisecond
	calmBytes    = 1 << 20
	calmRounds   = 10
	calmPatience = 10 * time.Second
)

// tail follows the source until that is done closely: after the copy the target's replicas are busy for a while with what was written
// meanwhile, and the tenant's writes would wait for that. A shard that is written to as fast as it is read, or a busy machine, is not waited for
// longer than calmPatience: those writes are mostly of others, and how long the tenant's own may wait is bounded.
func (d *drive) tail(ctx context.Context, m *migration) (*moveStep, error) {
	until, calm := time.Now().Add(callPatience/2), uint64(0)
	enough := 1 + min(m.copied/calmBytes, calmRounds-1)
	patience := time.Unix(0, m.changed()).Add(calmPatience)
	for before := uint64(math.MaxUint64); time.Now().Before(until); {
		begun := time.Now()
		v, err := d.arrive(ctx, m, arriveTail)
		if err != nil {
			return nil, err
		}
		took := time.Since(begun)
		if calm++; v.lag > fewEntries || took > shortTail {
			calm = 0
		}
		near := v.lag <= fewEntries || v.lag >= before || took < shortTail
		if calm >= enough || near && time.Now().After(patience) {
			return m.next(moveFenced), nil
		}
		idle := calm > 0 || v.lag >= before
		if before = v.lag; idle && sleep(ctx, shortTail) != nil {
			return nil, ctx.Err()
		}
	}
	return m.next(moveTailing), nil
}

// cutOver stops the tenant's writes, takes in the last of them, and asks for the flip. What fails is done again while writes may
// wait; then they go on, and it comes again with the next attempt.
func (d *drive) cutOver(ctx context.Context, m *migration) (*moveStep, error) {
	ctx, cancel := context.WithTimeout(ctx, cutPatience)
	defer cancel()
	for {
		step, err := d.cut(ctx, m)
		switch {
		case err == nil:
			return step, nil
		case !d.node.meta.group.leads(): // another driver goes on with this attempt
			return nil, err
		case !errs.Is(err, errs.Unavailable) && !errs.Is(err, errs.OutcomeUnknown) && ctx.Err() == nil:
			return nil, err
		case sleep(ctx, retryPause) != nil:
			return nil, &cutError{err}
		}
	}
}

// cut stops writes only while most of the metadata plane's voters follow this driver, asked for it: what it fences could not be flipped
// otherwise, and writes would wait for another leader. It does not help if they are lost in the moments until the flip.
func (d *drive) cut(ctx context.Context, m *migration) (*moveStep, error) {
	if err := d.node.meta.group.confirm(ctx); err != nil {
		return nil, err
	}
	fence, err := d.order(ctx, m.from, engine.OpFenceTenant, m.move(), m)
	if err != nil {
		return nil, err
	}
	for {
		v, err := d.arrive(ctx, m, arriveTail)
		if err != nil {
			return nil, err
		}
		if v.done {
			step := m.next(moveFlipped)
			step.fence, step.source, step.target = fence.LSN, v.digest, v.compared
			step.copied = d.progress.copied.Load()
			return step, nil
		}
	}
}

// settle lets the target serve, and then has the source send away what still comes there.
func (d *drive) settle(ctx context.Context, m *migration) (*moveStep, error) {
	if _, err := d.order(ctx, m.to, engine.OpSettleTenant, m.move(), m); err != nil {
		return nil, err
	}
	if _, err := d.order(ctx, m.from, engine.OpLeaveTenant, m.move(), m); err != nil {
		return nil, err
	}
	d.logger.Info("a tenant has moved", "tenant", m.tenant.String(), "from", m.from, "to", m.to)
	step := m.next(moveSettled)
	step.until = step.at.Add(d.node.opts.KeepMoved)
	step.failed = d.node.toldOf(ctx)[m.id].Failed
	return step, nil
}

// collect drops the source's copy, when its time is over.
func (d *drive) collect(ctx context.Context, m *migration) (*moveStep, error) {
	if time.Now().UnixNano() < m.kept {
		return nil, nil
	}
	if err := d.forgetAt(ctx, m.from, m); err != nil {
		return nil, err
	}
	return m.next(moveCollected), nil
}

// takeBack lets the source go on, and drops what the target has.
func (d *drive) takeBack(ctx context.Context, m *migration) (*moveStep, error) {
	if d.node.meta.state().hasShard(m.from) {
		if _, err := d.order(ctx, m.from, engine.OpUnfenceTenant, m.move(), m); err != nil && !settledAlready(err) {
			return nil, err
		}
	}
	if err := d.forgetAt(ctx, m.to, m); err != nil {
		return nil, err
	}
	step := m.next(moveAborted)
	step.failed = d.node.toldOf(ctx)[m.id].Failed
	return step, nil
}

// forgetAt drops a copy. It may be that there is none, or that a later migration has taken it over.
func (d *drive) forgetAt(ctx context.Context, shard uint16, m *migration) error {
	if !d.node.meta.state().hasShard(shard) {
		return nil
	}
	if _, err := d.order(ctx, shard, engine.OpForgetTenant, m.move(), m); err != nil && !settledAlready(err) {
		return err
	}
	return nil
}

// settledAlready reports whether a shard refuses an order because it has gone on: a later migration has begun there, or the
// tenant was dropped.
func settledAlready(err error) bool {
	return errs.Is(err, errs.FailedPrecondition) || errs.Is(err, errs.NotFound)
}
