package cluster

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// alignRetry is the pause before shards that could not be told are told again.
const alignRetry = time.Second

// aligner brings the indexes of the metadata plane into the shards' logs, where apply can depend on them: definitions,
// and drops for tombstones. Both are idempotent, so whatever a crash or a failure interrupted is finished by
// comparing again: at start, before a write, and on a wake until it succeeds.
type aligner struct {
	state  func() *state
	shards func() replicaMap
	logger *slog.Logger
	woken  chan struct{}
}

func newAligner(state func() *state, shards func() replicaMap, logger *slog.Logger) *aligner {
	return &aligner{state: state, shards: shards, logger: logger, woken: make(chan struct{}, 1)}
}

// wake asks for another attempt in the background.
func (a *aligner) wake() {
	select {
	case a.woken <- struct{}{}:
	default:
	}
}

func (a *aligner) run(ctx context.Context) {
	for {
		select {
		case <-a.woken:
		case <-ctx.Done():
			return
		}
		for a.alignAll(ctx) != nil {
			select {
			case <-time.After(alignRetry):
			case <-ctx.Done():
				return
			}
		}
	}
}

// begin is alignAll, but for shards whose leader changes just now: they are told in the background, or by their next leader.
func (a *aligner) begin(ctx context.Context) error {
	err := a.alignAll(ctx)
	if err != nil {
		a.wake()
	}
	if changesLeader(err) {
		return nil
	}
	return err
}

// alignAll returns once every shard led here knows the indexes and tombstones that the metadata plane holds now, or could
// not be told.
func (a *aligner) alignAll(ctx context.Context) error {
	var g errgroup.Group
	for _, sh := range a.shards() {
		if sh.group.leads() { // others are told by the nodes that lead them
			g.Go(func() error { return a.align(ctx, sh) })
		}
	}
	return g.Wait()
}

// define makes sure that a shard knows ix. NotFound if the index was deleted.
func (a *aligner) define(ctx context.Context, sh *shard, ix *Index) error {
	if _, ok := sh.engine.Schema(ix.ID); ok {
		return nil
	}
	if _, ok := a.state().indexByID(ix.ID); !ok {
		return errNoIndex(ix.Name)
	}
	return a.align(ctx, sh)
}

func (a *aligner) align(ctx context.Context, sh *shard) error {
	sh.defining.Lock()
	defer sh.defining.Unlock()
	s := a.state()
	defined, _ := sh.engine.Schemas()
	known := make(map[engine.IndexID]bool, len(defined))
	for _, schema := range defined {
		known[schema.ID] = true
		if err := a.dropStale(ctx, s, sh, schema.ID); err != nil {
			return err
		}
	}
	for i := range s.indexes {
		if known[s.indexes[i].ID] {
			continue
		}
		c := engine.Command{Op: engine.OpDefineIndex, Schema: s.indexes[i].schema()}
		if _, err := sh.propose(ctx, &c); err != nil {
			return errs.Wrap(errs.KindOf(err), err, "define index %q in shard %d", s.indexes[i].Name, sh.id)
		}
	}
	return nil
}

// dropStale drops an index of a shard that has a tombstone. One that the metadata plane has never heard of is left
// alone and told: absence alone must never delete data.
func (a *aligner) dropStale(ctx context.Context, s *state, sh *shard, id engine.IndexID) error {
	if _, ok := s.indexByID(id); ok {
		return nil
	}
	if !s.isDropped(id) {
		a.logger.Error("shard has an index that the metadata plane does not know", "shard", sh.id, "index", id)
		return nil
	}
	_, err := sh.propose(ctx, &engine.Command{Op: engine.OpDropIndex, Key: engine.Key{Index: id}})
	return errs.Wrap(errs.KindOf(err), err, "drop index %d from shard %d", id, sh.id)
}

// changesLeader reports whether a shard was not told because another replica leads it, or is about to.
func changesLeader(err error) bool {
	_, elsewhere := errors.AsType[*notLeaderError](err)
	return elsewhere || errors.Is(err, raft.ErrLeadershipTransferInProgress) || errors.Is(err, raft.ErrLeadershipLost)
}
