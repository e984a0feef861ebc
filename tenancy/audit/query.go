package audit

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// Query says which events are looked for. Fields that are empty let all pass.
type Query struct {
	Tenant  string // whose events: exactly
	Own     bool   // those of Tenant alone, empty or not
	Actor   string // exactly, or its beginning where it ends in *
	Action  string
	Result  string
	Refused *bool
	Since   time.Time // At is not before
	Until   time.Time // At is before
	After   Place     // events that come behind this one in the order of answers
	Limit   int
}

// Place is where an event stands among all: answers go from the newest to the oldest.
type Place struct {
	At   time.Time
	Node string
	Act  bool // of the chain of acts, else of refusals
	Seq  uint64
}

// Zero reports whether the place is before all.
func (p Place) Zero() bool { return p.At.IsZero() }

// place is where an event stands.
func (e *Event) place() Place { return Place{e.At, e.Node, !e.Refused, e.Seq} }

// Compare orders events as answers have them.
func (e *Event) Compare(o *Event) int { return e.place().compare(o.place()) }

// PlaceOf is where an event stands, for Query.After.
func PlaceOf(e *Event) Place { return e.place() }

func (p Place) compare(o Place) int {
	act := func(b bool) int {
		if b {
			return 1
		}
		return 0
	}
	return cmp.Or(o.At.Compare(p.At), cmp.Compare(p.Node, o.Node), cmp.Compare(act(o.Act), act(p.Act)), cmp.Compare(o.Seq, p.Seq))
}

// matches reports whether an event is looked for.
func (q *Query) matches(e *Event) bool {
	switch {
	case (q.Own || q.Tenant != "") && e.Tenant != q.Tenant,
		q.Actor != "" && !matchesText(q.Actor, e.Actor),
		q.Action != "" && e.Action != q.Action,
		q.Result != "" && e.Result != q.Result,
		q.Refused != nil && e.Refused != *q.Refused,
		!q.Since.IsZero() && e.At.Before(q.Since),
		!q.Until.IsZero() && !e.At.Before(q.Until),
		!q.After.Zero() && e.place().compare(q.After) <= 0:
		return false
	}
	return true
}

func matchesText(pattern, s string) bool {
	if prefix, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(s, prefix)
	}
	return pattern == s
}

// Find returns the events that are looked for, at most q.Limit, in the order of answers. It reads every file of the time in question, one at a
// time, and holds no more events than it returns and one file.
func (l *Log) Find(node string, q *Query) ([]Event, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	var found []Event
	upTo := l.next             // events from there on are in a newer file once more
	ended := map[uint64]bool{} // acts that newer files have the ends of
	for i := len(l.files) - 1; i >= 0; i-- {
		if last := l.files[i].last; !last.IsZero() && last.Before(q.Since) {
			continue
		}
		b, h, err := l.read(i)
		if errs.Is(err, errs.Corrupt) {
			continue // Verify tells
		}
		if err != nil {
			return nil, errs.Wrap(errs.KindOf(err), err, "read the audit log")
		}
		found = append(found, l.findIn(i, b, h, upTo, node, q, ended)...)
		slices.SortFunc(found, func(a, b Event) int { return a.Compare(&b) })
		found = found[:min(len(found), q.Limit)]
		upTo = h.first
	}
	return found, nil
}

// findIn looks through a file. An act that has ended is shown by its end alone, which stands behind its beginning, in this file or in one
// that was looked through before: ended has those.
func (l *Log) findIn(i int, b []byte, h header, upTo uint64, node string, q *Query, ended map[uint64]bool) (found []Event) {
	var last time.Time
	begun := map[uint64]Event{}
	end := endOf(b, h)
	scan(b, h, func(r *record) bool {
		if r.event.Seq >= min(upTo, end.next) {
			return false
		}
		if r.event.At.After(last) {
			last = r.event.At
		}
		r.event.Node = node
		if before := r.event.ends; before >= h.first {
			delete(begun, before)
		} else if before > 0 {
			ended[before] = true
		}
		switch {
		case r.event.Result == Begun && ended[r.event.Seq]:
			delete(ended, r.event.Seq)
		case r.event.Result == Begun:
			begun[r.event.Seq] = r.event
		case !r.event.void && q.matches(&r.event):
			found = append(found, r.event)
		}
		if len(found) >= 4*q.Limit+1024 {
			slices.SortFunc(found, func(a, b Event) int { return a.Compare(&b) })
			found = found[:q.Limit]
		}
		return true
	})
	l.files[i].last = last
	for _, e := range begun { // any order: they are sorted with the others
		if q.matches(&e) {
			found = append(found, e)
		}
	}
	return found
}

// AppendQuery and ReadQuery carry a query to another node.
func AppendQuery(b []byte, q *Query) []byte {
	for _, s := range []string{q.Tenant, q.Actor, q.Action, q.Result, q.After.Node} {
		b = codec.AppendString(b, s)
	}
	refused := byte(2)
	if q.Refused != nil {
		refused = flagOf(*q.Refused)
	}
	b = append(b, flagOf(q.Own), refused, flagOf(q.After.Act))
	for _, t := range []time.Time{q.Since, q.Until, q.After.At} {
		b = appendTime(b, t)
	}
	b = codec.AppendUvarint(b, q.After.Seq)
	return codec.AppendUvarint(b, uint64(q.Limit))
}

// ReadQuery reads what AppendQuery wrote.
func ReadQuery(r *codec.Reader) (q Query) {
	for _, s := range []*string{&q.Tenant, &q.Actor, &q.Action, &q.Result, &q.After.Node} {
		*s = r.String()
	}
	q.Own = r.Byte() == 1
	if b := r.Byte(); b < 2 {
		refused := b == 1
		q.Refused = &refused
	}
	q.After.Act = r.Byte() == 1
	for _, t := range []*time.Time{&q.Since, &q.Until, &q.After.At} {
		*t = readTime(r)
	}
	q.After.Seq = r.Uvarint()
	q.Limit = int(min(r.Uvarint(), MaxFound))
	return q
}

// MaxFound is the most events that one query returns.
const MaxFound = 1000

func flagOf(b bool) byte {
	if b {
		return 1
	}
	return 0
}

// appendTime writes a time; 0 stands for none.
func appendTime(b []byte, t time.Time) []byte {
	if t.IsZero() {
		return codec.AppendUint64(b, 0)
	}
	return codec.AppendUint64(b, uint64(t.UnixNano()))
}

func readTime(r *codec.Reader) time.Time {
	n := int64(r.Uint64())
	if n == 0 {
		return time.Time{}
	}
	return time.Unix(0, n).UTC()
}
