package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// refusal is an error of the gate at a tenant's home, with what it told. It is final: nobody else is asked, and what is
// Unavailable is not tried again here, since that would keep the queue full.
type refusal struct {
	err  error
	told tenancy.Receipt
}

func (r *refusal) Error() string { return r.err.Error() }
func (r *refusal) Unwrap() error { return r.err }

// passing reports whether an error says that nothing was done, for a reason that may be gone in a moment.
func passing(err error) bool {
	if !errs.Is(err, errs.Unavailable) {
		return false
	}
	_, final := errors.AsType[*refusal](err)
	return !final
}

// gateCall is the memory of one request at the gate, pooled: what goes to an interface is not on the stack.
type gateCall struct {
	request tenancy.Request
	told    tenancy.Receipt
}

var gateCalls = sync.Pool{New: func() any { return new(gateCall) }}

// admitted runs v when the gate lets it in, with what is in force for its tenant.
func (n *Node) admitted(ctx context.Context, sh *shard, key engine.Key, v verb, reading *Reading) error {
	s, t, err := n.tenantOf(ctx, key, reading)
	if err != nil {
		return err
	}
	if t == nil {
		return n.metered(ctx, sh, key, v, reading).Err
	}
	settings := s.settings(t)
	n.look(sh, key, v, settings, reading)
	if n.gate == nil {
		return n.metered(ctx, sh, key, v, reading).Err
	}
	e := gateCalls.Get().(*gateCall)
	defer gateCalls.Put(e)
	*e = gateCall{request: tenancy.Request{
		Tenant: tenancy.ID(t.id), Name: t.name, Shard: sh.id, Term: sh.group.raft().CurrentTerm(), Settings: settings,
	}}
	if reading.level() == Any && !sh.group.leads() {
		e.request.Replicas = s.sharers(sh.id)
	}
	e.request.Class, e.request.Bytes = v.weight()
	pass, err := n.enter(ctx, e)
	reading.receive(&e.told)
	if err != nil {
		n.declined(sh, key, err)
		return n.refused(ctx, t.id, err, e.told)
	}
	if pass.Degraded() {
		ctx = context.WithValue(ctx, degradedKey{}, true)
	}
	o := n.metered(ctx, sh, key, v, reading)
	pass.Leave(o)
	return o.Err
}

// enter waits at the gate.
func (n *Node) enter(ctx context.Context, e *gateCall) (tenancy.Pass, error) {
	ctx, span := n.opts.Tracer.Start(ctx, "gate")
	pass, err := n.gate.Enter(ctx, &e.request, &e.told)
	if span.On() {
		span.Text(spanTier, e.request.Settings.Tier)
		span.Text("croft.class", e.request.Class.String())
		span.Int(spanShard, int(e.request.Shard))
	}
	span.End(err)
	return pass, err
}

// tenantOf finds whom a request is about. One that was made elsewhere a moment ago is looked up in newer metadata: without its limits
// it would be let in as one that has none. nil: the whole shard is meant, or the tenant is gone.
func (n *Node) tenantOf(ctx context.Context, key engine.Key, reading *Reading) (*state, *tenant, error) {
	s := n.meta.state()
	t, ok := s.tenantByID(key.Tenant)
	if ok || key.Tenant == (engine.TenantID{}) {
		return s, t, nil
	}
	newer := n.Refresh
	if reading.level() == Any {
		newer = n.CatchUp
	}
	if err := newer(ctx); err != nil {
		return nil, nil, err
	}
	s = n.meta.state()
	t, _ = s.tenantByID(key.Tenant)
	return s, t, nil
}

type degradedKey struct{}

// degradedRecall is what the searches of a tenant aim at that is over its quota and served all the same.
const degradedRecall = 0.7

// refused notes and returns what the gate did not let in. Of the book's errors, those of a home that leads no more are not its own.
func (n *Node) refused(ctx context.Context, t engine.TenantID, err error, told tenancy.Receipt) error {
	if cause := ctx.Err(); cause != nil && errors.Is(err, cause) {
		return err
	}
	if _, moved := errors.AsType[*bookError](err); moved {
		return err
	}
	n.noteClosed(t, &told)
	return &refusal{err, told}
}

// noteClosed remembers that nothing of a tenant is let in for a while.
func (n *Node) noteClosed(t engine.TenantID, told *tenancy.Receipt) {
	if told.Closed > 0 {
		n.refusals.Close(tenancy.ID(t), told)
	}
}

// Knock is asked before a request is decoded. It refuses what its tenant's home would refuse, as far as this node has heard, and
// tells what the home has told; one that was told to come later and comes at once has to wait.
func (n *Node) Knock(ctx context.Context, namespace string, request uint64, told *tenancy.Receipt) error {
	t, ok := n.meta.state().tenant(namespace)
	if !ok {
		return nil
	}
	id := tenancy.ID(t.id)
	wait, err := n.refusals.Check(id, request, told)
	if err != nil || wait == 0 {
		return err
	}
	defer n.refusals.Done(id)
	late := time.NewTimer(wait)
	defer late.Stop()
	select {
	case <-late.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Shut is Knock for a request of which only the tenant is known yet. If it is refused, it may come again after the time that is
// returned; zero: it is to be read.
func (n *Node) Shut(t tenancy.ID, told *tenancy.Receipt) (again time.Duration) {
	return n.refusals.Shut(t, told)
}

// Quiet reports whether nothing is remembered of refusals, so that there is no need to Knock.
func (n *Node) Quiet() bool { return n.gate == nil || n.refusals.Quiet() }

// Told notes that a request was told to come back later.
func (n *Node) Told(request uint64, d time.Duration) { n.refusals.Told(request, d) }

// buildTurn waits until a step of building may begin, and returns what ends it. Whatever is wrong with the gate, graphs are built. The
// engine builds as soon as a shard is open, which is before there is metadata, and before anybody could be in the way.
func (n *Node) buildTurn(ctx context.Context, key engine.Key) (done func()) {
	free := func() {}
	if !n.opened.Load() || n.gate == nil {
		return free
	}
	s := n.meta.state()
	t, ok := s.tenantByID(key.Tenant)
	if !ok {
		return free
	}
	r := tenancy.Request{Tenant: tenancy.ID(t.id), Name: t.name, Settings: s.settings(t), Class: tenancy.Build}
	pass, err := n.gate.Enter(ctx, &r, &tenancy.Receipt{})
	if err != nil {
		return free
	}
	begun := time.Now()
	return func() { pass.Leave(tenancy.Outcome{Took: time.Since(begun)}) }
}

func appendReceipt(b []byte, told *tenancy.Receipt) []byte {
	b = append(b, byte(told.Cache), boolByte(told.Degraded))
	for _, v := range [...]int64{told.Limit, told.Remaining, int64(told.Reset), int64(told.Closed), told.ReadUnits} {
		b = codec.AppendUvarint(b, uint64(max(v, 0)))
	}
	return b
}

func readReceipt(r *codec.Reader) (told tenancy.Receipt) {
	told.Cache, told.Degraded = tenancy.CacheState(r.Byte()), r.Byte() != 0
	told.Limit, told.Remaining = readAmount(r), readAmount(r)
	told.Reset, told.Closed = time.Duration(readAmount(r)), time.Duration(readAmount(r))
	told.ReadUnits = readAmount(r)
	return told
}

func readAmount(r *codec.Reader) int64 { return int64(min(r.Uvarint(), uint64(tenancy.Unlimited))) }
