package cluster

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

// progress is how far the copy of an attempt is.
type progress struct {
	total, copied atomic.Uint64 // bytes
	lag           atomic.Uint64 // entries of the source's log
	began         atomic.Int64  // in nanoseconds since 1970
}

func (p *progress) begin(total uint64) {
	p.total.Store(total)
	p.copied.Store(0)
	p.lag.Store(0)
	p.began.Store(time.Now().UnixNano())
}

// toldProgress is what a node tells of a migration: of one that it carries out, how far it is, and of any, how many requests have failed.
type toldProgress struct {
	Total  uint64  `json:"total"`
	Copied uint64  `json:"copied"`
	Lag    uint64  `json:"lag"`
	Rate   float64 `json:"rate"` // bytes per second
	Failed uint64  `json:"failed"`
}

func (p *progress) tell() toldProgress {
	t := toldProgress{Total: p.total.Load(), Copied: p.copied.Load(), Lag: p.lag.Load()}
	if took := time.Since(time.Unix(0, p.began.Load())).Seconds(); took > 0 {
		t.Rate = float64(t.Copied) / took
	}
	return t
}

// add takes in what another node tells. Only one carries the migration out.
func (t toldProgress) add(o toldProgress) toldProgress {
	return toldProgress{max(t.Total, o.Total), max(t.Copied, o.Copied), max(t.Lag, o.Lag), max(t.Rate, o.Rate), t.Failed + o.Failed}
}

// show fills in what was told of a migration. Its record has what was known at the end of a phase.
func (t *toldProgress) show(m *Migration) {
	m.Copied, m.Total = max(m.Copied, t.Copied), max(m.Total, t.Total, t.Copied)
	m.Failed, m.Lag, m.Rate = max(m.Failed, t.Failed), t.Lag, t.Rate
	if t.Rate > 0 {
		m.ETA = time.Duration(float64(m.Total-m.Copied) / t.Rate * float64(time.Second))
	}
}

// moveFaults counts requests that failed here while their tenant was moved, by migration.
type moveFaults struct {
	total atomic.Uint64

	mu     sync.Mutex
	counts map[uint64]uint64
}

// note counts a request of a tenant that has failed, for another reason than its own.
func (f *moveFaults) note(s *state, id engine.TenantID, err error) {
	switch errs.KindOf(err) {
	case errs.Unavailable, errs.OutcomeUnknown, errs.DeadlineExceeded, errs.Internal:
	default:
		return
	}
	t, ok := s.tenantByID(id)
	if !ok || t.moving == 0 {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.counts == nil || len(f.counts) >= maxMoveHistory { // the old ones are in their records
		f.counts = map[uint64]uint64{}
	}
	f.counts[t.moving]++
	f.total.Add(1)
}

// noteHeld notes how long a write has waited for its tenant's new home.
func (n *Node) noteHeld(d time.Duration) {
	n.metrics.held.Observe(d.Seconds())
	longest := &n.mover.longest
	for {
		old := longest.Load()
		if int64(d) <= old || longest.CompareAndSwap(old, int64(d)) {
			return
		}
	}
}

// toldHere is what this node tells of all migrations, by id.
func (n *Node) toldHere() map[uint64]toldProgress {
	all := n.mover.tell()
	f := &n.mover.faults
	f.mu.Lock()
	defer f.mu.Unlock()
	for id, count := range f.counts {
		all[id] = all[id].add(toldProgress{Failed: count})
	}
	return all
}

// tell tells of all migrations that are carried out here, by id.
func (mv *mover) tell() map[uint64]toldProgress {
	mv.mu.Lock()
	defer mv.mu.Unlock()
	all := make(map[uint64]toldProgress, len(mv.driven))
	for id, d := range mv.driven {
		all[id] = d.progress.tell()
	}
	return all
}

// answerMoves serves methodMoves.
func (n *Node) answerMoves(_ context.Context, from string, _, dst []byte) ([]byte, error) {
	if err := n.checkCaller(from); err != nil {
		return dst, err
	}
	b, err := json.Marshal(n.toldHere())
	return append(dst, b...), err
}

// showProgress asks the nodes how far migrations are, if any of these is under way.
func (n *Node) showProgress(ctx context.Context, all []Migration) {
	if !slices.ContainsFunc(all, func(m Migration) bool { return m.Running() }) {
		return
	}
	told := n.toldOf(ctx)
	for i := range all {
		if t, ok := told[all[i].ID]; ok && all[i].Running() {
			t.show(&all[i])
		}
	}
}

// toldOf is what all nodes tell of migrations, as far as they answer within statusTimeout.
func (n *Node) toldOf(ctx context.Context) map[uint64]toldProgress {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	told := n.toldHere()
	for _, node := range n.meta.state().present() {
		if node == n.id.NodeID {
			continue
		}
		wg.Go(func() {
			b, err := n.peers.call(ctx, node, methodMoves, nil, nil)
			there := map[uint64]toldProgress{}
			if err != nil || json.Unmarshal(b, &there) != nil {
				return // there is less to show
			}
			mu.Lock()
			defer mu.Unlock()
			for id, t := range there {
				told[id] = told[id].add(t)
			}
		})
	}
	wg.Wait()
	return told
}
