package engine

import (
	"runtime/debug"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
)

// Apply executes one committed entry. Entries arrive in log order from one goroutine. One whose index is not above
// AppliedIndex is skipped: it is in the state already. A returned error is a broken disk, after which the shard
// refuses everything; refusals of the input, the same on every replica, are in Applied.Err.
func (s *Shard) Apply(index uint64, cmd []byte) (Applied, error) {
	if err := s.failure(); err != nil {
		return Applied{}, err
	}
	if index <= s.applied.Load() {
		return Applied{Index: index}, nil
	}
	c, err := DecodeCommand(cmd)
	a := &applier{shard: s, out: Applied{Index: index, Err: err}}
	if err := a.run(c); err != nil {
		return Applied{}, s.fail("apply", err)
	}
	if s.bufferBytes() >= s.engine.opts.FlushBytes {
		s.wake()
	}
	return a.out, nil
}

// applier executes one command under Shard.mu. It reads the clock, chance and the order of maps nowhere: what it
// does follows from the command and the state alone.
type applier struct {
	shard *Shard
	tx    store.Tx
	out   Applied

	part    *partition
	space   *space // nil while the partition is not in memory
	fresh   bool   // space is new, and empty before this entry
	changes []change
}

// change is one record's transition, as a space must know it: the version that ends (old, if any) and the one that
// begins (unless the record was deleted).
type change struct {
	id      string
	version uint64
	record  *memRecord // deleted: the record is gone
	meta    metadata.Map
	existed bool
	old     metadata.Map // of the version that ends
	oldSp   Sparse
}

