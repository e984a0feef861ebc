package cluster

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"github.com/croftdb/croft/cluster/internal/raftlog"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/longlock"
	"github.com/croftdb/croft/tenancy"
)

const (
	// moveBatch is about how many bytes of records one entry of the target's log brings; less where the rate is below that.
	moveBatch = 1 << 20
	// moveTailBytes and moveTailEntries bound what is read of the source's log at once.
	moveTailBytes, moveTailEntries = 4 << 20, 16 << 10
	// exportPatience is how long an export, and its place in the log, are kept for a target that does not ask.
	exportPatience = time.Minute
)

// moveSource hands out the tenants that leave shards which are led here.
type moveSource struct {
	pace     *pacer
	size     int // of a batch
	patience time.Duration
	logger   *slog.Logger

	mu     sync.Mutex
	closed bool
	open   map[engine.Move]*leaving
	ending sync.WaitGroup // what is being closed
}

// leaving is a tenant that is being handed out.
type leaving struct {
	opened chan struct{} // closed when the export is open, or could not be opened; nil: there was none to be opened
	err    error         // why it could not; written before opened is closed

	reading longlock.Mutex // held while the export is opened or closed, the next batch is made, or a graph is opened
	closed  bool
	graphs  map[engine.IndexID]*engine.GraphExport
	export  *engine.TenantExport // nil: it is not open, or not any more
	last    []byte               // the last batch, for a target that did not get it
	number  uint64               // of the last batch

	cancel  context.CancelFunc // ends the opening
	release func()             // of its place in the log
	timer   *time.Timer
}

func newMoveSource(rate int64, logger *slog.Logger) *moveSource {
	size := moveBatch
	if rate > 0 {
		size = int(min(moveBatch, rate))
	}
	return &moveSource{pace: newPacer(rate), size: size, patience: exportPatience, logger: logger, open: map[engine.Move]*leaving{}}
}

// begin opens an export, in the stead of those of earlier attempts, and returns nil if that takes longer than moveSlice: it goes on,
// and is found by the next call.
func (ms *moveSource) begin(ctx context.Context, sh *shard, move engine.Move, tenant engine.TenantID) (*engine.TenantExport, error) {
	l, err := ms.opening(sh, move, tenant)
	if err != nil {
		return nil, err
	}
	late := time.NewTimer(moveSlice)
	defer late.Stop()
	select {
	case <-l.opened:
		if l.err != nil {
			ms.drop(move)
			return nil, l.err
		}
		l.reading.Lock()
		defer l.reading.Unlock()
		if l.export == nil {
			return nil, errNotHeld(move)
		}
		return l.export, nil
	case <-late.C:
		return nil, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func errNotHeld(move engine.Move) error {
	return errs.New(errs.NotFound, "nothing is held for migration %d, attempt %d", move.ID, move.Attempt)
}

// opening finds or begins the export of an attempt.
func (ms *moveSource) opening(sh *shard, move engine.Move, tenant engine.TenantID) (*leaving, error) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	if ms.closed {
		return nil, errStopping()
	}
	if l := ms.open[move]; l != nil && l.opened != nil {
		l.timer.Reset(ms.patience)
		return l, nil
	}
	for other := range ms.open {
		if other.ID == move.ID {
			ms.dropLocked(other)
		}
	}
	l := ms.putLocked(move, sh.group.log.Hold(sh.engine.AppliedIndex()))
	l.opened = make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	l.cancel = cancel
	ms.ending.Go(func() {
		defer close(l.opened)
		defer cancel()
		l.reading.Lock()
		defer l.reading.Unlock()
		l.export, l.err = sh.engine.ExportTenant(ctx, tenant)
	})
	return l, nil
}

// putLocked keeps a place in a log for a while.
func (ms *moveSource) putLocked(move engine.Move, release func()) *leaving {
	l := &leaving{release: release, cancel: func() {}}
	l.timer = time.AfterFunc(ms.patience, func() { ms.drop(move) })
	ms.open[move] = l
	return l
}

// find returns what is handed out by an attempt, and keeps it for some longer.
func (ms *moveSource) find(move engine.Move) (*leaving, bool) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	l, ok := ms.open[move]
	if ok {
		l.timer.Reset(ms.patience)
	}
	return l, ok
}

