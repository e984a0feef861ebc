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
// searches are: of a node that does not answer, nothing more is asked.
func (d *drive) warm(ctx context.Context, m *migration) {
	ctx, cancel := context.WithTimeout(ctx, warmPatience)
	defer cancel()
	q := warmRequest{m.to, m.from, m.tenant, m.move()}
	var wg sync.WaitGroup
	for _, node := range d.node.meta.state().replicas(m.to) {
		wg.Go(func() {
			if err := d.warmAt(ctx, m, node, &q); err != nil {
				d.logger.Info("a replica has not got all graphs of a tenant that comes, it builds them", "node", node, "err", err)
			}
		})
	}
	wg.Wait()
}

// warmAt asks a node until it is done, or the migration has been cancelled.
func (d *drive) warmAt(ctx context.Context, m *migration, node string, q *warmRequest) error {
	for {
		done, err := d.node.askWarm(ctx, node, q)
		if done || err != nil {
			return err
		}
		if now, ok := d.node.meta.state().migration(m.id); !ok || now.phase != m.phase {
			return nil
		}
	}
}

func (n *Node) askWarm(ctx context.Context, node string, q *warmRequest) (done bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callPatience)
	defer cancel()
	if node == n.id.NodeID {
		return n.warms.run(ctx, n, q)
	}
	b, err := n.peers.call(ctx, node, methodWarm, q.append(nil), nil)
	return len(b) > 0 && b[0] != 0, err
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
	done, err := n.warms.run(ctx, n, &q)
	return append(dst, boolByte(done)), err
}

// warms are the replicas of tenants that come which are made fit to serve here.
type warms struct {
	mu      sync.Mutex
	running map[warmRequest]*warming
}

// warming is one of them; err is set before done is closed.
type warming struct {
	done chan struct{}
	err  error
}

// run begins what is asked for, unless it has begun, and returns whether it is done; not later than after moveSlice.
func (ws *warms) run(ctx context.Context, n *Node, q *warmRequest) (done bool, err error) {
	w := ws.begin(n, *q)
	late := time.NewTimer(moveSlice)
	defer late.Stop()
	select {
	case <-w.done:
		ws.mu.Lock()
		defer ws.mu.Unlock()
		delete(ws.running, *q)
		return true, w.err
	case <-late.C:
		return false, nil
	case <-ctx.Done():
		return false, ctx.Err()
	}
}

func (ws *warms) begin(n *Node, q warmRequest) *warming {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	if w := ws.running[q]; w != nil {
		return w
	}
	if ws.running == nil {
		ws.running = map[warmRequest]*warming{}
	}
	w := &warming{done: make(chan struct{})}
	ws.running[q] = w
	n.background.Go(func() {
		defer close(w.done)
		ctx, cancel := context.WithTimeout(n.ctx, warmPatience)
		defer cancel()
		w.err = n.warmHere(ctx, &q)
	})
	return w
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
		if err := r.ask(); err != nil {
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

func (r *graphReader) ask() error {
	ctx, cancel := context.WithTimeout(r.ctx, callPatience)
	defer cancel()
	return r.node.ask(ctx, &route{shard: r.from}, &r.verb)
}

// graph reads a piece of a partition's graph, nothing behind its end.
func (v *leaveVerb) graph(ctx context.Context, n *Node, sh *shard) error {
	l, ok := n.leaving.find(v.move)
	if !ok {
		return errNotHeld(v.move)
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
