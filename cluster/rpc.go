package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// electionPatience is how long a request waits for a shard to have a leader, or for its leader to be found, as long as
// nothing can have been done. An election takes less.
const electionPatience = 2 * time.Second

// retryPause and maxRetryPause are the first and the longest pause between two attempts.
const (
	retryPause    = 5 * time.Millisecond
	maxRetryPause = 100 * time.Millisecond
)

// verb is something asked of a shard. It runs on a replica that may answer, and travels there if that is not here; what
// it finds out is kept in it. It may run more than once, but only after runs that did nothing.
type verb interface {
	method() method
	// weight is what kind of work it is, and about how many bytes it holds.
	weight() (tenancy.Class, int64)
	// run does it. key is what the request is about. Unavailable: nothing was done.
	run(ctx context.Context, n *Node, sh *shard, key engine.Key) error
	appendRequest(b []byte) []byte
	readRequest(r *codec.Reader)
	appendAnswer(b []byte) []byte
	readAnswer(r *codec.Reader)
}

// verbs makes a verb for each method that a node answers for its shards.
var verbs = map[method]func() verb{
	methodApply:      func() verb { return new(applyVerb) },
	methodUpdate:     func() verb { return new(whereVerb) },
	methodDelete:     func() verb { return &whereVerb{remove: true} },
	methodQuery:      func() verb { return getQueryVerb() },
	methodFetch:      func() verb { return new(fetchVerb) },
	methodScan:       func() verb { return new(scanVerb) },
	methodPartitions: func() verb { return new(partitionsVerb) },
	methodUsed:       func() verb { return new(usedVerb) },
	methodCreate:     func() verb { return new(createVerb) },
	methodResident:   func() verb { return new(residentVerb) },
	methodHoldings:   func() verb { return new(holdingsVerb) },
	methodLeave:      func() verb { return new(leaveVerb) },
	methodArrive:     func() verb { return new(arriveVerb) },
	methodClose:      func() verb { return new(closeVerb) },
	methodBills:      func() verb { return new(billsVerb) },
	methodCarry:      func() verb { return new(carryVerb) },
}

// registerVerbs answers the other nodes' requests.
func (n *Node) registerVerbs() {
	for m, newVerb := range verbs {
		n.peers.handle(m, func(ctx context.Context, _ string, request, dst []byte) ([]byte, error) {
			return n.answer(ctx, newVerb(), request, dst)
		})
	}
	n.peers.handle(methodRefresh, n.answerRefresh)
}

// writes tells which methods change something: when such a call is not answered, nobody knows what was done.
func (m method) writes() bool {
	switch m {
	case methodApply, methodUpdate, methodDelete, methodCreate, methodArrive, methodClose, methodCarry:
		return true
	}
	return false
}

// callBuffer is the memory of one call, pooled.
type callBuffer struct {
	request, answer []byte
	reader          codec.Reader
}

var callBuffers = sync.Pool{New: func() any { return new(callBuffer) }}

// keptBuffer is the largest buffer that a callBuffer keeps, in bytes.
const keptBuffer = 1 << 20

func (x *callBuffer) release() {
	if cap(x.request) <= keptBuffer && cap(x.answer) <= keptBuffer {
		x.reader = codec.Reader{}
		callBuffers.Put(x)
	}
}

func (x *callBuffer) read(b []byte) *codec.Reader {
	x.reader = *codec.NewReader(b)
	return &x.reader
}

// ask does v where the shard of r is led, or at level Any where there is a replica: here, or with one call to another
// node. While nobody leads it tries again, see patiently; on return r has the shard that was asked last.
func (n *Node) ask(ctx context.Context, r *route, v verb) error {
	ctx, span := n.opts.Tracer.Start(ctx, "ask")
	err := n.insist(ctx, r, v)
	if span.On() {
		span.Text(spanMethod, v.method().String())
		span.Int(spanShard, int(r.shard))
	}
	span.End(err)
	if err != nil {
		n.mover.faults.note(n.meta.state(), r.key.Tenant, err)
	}
	return err
}