// hold keeps a shard's log from an entry on, for a target that has come so far.
func (ms *moveSource) hold(sh *shard, move engine.Move, from uint64) {
	release := sh.group.log.Hold(from + 1)
	ms.mu.Lock()
	defer ms.mu.Unlock()
	l, ok := ms.open[move]
	switch {
	case ms.closed:
		release()
		return
	case !ok:
		ms.putLocked(move, release)
	default:
		l.release()
		l.release = release
		l.timer.Reset(ms.patience)
	}
}

func (ms *moveSource) drop(move engine.Move) {
	ms.mu.Lock()
	defer ms.mu.Unlock()
	ms.dropLocked(move)
}

func (ms *moveSource) dropLocked(move engine.Move) {
	l, ok := ms.open[move]
	if !ok {
		return
	}
	delete(ms.open, move)
	l.timer.Stop()
	l.cancel()
	l.release()
	ms.ending.Go(func() { // a batch may be under way
		l.reading.Lock()
		defer l.reading.Unlock()
		ms.report(l.close())
	})
}

// close ends the export. The caller holds l.reading.
func (l *leaving) close() (err error) {
	if l.export != nil {
		err = l.export.Close()
	}
	for _, g := range l.graphs {
		err = errors.Join(err, g.Close())
	}
	l.export, l.last, l.graphs, l.closed = nil, nil, nil, true
	return err
}

func (ms *moveSource) report(err error) {
	if err != nil {
		ms.logger.Warn("closing the export of a tenant failed", "err", err)
	}
}

// close gives up all that is handed out; the shards may be closed then.
func (ms *moveSource) close() {
	ms.mu.Lock()
	ms.closed = true
	for move := range ms.open {
		ms.dropLocked(move)
	}
	ms.mu.Unlock()
	ms.ending.Wait()
}

// batch returns a batch as a command for the target's log, the next one or the last one again.
func (l *leaving) batch(move engine.Move, tenant engine.TenantID, number uint64, size int) ([]byte, error) {
	l.reading.Lock()
	defer l.reading.Unlock()
	if l.export == nil || number != l.number && number != l.number+1 {
		return nil, errs.New(errs.NotFound, "batch %d of the export is not to be had, the last one was %d", number, l.number)
	}
	if number == l.number {
		return l.last, nil
	}
	c, err := l.export.Next(size)
	if err != nil {
		return nil, err
	}
	c.Move = move
	c.Key.Tenant = tenant
	l.last, l.number = engine.AppendCommand(make([]byte, 0, engine.EncodedSize(c)), c), number
	return l.last, nil
}

// What is asked by methodLeave, the first byte of a request.
const (
	leaveOpen  = 1 // opens an export; to is 0 as long as that takes
	leaveBatch = 2 // the batch of number at
	leaveTail  = 3 // what was done behind entry at
	leaveGraph = 4 // the graph of an index, from byte at on
)

// leaveVerb asks the leader of a shard for a tenant that leaves it.
type leaveVerb struct {
	op     byte
	move   engine.Move
	tenant engine.TenantID
	index  engine.IndexID
	at     uint64

	commands [][]byte // for the target's log, in order; of leaveGraph: a piece of it, or nothing behind the end
	to       uint64   // of leaveOpen: the entry behind the one that the export stands for; of leaveTail: the last one that commands bring
	applied  uint64   // last entry applied at the source
	bytes    uint64   // of leaveOpen: about how many there are
	digest   string   // of leaveTail: of the tenant behind its fence, once commands bring all
}

func (v *leaveVerb) method() method                 { return methodLeave }
func (v *leaveVerb) weight() (tenancy.Class, int64) { return tenancy.Read, 0 }

func (v *leaveVerb) run(ctx context.Context, n *Node, sh *shard, _ engine.Key) error {
	v.commands, v.digest = nil, ""
	switch v.op {
	case leaveOpen:
		export, err := n.leaving.begin(ctx, sh, v.move, v.tenant)
		if err != nil || export == nil {
			return err
		}
		v.to, v.bytes = export.Applied()+1, export.Bytes()
		return nil
	case leaveBatch:
		return v.batch(ctx, n)
	case leaveTail:
		return v.tail(n, sh)
	case leaveGraph:
		return v.graph(ctx, n, sh)
	default:
		return errs.New(errs.FailedPrecondition, "this node does not know request %d of a tenant that leaves", v.op)
	}
}

