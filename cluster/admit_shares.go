package cluster

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

const (
	// sharePatience is how long a home has to answer: for so long a read at level Any may wait for it, once, before this replica goes on by itself.
	sharePatience = 500 * time.Millisecond
	// sharesPerCall bounds the tenants that one call asks for.
	sharesPerCall = 1024
	// hoursAtOnce bounds the hourly windows that a home writes at the same time for one call.
	hoursAtOnce = 64
)

// lendingGate is a gate that lends shares of tenants' quotas, and takes what other homes have lent.
type lendingGate interface {
	Lend(ctx context.Context, r *tenancy.Request, have int64) (tenancy.Loan, error)
	Lent(t tenancy.ID, l *tenancy.Loan, err error)
}

// shares asks the homes of tenants for parts of their quotas, for the replicas here that answer at level Any: one call to a node at
// a time, with all that was asked for meanwhile.
type shares struct {
	node   *Node
	counts [len(shareResultNames)]atomic.Uint64

	mu    sync.Mutex
	asked map[shareLine][]tenancy.Borrowing // in no call yet; there is a goroutine for each line
}

// shareLine is what is asked together: what a home answers from memory does not wait for what it has to write down.
type shareLine struct {
	home   string
	hourly bool
}

// What has become of asking, for metrics.
const (
	shareLent = iota
	shareNone
	shareFailed
)

var shareResultNames = [...]string{shareLent: "lent", shareNone: "none", shareFailed: "failed"}

// Borrow implements tenancy.Lender.
func (h *shares) Borrow(b tenancy.Borrowing) {
	n := h.node
	home := n.leaderOf(b.Shard)
	if home == "" || home == n.id.NodeID || n.ctx.Err() != nil {
		h.tell(b.Tenant, nil, newNotLeaderError(shardName(b.Shard), ""))
		return
	}
	line := shareLine{home, b.Hourly}
	h.mu.Lock()
	defer h.mu.Unlock()
	waiting, runs := h.asked[line]
	if h.asked == nil {
		h.asked = map[shareLine][]tenancy.Borrowing{}
	}
	h.asked[line] = append(waiting, b)
	if !runs {
		n.background.Go(func() { h.run(line) })
	}
}

// run asks a home until there is nothing to ask.
func (h *shares) run(line shareLine) {
	for {
		h.mu.Lock()
		batch := h.asked[line]
		if len(batch) == 0 {
			delete(h.asked, line)
			h.mu.Unlock()
			return
		}
		rest := batch[min(len(batch), sharesPerCall):]
		batch = batch[:len(batch)-len(rest)]
		h.asked[line] = rest
		h.mu.Unlock()

		loans, err := h.call(line.home, batch)
		for i := range batch {
			if err != nil {
				h.tell(batch[i].Tenant, nil, err)
			} else {
				h.tell(batch[i].Tenant, loans[i], errNotLent(loans[i], line.home))
			}
		}
	}
}

func errNotLent(l *tenancy.Loan, home string) error {
	if l != nil {
		return nil
	}
	return errs.New(errs.Unavailable, "node %s has lent nothing of a quota", home)
}

// tell passes on what was lent.
func (h *shares) tell(t tenancy.ID, l *tenancy.Loan, err error) {
	switch {
	case err != nil:
		h.counts[shareFailed].Add(1)
	case l.Requests == 0:
		h.counts[shareNone].Add(1)
	default:
		h.counts[shareLent].Add(1)
	}
	if gate, ok := h.node.gate.(lendingGate); ok {
		gate.Lent(t, l, err)
	}
}

// call asks a home for the shares of some tenants, and returns them in the same order; nil where there is none.
func (h *shares) call(home string, batch []tenancy.Borrowing) ([]*tenancy.Loan, error) {
	ctx, cancel := context.WithTimeout(h.node.ctx, sharePatience)
	defer cancel()
	x := callBuffers.Get().(*callBuffer)
	defer x.release()
	x.request = appendBorrowings(x.request[:0], batch)
	answer, err := h.node.peers.call(ctx, home, methodShares, x.request, x.answer[:0])
	if err != nil {
		return nil, err
	}
	x.answer = answer
	return readLoans(x.read(answer), len(batch))
}