// run executes c, nil if it could not be decoded. The entry's index is stored under the same hold of mu as its effects:
// a flush in between would write them without it, and after a crash they would come twice.
func (a *applier) run(c *Command) (err error) {
	s := a.shard
	s.mu.Lock()
	defer s.mu.Unlock()
	defer catchFault(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // an update reads the row that it keeps
	s.active.dirty = true
	if c != nil {
		if err := a.command(c); err != nil {
			return err
		}
	}
	s.applied.Store(a.out.Index)
	return nil
}

func (a *applier) command(c *Command) error {
	if c.Op.moves() {
		return a.move(c)
	}
	if err := a.shard.barredBy(c); err != nil {
		a.out.Err = err
		return nil
	}
	return a.obey(c)
}

// obey executes a command that is not about where a tenant lives, and that where it lives does not bar.
func (a *applier) obey(c *Command) error {
	s := a.shard
	switch c.Op {
	case OpDefineIndex:
		a.defineIndex(c.Schema)
		return nil
	case OpDropIndex:
		a.dropIndex(c.Key.Index)
		return nil
	case OpCostate:
		a.costate(c, &s.costateTerm)
		return nil
	case OpDropTenant:
		a.dropTenant(c.Key.Tenant)
		return nil
	}
	if c.Once != nil {
		if done, err := a.repeated(c); done || err != nil {
			return err
		}
	}
	if ok, err := a.enter(c.Key, c.Op); !ok {
		return err
	}
	// The state of records.db is taken under Shard.mu: the places in it are then as new as those in memory.
	err := s.kv.View(func(tx store.Tx) error {
		a.tx = tx
		return a.execute(c)
	})
	if err != nil {
		return err
	}
	a.leave()
	if c.Once != nil && a.out.Err == nil {
		if err := a.remember(c); err != nil {
			return err
		}
	}
	s.countBuffer()
	return nil
}

func (a *applier) execute(c *Command) error {
	if c.Op == OpUpsert || c.Op == OpUpdate {
		if ok, err := a.fits(c); !ok {
			return err
		}
	}
	switch c.Op {
	case OpUpsert:
		return a.upsert(c.Records)
	case OpUpdate:
		return a.update(&c.Update)
	case OpDelete:
		return a.delete(c.Targets)
	case OpDeleteAll:
		a.deleteAll()
	case OpDropPartition:
		a.dropPartition()
	}
	return nil
}

func (a *applier) refuse(k errs.Kind, format string, args ...any) bool {
	a.out.Err = errs.New(k, format, args...)
	return false
}

func (a *applier) defineIndex(sc Schema) {
	s := a.shard
	if err := sc.validate(); err != nil {
		a.out.Err = errs.Wrap(errs.Invalid, err, "define index %d", sc.ID)
		return
	}
	if old, ok := s.schemas[sc.ID]; ok {
		if old.ID == 0 {
			a.refuse(errs.NotFound, "index %d was dropped", sc.ID)
		}
		return // defining it again changes nothing
	}
	s.schemas[sc.ID] = &sc
	s.active.schemas[sc.ID] = sc
}

func (a *applier) dropIndex(id IndexID) {
	s := a.shard
	s.schemas[id] = &Schema{}
	s.active.schemas[id] = Schema{}
	a.dropAll(func(k Key) bool { return k.Index == id })
}

// dropAll drops the partitions that are doomed.
func (a *applier) dropAll(doomed func(Key) bool) {
	var parts []*partition
	a.shard.registry.all(func(p *partition) bool {
		if doomed(p.key) {
			parts = append(parts, p)
		}
		return true
	})
	for _, p := range parts {
		a.drop(p)
	}
}

// drop drops a partition.
func (a *applier) drop(p *partition) {
	a.out.Affected += int(p.head.Records)
	a.part = p
	a.dropPartition()
}

// costate keeps all entries or none. term is the latest that has written any.
func (a *applier) costate(c *Command, term *uint64) {
	s := a.shard
	if c.Term < *term {
		a.refuse(errs.FailedPrecondition, "co-state of term %d comes after some of term %d", c.Term, *term)
		return
	}
	if len(c.Costate) > MaxCostateEntries {
		a.refuse(errs.TooLarge, "%d entries of co-state at once, the limit is %d", len(c.Costate), MaxCostateEntries)
		return
	}
	for i := range c.Costate {
		if a.out.Err = c.Costate[i].check(); a.out.Err != nil {
			return
		}
	}
	*term = c.Term
	for i := range c.Costate {
		s.active.keep(&c.Costate[i])
	}
	a.out.Affected = len(c.Costate)
	s.countBuffer()
}

// enter finds the partition, or makes it where the operation may, and checks that its index is there.
func (a *applier) enter(k Key, op Op) (ok bool, err error) {
	s := a.shard
	schema := s.schemas[k.Index]
	if schema == nil || schema.ID == 0 {
		return a.refuse(errs.NotFound, "index %d does not exist", k.Index), nil
	}
	a.part = s.registry.find(k)
	if a.part == nil {
		if op != OpUpsert && op != OpCreatePartition {
			return a.refuse(errs.NotFound, "partition %s does not exist", k), nil
		}
		if dropped, err := s.tenantDropped(k.Tenant); err != nil || dropped {
			return a.refuse(errs.NotFound, "tenant %s was dropped", k.Tenant), err
		}
		a.addPartition(k, schema)
		if op == OpUpsert {
			a.part.space.Store(newSpace(s, a.part)) // empty, so there is nothing to load
		}
	}
	a.space = a.part.space.Load()
	s.active.touch(k)
	return true, nil
}

// addPartition makes a partition, with nothing in it.
func (a *applier) addPartition(k Key, schema *Schema) {
	s := a.shard
	a.part = s.newPartition(k, schema, head{Number: s.nextNumber})
	s.nextNumber++
	s.registry.add(a.part)
}

// leave counts the entry and shows its changes to readers, all at once.
func (a *applier) leave() {
	p := a.part
	p.head.Version++
	a.out.Version = p.head.Version
	if p.loading != nil {
		p.loading.missed = append(p.loading.missed, a.changes...)
	}
	if a.space != nil {
		a.space.apply(a.changes, p.head)
	}
	if a.fresh {
		p.space.Store(a.space)
	}
}

func (a *applier) upsert(recs []Record) error {
	for i := range recs {
		if err := a.part.schema.checkRecord(&recs[i]); err != nil {
			a.out.Err = err
			return nil
		}
	}
	for i := range recs {
		old, existed, err := a.lookup(recs[i].ID)
		if err != nil {
			return err
		}
		if err := a.store(&recs[i], old, existed); err != nil {
			return err
		}
		a.out.Affected++
	}
	return nil
}

// store makes rec the newest version of its id, with its values copied into the growing buffer.
func (a *applier) store(rec *Record, old found, existed bool) error {
	n := found{sparse: rec.Sparse}
	if rec.Metadata != nil {
		n.meta = metadata.AppendBinary(nil, rec.Metadata)
	}
	a.copyValues(&n, rec.Values)
	return a.replace(rec.ID, n, rec.Metadata, rec.Values, old, existed)
}

// copyValues copies a record's values into the growing buffer.
func (a *applier) copyValues(n *found, values []float32) {
	n.scale = 1
	if len(values) == 0 {
		return
	}
	var row []float32
	n.place, row = a.shard.active.arena.alloc(len(values))
	copy(row, values)
	n.scale = ann.Scale(a.part.schema.Metric, row)
	a.shard.active.bytes += int64(4 * len(row))
}

// replace enters the next version of a record, whose values are at n.place already.
func (a *applier) replace(id string, n found, meta metadata.Map, values []float32, old found, existed bool) error {
	a.part.head.Seq++
	n.version = a.part.head.Seq
	return a.enterRecord(id, n, meta, values, old, existed)
}

// enterRecord enters a version of a record.
func (a *applier) enterRecord(id string, n found, meta metadata.Map, values []float32, old found, existed bool) error {
	oldMeta, err := old.metadata()
	if err != nil {
		return err
	}
	p := a.part
	n.digest = digestRecord(id, n.version, values, n.sparse, n.meta)
	if existed {
		a.uncount(id, old)
	}
	p.head.Records++
	p.head.Bytes += n.size(id, p.schema.Dim)
	p.head.Digest.add(n.digest)
	r := &memRecord{version: n.version, scale: n.scale, sparse: n.sparse, meta: n.meta, digest: n.digest}
	r.place.Store(uint64(n.place))
	a.shard.active.put(p, id, r)
	a.changes = append(a.changes, change{
		id: id, version: n.version, record: r, meta: meta, existed: existed, old: oldMeta, oldSp: old.sparse,
	})
	return nil
}

func (a *applier) remove(id string, old found) error {
	oldMeta, err := old.metadata()
	if err != nil {
		return err
	}
	p := a.part
	p.head.Seq++
	a.uncount(id, old)
	r := &memRecord{version: p.head.Seq, deleted: true}
	a.shard.active.put(p, id, r)
	a.changes = append(a.changes, change{
		id: id, version: r.version, record: r, existed: true, old: oldMeta, oldSp: old.sparse,
	})
	return nil
}

func (a *applier) uncount(id string, old found) {
	h := &a.part.head
	h.Records--
	h.Bytes -= old.size(id, a.part.schema.Dim)
	h.Digest.sub(old.digest)
}

// target looks up a record that a command names; ok is false if it is gone or has another version than named.
func (a *applier) target(t Target) (old found, ok bool, err error) {
	old, ok, err = a.lookup(t.ID)
	if ok && t.Version != 0 && t.Version != old.version {
		ok = false
	}
	return old, ok, err
}

func (a *applier) update(u *Update) error {
	if err := a.part.schema.checkUpdate(u); err != nil {
		a.out.Err = err
		return nil
	}
	for _, t := range u.Targets {
		old, ok, err := a.target(t)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := a.updateOne(t.ID, u, old); err != nil {
			return err
		}
	}
	return nil
}

func (a *applier) updateOne(id string, u *Update, old found) error {
	meta, err := old.metadata()
	if err != nil {
		return err
	}
	if u.SetMetadata != nil {
		meta = metadata.Merge(meta, u.SetMetadata)
		if err := meta.Validate(); err != nil {
			a.out.Err = errs.Wrap(errs.Invalid, err, "update record %q", id)
			return nil
		}
	}
	a.out.Affected++
	sparse := old.sparse
	if u.Sparse != nil {
		sparse = *u.Sparse
	}
	if len(u.Values) > 0 {
		return a.store(&Record{ID: id, Values: u.Values, Sparse: sparse, Metadata: meta}, old, true)
	}
	n := found{place: old.place, scale: old.scale, sparse: sparse} // the values stay where they are
	if meta != nil {
		n.meta = metadata.AppendBinary(nil, meta)
	}
	if err := a.shard.verifyRow(a.part, old.place); err != nil {
		return errs.Wrap(errs.Corrupt, err, "update record %q", id)
	}
	return a.replace(id, n, meta, a.shard.blocks.row(old.place, a.part.schema.Dim), old, true)
}

func (a *applier) delete(ts []Target) error {
	for _, t := range ts {
		old, ok, err := a.target(t)
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		if err := a.remove(t.ID, old); err != nil {
			return err
		}
		a.out.Affected++
	}
	return nil
}

// deleteAll empties the partition at once, however large: its records stay behind under the old number, to be swept
// in the background.
func (a *applier) deleteAll() {
	p, s := a.part, a.shard
	a.out.Affected = int(p.head.Records)
	s.active.garbage = append(s.active.garbage, p.head.Number)
	p.head = head{Number: s.nextNumber, Seq: p.head.Seq, Version: p.head.Version}
	s.nextNumber++
	p.loading = nil // what is being loaded is of the old number
	a.space, a.fresh = newSpace(s, p), true
}

func (a *applier) dropPartition() {
	p, s := a.part, a.shard
	a.out.Affected = max(a.out.Affected, int(p.head.Records))
	s.active.garbage = append(s.active.garbage, p.head.Number)
	s.active.touch(p.key)
	s.registry.remove(p.key)
	p.loading, a.space = nil, nil
	p.space.Store(nil)
	p.head = head{Version: p.head.Version}
}

// lookup finds the newest state of a record: in the growing buffer, in the one being flushed, on disk.
func (a *applier) lookup(id string) (found, bool, error) {
	p, s := a.part, a.shard
	for _, m := range [...]*memtable{s.active, s.frozen} {
		if r := m.find(p, id); r != nil {
			return r.found(), !r.deleted, nil
		}
	}
	if p.head.Records == 0 || (a.space != nil && !a.space.has(id)) {
		return found{}, false, nil
	}
	return s.readStored(a.tx, p.head.Number, id)
}
