package cluster

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"math"
	"slices"
	"strings"
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
	UsagePlace
	Tier    string
	Deleted time.Time // zero: it is not
	Steps   []Used
}

// UsagePlace is where a report goes on. Several tenants may have had a name, one after the other.
type UsagePlace struct {
	Tenant string // empty: what is no tenant's
	ID     string
}

// UsageReport says what is asked of usage.
type UsageReport struct {
	Tenant   string        // only those of this name; empty: all
	Live     bool          // only the one that has the name now: those that had it before are not its keeper's
	Nobody   bool          // and, first of all, what is no tenant's
	Prefix   string        // only those whose name begins so
	After    UsagePlace    // those that come after
	Limit    int           // tenants at most, unless Tenant is given
	From, To time.Time     // by whole hours
	Step     time.Duration // an hour, or a day of UTC
}

// maxReport is how many tenants a shard is asked for at once.
const maxReport = 100

// Usage reports what tenants have used, in order of name, and whether there are more of them. Those that were deleted are among
// them while their usage is kept. NotFound: there is no tenant of the name that was asked for. The report has all that was answered
// by their homes before the call, and what other nodes have read at level any until some seconds ago.
func (n *Node) Usage(ctx context.Context, q UsageReport) (all []UsedBy, more bool, err error) {
	if q.Tenant != "" {
		q.Limit = maxUsageOfName
	}
	for more = true; more && len(all) < q.Limit; {
		page, cut, err := n.accounts(ctx, &q)
		if err != nil {
			return nil, false, err
		}
		most := min(len(page), q.Limit-len(all), maxReport)
		more = cut || most < len(page)
		found, err := n.usageOf(ctx, &q, page[:most])
		if err != nil {
			return nil, false, err
		}
		for _, u := range found {
			q.After = u.UsagePlace
			if len(u.Steps) > 0 || q.Tenant != "" && u.Deleted.IsZero() {
				all = append(all, u)
			}
		}
	}
	return all, more, nil
}

// account is a tenant whose usage is asked for.
type account struct {
	bill        // without a time it was deleted it is not
	home uint16 // where it lives, or its bill is kept, as far as is known
}

// accounts lists the tenants that a report is about, in order. It may be cut short: there are more then.
func (n *Node) accounts(ctx context.Context, q *UsageReport) (all []account, cut bool, err error) {
	if q.Tenant == "" {
		err = n.CatchUp(ctx)
	} else if _, err = n.tenantNamed(ctx, q.Tenant); errs.Is(err, errs.NotFound) && !q.Live {
		err = nil // it may have been deleted
	}
	if err != nil {
		return nil, false, err
	}
	s := n.meta.state()
	after := bill{name: q.After.Tenant}
	if id, err := hex.DecodeString(q.After.ID); err != nil || len(id) != copy(after.id[:], id) {
		return nil, false, errs.New(errs.Invalid, "%q is no tenant's id", q.After.ID)
	}
	all = s.accounts(q, &after)
	if q.Nobody && q.After == (UsagePlace{}) && q.Tenant == "" && q.Prefix == "" {
		all = append(all, account{home: s.shards[0]})
	}
	if !q.Live {
		if all, cut, err = n.addBills(ctx, s, q, after, all); err != nil {
			return nil, false, err
		}
	}
	if q.Tenant != "" && len(all) == 0 && q.After == (UsagePlace{}) {
		return nil, false, errNoTenant(q.Tenant)
	}
	slices.SortFunc(all, func(a, b account) int { return compareBills(&a.bill, &b.bill) })
	return all, cut, nil
}

// accounts returns those tenants of a report that the metadata plane knows.
func (s *state) accounts(q *UsageReport, after *bill) (all []account) {
	tenants := s.byID.all()
	if q.Live {
		tenants = s.byName.all()
	}
	for t := range tenants {
		if !strings.HasPrefix(t.name, q.Prefix) || q.Tenant != "" && t.name != q.Tenant {
			continue
		}
		a := account{bill{id: t.id, name: t.name, tier: t.tierName()}, s.home(t)}
		if t.life != tenantLive {
			a.deleted = time.Unix(0, t.deletedAt).UTC()
		}
		if compareBills(&a.bill, after) > 0 {
			all = append(all, a)
		}
	}
	return all
}

// maxUsageOfName bounds how many tenants that had one name, one after the other, are told of.
const maxUsageOfName = 1000

// addBills adds the tenants whose data was dropped, by the bills that the shards keep; whom the metadata plane still knows is there
// already. Where a shard has more of them than it was asked for, the list ends with its last one.
func (n *Node) addBills(ctx context.Context, s *state, q *UsageReport, after bill, all []account) (_ []account, cut bool, err error) {
	var end bill
	seen := map[engine.TenantID]bool{} // while a shard is taken out, another has its bills as well
	for _, id := range s.shards {
		v := billsVerb{name: q.Tenant, prefix: q.Prefix, after: after, limit: max(q.Limit, maxReport)}
		if err := n.ask(ctx, &route{shard: id}, &v); err != nil {
			return nil, false, errs.Wrap(errs.KindOf(err), err, "ask shard %d for bills", id)
		}
		for _, b := range v.found {
			if _, known := s.tenantByID(b.id); !known && !seen[b.id] {
				all, seen[b.id] = append(all, account{b, id}), true
			}
		}
		if len(v.found) == v.limit {
			if last := &v.found[v.limit-1]; !cut || compareBills(last, &end) < 0 {
				end, cut = *last, true
			}
		}
	}
	if cut {
		all = slices.DeleteFunc(all, func(a account) bool { return compareBills(&a.bill, &end) > 0 })
	}
	return all, cut, nil
}

// usageOf asks where accounts are, each once, and again for tenants that have moved meanwhile.
func (n *Node) usageOf(ctx context.Context, q *UsageReport, accounts []account) ([]UsedBy, error) {
	all, open := make([]UsedBy, len(accounts)), make([]int, len(accounts))
	for i, a := range accounts {
		all[i], open[i] = UsedBy{UsagePlace: UsagePlace{a.name, a.id.String()}, Tier: a.tier, Deleted: a.deleted}, i
	}
	for hop := 0; ; hop++ {
		left, moved, err := n.usageAt(ctx, q, accounts, all, open)
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
func (n *Node) usageAt(ctx context.Context, q *UsageReport, accounts []account, all []UsedBy, open []int) (left []int, moved *movedError, err error) {
	s := n.meta.state()
	verbs, shards := map[uint16]*usedVerb{}, map[uint16][]int{}
	for _, i := range open {
		home := accounts[i].home
		if t, ok := s.tenantByID(accounts[i].id); ok {
			home = s.home(t)
		}
		if verbs[home] == nil {
			verbs[home] = &usedVerb{from: tenancy.HourOf(q.From), to: hourAfter(q.To), daily: q.Step > time.Hour}
		}
		verbs[home].tenants = append(verbs[home].tenants, accounts[i].id)
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
		found, err := sh.usageHours(t)
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
