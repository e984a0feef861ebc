package engine

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/errs"
)

// barredBy returns why a command is refused because of where the tenants live that it is about.
func (s *Shard) barredBy(c *Command) error {
	switch c.Op {
	case OpDefineIndex, OpDropIndex, OpDropTenant:
		return nil
	case OpCostate:
		for i := range c.Costate {
			if err := s.barred(c.Costate[i].Tenant); err != nil {
				return err
			}
		}
		return nil
	}
	return s.barred(c.Key.Tenant)
}

// move executes an order about where a tenant lives.
func (a *applier) move(c *Command) error {
	s, t := a.shard, c.Key.Tenant
	if dropped, err := s.tenantDropped(t); err != nil || dropped {
		a.refuse(errs.NotFound, "tenant %s was dropped", t)
		return err
	}
	if c.Move.ID == 0 {
		a.refuse(errs.Invalid, "the order names no move")
		return nil
	}
	old := s.Residence(t)
	next, err := a.moved(c, old)
	if err != nil {
		return err
	}
	if a.out.Err != nil {
		a.out.Err = errs.Wrap(errs.KindOf(a.out.Err), a.out.Err, "tenant %s", t)
		return nil
	}
	if _, gone := s.active.dropped[t]; next != old && !gone { // a tail may end with the tenant's drop
		s.setResidence(t, &next)
	}
	s.countBuffer()
	return nil
}

// moved does what an order says, and returns where the tenant stands then.
func (a *applier) moved(c *Command, r Residence) (Residence, error) {
	var err error
	switch c.Op {
	case OpStageTenant:
		return a.stage(c, r), nil
	case OpStageRecords, OpStageBeside:
		err = a.stageBatch(c, &r)
	case OpStageTail:
		err = a.stageTail(c, &r)
	case OpStageReady:
		err = a.stageReady(c, &r)
	case OpSettleTenant:
		r, a.out.Err = r.settle(c.Move, c.Epoch)
	case OpFenceTenant:
		r, a.out.Err = r.fence(c.Move)
	case OpUnfenceTenant:
		r, a.out.Err = r.unfence(c.Move)
	case OpLeaveTenant:
		r, a.out.Err = r.leave(c.Move, c.Epoch)
	case OpForgetTenant:
		return a.forget(c, r), nil
	}
	return r, err
}

// stage begins a copy, with nothing in it.
func (a *applier) stage(c *Command, r Residence) Residence {
	if r.Standing == Staged && r.Move == c.Move {
		return r
	}
	if a.out.Err = r.admits(c.Move); a.out.Err != nil {
		return r
	}
	if r.Standing == Fenced || r.Move == c.Move || r.Standing == Home && len(a.shard.partitionsOf(c.Key.Tenant)) > 0 {
		a.out.Err = r.misplaced(c.Move)
		return r
	}
	a.clearTenant(c.Key.Tenant)
	return Residence{Standing: Staged, Move: c.Move, Epoch: r.Epoch}
}

// forget drops a copy.
func (a *applier) forget(c *Command, r Residence) Residence {
	next, err := r.forget(c.Move)
	if err == nil && r.Standing == Home && len(a.shard.partitionsOf(c.Key.Tenant)) > 0 {
		err = r.misplaced(c.Move)
	}
	if a.out.Err = err; err != nil || next == r {
		return r
	}
	a.clearTenant(c.Key.Tenant)
	return next
}

// clearTenant drops all that is here of a tenant, but for where it lives.
func (a *applier) clearTenant(t TenantID) {
	for _, p := range a.shard.partitionsOf(t) {
		a.drop(p)
	}
	a.shard.active.once.clear(t)
	a.shard.active.keep(&CostateEntry{Tenant: t})
}

// stageBatch takes a batch of the export into the copy, unless it is there.
func (a *applier) stageBatch(c *Command, r *Residence) error {
	if a.out.Err = r.is(Staged, c.Move); a.out.Err != nil {
		return nil
	}
	b, st := c.Batch, &r.Copy
	switch {
	case b.Number <= st.Batches:
		return nil
	case st.Copied || b.Number != st.Batches+1:
		a.refuse(errs.FailedPrecondition, "batch %d comes after %d (all: %v)", b.Number, st.Batches, st.Copied)
		return nil
	case st.Batches > 0 && b.Position != st.Position:
		a.refuse(errs.FailedPrecondition, "a batch of entry %d comes after some of entry %d", b.Position, st.Position)
		return nil
	}
	var err error
	if c.Op == OpStageBeside {
		a.stageBeside(c, st)
	} else {
		err = a.stageRecords(c, st)
	}
	st.Batches, st.Position, st.Copied = b.Number, b.Position, b.Last
	return err
}

