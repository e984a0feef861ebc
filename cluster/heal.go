package cluster

import (
	"context"
	"fmt"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// heal puts right what it may, and says what it did; empty: it is not for a program to decide. It deletes nothing. A tenant whose data
// is elsewhere than at its home gets the shard that has it for its home, unless the home has got something meanwhile. A second copy is
// set aside, as one that a migration leaves behind: it stays, and nobody is served from it. That is done only where the home has
// at least as many records, since nothing else tells which of two is the one to keep.
func (n *Node) heal(ctx context.Context, y *Stray) (string, error) {
	switch {
	case y.Kind == StrayMisrouted:
		return n.healHome(ctx, y)
	case y.Kind == StrayCopy && y.atHome >= y.Records:
		return n.setAside(ctx, y)
	}
	return "", nil
}

// healHome lets a tenant live where its data is. The old home is fenced first, unless it takes no writes anyway: none gets lost there,
// those that come meanwhile wait and go to the new home.
func (n *Node) healHome(ctx context.Context, y *Stray) (string, error) {
	flip := &metaCommand{op: metaHeal, healCommand: healCommand{tenant: y.id, to: uint16(y.Shard), epoch: y.epoch, flip: true}}
	done := fmt.Sprintf("shard %d is its home now", y.Shard)
	if y.shut {
		_, err := n.changeMeta(ctx, flip)
		if err != nil {
			done = ""
		}
		return done, err
	}
	move, err := n.fenceStray(ctx, y, y.Home)
	if err != nil {
		return "", err
	}
	v := residentVerb{tenant: y.id}
	if err = n.ask(ctx, &route{shard: uint16(y.Home)}, &v); err == nil && v.records > 0 {
		err = errs.New(errs.FailedPrecondition, "shard %d has got %d vectors of it meanwhile", y.Home, v.records)
	}
	if err == nil {
		_, err = n.changeMeta(ctx, flip)
	}
	switch {
	case errs.Is(err, errs.OutcomeUnknown): // it stays fenced until the next look
		return "", err
	case err != nil:
		return "", n.unfenceStray(ctx, y, y.Home, move, err)
	}
	return done, n.orderStray(ctx, y, y.Home, &engine.Command{Op: engine.OpLeaveTenant, Move: move, Epoch: y.epoch + 1})
}

// setAside has a shard serve nobody from a copy that is not the tenant's home.
func (n *Node) setAside(ctx context.Context, y *Stray) (string, error) {
	move, err := n.fenceStray(ctx, y, y.Shard)
	if err != nil {
		return "", err
	}
	if err = n.Refresh(ctx); err == nil {
		t, ok := n.meta.state().tenantByID(y.id)
		if !ok || t.moving != 0 || t.epoch != y.epoch || int(n.meta.state().home(t)) != y.Home {
			err = errs.New(errs.FailedPrecondition, "it has moved meanwhile")
		}
	}
	if err != nil {
		return "", n.unfenceStray(ctx, y, y.Shard, move, err)
	}
	if err := n.orderStray(ctx, y, y.Shard, &engine.Command{Op: engine.OpLeaveTenant, Move: move, Epoch: y.epoch}); err != nil {
		return "", err
	}
	return fmt.Sprintf("the copy on shard %d is set aside", y.Shard), nil
}

// fenceStray stops writes to a tenant in a shard, by the number of a migration that is drawn for it.
func (n *Node) fenceStray(ctx context.Context, y *Stray, shard int) (engine.Move, error) {
	res, err := n.changeMeta(ctx, &metaCommand{op: metaHeal, healCommand: healCommand{tenant: y.id, epoch: y.epoch}})
	if err != nil {
		return engine.Move{}, err
	}
	move := engine.Move{ID: res.move, Attempt: 1}
	return move, n.orderStray(ctx, y, shard, &engine.Command{Op: engine.OpFenceTenant, Move: move})
}

// unfenceStray lets writes through again, and returns why.
func (n *Node) unfenceStray(ctx context.Context, y *Stray, shard int, move engine.Move, why error) error {
	if err := n.orderStray(ctx, y, shard, &engine.Command{Op: engine.OpUnfenceTenant, Move: move}); err != nil {
		return errs.Wrap(errs.KindOf(err), err, "let writes to shard %d through again after %q", shard, why)
	}
	return why
}

// orderStray gives a shard an order about a tenant. The route names none: the order is about the shard's own copy.
func (n *Node) orderStray(ctx context.Context, y *Stray, shard int, c *engine.Command) error {
	c.Key.Tenant = y.id
	return n.ask(ctx, &route{shard: uint16(shard)}, &applyVerb{command: c})
}
