package cluster

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

const (
	// transfersAtOnce bounds the checkpoints that a node hands out at the same time, and those that it takes in.
	transfersAtOnce = 2
	// transferPatience is how long a checkpoint is held for a node that does not ask, and how long afterwards its place in
	// the log is kept for the replica that starts from it.
	transferPatience = time.Minute
)

// What is asked by methodCheckpoint, the first byte of a request.
const (
	checkpointOpen  = 1 // shard uv, least index uv → token u64, mark, manifest
	checkpointRead  = 2 // token u64, file uv, chunk uv → the chunk
	checkpointClose = 3 // token u64 → nothing
	checkpointOffer = 4 // shard uv, least index uv → where the replica stands uv (0: not so far), its term uv
)

// checkpointServer hands out the files of this node's replicas.
type checkpointServer struct {
	replica  func(id uint16) *shard
	offered  func(id uint16, o offer) // what other nodes offer
	cluster  string                   // id
	pace     *pacer
	patience time.Duration
	logger   *slog.Logger

	mu     sync.Mutex
	closed bool
	open   map[uint64]*transfer // by token
}

// transfer is a checkpoint that a node is getting.
type transfer struct {
	to         string
	shard      uint16
	checkpoint *engine.Checkpoint // nil while it is made, and once it is closed
	over       bool               // closed, or given up: only its place in the log is still kept
	release    func()             // of that place
	timer      *time.Timer
}

func newCheckpointServer(cluster string, replica func(uint16) *shard, offered func(uint16, offer), rate int64, logger *slog.Logger) *checkpointServer {
	return &checkpointServer{
		replica: replica, offered: offered, cluster: cluster, pace: newPacer(rate), patience: transferPatience, logger: logger,
		open: map[uint64]*transfer{},
	}
}

// checkpointOwner is whose files a manifest names.
func checkpointOwner(cluster string, shard uint16) string { return cluster + "/" + shardName(shard) }

// answer is the handler of methodCheckpoint.
func (c *checkpointServer) answer(ctx context.Context, from string, request, dst []byte) ([]byte, error) {
	r := codec.NewReader(request)
	switch op := r.Byte(); op {
	case checkpointOpen:
		shard, least := uint16(r.Uvarint()), r.Uvarint()
		if err := r.Done(); err != nil {
			return dst, err
		}
		return c.begin(ctx, from, shard, least, dst)
	case checkpointRead:
		token, file, chunk := r.Uint64(), r.Uvarint(), r.Uvarint()
		if err := r.Done(); err != nil {
			return dst, err
		}
		return c.read(ctx, token, int(file), int(chunk), dst)
	case checkpointClose:
		token := r.Uint64()
		if err := r.Done(); err != nil {
			return dst, err
		}
		c.end(token)
		return dst, nil
	case checkpointOffer:
		shard, least := uint16(r.Uvarint()), r.Uvarint()
		if err := r.Done(); err != nil {
			return dst, err
		}
		return c.stand(shard, offer{from, least}, dst)
	default:
		return dst, errs.New(errs.FailedPrecondition, "this node does not know request %d of a checkpoint", op).
			WithHint("let all nodes run the same version of croft")
	}
}

// stand tells where this node's replica stands, and notes the offer if that is not far enough.
func (c *checkpointServer) stand(id uint16, o offer, dst []byte) ([]byte, error) {
	sh := c.replica(id)
	if sh == nil {
		return dst, errs.New(errs.Unavailable, "%s has no replica here yet", shardName(id)).WithRetryAfter(retryLeader)
	}
	at := sh.group.marked.Load()
	if at < o.least {
		at = 0
		c.offered(id, o)
	}
	return codec.AppendUvarint(codec.AppendUvarint(dst, at), sh.group.raft().CurrentTerm()), nil
}

// begin makes a checkpoint that reaches entry least of the group's log, and holds it.
func (c *checkpointServer) begin(ctx context.Context, from string, id uint16, least uint64, dst []byte) ([]byte, error) {
	sh := c.replica(id)
	if sh == nil {
		return dst, errs.New(errs.Unavailable, "%s has no replica here", shardName(id)).WithRetryAfter(retryLeader)
	}
	token, t, err := c.admit(from, id, sh.group.log.Hold(sh.engine.AppliedIndex()))
	if err != nil {
		return dst, err
	}
	checkpoint, mark, err := makeCheckpoint(ctx, sh, checkpointOwner(c.cluster, id), least)
	if err != nil {
		c.drop(token)
		return dst, err
	}
	if err := c.hold(token, t, checkpoint); err != nil {
		return dst, err
	}
	c.logger.Info("checkpoint is held for a node", "shard", id, "node", from, "index", mark.index, "bytes", checkpoint.Manifest.Bytes())
	return checkpoint.Manifest.Append(mark.append(codec.AppendUint64(dst, token))), nil
}

