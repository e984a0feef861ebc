package cluster

import (
	"context"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// holding is what a tenant has in a shard, by the shard's own word: whether it lives there is the metadata's to say.
type holding struct {
	tenant  engine.TenantID
	records uint64
	bytes   uint64
	queries float64 // a second, lately
	compute float64 // processors, lately
	hidden  bool    // nobody is served from it: it is being copied here, or was left behind
}

// maxHeld is how many holdings one answer has: some 5 MB.
const maxHeld = 100_000

// holdingsVerb lists the tenants that have something in a shard, in order of id.
type holdingsVerb struct {
	after engine.TenantID // those behind this one
	limit int
	held  []holding
	more  bool
}

func (v *holdingsVerb) method() method                 { return methodHoldings }
func (v *holdingsVerb) weight() (tenancy.Class, int64) { return tenancy.Read, 0 }

func (v *holdingsVerb) run(_ context.Context, n *Node, sh *shard, _ engine.Key) error {
	all := sh.engine.Tenants(v.after, v.limit+1)
	v.more = len(all) > v.limit
	all = all[:min(v.limit, len(all))]
	heat := map[engine.TenantID]tenancy.Load{}
	for _, l := range n.usage.shard(sh.id).heat.Top(time.Now(), maxHeld, func(tenancy.ID) int64 { return 0 }) {
		heat[engine.TenantID(l.Tenant)] = l
	}
	v.held = make([]holding, len(all))
	for i := range all {
		f := &all[i]
		l, st := heat[f.Tenant], f.Residence.Standing
		v.held[i] = holding{f.Tenant, f.Records, f.Bytes, l.Queries, l.Compute, st == engine.Staged || st == engine.Left}
	}
	return nil
}

func (v *holdingsVerb) appendRequest(b []byte) []byte {
	return appendInt(append(b, v.after[:]...), v.limit)
}

func (v *holdingsVerb) readRequest(r *codec.Reader) {
	copy(v.after[:], r.Raw(len(v.after)))
	v.limit = min(max(readSigned(r), 0), maxHeld)
}

func (v *holdingsVerb) appendAnswer(b []byte) []byte {
	b = append(b, boolByte(v.more))
	b = codec.AppendUvarint(b, uint64(len(v.held)))
	for i := range v.held {
		h := &v.held[i]
		b = append(b, h.tenant[:]...)
		b = codec.AppendUvarint(codec.AppendUvarint(b, h.records), h.bytes)
		asked := h.queries != 0 || h.compute != 0
		if b = append(b, bits(asked, h.hidden)); asked {
			b = codec.AppendFloat64(codec.AppendFloat64(b, h.queries), h.compute)
		}
	}
	return b
}

func (v *holdingsVerb) readAnswer(r *codec.Reader) {
	v.more = r.Byte() != 0
	v.held = make([]holding, r.Count(19))
	for i := range v.held {
		h := &v.held[i]
		copy(h.tenant[:], r.Raw(len(h.tenant)))
		h.records, h.bytes = r.Uvarint(), r.Uvarint()
		flags := r.Byte()
		if h.hidden = flags&2 != 0; flags&1 != 0 {
			h.queries, h.compute = r.Float64(), r.Float64()
		}
	}
}

// askers is how many shards are asked for their holdings at once: an answer is large.
const askers = 8

// holdings asks all shards, or those that are named, what each tenant has there. Shards that do not answer are missing, with why.
func (n *Node) holdings(ctx context.Context, shards []uint16) (held map[uint16][]holding, silent map[uint16]error) {
	held, silent = map[uint16][]holding{}, map[uint16]error{}
	ctx = WithReading(ctx, nil) // the caller's serves one question at a time, and leaders are meant
	var mu sync.Mutex
	var g errgroup.Group
	g.SetLimit(askers)
	for _, id := range shards {
		g.Go(func() error {
			all, err := n.holdingsOf(ctx, id)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				silent[id] = err
			} else {
				held[id] = all
			}
			return nil
		})
	}
	_ = g.Wait() // none fails
	return held, silent
}

func (n *Node) holdingsOf(ctx context.Context, shard uint16) (all []holding, err error) {
	v := holdingsVerb{limit: maxHeld}
	for {
		if err := n.ask(ctx, &route{shard: shard}, &v); err != nil {
			return nil, errs.Wrap(errs.KindOf(err), err, "ask shard %d for its tenants", shard)
		}
		if all = append(all, v.held...); !v.more || len(v.held) == 0 {
			return all, nil
		}
		v.after = all[len(all)-1].tenant
	}
}
