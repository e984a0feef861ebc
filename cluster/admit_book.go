package cluster

import (
	"context"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// hourBook keeps tenants' hourly windows in the co-state of their shards.
type hourBook struct{ node *Node }

// bookError is one of the book: nothing was done, and at another home it may go well.
type bookError struct{ err error }

func (e *bookError) Error() string { return e.err.Error() }
func (e *bookError) Unwrap() error { return e.err }

// bookFailed makes an error of the book. That nobody knows whether a window was written matters to no request: it was not let in.
func bookFailed(err error) error {
	switch errs.KindOf(err) {
	case errs.OutcomeUnknown, errs.FailedPrecondition:
		err = errs.Wrap(errs.Unavailable, err, "lease a part of an hourly quota")
	}
	return &bookError{err}
}

// hourName is the name of a window: begin in ns since 1970, and requests taken, as uvarints.
const hourName = "hour"

func (b hourBook) home(shard uint16) (*shard, error) {
	sh := b.node.replica(shard)
	if sh == nil {
		return nil, newNotLeaderError(shardName(shard), b.node.leaderOf(shard))
	}
	return sh, nil
}

// Window implements tenancy.Book.
func (b hourBook) Window(ctx context.Context, shard uint16, t tenancy.ID) (w tenancy.Window, term uint64, err error) {
	if w, term, err = b.window(ctx, shard, t); err != nil {
		err = bookFailed(err)
	}
	return w, term, err
}

func (b hourBook) window(ctx context.Context, shard uint16, t tenancy.ID) (w tenancy.Window, term uint64, err error) {
	sh, err := b.home(shard)
	if err != nil {
		return w, 0, err
	}
	if term, err = sh.settle(ctx); err != nil {
		return w, 0, err
	}
	v, err := sh.engine.Costate(engine.TenantID(t), hourName)
	if err != nil || v == nil {
		return w, term, err
	}
	r := codec.NewReader(v)
	w.Begin, w.Taken = int64(r.Uvarint()), int64(r.Uvarint())
	return w, term, errs.Wrap(errs.Corrupt, r.Done(), "read the hourly window of tenant %s", engine.TenantID(t))
}

// Write implements tenancy.Book.
func (b hourBook) Write(ctx context.Context, shard uint16, term uint64, t tenancy.ID, w tenancy.Window) error {
	sh, err := b.home(shard)
	if err == nil {
		v := codec.AppendUvarint(codec.AppendUvarint(nil, uint64(w.Begin)), uint64(w.Taken))
		err = sh.keep(ctx, term, []engine.CostateEntry{{Tenant: engine.TenantID(t), Name: hourName, Value: v}})
	}
	if err != nil {
		return bookFailed(err)
	}
	return nil
}
