package engine

import (
	"context"
	"runtime/debug"
	"slices"
	"strings"
	"sync"

	"github.com/RoaringBitmap/roaring/v2"

	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/errs"
)

// attachBatch is how many matches get their payload in one view of the store.
const attachBatch = 256

// attach adds what the query asks for to the matches. fresh is false when a record has changed since the search. The
// last time that does not matter: records that are gone or match the filter no more are left out, changed ones are
// answered as they are now, with the score that they had.
func (sr *searcher) attach(sp *space, q *Query, res *Result, last bool) (fresh bool, err error) {
	debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(false)
	size := 0
	defer func() { res.Read += size }()
	for i := range res.Matches {
		m := &res.Matches[i]
		if q.IncludeValues {
			row, _ := sp.Vector(sr.found[i].Slot)
			m.Values = append(m.Values[:0], row...)
		}
		if err := q.spend(&size, len(m.ID)+4*len(m.Values)); err != nil {
			return false, err
		}
	}
	if !q.IncludeMetadata && !(q.IncludeValues && sp.sparse.used()) {
		return true, nil
	}
	for batch := range slices.Chunk(res.Matches, attachBatch) {
		if fresh, err := sp.attachStored(q, batch, &size, last); err != nil || !fresh {
			return fresh, err
		}
	}
	if last {
		res.Matches = slices.DeleteFunc(res.Matches, func(m Match) bool { return m.ID == "" })
	}
	return true, nil
}

// ErrAnswerTooLarge says that an answer is beyond Query.MaxBytes.
var ErrAnswerTooLarge = errs.New(errs.Invalid, "query: the answer is larger than its limit")

// spend counts bytes of the answer against the query's limit.
func (q *Query) spend(size *int, n int) error {
	if *size += n; q.MaxBytes > 0 && *size > q.MaxBytes {
		return ErrAnswerTooLarge
	}
	return nil
}

// attachStored adds what only the store knows. The id of a match that is to be left out becomes empty.
func (sp *space) attachStored(q *Query, ms []Match, size *int, last bool) (fresh bool, err error) {
	ids := make([]string, len(ms))
	for i := range ids {
		ids[i] = ms[i].ID
	}
	facts, err := sp.shard.lookup(sp.part, ids)
	if err != nil {
		return false, err
	}
	for i, f := range facts {
		m := &ms[i]
		if changed := f == nil || f.version != m.Version; changed && !last {
			return false, nil
		} else if changed {
			err = sp.renew(q, m, f)
		}
		if err == nil && m.ID != "" {
			err = q.addStored(m, f, size)
		}
		if err != nil {
			return false, err
		}
	}
	return true, nil
}

// renew makes m the newest version of its record, f, unless there is none that matches.
func (sp *space) renew(q *Query, m *Match, f *found) error {
	if f == nil {
		m.ID = ""
		return nil
	}
	meta, err := f.metadata()
	if err != nil {
		return err
	}
	if !q.Filter.Match(meta) {
		m.ID = ""
		return nil
	}
	m.Version = f.version
	if q.IncludeValues {
		m.Values = append(m.Values[:0], sp.shard.blocks.row(f.place, sp.dim)...)
	}
	return nil
}

func (q *Query) addStored(m *Match, f *found, size *int) (err error) {
	if q.IncludeValues {
		m.Sparse = f.sparse
	}
	if !q.IncludeMetadata {
		return nil
	}
	if err := q.spend(size, len(f.meta)); err != nil {
		return err
	}
	m.Metadata, err = f.metadata()
	return err
}

// snapshot calls buffers with mu locked, by l, and then stored with a view of the store: both see the state after the
// same entry. stored is not called if buffers says that it has seen enough.
func (s *Shard) snapshot(l sync.Locker, buffers func() (enough bool), stored func(store.Tx) error) error {
	l.Lock()
	unlock := sync.OnceFunc(l.Unlock)
	defer unlock()
	if buffers() {
		return nil
	}
	return s.kv.View(func(tx store.Tx) error {
		unlock()
		return stored(tx)
	})
}

// lookup returns the newest state of each id, nil where there is none. The caller is pinned, so that the places stay
// readable.
func (s *Shard) lookup(p *partition, ids []string) ([]*found, error) {
	facts := make([]*found, len(ids))
	var number uint64
	var missing []int
	err := s.snapshot(s.mu.RLocker(), func() bool {
		number, missing = s.lookupBuffers(p, ids, facts)
		return len(missing) == 0
	}, func(tx store.Tx) error {
		for _, i := range missing {
			f, ok, err := s.readStored(tx, number, ids[i])
			if err != nil {
				return err
			}
			if ok {
				facts[i] = &f
			}
		}
		return nil
	})
	return facts, err
}

