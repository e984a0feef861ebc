package cluster

import (
	"bytes"
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// A tenant that is dropped leaves a bill: what it has used, by the hour, and whom that was, until it is older than usage is kept. It
// is co-state of the shard where the tenant lived, of no tenant: there the drop cannot reach it, nor a move.
const (
	// billMark begins the name under which a shard keeps whose bill it has; the tenant's id follows.
	billMark = "b"
	// billHourMark begins the names of a bill's hours; the tenant's id and the hour follow, as in usageName.
	billHourMark = "h"
	// billEnd is behind all these names.
	billEnd = "i"

	billVersion = 1
	// billPage bounds what travels of bills at once, in bytes.
	billPage = 512 << 10
)

// bill is whose last usage a shard keeps.
type bill struct {
	id         engine.TenantID
	name, tier string // as they were last
	deleted    time.Time
}

func (b *bill) costate() engine.CostateEntry {
	v := codec.AppendString(codec.AppendString([]byte{billVersion}, b.name), b.tier)
	return engine.CostateEntry{Name: billMark + string(b.id[:]), Value: appendTime(v, b.deleted)}
}

func readBill(e *engine.CostateEntry) (b bill, err error) {
	r := codec.NewReader(e.Value)
	if v := r.Byte(); v != billVersion && r.Err() == nil {
		r.Fail(errs.New(errs.FailedPrecondition, "a bill has version %d, this croft knows %d", v, billVersion))
	}
	b = bill{name: r.String(), tier: r.String(), deleted: readTime(r)}
	if copy(b.id[:], e.Name[len(billMark):]) < len(b.id) {
		fail(r, "a bill of nobody")
	}
	return b, r.Done()
}

func billHours(t engine.TenantID) string { return billHourMark + string(t[:]) }

// compareBills orders by name, and those of one name by id.
func compareBills(a, b *bill) int {
	return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(string(a.id[:]), string(b.id[:])))
}

// bills returns whose last usage is kept here.
func (s *shard) bills() ([]bill, error) {
	found, err := s.engine.ScanCostate(engine.TenantID{}, billMark, billHourMark)
	all := make([]bill, 0, len(found))
	for i := range found {
		b, fault := readBill(&found[i])
		if err = cmp.Or(err, fault); err != nil {
			return nil, errs.Wrap(errs.Corrupt, err, "read a bill of shard %d", s.id)
		}
		all = append(all, b)
	}
	return all, err
}

// usageHours returns what was written down of a tenant by the hour, in order: from its bill, once that is drawn up.
func (s *shard) usageHours(t engine.TenantID) ([]engine.CostateEntry, error) {
	b := bill{id: t}
	closed, err := s.engine.Costate(engine.TenantID{}, b.costate().Name)
	if err != nil {
		return nil, err
	}
	if closed == nil {
		return s.engine.ScanCostate(t, usageName(0), usageName(1<<32-1))
	}
	mark := billHours(t)
	hours, err := s.engine.ScanCostate(engine.TenantID{}, mark, mark+"v")
	for i := range hours {
		hours[i].Name = strings.TrimPrefix(hours[i].Name, mark)
	}
	return hours, err
}

// closeVerb draws up the bill of a tenant whose data was dropped here, and clears away all else that was kept beside it. It is one
// entry of the shard's log, so the usage is under the tenant's name or in the bill, never in both.
type closeVerb struct{ bill bill }

func (v *closeVerb) method() method                 { return methodClose }
func (v *closeVerb) weight() (tenancy.Class, int64) { return tenancy.Write, 0 }

func (v *closeVerb) run(ctx context.Context, n *Node, sh *shard, _ engine.Key) error {
	n.usage.settle(sh.id, n.usage.shard(sh.id))
	term, err := sh.settle(ctx)
	if err != nil {
		return err
	}
	entries, err := sh.closing(&v.bill, tenancy.HourOf(time.Now()))
	if err != nil || len(entries) == 0 {
		return err
	}
	return sh.keepBatch(ctx, term, entries)
}