// stageBeside takes what is kept beside records. The first batch brings what the source's answers depend on, indexes included:
// the copy must find those that its records are of, and refuse those that the source refuses.
func (a *applier) stageBeside(c *Command, st *Copy) {
	s, t, b := a.shard, c.Key.Tenant, &c.Batch.beside
	for i := range b.costate {
		if e := &b.costate[i]; e.Tenant != t || e.Value == nil {
			a.refuse(errs.Invalid, "co-state %q of tenant %s in the copy of another", e.Name, e.Tenant)
		} else if err := e.check(); err != nil {
			a.out.Err = err
		}
	}
	if c.Batch.Number == 1 {
		st.origin = b.origin
		a.takeIndexes(b)
	}
	if a.out.Err != nil {
		return
	}
	if b.use.keys > 0 {
		s.active.once.used[t] = b.use
	}
	for i := range b.answers {
		o := b.answers[i].onceAnswer
		o.index = a.out.Index // of this log: who reads waits for it
		s.active.once.answers[onceKey{t, b.answers[i].key}] = o
		s.active.bytes += onceBytes
	}
	for i := range b.costate {
		s.active.keep(&b.costate[i])
	}
}

// takeIndexes makes the source's indexes known, and those that it has dropped.
func (a *applier) takeIndexes(b *beside) {
	for _, sc := range b.schemas {
		if a.shard.schemas[sc.ID] == nil {
			a.defineIndex(sc)
		}
	}
	for _, id := range b.dropped {
		if sc := a.shard.schemas[id]; sc == nil || sc.ID != 0 {
			a.dropIndex(id)
		}
	}
}

// stageRecords takes records with the versions that they have, and their partition's counters. Those of a dropped index are
// passed over. They come in order of id, so none is there already; a partition is not in memory before all have come (Warm).
func (a *applier) stageRecords(c *Command, st *Copy) error {
	s, b := a.shard, c.Batch
	schema := s.schemas[c.Key.Index]
	if schema == nil {
		a.refuse(errs.FailedPrecondition, "index %d is not defined here", c.Key.Index)
		return nil
	}
	if schema.ID == 0 {
		return nil
	}
	metas, err := a.checkStaged(c, schema, st)
	if err != nil {
		a.out.Err = err
		return nil
	}
	a.part = s.registry.find(c.Key)
	if a.part == nil {
		a.addPartition(c.Key, schema)
	}
	s.active.touch(c.Key)
	a.part.head.Seq, a.part.head.Version = b.seq, b.version
	for i := range b.records {
		r := &b.records[i]
		n := found{version: r.version, sparse: r.sparse, meta: bytes.Clone(r.meta)}
		a.copyValues(&n, r.values)
		if err := a.enterRecord(r.id, n, metas[i], r.values, found{}, false); err != nil {
			return err
		}
	}
	return nil
}

// checkStaged refuses what would not fit here, and records out of order. It returns the metadata of each.
func (a *applier) checkStaged(c *Command, schema *Schema, st *Copy) (metas []metadata.Map, err error) {
	if c.Key.Index < st.index {
		return nil, errs.New(errs.FailedPrecondition, "records of index %d come after some of index %d", c.Key.Index, st.index)
	}
	if c.Key.Index > st.index {
		st.index, st.id = c.Key.Index, ""
	}
	metas = make([]metadata.Map, len(c.Batch.records))
	for i := range c.Batch.records {
		r := &c.Batch.records[i]
		if err := schema.checkRecord(&Record{ID: r.id, Values: r.values, Sparse: r.sparse}); err != nil {
			return nil, err
		}
		if r.id <= st.id {
			return nil, errs.New(errs.FailedPrecondition, "record %q comes after %q", r.id, st.id)
		}
		if len(r.meta) > 0 {
			if metas[i], err = metadata.Decode(r.meta); err != nil {
				return nil, errs.Wrap(errs.Invalid, err, "record %q", r.id)
			}
		}
		st.id = r.id
	}
	return metas, nil
}

