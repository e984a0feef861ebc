package cluster

import (
	"cmp"
	"context"
	"errors"
	"math"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// Used is what a tenant has used in one step of a report.
type Used struct {
	Begin time.Time
	tenancy.Usage
	ByteHours float64 // of what was stored; an hour counts with what was stored at its end, the present one with what is stored now
}

// UsedBy is what one tenant has used, step by step; steps without use or anything stored are left out.
type UsedBy struct {
	Tenant string
	Tier   string
	Steps  []Used
}

// UsageReport says what is asked of usage.
type UsageReport struct {
	Tenant   string        // only this one; empty: all
	Prefix   string        // only those whose name begins so
	After    string        // those whose name comes after
	Limit    int           // tenants at most
	From, To time.Time     // by whole hours
	Step     time.Duration // an hour, or a day of UTC
}

// maxReport is how many tenants a shard is asked for at once.
const maxReport = 100

// Usage reports what tenants have used, in order of name, and whether there are more of them. NotFound: there is no tenant of the
// name that was asked for. The report has all that was answered by their homes before the call, and what other nodes have read
// at level any until some seconds ago.
func (n *Node) Usage(ctx context.Context, q UsageReport) (all []UsedBy, more bool, err error) {
	if q.Tenant != "" {
		t, err := n.DescribeTenant(ctx, q.Tenant)
		if err != nil {
			return nil, false, err
		}
		all, err = n.usageOf(ctx, &q, []Tenant{t})
		return all, false, err
	}
	if err := n.CatchUp(ctx); err != nil {
		return nil, false, err
	}
	after, more := q.After, true
	for len(all) < q.Limit && more {
		var page []Tenant
		if page, more, _ = n.Tenants(q.Prefix, after, min(q.Limit-len(all), maxReport)); len(page) == 0 {
			break
		}
		after = page[len(page)-1].Name
		found, err := n.usageOf(ctx, &q, page)
		if err != nil {
			return nil, false, err
		}
		for _, u := range found {
			if len(u.Steps) > 0 {
				all = append(all, u)
			}
		}
	}
	return all, more, nil
}

// usageOf asks the homes of tenants, each once, and again those of tenants that have moved meanwhile.
func (n *Node) usageOf(ctx context.Context, q *UsageReport, tenants []Tenant) ([]UsedBy, error) {
	all, open := make([]UsedBy, len(tenants)), make([]int, len(tenants))
	for i, t := range tenants {
		all[i], open[i] = UsedBy{Tenant: t.Name, Tier: t.Tier}, i
	}
	for hop := 0; ; hop++ {
		left, moved, err := n.usageAt(ctx, q, all, open)
		if err == nil && moved == nil {
			return all, nil
		}
		if err != nil || hop == maxHops {
			return nil, cmp.Or(err, error(moved))
		}
		if err := n.learn(ctx, moved); err != nil {
			return nil, err
		}
		open = left
	}
}

// usageAt fills in those of all that are open, and returns which are left because their tenants have moved.
func (n *Node) usageAt(ctx context.Context, q *UsageReport, all []UsedBy, open []int) (left []int, moved *movedError, err error) {
	s := n.meta.state()
	verbs, shards := map[uint16]*usedVerb{}, map[uint16][]int{}
	for _, i := range open {
		t, ok := s.tenant(all[i].Tenant)
		if !ok {
			continue
		}
		home := s.home(t)
		if verbs[home] == nil {
			verbs[home] = &usedVerb{from: tenancy.HourOf(q.From), to: hourAfter(q.To), daily: q.Step > time.Hour}
		}
		verbs[home].tenants = append(verbs[home].tenants, t.id)
		shards[home] = append(shards[home], i)
	}
	for shard, v := range verbs {
		err := n.ask(ctx, &route{shard: shard}, v)
		if gone, ok := errors.AsType[*movedError](err); ok {
			left, moved = append(left, shards[shard]...), gone
			continue
		}
		if err != nil {
			return nil, nil, errs.Wrap(errs.KindOf(err), err, "ask shard %d for usage", shard)
		}
		if len(v.used) != len(v.tenants) {
			return nil, nil, errs.New(errs.Internal, "shard %d told of %d tenants, asked for %d", shard, len(v.used), len(v.tenants))
		}
		for i, at := range shards[shard] {
			all[at].Steps = v.used[i]
		}
	}
	return left, moved, nil
}

// hourAfter is the first hour that does not begin before a time.
func hourAfter(t time.Time) tenancy.Hour { return tenancy.HourOf(t.Add(time.Hour - 1)) }

// usedVerb asks a shard what tenants have used. What was counted is written down first, so that it tells of all of it.
type usedVerb struct {
	tenants  []engine.TenantID
	from, to tenancy.Hour
	daily    bool
	used     [][]Used // of each
}

func (v *usedVerb) method() method                 { return methodUsed }
func (v *usedVerb) weight() (tenancy.Class, int64) { return tenancy.Read, 0 }

func (v *usedVerb) run(ctx context.Context, n *Node, sh *shard, _ engine.Key) error {
	n.usage.settle(sh.id, n.usage.shard(sh.id))
	v.used = make([][]Used, len(v.tenants))
	present := tenancy.HourOf(time.Now())
	for i, t := range v.tenants {
		found, err := sh.engine.ScanCostate(t, usageName(0), usageName(present+1))
		if errors.Is(err, engine.ErrLeft) {
			return newMovedError(0, t, sh.id)
		}
		if err == nil {
			records, bytes := sh.engine.Stored(t)
			v.used[i], err = v.steps(found, present, tenancy.Stored{Vectors: records, Bytes: bytes})
		}
		if err != nil {
			return errs.Wrap(errs.KindOf(err), err, "read the usage of tenant %s", t)
		}
	}
	return nil
}

// steps adds up hours. What was stored is so until something else is known; what is stored at present is not taken from what was
// written down: a home that was killed has not written down its last seconds.
func (v *usedVerb) steps(hours []engine.CostateEntry, present tenancy.Hour, stored tenancy.Stored) (steps []Used, err error) {
	var last tenancy.Usage
	for h := v.from; h < min(v.to, present+1); h++ {
		now := tenancy.Usage{Peak: last.End, End: last.End}
		for len(hours) > 0 && hourOf(hours[0].Name) <= h {
			u, err := decodeUsage(hours[0].Value, nil)
			if err != nil {
				return nil, err
			}
			if hourOf(hours[0].Name) == h {
				now = *u
			} else {
				now = tenancy.Usage{Peak: u.End, End: u.End}
			}
			last, hours = *u, hours[1:]
		}
		if h == present {
			now.Keep(stored)
		}
		if now == (tenancy.Usage{}) {
			continue
		}
		begin := h.Time()
		if v.daily {
			begin = begin.Truncate(24 * time.Hour)
		}
		if len(steps) == 0 || steps[len(steps)-1].Begin != begin {
			steps = append(steps, Used{Begin: begin})
		}
		step := &steps[len(steps)-1]
		step.Add(&now)
		step.ByteHours += float64(now.End.Bytes)
	}
	return steps, nil
}

func (v *usedVerb) appendRequest(b []byte) []byte {
	b = append(b, boolByte(v.daily))
	b = codec.AppendUvarint(codec.AppendUvarint(b, uint64(v.from)), uint64(v.to))
	b = codec.AppendUvarint(b, uint64(len(v.tenants)))
	for _, t := range v.tenants {
		b = append(b, t[:]...)
	}
	return b
}

func (v *usedVerb) readRequest(r *codec.Reader) {
	v.daily = r.Byte() != 0
	v.from, v.to = tenancy.Hour(r.Uvarint()), tenancy.Hour(r.Uvarint())
	v.tenants = make([]engine.TenantID, r.Count(len(engine.TenantID{})))
	for i := range v.tenants {
		copy(v.tenants[i][:], r.Raw(len(v.tenants[i])))
	}
}

func (v *usedVerb) appendAnswer(b []byte) []byte {
	b = codec.AppendUvarint(b, uint64(len(v.used)))
	for _, steps := range v.used {
		b = codec.AppendUvarint(b, uint64(len(steps)))
		for i := range steps {
			b = codec.AppendUvarint(b, uint64(tenancy.HourOf(steps[i].Begin)))
			b = codec.AppendFloat64(b, steps[i].ByteHours)
			b = tenancy.AppendUsage(b, &steps[i].Usage)
		}
	}
	return b
}

func (v *usedVerb) readAnswer(r *codec.Reader) {
	v.used = make([][]Used, r.Count(1))
	for i := range v.used {
		v.used[i] = make([]Used, r.Count(16))
		for j := range v.used[i] {
			u := &v.used[i][j]
			u.Begin = tenancy.Hour(r.Uvarint()).Time()
			u.ByteHours = readFloat64(r)
			u.Usage = tenancy.ReadUsage(r)
		}
	}
}

func readFloat64(r *codec.Reader) float64 { return math.Float64frombits(r.Uint64()) }

// Prices returns what use costs.
func (n *Node) Prices() tenancy.Prices { return n.meta.state().prices }

// SetPrices says what use costs, of the past too: costs are reckoned when they are asked for.
func (n *Node) SetPrices(ctx context.Context, p tenancy.Prices) error {
	_, err := n.changeMeta(ctx, &metaCommand{op: metaSetPrices, prices: p})
	return err
}