// closing returns what makes a bill of what was written down. From the present hour on nothing is stored. Of a tenant that has
// used nothing there is no bill, and one that is drawn up stays as it is.
func (s *shard) closing(b *bill, present tenancy.Hour) ([]engine.CostateEntry, error) {
	if drawn, err := s.engine.Costate(engine.TenantID{}, b.costate().Name); err != nil || drawn != nil {
		return nil, err
	}
	hours, err := s.engine.ScanCostate(b.id, usageName(0), usageName(1<<32-1))
	if err != nil {
		return nil, err
	}
	entries := []engine.CostateEntry{{Tenant: b.id}}
	if len(hours) == 0 {
		return entries, nil
	}
	slot := tenancy.Slot{Tenant: tenancy.ID(b.id), Hour: max(present, hourOf(hours[len(hours)-1].Name))}
	last, err := s.usageOf(slot, new(tenancy.Usage))
	if err != nil {
		return nil, err
	}
	if hourOf(hours[len(hours)-1].Name) == slot.Hour {
		hours = hours[:len(hours)-1]
	}
	for _, e := range append(hours, usageEntry(slot, last)) {
		entries = append(entries, engine.CostateEntry{Name: billHours(b.id) + e.Name, Value: e.Value})
	}
	return append(entries, b.costate()), nil
}

func (v *closeVerb) appendRequest(b []byte) []byte {
	b = codec.AppendString(codec.AppendString(append(b, v.bill.id[:]...), v.bill.name), v.bill.tier)
	return appendTime(b, v.bill.deleted)
}

func (v *closeVerb) readRequest(r *codec.Reader) {
	copy(v.bill.id[:], r.Raw(len(v.bill.id)))
	v.bill.name, v.bill.tier, v.bill.deleted = r.String(), r.String(), readTime(r)
}

func (v *closeVerb) appendAnswer(b []byte) []byte { return b }
func (v *closeVerb) readAnswer(*codec.Reader)     {}

// billsVerb lists whose bills a shard keeps, in order, after one, up to a limit.
type billsVerb struct {
	name, prefix string // of the tenant; empty: any
	after        bill
	limit        int
	found        []bill
}

func (v *billsVerb) method() method                 { return methodBills }
func (v *billsVerb) weight() (tenancy.Class, int64) { return tenancy.Read, 0 }

func (v *billsVerb) run(_ context.Context, _ *Node, sh *shard, _ engine.Key) error {
	all, err := sh.bills()
	v.found = slices.DeleteFunc(all, func(b bill) bool {
		return !strings.HasPrefix(b.name, v.prefix) || v.name != "" && b.name != v.name || compareBills(&b, &v.after) <= 0
	})
	slices.SortFunc(v.found, func(a, b bill) int { return compareBills(&a, &b) })
	v.found = v.found[:min(len(v.found), v.limit)]
	return err
}

func (v *billsVerb) appendRequest(b []byte) []byte {
	b = codec.AppendString(codec.AppendString(codec.AppendString(b, v.name), v.prefix), v.after.name)
	return appendInt(append(b, v.after.id[:]...), v.limit)
}

func (v *billsVerb) readRequest(r *codec.Reader) {
	v.name, v.prefix, v.after.name = r.String(), r.String(), r.String()
	copy(v.after.id[:], r.Raw(len(v.after.id)))
	v.limit = max(readSigned(r), 0)
}

func (v *billsVerb) appendAnswer(b []byte) []byte {
	b = codec.AppendUvarint(b, uint64(len(v.found)))
	for i := range v.found {
		f := &v.found[i]
		b = appendTime(codec.AppendString(codec.AppendString(append(b, f.id[:]...), f.name), f.tier), f.deleted)
	}
	return b
}

func (v *billsVerb) readAnswer(r *codec.Reader) {
	v.found = make([]bill, r.Count(len(engine.TenantID{})+10))
	for i := range v.found {
		f := &v.found[i]
		copy(f.id[:], r.Raw(len(f.id)))
		f.name, f.tier, f.deleted = r.String(), r.String(), readTime(r)
	}
}

// carryVerb takes bills out of a shard that is to go, a page at a time, or takes them in at another, where what is there already
// is written once more.
type carryVerb struct {
	take    bool   // in
	after   string // name of the last entry that was taken out
	entries []engine.CostateEntry
}

func (v *carryVerb) method() method                 { return methodCarry }
func (v *carryVerb) weight() (tenancy.Class, int64) { return tenancy.Write, 0 }