// lookupBuffers looks into the growing buffers and returns the positions of the ids that they do not know. The caller
// holds mu.
func (s *Shard) lookupBuffers(p *partition, ids []string, facts []*found) (number uint64, missing []int) {
	for i, id := range ids {
		r := s.active.find(p, id)
		if r == nil {
			r = s.frozen.find(p, id)
		}
		switch {
		case r == nil:
			missing = append(missing, i)
		case !r.deleted:
			f := r.found()
			facts[i] = &f
		}
	}
	return p.head.Number, missing
}

// record copies a record out of what was found.
func (s *Shard) record(p *partition, id string, f *found) (Record, error) {
	m, err := f.metadata()
	if err != nil {
		return Record{}, err
	}
	r := Record{ID: id, Sparse: f.sparse, Metadata: m, Version: f.version}
	if f.place != 0 {
		if err := s.verifyRow(p, f.place); err != nil {
			return Record{}, err
		}
		r.Values = slices.Clone(s.blocks.row(f.place, p.schema.Dim))
	}
	return r, nil
}

// find returns the partition that a read is about, nil if there is none. ErrStaged, ErrLeft: its tenant lives elsewhere.
func (s *Shard) find(key Key) (*partition, error) {
	if err := s.away(key.Tenant); err != nil {
		return nil, err
	}
	return s.registry.find(key), nil
}

// Fetch returns the records of ids that exist, in the order of ids.
func (s *Shard) Fetch(ctx context.Context, key Key, ids []string) (recs []Record, err error) {
	p, err := s.find(key)
	if p == nil {
		return nil, err
	}
	defer catchFault(&err)
	debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(false)
	pin := s.epochs.pin()
	defer s.epochs.unpin(pin)
	facts, err := s.lookup(p, ids)
	if err != nil {
		return nil, err
	}
	for i, f := range facts {
		if f == nil {
			continue
		}
		r, err := s.record(p, ids[i], f)
		if err != nil {
			return nil, err
		}
		recs = append(recs, r)
	}
	return recs, nil
}

// Scan visits records in order of id, from after (exclusive) on, whose id has prefix and that match f (nil: all),
// until limit records were found. more tells whether another one follows.
func (s *Shard) Scan(ctx context.Context, key Key, prefix, after string, f *filter.Expr, limit int) (recs []Record, more bool, err error) {
	p, err := s.find(key)
	if p == nil {
		return nil, false, err
	}
	defer catchFault(&err)
	debug.SetPanicOnFault(true)
	defer debug.SetPanicOnFault(false)
	pin := s.epochs.pin()
	defer s.epochs.unpin(pin)
	more, err = s.walk(ctx, p, prefix, after, limit, func(id string, fd *found) (bool, error) {
		r, err := s.record(p, id, fd)
		if err != nil || !f.Match(r.Metadata) {
			return false, err
		}
		if len(recs) < limit {
			recs = append(recs, r)
		}
		return true, nil
	})
	return recs, more, err
}

// ScanIDs is Scan for ids alone.
func (s *Shard) ScanIDs(ctx context.Context, key Key, prefix, after string, limit int) (ids []string, more bool, err error) {
	p, err := s.find(key)
	if p == nil {
		return nil, false, err
	}
	pin := s.epochs.pin()
	defer s.epochs.unpin(pin)
	more, err = s.walk(ctx, p, prefix, after, limit, func(id string, _ *found) (bool, error) {
		if len(ids) < limit {
			ids = append(ids, id)
		}
		return true, nil
	})
	return ids, more, err
}

// walk visits the records of a partition in order of id: those of records.db merged with those of the growing
// buffers, which know better. It ends after visit has taken limit records and would take one more.
func (s *Shard) walk(ctx context.Context, p *partition, prefix, after string, limit int, visit func(string, *found) (bool, error)) (more bool, err error) {
	w := &walk{ctx: ctx, limit: limit, visit: visit}
	var number uint64
	from := max(prefix, after)
	err = s.snapshot(s.mu.RLocker(), func() bool {
		number = s.bufferedAfter(p, prefix, after, w)
		return false
	}, func(tx store.Tx) error {
		err := tx.Ascend(bucketRecords, recordKey(number, from), func(k, v []byte) (bool, error) {
			n, id := splitRecordKey(k)
			if n != number || !strings.HasPrefix(string(id), prefix) {
				return false, nil
			}
			if string(id) == after {
				return true, nil
			}
			return w.stored(s, string(id), v)
		})
		if err != nil || w.more {
			return err
		}
		return w.rest()
	})
	return w.more, err
}