// insist is ask without its span.
func (n *Node) insist(ctx context.Context, r *route, v verb) error {
	again := func() error { return n.attempt(ctx, r, v) }
	err := n.follow(ctx, r, again(), again)
	if !passing(err) {
		return err
	}
	if _, moved := errors.AsType[*movedError](err); moved && r.key.Tenant == (engine.TenantID{}) {
		return err // of several tenants the caller has to look for one elsewhere
	}
	return n.retry(ctx, err, func() error { n.reroute(r); return n.follow(ctx, r, again(), again) })
}

// patiently calls f until it returns something else than Unavailable, which says that nothing was done, or for
// electionPatience.
func (n *Node) patiently(ctx context.Context, f func() error) error {
	err := f()
	if !passing(err) {
		return err
	}
	return n.retry(ctx, err, f)
}

// retry goes on where f has failed with err.
func (n *Node) retry(ctx context.Context, err error, f func() error) error {
	patience := time.NewTimer(electionPatience)
	defer patience.Stop()
	for pause := retryPause; passing(err); pause = min(2*pause, maxRetryPause) {
		select {
		case <-time.After(pause):
			if next := f(); ctx.Err() == nil || !errs.Is(next, errs.KindOf(ctx.Err())) {
				err = next // that time is up tells less than what took it
			}
		case <-patience.C:
			return err
		case <-ctx.Done():
			return err
		case <-n.ctx.Done():
			return err
		case <-n.fail.done():
			return err
		}
	}
	return err
}

// attempt does v here, or asks one node and then the one that it takes for the leader.
func (n *Node) attempt(ctx context.Context, r *route, v verb) error {
	reading := ReadingOf(ctx)
	var refused error
	if sh := n.replica(r.shard); sh != nil {
		refused = n.here(ctx, sh, r.key, v, reading)
		if !passing(refused) || sh.group.leads() {
			return refused
		}
	}
	to := n.target(r)
	switch {
	case to == "" && refused != nil:
		return refused
	case to == "":
		return newNotLeaderError(shardName(r.shard), "")
	}
	err := n.forward(ctx, to, r, v, reading)
	if isSilence(err) {
		n.doubtLeader(r.shard, to)
		return err
	}
	if !passing(err) {
		if r.turn > 0 && reading.level() != Any {
			n.noteLeader(r.shard, to) // the next request need not search
		}
		return err
	}
	hint := leaderHint(err)
	if hint == "" || hint == to {
		r.turn++
		return err
	}
	n.noteLeader(r.shard, hint)
	r.turn = 0
	if hint == n.id.NodeID {
		return err
	}
	return n.forward(ctx, hint, r, v, reading)
}

// isSilence reports whether a node that was asked may not have answered.
func isSilence(err error) bool {
	return errs.Is(err, errs.OutcomeUnknown) || errors.Is(err, context.DeadlineExceeded)
}

// leaderHint returns who leads by the word of a node that does not, empty if it does not know.
func leaderHint(err error) string {
	var elsewhere *notLeaderError
	if errors.As(err, &elsewhere) {
		return elsewhere.leader
	}
	return ""
}

// target is the node to ask: the leader, and after failures each of the other replicas in turn, since one may know
// better. Empty: there is none but this one.
func (n *Node) target(r *route) string {
	leader := n.leaderOf(r.shard)
	if leader == n.id.NodeID {
		leader = ""
	}
	if leader != "" && r.turn == 0 {
		return leader
	}
	others := slices.DeleteFunc(slices.Clone(n.meta.state().replicas(r.shard)), func(id string) bool { return id == n.id.NodeID })
	if len(others) == 0 {
		return leader
	}
	return others[r.turn%len(others)]
}

// here runs v on a replica of this node, if that may answer.
func (n *Node) here(ctx context.Context, sh *shard, key engine.Key, v verb, reading *Reading) error {
	level := reading.level()
	switch {
	case v.method().writes():
		if !sh.group.leads() {
			return newNotLeaderError(sh.group.name, sh.group.leader())
		}
	case level == Any:
		if err := sh.filled(); err != nil {
			return err
		}
	default:
		if err := sh.readableAt(ctx, level); err != nil {
			return err
		}
	}
	if err := n.atHome(ctx, sh, key, v.method().writes(), level); err != nil {
		return err
	}
	if reading != nil {
		reading.note(sh.staleness(level)) // before it runs: what is applied later may be in the answer, and need not
	}
	return n.admitted(ctx, sh, key, v, reading)
}