func (v *carryVerb) run(ctx context.Context, _ *Node, sh *shard, _ engine.Key) error {
	term, err := sh.settle(ctx)
	if err != nil {
		return err
	}
	if v.take {
		return sh.keep(ctx, term, v.entries)
	}
	v.entries, err = sh.engine.ScanCostate(engine.TenantID{}, max(billMark, v.after+"\x00"), billEnd)
	size := 0
	for i := range v.entries {
		if size += len(v.entries[i].Name) + len(v.entries[i].Value); size > billPage && i > 0 {
			v.entries = v.entries[:i]
			break
		}
	}
	return err
}

func (v *carryVerb) appendRequest(b []byte) []byte {
	return appendEntries(codec.AppendString(append(b, boolByte(v.take)), v.after), v.entries, v.take)
}

func (v *carryVerb) readRequest(r *codec.Reader) {
	v.take, v.after = r.Byte() != 0, r.String()
	v.entries = readEntries(r)
}

func (v *carryVerb) appendAnswer(b []byte) []byte { return appendEntries(b, v.entries, !v.take) }

func (v *carryVerb) readAnswer(r *codec.Reader) {
	if found := readEntries(r); !v.take {
		v.entries = found
	}
}

// appendEntries appends entries that are no tenant's, if they are wanted.
func appendEntries(b []byte, entries []engine.CostateEntry, wanted bool) []byte {
	if !wanted {
		entries = nil
	}
	b = codec.AppendUvarint(b, uint64(len(entries)))
	for i := range entries {
		b = codec.AppendBytes(codec.AppendString(b, entries[i].Name), entries[i].Value)
	}
	return b
}

func readEntries(r *codec.Reader) []engine.CostateEntry {
	entries := make([]engine.CostateEntry, r.Count(2))
	for i := range entries {
		entries[i].Name, entries[i].Value = r.String(), bytes.Clone(r.Bytes())
	}
	return entries
}

// carryBills has another shard keep the bills of one that is to be taken out, where nobody lives any more. They are whole values
// that change no more, so whatever is cut short is done again, and what both have is one bill.
func (n *Node) carryBills(ctx context.Context, from uint16) error {
	s := n.meta.state()
	at := slices.IndexFunc(s.shards, func(id uint16) bool { return id != from && !s.isDraining(id) })
	if !s.hasShard(from) || at < 0 || s.tenantsOn(from) > 0 {
		return nil // the removal will be refused
	}
	for out := (carryVerb{}); ; {
		if err := n.ask(ctx, &route{shard: from}, &out); err != nil {
			return errs.Wrap(errs.KindOf(err), err, "read the bills of shard %d", from)
		}
		if len(out.entries) == 0 {
			return nil
		}
		if err := n.ask(ctx, &route{shard: s.shards[at]}, &carryVerb{take: true, entries: out.entries}); err != nil {
			return errs.Wrap(errs.KindOf(err), err, "have shard %d keep the bills of shard %d", s.shards[at], from)
		}
		out.after = out.entries[len(out.entries)-1].Name
	}
}

// pruneBills removes hours before the oldest, but for the newest of those, which tells what was stored since, and bills of which no
// later one is left.
func (l *usageLedger) pruneBills(ctx context.Context, s *shard, term uint64, oldest tenancy.Hour) error {
	all, err := s.bills()
	if err != nil {
		return err
	}
	var old []engine.CostateEntry
	for i := range all {
		mark := billHours(all[i].id)
		hours, err := s.engine.ScanCostate(engine.TenantID{}, mark, mark+"v")
		if err != nil {
			return err
		}
		keep := len(hours)
		if keep > 0 && hourOf(strings.TrimPrefix(hours[keep-1].Name, mark)) >= oldest {
			keep = slices.IndexFunc(hours, func(e engine.CostateEntry) bool { return hourOf(strings.TrimPrefix(e.Name, mark)) >= oldest }) - 1
		} else {
			old = append(old, engine.CostateEntry{Name: all[i].costate().Name})
		}
		for _, e := range hours[:max(keep, 0)] {
			old = append(old, engine.CostateEntry{Name: e.Name})
		}
	}
	return s.keep(ctx, term, old)
}