// walk is one ordered pass.
type walk struct {
	ctx   context.Context
	limit int
	visit func(string, *found) (bool, error)

	ids     []string // of the growing buffers, in order, not yet passed
	newer   map[string]*memRecord
	taken   int
	visited int
	more    bool
}

// bufferedAfter collects what the growing buffers hold after an id. The caller holds mu.
func (s *Shard) bufferedAfter(p *partition, prefix, after string, w *walk) (number uint64) {
	w.newer = map[string]*memRecord{}
	for _, m := range [...]*memtable{s.frozen, s.active} {
		if m == nil || m.parts[p] == nil || m.parts[p].number != p.head.Number {
			continue
		}
		for id, r := range m.parts[p].records {
			if id > after && strings.HasPrefix(id, prefix) {
				w.newer[id] = r
			}
		}
	}
	w.ids = make([]string, 0, len(w.newer))
	for id := range w.newer {
		w.ids = append(w.ids, id)
	}
	slices.Sort(w.ids)
	return p.head.Number
}

// stored visits a record of records.db, after those of the buffers that come before it.
func (w *walk) stored(s *Shard, id string, v []byte) (bool, error) {
	for len(w.ids) > 0 && w.ids[0] < id {
		if err := w.buffer(); err != nil || w.more {
			return false, err
		}
	}
	if _, ok := w.newer[id]; ok {
		return true, nil // its turn comes with the buffers
	}
	f, err := s.decodeFound(v)
	if err != nil {
		return false, err
	}
	err = w.take(id, &f)
	return !w.more, err
}

func (w *walk) rest() error {
	for len(w.ids) > 0 && !w.more {
		if err := w.buffer(); err != nil {
			return err
		}
	}
	return nil
}

// buffer visits the next record of the buffers.
func (w *walk) buffer() error {
	id := w.ids[0]
	w.ids = w.ids[1:]
	r := w.newer[id]
	if r.deleted {
		return nil
	}
	f := r.found()
	return w.take(id, &f)
}

func (w *walk) take(id string, f *found) error {
	if w.visited++; w.visited%256 == 0 && w.ctx.Err() != nil {
		return w.ctx.Err()
	}
	ok, err := w.visit(id, f)
	if ok {
		w.taken++
		w.more = w.taken > w.limit
	}
	return err
}

// Resolve returns the records that match f, to be named in an update or delete by filter, in order of slot.
func (s *Shard) Resolve(ctx context.Context, key Key, f *filter.Expr) (ts []Target, err error) {
	p, err := s.find(key)
	if p == nil {
		return nil, err
	}
	defer catchFault(&err)
	pin := s.epochs.pin()
	defer s.epochs.unpin(pin)
	sp, err := s.acquire(ctx, p)
	if err != nil {
		return nil, err
	}
	sr := s.engine.searchers.Get().(*searcher)
	defer s.engine.searchers.Put(sr)
	sr.begin(sp, &Query{}, &Result{})
	defer sr.end()
	set, err := sr.match(ctx, f)
	if err != nil {
		return nil, err
	}
	for it := set.Iterator(); it.HasNext(); {
		slot := it.Next()
		if !sr.seen.Allow(slot) {
			continue
		}
		col, i := sp.cols.at(slot)
		ts = append(ts, Target{ID: col.id[i], Version: col.born[i].Load()})
	}
	return ts, nil
}

// recheckLimit bounds the records whose stored metadata is read for one filter.
const recheckLimit = 100_000

// recheck keeps the visible slots of a set whose stored metadata matches.
func (sr *searcher) recheck(ctx context.Context, set *roaring.Bitmap, e *filter.Expr) (*roaring.Bitmap, error) {
	if n := set.GetCardinality(); n > recheckLimit {
		return nil, errs.New(errs.Invalid, "filter: %d records would have to be read one by one, at most %d may: "+
			"it names a metadata field that is not indexed because the namespace has too many different fields",
			n, recheckLimit).WithHint("filter on one of the fields that came first, or store fewer different fields")
	}
	sp, out := sr.sp, roaring.New()
	for it := set.ManyIterator(); ; {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		n := it.NextMany(sr.slots)
		if n == 0 {
			return out, nil
		}
		slots := slices.DeleteFunc(slices.Clone(sr.slots[:n]), func(slot uint32) bool { return !sr.seen.Allow(slot) })
		ids := make([]string, len(slots))
		for i, slot := range slots {
			col, at := sp.cols.at(slot)
			ids[i] = col.id[at]
		}
		facts, err := sp.shard.lookup(sp.part, ids)
		if err != nil {
			return nil, err
		}
		for i, f := range facts {
			if f == nil {
				continue
			}
			m, err := f.metadata()
			if err != nil {
				return nil, err
			}
			if e.Match(m) {
				out.Add(slots[i])
			}
		}
	}
}