// forward asks another node.
func (n *Node) forward(ctx context.Context, to string, r *route, v verb, reading *Reading) error {
	x := callBuffers.Get().(*callBuffer)
	defer x.release()
	h := head{shard: r.shard, level: reading.level(), key: r.key, meta: n.meta.state().index}
	x.request = v.appendRequest(h.append(x.request[:0]))
	answer, err := n.peers.call(ctx, to, v.method(), x.request, x.answer[:0])
	if err != nil {
		if no, ok := errors.AsType[*refusal](err); ok {
			reading.receive(&no.told)
			n.noteClosed(r.key.Tenant, &no.told)
			return err
		}
		return callError(ctx, v.method(), err)
	}
	x.answer = answer
	in := x.read(answer)
	stale, told := readStaleness(in), readReceipt(in)
	v.readAnswer(in)
	if err := in.Done(); err != nil {
		return answerError(v.method(), to, err)
	}
	reading.note(stale)
	reading.receive(&told)
	return nil
}

// callError is what a failed call means: of a read, nothing is in doubt.
func callError(ctx context.Context, m method, err error) error {
	if m.writes() || !errs.Is(err, errs.OutcomeUnknown) {
		return err
	}
	if cause := ctx.Err(); cause != nil {
		return cause
	}
	return &errs.Error{Kind: errs.Unavailable, Message: err.Error(), RetryAfter: retryLeader, Err: err}
}

// answerError is what an answer that cannot be read means.
func answerError(m method, from string, err error) error {
	kind := errs.Internal
	if m.writes() {
		kind = errs.OutcomeUnknown
	}
	return errs.Wrap(kind, err, "read the answer of node %s", from)
}

// answer does what another node asks, on the replica that is here: it never asks a third node.
func (n *Node) answer(ctx context.Context, v verb, request, dst []byte) ([]byte, error) {
	if p, ok := v.(interface{ release() }); ok {
		defer p.release()
	}
	x := callBuffers.Get().(*callBuffer)
	defer x.release()
	in := x.read(request)
	var h head
	h.read(in)
	v.readRequest(in)
	if err := in.Done(); err != nil {
		return dst, err
	}
	if !n.opened.Load() {
		return dst, errs.New(errs.Unavailable, "node %s is starting", n.id.NodeID)
	}
	if err := n.checkHome(&h); err != nil {
		return dst, err
	}
	sh := n.replica(h.shard)
	if sh == nil {
		return dst, newNotLeaderError(shardName(h.shard), n.leaderOf(h.shard))
	}
	if v.method().writes() {
		if err := n.catchUp(ctx, &h); err != nil {
			return dst, err
		}
	}
	reading := &Reading{Consistency: h.level}
	if err := n.here(ctx, sh, h.key, v, reading); err != nil {
		return dst, n.pointTo(sh, err)
	}
	return v.appendAnswer(appendReceipt(appendStaleness(dst, &reading.Staleness), &reading.Receipt)), nil
}

// pointTo adds to a refusal who leads the shard.
func (n *Node) pointTo(sh *shard, err error) error {
	var known *notLeaderError
	if _, moved := errors.AsType[*movedError](err); moved || !passing(err) || errors.As(err, &known) || sh.group.leads() {
		return err
	}
	return newNotLeaderError(sh.group.name, n.leaderOf(sh.id))
}

// checkHome refuses a request for a shard where its tenant no longer lives, or for a tenant that was deleted: the caller's
// metadata is older than this node's, and will have caught up when it tries again.
func (n *Node) checkHome(h *head) error {
	s := n.meta.state()
	t, ok := s.tenantByID(h.key.Tenant)
	switch {
	case !ok || s.index <= h.meta:
		return nil
	case t.life != tenantLive:
		return errNoTenant(t.name)
	case s.home(t) == h.shard:
		return nil
	}
	return newMovedError(s.index, t.id, h.shard)
}

// catchUp waits until this node's metadata has the index that a write is about, if the caller's has.
func (n *Node) catchUp(ctx context.Context, h *head) error {
	if _, ok := n.meta.state().indexByID(h.key.Index); ok {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, electionPatience)
	defer cancel()
	_, err := n.meta.fsm.wait(ctx, func(s *state) bool { return s.index >= h.meta })
	return errs.Wrap(errs.Unavailable, err, "wait for entry %d of the metadata plane", h.meta)
}