func (v *leaveVerb) batch(ctx context.Context, n *Node) error {
	l, ok := n.leaving.find(v.move)
	if !ok {
		return errNotHeld(v.move)
	}
	b, err := l.batch(v.move, v.tenant, v.at, n.leaving.size)
	if err != nil {
		return err
	}
	v.commands = [][]byte{b}
	return n.leaving.pace.wait(ctx, len(b))
}

// tail makes a command of what the log has done to the tenant behind entry v.at. Behind the attempt's fence it adds the one that
// compares the copy with what is here.
func (v *leaveVerb) tail(n *Node, sh *shard) error {
	n.leaving.hold(sh, v.move, v.at)
	var ready []byte
	var whole engine.TenantDigest
	if r := sh.engine.Residence(v.tenant); r.Standing == engine.Fenced && r.Move == v.move {
		var err error
		if whole, err = sh.engine.TenantDigest(v.tenant); err != nil {
			return err
		}
		ready = engine.AppendCommand(nil, &engine.Command{Op: engine.OpStageReady, Key: engine.Key{Tenant: v.tenant}, Move: v.move, Digest: &whole})
	}
	v.applied = sh.engine.AppliedIndex() // after the digest
	commands, to, err := commandsOf(sh.group.log, v.tenant, v.at, v.applied)
	if err != nil {
		return err
	}
	if v.to = to; to > v.at {
		c := &engine.Command{
			Op: engine.OpStageTail, Key: engine.Key{Tenant: v.tenant}, Move: v.move,
			Tail: &engine.Tail{From: v.at, To: to, Commands: commands},
		}
		v.commands = append(v.commands, engine.AppendCommand(make([]byte, 0, engine.EncodedSize(c)), c))
	}
	if ready != nil && to >= whole.Applied {
		v.commands, v.digest = append(v.commands, ready), digestText(whole.Sum())
	}
	return nil
}

// digestText is a digest as the metadata plane keeps it.
func digestText(d engine.Digest) string {
	return string(codec.AppendUint64(codec.AppendUint64(nil, d[0]), d[1]))
}

// commandsOf returns what entries of the log behind from, up to to, say of a tenant, and the last entry that it got to. NotFound:
// the log does not reach back so far.
func commandsOf(l *raftlog.Log, t engine.TenantID, from, to uint64) (commands [][]byte, last uint64, err error) {
	to = min(to, from+moveTailEntries)
	size := 0
	for last = from; last < to && size < moveTailBytes; last++ {
		var e raft.Log
		if err := l.GetLog(last+1, &e); err != nil {
			if errors.Is(err, raft.ErrLogNotFound) {
				return nil, from, errs.New(errs.NotFound, "entry %d of the log of %s was trimmed", last+1, l.Name())
			}
			return nil, from, err
		}
		if e.Type != raft.LogCommand {
			continue
		}
		if cmd, concerns := engine.TailCommand(e.Data, t); concerns {
			commands = append(commands, bytes.Clone(cmd))
			size += len(cmd)
		}
	}
	return commands, max(last, from), nil
}

func (v *leaveVerb) appendRequest(b []byte) []byte {
	b = append(append(b, v.op), v.tenant[:]...)
	b = codec.AppendUvarint(codec.AppendUvarint(b, v.move.ID), v.move.Attempt)
	return codec.AppendUvarint(codec.AppendUvarint(b, uint64(v.index)), v.at)
}

func (v *leaveVerb) readRequest(r *codec.Reader) {
	v.op = r.Byte()
	copy(v.tenant[:], r.Raw(len(v.tenant)))
	v.move = engine.Move{ID: r.Uvarint(), Attempt: r.Uvarint()}
	v.index, v.at = engine.IndexID(r.Uvarint()), r.Uvarint()
}

func (v *leaveVerb) appendAnswer(b []byte) []byte {
	for _, f := range [...]uint64{v.to, v.applied, v.bytes, uint64(len(v.commands))} {
		b = codec.AppendUvarint(b, f)
	}
	for _, c := range v.commands {
		b = codec.AppendBytes(b, c)
	}
	return codec.AppendString(b, v.digest)
}

func (v *leaveVerb) readAnswer(r *codec.Reader) {
	v.to, v.applied, v.bytes = r.Uvarint(), r.Uvarint(), r.Uvarint()
	v.commands = nil
	for range r.Count(1) {
		v.commands = append(v.commands, bytes.Clone(r.Bytes())) // raft keeps it
	}
	v.digest = r.String()
}
