package cluster

import (
	"cmp"
	"context"
	"encoding/hex"
	"slices"
	"strconv"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// Phases of a migration. Up to PhaseFenced it can be cancelled, and the tenant is served by the source; after PhaseFlipped there is
// only forward.
const (
	PhasePlanned   = "planned"   // waits for its turn
	PhaseStaging   = "staging"   // the target begins a copy
	PhaseCopying   = "copying"   // what the tenant has is copied
	PhaseTailing   = "tailing"   // and what is written to it meanwhile
	PhaseFenced    = "fenced"    // writes wait
	PhaseFlipped   = "flipped"   // the tenant lives at the target
	PhaseSettled   = "settled"   // the target serves; the source keeps its copy for a while
	PhaseCollected = "collected" // the end: the source has dropped it
	PhaseAborting  = "aborting"  // what was begun is taken back
	PhaseAborted   = "aborted"   // the end: the tenant lives where it did
)

// Migration is the way of a tenant from one shard to another.
type Migration struct {
	ID         uint64 // 0: of a dry run
	Tenant     string // its name when it was asked for
	TenantID   string
	From, To   int
	Attempt    uint64 // from 1 on
	Phase      string
	Reason, By string // why, and who asked
	Error      string // what went wrong last: why an attempt, or the whole, was given up, or which nodes it was begun without
	ToRing     bool   // the tenant is to live where the ring says from then on, instead of being pinned
	RollbackOf uint64 // migration that this one takes back; 0: none
	Epoch      uint64 // of the tenant, since the flip

	Started   time.Time // when it was asked for
	Changed   time.Time // when it came to its phase
	Ended     time.Time // zero: it has not
	KeptUntil time.Time // until when the source keeps its copy; zero: that is not known yet
	Phases    []PhaseTime
	Digest    string // of the tenant at the fence, at the source and at the target: they were equal; empty before the flip

	// While it is under way, what the nodes tell; zero where none is asked or answers.
	Copied, Total uint64 // bytes of this attempt
	Failed        uint64 // requests of the tenant that failed since it was begun
	Rate          float64
	ETA           time.Duration // of the copy
	Lag           uint64        // entries of the source's log that the target has not seen
}

// PhaseTime is when a phase of the present attempt began.
type PhaseTime struct {
	Phase string
	At    time.Time
}

// Running reports whether the tenant is still to be brought to its new home, or back.
func (m *Migration) Running() bool {
	return !m.Served() && m.Phase != PhaseAborted
}

// Served reports whether the target serves the tenant.
func (m *Migration) Served() bool { return m.Phase == PhaseSettled || m.Phase == PhaseCollected }

// MoveOptions say how a tenant is to be moved.
type MoveOptions struct {
	Reason string // for people
	By     string // who asks: the id of a key, or a part of croft
	DryRun bool   // look only whether it could be done, and how much there is to copy
	ToRing bool   // if the ring says by then that the tenant lives at the target, it is not pinned there
}

// Move names a tenant and the shard where it is to live.
type Move struct {
	Tenant string
	To     int

	id engine.TenantID // if set, it says which; it may be deleted
}

// MoveTenant plans to move a tenant to another shard, and returns at once; AwaitMigration waits for the end. NotFound: there is no
// such tenant or shard. FailedPrecondition: it lives there already, is being moved, or the target is on a node that is going.
// StorageFull: the target has no room.
func (n *Node) MoveTenant(ctx context.Context, tenant string, to int, o MoveOptions) (Migration, error) {
	all, err := n.moveTenants(ctx, []Move{{Tenant: tenant, To: to}}, o, 0)
	if err != nil {
		return Migration{}, err
	}
	return all[0], nil
}

// MoveTenants plans many migrations with one entry of the metadata plane. They begin in this order, as many at a time as the nodes
// may have (Options.MovesPerNode). Those that cannot be have no ID, and an Error; it is an error if none can.
func (n *Node) MoveTenants(ctx context.Context, moves []Move, o MoveOptions) ([]Migration, error) {
	return n.moveTenants(ctx, moves, o, 0)
}

func (n *Node) moveTenants(ctx context.Context, moves []Move, o MoveOptions, undoes uint64) ([]Migration, error) {
	if len(o.Reason) > maxMoveText || len(o.By) > maxMoveText {
		return nil, errs.New(errs.Invalid, "a reason of %d bytes, at most %d are taken", max(len(o.Reason), len(o.By)), maxMoveText)
	}
	if err := n.Refresh(ctx); err != nil {
		return nil, err
	}
	all := make([]Migration, len(moves))
	ids := make([]engine.TenantID, len(moves))
	c := moveCommand{reason: o.Reason, by: o.By, toRing: o.ToRing, undoes: undoes, at: time.Now()}
	var refused error
	for i, m := range moves {
		w, err := n.wantedMove(ctx, &all[i], m, o.DryRun)
		if err != nil {
			all[i].Error = err.Error()
			refused = cmp.Or(refused, err)
			continue
		}
		ids[i] = w.tenant
		c.moves = append(c.moves, w)
	}
	switch {
	case len(c.moves) == 0:
		return nil, refused
	case o.DryRun:
		return all, nil
	}
	res, err := n.changeMeta(ctx, &metaCommand{op: metaPlanMoves, moveCommand: c})
	if err != nil {
		return nil, err
	}
	return n.plannedMoves(all, ids, res.at), nil
}

// wantedMove looks whether a move can be, and fills in what it would be.
func (n *Node) wantedMove(ctx context.Context, shown *Migration, m Move, dry bool) (wantedMove, error) {
	s := n.meta.state()
	*shown = Migration{Tenant: m.Tenant, To: m.To, Phase: PhasePlanned}
	t, ok := s.tenant(m.Tenant)
	if m.id != (engine.TenantID{}) {
		t, ok = s.tenantByID(m.id)
	}
	if !ok {
		return wantedMove{}, errNoTenant(m.Tenant)
	}
	shown.TenantID, shown.From = t.id.String(), int(s.home(t))
	if m.To < 0 || m.To >= maxShardIDs {
		return wantedMove{}, errNoShard(m.To)
	}
	w := wantedMove{t.id, uint16(m.To)}
	if err := s.checkMove(t.id, w.to); err != nil || !dry {
		return w, err
	}
	return w, n.sizeUp(ctx, shown, t, w.to)
}

// plannedMoves fills in the migrations that an entry has planned.
func (n *Node) plannedMoves(all []Migration, ids []engine.TenantID, entry uint64) []Migration {
	s := n.meta.state()
	for i, id := range ids {
		at := slices.IndexFunc(s.moves, func(m *migration) bool { return m.entry == entry && m.tenant == id })
		switch {
		case at >= 0:
			all[i] = describeMove(s.moves[at])
		case all[i].Error == "":
			all[i].Error = "something else was done with the tenant at the same time"
		}
	}
	return all
}

func describeMove(m *migration) Migration {
	return Migration{
		ID: m.id, Tenant: m.name, TenantID: m.tenant.String(), From: int(m.from), To: int(m.to), Attempt: m.attempt,
		Phase: m.phase.String(), Reason: m.reason, By: m.by, Error: m.fault, ToRing: m.toRing, RollbackOf: m.undoes, Epoch: m.epoch,
		Started: timeOf(m.begins[movePlanned]), Changed: timeOf(m.changed()), Ended: timeOf(m.ended()), KeptUntil: timeOf(m.kept),
		Phases: m.phases(), Digest: hex.EncodeToString([]byte(m.digest)), Copied: m.copied, Total: m.copied, Failed: m.failed,
	}
}

// phases are the beginnings of those that the present attempt has come to, in order.
func (m *migration) phases() (all []PhaseTime) {
	for p, at := range m.begins {
		if at != 0 {
			all = append(all, PhaseTime{movePhase(p).String(), timeOf(at)})
		}
	}
	return all
}

// timeOf is a time in nanoseconds since 1970, 0 for none.
func timeOf(ns int64) time.Time {
	if ns == 0 {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// MigrationFilter says which migrations are asked for. The zero value means all.
type MigrationFilter struct {
	Tenant string // by the name that it had; empty: of all
	Phase  string // empty: any
	Open   bool   // only those that are still to bring their tenant somewhere
	Before uint64 // only those with a lower id; 0: all
	Limit  int    // at most so many; 0: all
}

func (f *MigrationFilter) takes(m *migration) bool {
	return (f.Tenant == "" || m.name == f.Tenant) && (f.Phase == "" || m.phase.String() == f.Phase) && (!f.Open || m.phase.running()) &&
		(f.Before == 0 || m.id < f.Before)
}

// Migrations returns migrations, the newest first: all that are not over and the last maxMoveHistory that are.
func (n *Node) Migrations(ctx context.Context, f MigrationFilter) ([]Migration, error) {
	if err := n.Refresh(ctx); err != nil {
		return nil, err
	}
	var all []Migration
	for _, m := range slices.Backward(n.meta.state().moves) {
		if f.Limit > 0 && len(all) == f.Limit {
			break
		}
		if f.takes(m) {
			all = append(all, describeMove(m))
		}
	}
	n.showProgress(ctx, all)
	return all, nil
}

// Migration returns one migration. NotFound: there is none of that id, or none any more.
func (n *Node) Migration(ctx context.Context, id uint64) (Migration, error) {
	m, err := n.moveOf(ctx, id)
	if err != nil {
		return Migration{}, err
	}
	all := []Migration{describeMove(m)}
	n.showProgress(ctx, all)
	return all[0], nil
}

// moveOf finds a migration, in newer metadata than there is here.
func (n *Node) moveOf(ctx context.Context, id uint64) (*migration, error) {
	if err := n.Refresh(ctx); err != nil {
		return nil, err
	}
	m, ok := n.meta.state().migration(id)
	if !ok {
		return nil, errNoMove(id)
	}
	return m, nil
}

// AwaitMigration returns when the target serves the tenant or what was begun has been taken back, or with an error of ctx.
func (n *Node) AwaitMigration(ctx context.Context, id uint64) (Migration, error) {
	if _, err := n.moveOf(ctx, id); err != nil {
		return Migration{}, err
	}
	s, err := n.meta.fsm.wait(ctx, func(s *state) bool { m, ok := s.migration(id); return !ok || !m.phase.running() })
	if err != nil {
		return Migration{}, err
	}
	m, ok := s.migration(id)
	if !ok {
		return Migration{}, errNoMove(id)
	}
	return describeMove(m), nil
}

// CancelMigration has a migration taken back. It returns when that is certain to happen; what was begun is undone afterwards.
// FailedPrecondition: the tenant lives at the target already, see RollbackMigration; or it is over.
func (n *Node) CancelMigration(ctx context.Context, id uint64) (Migration, error) {
	m, err := n.moveOf(ctx, id)
	if err != nil {
		return Migration{}, err
	}
	if m.phase == moveFlipped || m.phase == moveSettled {
		return describeMove(m), errs.New(errs.FailedPrecondition, "tenant %q lives on shard %d already", m.name, m.to).
			WithHint("move it back: croft migrations rollback %d", m.id)
	}
	step := moveStep{id: id, phase: moveAborting, at: time.Now(), fault: "it was cancelled"}
	if err := n.stepMove(ctx, step); err != nil {
		return describeMove(m), err
	}
	return n.Migration(ctx, id)
}

// stepMove brings a migration to another phase.
func (n *Node) stepMove(ctx context.Context, step moveStep) error {
	_, err := n.changeMeta(ctx, &metaCommand{op: metaStepMove, moveCommand: moveCommand{step: step}})
	return err
}

// RollbackMigration plans to move a tenant back to where it came from, by a migration like any other. FailedPrecondition: the
// migration was not carried out, the source has dropped its copy, or the tenant has moved on since.
func (n *Node) RollbackMigration(ctx context.Context, id uint64) (Migration, error) {
	m, err := n.moveOf(ctx, id)
	if err != nil {
		return Migration{}, err
	}
	s := n.meta.state()
	t, ok := s.tenantByID(m.tenant)
	switch {
	case m.phase != moveSettled:
		return Migration{}, errs.New(errs.FailedPrecondition, "migration %d is %s: only one that is settled can be taken back", id, m.phase).
			WithHint("move the tenant: croft tenants move")
	case !ok || t.life != tenantLive:
		return Migration{}, errs.New(errs.FailedPrecondition, "tenant %q is deleted", m.name)
	case t.epoch != m.epoch:
		return Migration{}, errs.New(errs.FailedPrecondition, "tenant %q has moved on to shard %d since", t.name, s.home(t))
	}
	o := MoveOptions{Reason: "rollback of migration " + strconv.FormatUint(id, 10), By: m.by, ToRing: m.ringed}
	all, err := n.moveTenants(ctx, []Move{{Tenant: t.name, To: int(m.from)}}, o, id)
	if err != nil {
		return Migration{}, err
	}
	return all[0], nil
}