// answerShares serves methodShares.
func (n *Node) answerShares(ctx context.Context, from string, request, dst []byte) ([]byte, error) {
	if err := n.checkCaller(from); err != nil {
		return dst, err
	}
	batch, err := readBorrowings(codec.NewReader(request))
	if err != nil {
		return dst, err
	}
	loans := make([]*tenancy.Loan, len(batch))
	var g errgroup.Group
	g.SetLimit(hoursAtOnce)
	for i := range batch {
		lend := func() error {
			if l, err := n.lend(ctx, &batch[i]); err == nil {
				loans[i] = &l
			}
			return nil
		}
		if batch[i].Hourly {
			g.Go(lend)
		} else {
			_ = lend()
		}
	}
	_ = g.Wait()
	return appendLoans(dst, loans), nil
}

// lend draws a share from a tenant's quotas, if it lives here.
func (n *Node) lend(ctx context.Context, b *tenancy.Borrowing) (l tenancy.Loan, err error) {
	gate, ok := n.gate.(lendingGate)
	sh := n.replica(b.Shard)
	if !ok || sh == nil {
		return l, newNotLeaderError(shardName(b.Shard), n.leaderOf(b.Shard))
	}
	if err := sh.readable(ctx); err != nil {
		return l, err
	}
	key := engine.Key{Tenant: engine.TenantID(b.Tenant)}
	if err := n.atHomeNow(ctx, sh, key, Leader); err != nil {
		return l, err
	}
	s := n.meta.state()
	t, ok := s.tenantByID(key.Tenant)
	if !ok {
		return l, errs.New(errs.NotFound, "there is no tenant %s", key.Tenant)
	}
	return gate.Lend(ctx, &tenancy.Request{
		Tenant: b.Tenant, Name: t.name, Shard: b.Shard, Term: sh.group.raft().CurrentTerm(), Settings: s.settings(t), Replicas: s.sharers(b.Shard),
	}, b.Have)
}

// sharers is how many replicas share the quotas of a shard's tenants, of which one is the home.
func (s *state) sharers(shard uint16) int { return max(2, len(s.replicas(shard))) }

func appendBorrowings(b []byte, batch []tenancy.Borrowing) []byte {
	for i := range batch {
		b = append(b, batch[i].Tenant[:]...)
		b = codec.AppendUvarint(b, uint64(batch[i].Shard))
		b = codec.AppendUvarint(b, uint64(max(batch[i].Have, 0)))
		b = append(b, boolByte(batch[i].Hourly))
	}
	return b
}

func readBorrowings(r *codec.Reader) (batch []tenancy.Borrowing, err error) {
	for r.Err() == nil && r.Len() > 0 {
		var b tenancy.Borrowing
		copy(b.Tenant[:], r.Raw(len(b.Tenant)))
		b.Shard, b.Have, b.Hourly = uint16(r.Uvarint()), readAmount(r), r.Byte() != 0
		batch = append(batch, b)
	}
	return batch, r.Done()
}

func appendLoans(b []byte, loans []*tenancy.Loan) []byte {
	for _, l := range loans {
		if b = append(b, boolByte(l != nil)); l == nil {
			continue
		}
		for _, v := range [...]int64{l.Requests, l.Lease, int64(l.For), int64(l.Spent)} {
			b = codec.AppendUvarint(b, uint64(max(v, 0)))
		}
		b = appendReceipt(b, &l.Told)
	}
	return b
}

func readLoans(r *codec.Reader, n int) ([]*tenancy.Loan, error) {
	loans := make([]*tenancy.Loan, n)
	for i := range loans {
		if r.Byte() == 0 {
			continue
		}
		l := &tenancy.Loan{Requests: readAmount(r), Lease: readAmount(r), For: time.Duration(readAmount(r)), Spent: time.Duration(readAmount(r))}
		l.Told = readReceipt(r)
		loans[i] = l
	}
	return loans, errs.Wrap(errs.Internal, r.Done(), "read what was lent of quotas")
}
