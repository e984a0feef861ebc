package cluster

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

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

// toldProgress is what a node tells of a migration that it carries out.
type toldProgress struct {
	Total  uint64  `json:"total"`
	Copied uint64  `json:"copied"`
	Lag    uint64  `json:"lag"`
	Rate   float64 `json:"rate"` // bytes per second
}

func (p *progress) tell() toldProgress {
	t := toldProgress{Total: p.total.Load(), Copied: p.copied.Load(), Lag: p.lag.Load()}
	if took := time.Since(time.Unix(0, p.began.Load())).Seconds(); took > 0 {
		t.Rate = float64(t.Copied) / took
	}
	return t
}

// show fills in what was told of a migration.
func (t *toldProgress) show(m *Migration) {
	m.Total, m.Copied, m.Lag, m.Rate = t.Total, t.Copied, t.Lag, t.Rate
	if t.Rate > 0 {
		m.ETA = time.Duration(float64(t.Total-min(t.Total, t.Copied)) / t.Rate * float64(time.Second))
	}
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
	b, err := json.Marshal(n.mover.tell())
	return append(dst, b...), err
}

// showProgress asks the metadata plane's leader how far migrations are. Without an answer there is nothing to show.
func (n *Node) showProgress(ctx context.Context, all []Migration) {
	told, err := n.progressOf(ctx)
	if err != nil {
		return
	}
	for i := range all {
		if t, ok := told[all[i].ID]; ok && all[i].Running() {
			t.show(&all[i])
		}
	}
}

func (n *Node) progressOf(ctx context.Context) (told map[uint64]toldProgress, err error) {
	leader := n.meta.group.leader()
	switch leader {
	case n.id.NodeID:
		return n.mover.tell(), nil
	case "":
		return nil, newNotLeaderError(metaName, "")
	}
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	b, err := n.peers.call(ctx, leader, methodMoves, nil, nil)
	if err != nil {
		return nil, err
	}
	return told, errs.Wrap(errs.Corrupt, json.Unmarshal(b, &told), "read how far migrations are")
}
