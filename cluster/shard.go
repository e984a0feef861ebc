package cluster

import (
	"context"
	"fmt"
	"path/filepath"
	"strconv"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/longlock"
)

// maxEntry bounds a command in bytes. A request has at most 2 MB of body, which no encoding of ours grows fivefold.
const maxEntry = 16 << 20

// shard is this node's replica of a shard: its log and its part of the engine.
type shard struct {
	id     uint16
	group  *group
	engine *engine.Shard

	defining longlock.Mutex // held while indexes are defined and dropped
	creating longlock.Mutex // held from the look-up to the creation of a partition asked for by name
	moved    changes        // of where tenants live
}

// shardDir is the directory of a replica. An incarnation is never filled a second time: what replaces a lost replica
// gets the next number, so that no old snapshot or vote can come back (hashicorp/raft #395).
func shardDir(data string, id uint16, incarnation uint64) string {
	return filepath.Join(data, "shards", strconv.Itoa(int(id)), strconv.FormatUint(incarnation, 10))
}

func shardName(id uint16) string { return "shard " + strconv.Itoa(int(id)) }

// openShard opens a shard's engine and then its log, which replays what the engine has not flushed.
func openShard(ctx context.Context, e *engine.Engine, id uint16, dir string, o groupOptions) (*shard, error) {
	es, err := e.OpenShard(dir)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", o.name, err)
	}
	o.dir, o.markers, o.shard = raftDir(dir), true, id
	sh := &shard{id: id, engine: es}
	o.fsm = &shardFSM{engine: es, ctx: ctx, fail: o.fail, name: o.name, seen: o.applied, moved: &sh.moved}
	o.check = func(g *group) error {
		last, err := g.log.LastIndex()
		if err != nil {
			return err
		}
		return checkMarker(g.snaps, last, es)
	}
	if sh.group, err = openGroup(o); err != nil {
		return nil, err // the engine closes its shards
	}
	return sh, nil
}

// readable says whether local state may answer a read: this replica leads and has applied all that was committed before.
// With a single voter, leading is enough: nobody else can have committed anything.
func (s *shard) readable(ctx context.Context) error { return s.group.readable(ctx) }

// propose commits a command and returns what it did. The error is the command's own refusal, or as group.propose.
func (s *shard) propose(ctx context.Context, c *engine.Command) (Written, error) {
	return s.proposeBytes(ctx, engine.AppendCommand(make([]byte, 0, engine.EncodedSize(c)), c))
}

// proposeBytes is propose with an encoded command, which it keeps.
func (s *shard) proposeBytes(ctx context.Context, b []byte) (Written, error) {
	if len(b) > maxEntry {
		return Written{}, errs.New(errs.TooLarge, "the request takes %d bytes in the log, the limit is %d", len(b), maxEntry).
			WithHint("send fewer records at once")
	}
	answer, err := s.group.propose(ctx, b)
	if err != nil {
		return Written{}, err
	}
	applied := answer.(engine.Applied)
	return s.written(applied), applied.Err
}

// written is the answer of a write that the engine has answered.
func (s *shard) written(a engine.Applied) Written {
	w := Written{Affected: a.Affected, LSN: a.Index, Shard: int(s.id), Repeated: a.Repeated}
	if a.Repeated {
		w.LSN = a.First
	}
	return w
}
