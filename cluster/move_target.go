package cluster

import (
	"context"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// moveSlice is how long the target's leader takes in a tenant before it tells how far it is.
const moveSlice = time.Second

// What is asked by methodArrive, the first byte of a request.
const (
	arriveCopy = 1 // takes in what the tenant has
	arriveTail = 2 // and what was done to it since
)

// arriveVerb has the leader of a shard take in a part of a tenant that comes there. What it has got so far is in the shard's own
// state, so whoever asks next goes on there.
type arriveVerb struct {
	op     byte
	move   engine.Move
	tenant engine.TenantID
	from   uint16 // shard where the tenant lives

	done     bool   // of arriveCopy: the copy is complete; of arriveTail: and it equals the source behind its fence
	bytes    uint64 // that came in
	position uint64 // entry of the source's log that the copy stands for
	lag      uint64 // entries of the source's log behind it
	digest   string // once done by arriveTail: of the source
	compared string // and that which the copy was found to equal
}

func (v *arriveVerb) method() method                 { return methodArrive }
func (v *arriveVerb) weight() (tenancy.Class, int64) { return tenancy.Write, moveBatch }

func (v *arriveVerb) run(ctx context.Context, n *Node, sh *shard, _ engine.Key) error {
	r := sh.engine.Residence(v.tenant)
	if r.Standing != engine.Staged || r.Move != v.move {
		return errs.New(errs.FailedPrecondition, "the tenant is %s in %s since migration %d, attempt %d, it should be staged by migration %d, attempt %d",
			r.Standing, sh.group.name, r.Move.ID, r.Move.Attempt, v.move.ID, v.move.Attempt)
	}
	if v.op == arriveCopy {
		return v.copy(ctx, n, sh)
	}
	return v.tail(ctx, n, sh)
}

// copy takes in batches for a while. The next one is fetched while one is written.
func (v *arriveVerb) copy(ctx context.Context, n *Node, sh *shard) error {
	ctx, cancel := context.WithCancel(ctx)
	var next <-chan fetched
	defer func() {
		cancel()
		if next != nil {
			<-next
		}
	}()
	for until := time.Now().Add(moveSlice); ; {
		state := sh.engine.Residence(v.tenant).Copy
		if v.done, v.position = state.Copied, state.Position; v.done || time.Now().After(until) {
			return nil
		}
		if next == nil {
			next = v.fetch(ctx, n, state.Batches+1)
		}
		got := <-next
		if next = nil; got.err != nil {
			return got.err
		}
		if time.Now().Before(until) {
			next = v.fetch(ctx, n, got.number+1)
		}
		for _, c := range got.commands {
			if err := v.take(ctx, n, sh, c); err != nil {
				return err
			}
		}
	}
}

// fetched is a batch that has come from the source.
type fetched struct {
	number   uint64
	commands [][]byte
	err      error
}

func (v *arriveVerb) fetch(ctx context.Context, n *Node, number uint64) <-chan fetched {
	done := make(chan fetched, 1)
	go func() {
		ctx, cancel := context.WithTimeout(ctx, callPatience)
		defer cancel()
		from := leaveVerb{op: leaveBatch, move: v.move, tenant: v.tenant, at: number}
		err := n.ask(ctx, &route{shard: v.from}, &from)
		done <- fetched{number, from.commands, err}
	}()
	return done
}

// take writes a command of the source's to the log here.
func (v *arriveVerb) take(ctx context.Context, n *Node, sh *shard, command []byte) error {
	if err := n.disk.check(); err != nil {
		return err
	}
	if err := sh.engine.Admit(ctx, len(command)); err != nil {
		return err
	}
	v.bytes += uint64(len(command))
	n.mover.received.Add(uint64(len(command)))
	_, err := sh.proposeBytes(ctx, command)
	return err
}

// tail takes in once what was done at the source since.
func (v *arriveVerb) tail(ctx context.Context, n *Node, sh *shard) error {
	state := sh.engine.Residence(v.tenant).Copy
	if state.Ready { // it was compared before, and nothing has come since
		v.done, v.position, v.digest, v.compared = true, state.Position, digestText(state.Digest), digestText(state.Digest)
		return nil
	}
	from := leaveVerb{op: leaveTail, move: v.move, tenant: v.tenant, at: state.Position}
	if err := n.ask(ctx, &route{shard: v.from}, &from); err != nil {
		return err
	}
	for _, c := range from.commands {
		if err := v.take(ctx, n, sh, c); err != nil {
			return err
		}
	}
	state = sh.engine.Residence(v.tenant).Copy
	v.position, v.lag = state.Position, from.applied-min(from.applied, state.Position)
	if v.done = from.digest != "" && state.Ready; v.done {
		v.digest, v.compared = from.digest, digestText(state.Digest)
	}
	return nil
}

func (v *arriveVerb) appendRequest(b []byte) []byte {
	b = append(append(b, v.op), v.tenant[:]...)
	b = codec.AppendUvarint(codec.AppendUvarint(b, v.move.ID), v.move.Attempt)
	return codec.AppendUvarint(b, uint64(v.from))
}

func (v *arriveVerb) readRequest(r *codec.Reader) {
	v.op = r.Byte()
	copy(v.tenant[:], r.Raw(len(v.tenant)))
	v.move = engine.Move{ID: r.Uvarint(), Attempt: r.Uvarint()}
	v.from = uint16(r.Uvarint())
}

func (v *arriveVerb) appendAnswer(b []byte) []byte {
	b = append(b, boolByte(v.done))
	for _, f := range [...]uint64{v.bytes, v.position, v.lag} {
		b = codec.AppendUvarint(b, f)
	}
	return codec.AppendString(codec.AppendString(b, v.digest), v.compared)
}

func (v *arriveVerb) readAnswer(r *codec.Reader) {
	v.done = r.Byte() != 0
	v.bytes, v.position, v.lag = r.Uvarint(), r.Uvarint(), r.Uvarint()
	v.digest, v.compared = r.String(), r.String()
}