func makeCheckpoint(ctx context.Context, sh *shard, owner string, least uint64) (_ *engine.Checkpoint, m checkpointMark, err error) {
	before, err := sh.group.markPoint()
	if err != nil {
		return nil, m, err
	}
	checkpoint, err := sh.engine.Checkpoint(ctx, owner)
	if err != nil {
		return nil, m, err
	}
	m, err = sh.group.markFor(checkpoint.Manifest.Applied, before)
	if err == nil && m.index < least {
		err = errs.New(errs.Unavailable, "%s is here at entry %d, entry %d is wanted", sh.group.name, m.index, least).WithRetryAfter(retryLeader)
	}
	if err != nil {
		return nil, m, errors.Join(err, checkpoint.Close())
	}
	return checkpoint, m, nil
}

// admit reserves a place for a transfer, in the stead of an earlier one of that node and shard. release is called by then
// or later.
func (c *checkpointServer) admit(from string, id uint16, release func()) (token uint64, _ *transfer, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	running := 0
	for token, t := range c.open {
		switch {
		case t.to == from && t.shard == id && (t.over || t.checkpoint != nil):
			c.dropLocked(token)
		case !t.over:
			running++
		}
	}
	if c.closed || running >= transfersAtOnce {
		release()
		return 0, nil, errs.New(errs.Unavailable, "this node hands out %d checkpoints at the same time", transfersAtOnce).
			WithRetryAfter(5 * time.Second)
	}
	t := &transfer{to: from, shard: id, release: release}
	token = newToken()
	c.open[token] = t
	return token, t, nil
}

// newToken draws a number that no client of an earlier process holds.
func newToken() uint64 {
	var b [8]byte
	rand.Read(b[:]) // never fails, says its documentation
	return binary.LittleEndian.Uint64(b[:])
}

// hold keeps a checkpoint for as long as it is read.
func (c *checkpointServer) hold(token uint64, t *transfer, checkpoint *engine.Checkpoint) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.open[token] != t { // the server was closed
		return errors.Join(errs.New(errs.Unavailable, "this node is stopping"), checkpoint.Close())
	}
	t.checkpoint = checkpoint
	t.timer = time.AfterFunc(c.patience, func() { c.expire(token) })
	return nil
}

func (c *checkpointServer) expire(token uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.open[token]
	switch {
	case t == nil:
	case t.over:
		c.dropLocked(token)
	default:
		c.logger.Warn("checkpoint is given up, nobody reads it", "shard", t.shard, "node", t.to)
		c.dropLocked(token)
	}
}

// read appends a chunk, not faster than the node's pace.
func (c *checkpointServer) read(ctx context.Context, token uint64, file, chunk int, dst []byte) ([]byte, error) {
	checkpoint, err := c.touch(token)
	if err != nil {
		return dst, err
	}
	start := len(dst)
	if dst, err = checkpoint.AppendChunk(dst, file, chunk); err != nil {
		return dst, err
	}
	return dst, c.pace.wait(ctx, len(dst)-start)
}

func (c *checkpointServer) touch(token uint64) (*engine.Checkpoint, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.open[token]
	if t == nil || t.checkpoint == nil {
		return nil, errs.New(errs.NotFound, "the checkpoint is not held any more").WithHint("ask for a new one: what was received is kept")
	}
	t.timer.Reset(c.patience)
	return t.checkpoint, nil
}

// end closes the files. The place in the log is kept until the replica had time to start.
func (c *checkpointServer) end(token uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.open[token]
	if t == nil || t.checkpoint == nil {
		return
	}
	c.report(t.checkpoint.Close())
	t.checkpoint, t.over = nil, true
	t.timer.Reset(c.patience)
}

func (c *checkpointServer) drop(token uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.dropLocked(token)
}

func (c *checkpointServer) dropLocked(token uint64) {
	t := c.open[token]
	if t == nil {
		return
	}
	delete(c.open, token)
	if t.timer != nil {
		t.timer.Stop()
	}
	if t.checkpoint != nil {
		c.report(t.checkpoint.Close())
	}
	t.release()
}

func (c *checkpointServer) report(err error) {
	if err != nil {
		c.logger.Warn("closing a checkpoint failed", "err", err)
	}
}

// close gives up all that is held; the shards may be closed then.
func (c *checkpointServer) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for token := range c.open {
		c.dropLocked(token)
	}
}

// pacer spreads bytes over time.
type pacer struct {
	rate int64 // bytes per second; 0: no limit

	mu   sync.Mutex
	next time.Time // when all that was let through is due
}

func newPacer(rate int64) *pacer { return &pacer{rate: rate} }

// wait returns when n more bytes may go.
func (p *pacer) wait(ctx context.Context, n int) error {
	if p.rate <= 0 {
		return nil
	}
	p.mu.Lock()
	now := time.Now()
	if p.next.Before(now) {
		p.next = now
	}
	pause := p.next.Sub(now)
	p.next = p.next.Add(time.Duration(int64(n) * int64(time.Second) / p.rate))
	p.mu.Unlock()
	if pause <= 0 {
		return nil
	}
	return sleep(ctx, pause)
}
