package cluster

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// warmPatience bounds how long a move waits for the replicas to get graphs. One that has none by then builds it.
const warmPatience = 5 * time.Minute

// warmRequest asks a node to make its replica of a tenant that comes fit to serve it at once.
type warmRequest struct {
	shard  uint16
	from   uint16 // shard where the tenant lives
	tenant engine.TenantID
	move   engine.Move
}

func (q *warmRequest) append(b []byte) []byte {
	b = codec.AppendUvarint(codec.AppendUvarint(b, uint64(q.shard)), uint64(q.from))
	b = append(b, q.tenant[:]...)
	return codec.AppendUvarint(codec.AppendUvarint(b, q.move.ID), q.move.Attempt)
}

func (q *warmRequest) read(r *codec.Reader) {
	q.shard, q.from = uint16(r.Uvarint()), uint16(r.Uvarint())
	copy(q.tenant[:], r.Raw(len(q.tenant)))
	q.move = engine.Move{ID: r.Uvarint(), Attempt: r.Uvarint()}
}

// warm has all replicas of the target get the tenant's graphs, each by itself. Nothing depends on it but how fast the first
// searches are.
func (d *drive) warm(ctx context.Context, m *migration) {
	ctx, cancel := context.WithTimeout(ctx, warmPatience)
	defer cancel()
	go func() { // a migration that is cancelled does not wait
		_, _ = d.node.meta.fsm.wait(ctx, func(s *state) bool { now, ok := s.migration(m.id); return !ok || now.phase != m.phase })
		cancel()
	}()
	q := warmRequest{m.to, m.from, m.tenant, m.move()}
	var wg sync.WaitGroup
	for _, node := range d.node.meta.state().replicas(m.to) {
		wg.Go(func() {
			if err := d.node.warmAt(ctx, node, &q); err != nil {
				d.logger.Info("a replica has not got all graphs of a tenant that comes, it builds them", "node", node, "err", err)
			}
		})
	}
	wg.Wait()
}

func (n *Node) warmAt(ctx context.Context, node string, q *warmRequest) error {
	if node == n.id.NodeID {
		return n.warmHere(ctx, q)
	}
	_, err := n.peers.call(ctx, node, methodWarm, q.append(nil), nil)
	return err
}

// answerWarm serves methodWarm.
func (n *Node) answerWarm(ctx context.Context, from string, request, dst []byte) ([]byte, error) {
	if err := n.checkCaller(from); err != nil {
		return dst, err
	}
	var q warmRequest
	r := codec.NewReader(request)
	q.read(r)
	if err := r.Done(); err != nil {
		return dst, err
	}
	return dst, n.warmHere(ctx, &q)
}

// warmHere gets the tenant's graphs once the replica has all records that were copied, and brings its partitions into memory.
func (n *Node) warmHere(ctx context.Context, q *warmRequest) error {
	sh := n.replica(q.shard)
	if sh == nil {
		return newNotLeaderError(shardName(q.shard), "")
	}
	if err := sh.awaitCopy(ctx, q.tenant, q.move); err != nil {
		return err
	}
	var all error
	for _, ix := range n.meta.state().indexes {
		key := engine.Key{Tenant: q.tenant, Index: ix.ID}
		err := sh.engine.ImportGraph(ctx, key, &graphReader{ctx: ctx, node: n, verb: leaveVerb{op: leaveGraph, move: q.move, tenant: q.tenant, index: ix.ID}, from: q.from})
		if errs.Is(err, errs.NotFound) { // no such partition, or no graph: the next line tells
			err = nil
		}
		if warmed := sh.engine.Warm(ctx, key); !errs.Is(warmed, errs.NotFound) {
			err = errors.Join(err, warmed)
		}
		all = errors.Join(all, err)
	}
	return all
}

// awaitCopy returns when a replica has applied all that was copied of a tenant.
func (s *shard) awaitCopy(ctx context.Context, t engine.TenantID, move engine.Move) error {
	for {
		changed := s.moved.wait()
		r := s.engine.Residence(t)
		switch {
		case r.Move.Compare(move) > 0:
			return errs.New(errs.FailedPrecondition, "a later attempt has begun")
		case r.Standing == engine.Staged && r.Move == move && r.Copy.Copied:
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// graphReader reads the graph of a partition from the leader of the shard where it is.
type graphReader struct {
	ctx  context.Context
	node *Node
	from uint16
	verb leaveVerb
	rest []byte
}

func (r *graphReader) Read(p []byte) (int, error) {
	if len(r.rest) == 0 {
		if err := r.node.ask(r.ctx, &route{shard: r.from}, &r.verb); err != nil {
			return 0, err
		}
		if len(r.verb.commands) == 0 {
			return 0, io.EOF
		}
		r.rest = r.verb.commands[0]
		r.verb.at += uint64(len(r.rest))
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

// graph reads a piece of a partition's graph, nothing behind its end.
func (v *leaveVerb) graph(ctx context.Context, n *Node, sh *shard) error {
	l, ok := n.leaving.find(v.move)
	if !ok {
		return errs.New(errs.NotFound, "nothing is held for migration %d, attempt %d", v.move.ID, v.move.Attempt)
	}
	piece, err := l.piece(sh, engine.Key{Tenant: v.tenant, Index: v.index}, int64(v.at), n.leaving.size)
	if err != nil || len(piece) == 0 {
		return err
	}
	v.commands = [][]byte{piece}
	return n.leaving.pace.wait(ctx, len(piece))
}

func (l *leaving) piece(sh *shard, key engine.Key, at int64, size int) ([]byte, error) {
	l.reading.Lock()
	defer l.reading.Unlock()
	if l.closed {
		return nil, errs.New(errs.NotFound, "it is not held any more")
	}
	g := l.graphs[key.Index]
	if g == nil {
		var err error
		if g, err = sh.engine.ExportGraph(key); err != nil {
			return nil, err
		}
		if l.graphs == nil {
			l.graphs = map[engine.IndexID]*engine.GraphExport{}
		}
		l.graphs[key.Index] = g
	}
	b := make([]byte, max(0, min(int64(size), g.Size-at)))
	if _, err := g.ReadAt(b, at); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return b, nil
}