// stageTail does to the copy what entries of the source's log did to the tenant. Behind the fence there are none of the tenant's, and
// what lifts the fence ends the attempt: so a copy that is ready stays so, whatever comes late. The home may be flipped by then.
func (a *applier) stageTail(c *Command, r *Residence) error {
	if a.out.Err = r.is(Staged, c.Move); a.out.Err != nil {
		return nil
	}
	st, tail := &r.Copy, c.Tail
	switch {
	case !st.Copied:
		a.refuse(errs.FailedPrecondition, "entries come before the copy is complete, %d batches are here", st.Batches)
		return nil
	case st.Ready || tail.To <= st.Position:
		return nil
	case tail.From != st.Position:
		a.refuse(errs.FailedPrecondition, "entries behind %d come, those behind %d are due", tail.From, st.Position)
		return nil
	}
	commands, err := tail.decode(c.Key.Tenant)
	if err != nil {
		a.out.Err = err
		return nil
	}
	for _, cmd := range commands {
		if err := a.follow(cmd, &st.origin); err != nil {
			return err
		}
	}
	st.Position = tail.To
	return nil
}

// follow executes a command as the source has executed it. What the source refuses because of what the copy has is refused
// here by itself.
func (a *applier) follow(c *Command, o *origin) error {
	in := &applier{shard: a.shard, out: Applied{Index: a.out.Index}}
	switch c.Op {
	case OpFenceTenant, OpUnfenceTenant:
		o.follow(c)
		return nil
	case OpDefineIndex, OpDropIndex, OpDropTenant:
		return in.obey(c)
	case OpCostate:
		if !o.fenced || len(c.Costate) == 0 {
			in.costate(c, &o.term)
		}
		return nil
	}
	if o.fenced {
		return nil
	}
	err := in.obey(c)
	a.out.Affected += in.out.Affected
	return err
}

// follow keeps track of the source's fence.
func (o *origin) follow(c *Command) {
	r := Residence{Standing: Home, Move: o.move, Closed: o.closed}
	if o.fenced {
		r.Standing = Fenced
	}
	var err error
	if c.Op == OpFenceTenant {
		r, err = r.fence(c.Move)
	} else {
		r, err = r.unfence(c.Move)
	}
	if err == nil {
		o.fenced, o.move, o.closed = r.Standing == Fenced, r.Move, r.Closed
	}
}

// stageReady compares the copy with its source.
func (a *applier) stageReady(c *Command, r *Residence) error {
	if a.out.Err = r.is(Staged, c.Move); a.out.Err != nil {
		return nil
	}
	s, st := a.shard, &r.Copy
	switch {
	case st.Ready:
		return nil
	case !st.Copied || st.Position < c.Digest.Applied:
		a.refuse(errs.FailedPrecondition, "the copy stands for entry %d (complete: %v), the digest for entry %d", st.Position, st.Copied, c.Digest.Applied)
		return nil
	case !st.origin.fenced || st.origin.move != c.Move:
		a.refuse(errs.FailedPrecondition, "the source was not fenced by this attempt before entry %d", st.Position)
		return nil
	}
	var here TenantDigest
	err := s.kv.View(func(tx store.Tx) (err error) {
		here, err = s.tenantDigest(tx, c.Key.Tenant)
		return err
	})
	if err != nil {
		return err
	}
	dropped := func(p PartitionDigest) bool { // here, and there soon, or it was dropped there just now
		sc := s.schemas[p.Index]
		return sc != nil && sc.ID == 0
	}
	there := *c.Digest
	there.Partitions = slices.DeleteFunc(slices.Clone(there.Partitions), dropped)
	if a.out.Err = here.compare(&there); a.out.Err == nil {
		st.Ready, st.Digest = true, c.Digest.Sum()
	}
	return nil
}

// compare tells what differs.
func (d *TenantDigest) compare(o *TenantDigest) error {
	if d.Beside != o.Beside {
		return errs.New(errs.FailedPrecondition, "the copy differs from its source in what is kept beside records")
	}
	if slices.Equal(d.Partitions, o.Partitions) {
		return nil
	}
	byIndex := func(a, b PartitionDigest) int { return cmp.Compare(a.Index, b.Index) }
	for _, p := range d.Partitions {
		if i, ok := slices.BinarySearchFunc(o.Partitions, p, byIndex); !ok || o.Partitions[i] != p {
			return errs.New(errs.FailedPrecondition, "the copy differs from its source in index %d", p.Index)
		}
	}
	return errs.New(errs.FailedPrecondition, "the copy has %d partitions, its source %d", len(d.Partitions), len(o.Partitions))
}
