package cluster

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"slices"
	"sort"
	"strings"
	"sync"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// labels are what errors call the index and the namespace of a request by.
type labels struct{ index, namespace string }

func (w *labels) append(b []byte) []byte {
	return codec.AppendString(codec.AppendString(b, w.index), w.namespace)
}

func (w *labels) read(r *codec.Reader) { w.index, w.namespace = r.String(), r.String() }

// partition looks for what a request is about at a leader. ok is false for the default namespace without a partition, which
// exists all the same; any other is NotFound.
func (w *labels) partition(sh *shard, key engine.Key) (p engine.PartitionStats, ok bool, err error) {
	p, ok, err = sh.engine.Partition(key)
	if err != nil {
		return p, false, err
	}
	if !ok && w.namespace != DefaultNamespace {
		return p, false, w.notFound()
	}
	return p, ok, nil
}

func (w *labels) notFound() error {
	return errs.New(errs.NotFound, "namespace %q does not exist in index %q", w.namespace, w.index)
}

// applyVerb commits one command.
type applyVerb struct {
	labels
	grows   bool            // it takes space
	exists  bool            // the namespace must be there
	command *engine.Command // where it was made
	encoded []byte          // elsewhere, and once it was proposed; ends the request
	written Written
}

func (v *applyVerb) method() method { return methodApply }

func (v *applyVerb) weight() (tenancy.Class, int64) {
	if v.encoded != nil {
		return tenancy.Write, int64(len(v.encoded))
	}
	return tenancy.Write, int64(engine.EncodedSize(v.command))
}

func (v *applyVerb) run(ctx context.Context, n *Node, sh *shard, key engine.Key) error {
	if v.exists {
		if err := sh.readable(ctx); err != nil {
			return err
		}
		if _, ok, err := v.partition(sh, key); err != nil || !ok {
			v.written = Written{Shard: NoShard}
			return err
		}
	}
	if v.grows {
		if err := n.checkStorage(ctx, sh, key, v.decoded); err != nil {
			return err
		}
	}
	if v.encoded == nil {
		v.encoded = engine.AppendCommand(make([]byte, 0, engine.EncodedSize(v.command)), v.command)
	}
	var err error
	v.written, err = n.commit(ctx, sh, &Index{ID: key.Index, Name: v.index}, v.grows, v.encoded)
	return err
}

// decoded is the command, also where it came in bytes.
func (v *applyVerb) decoded() (*engine.Command, error) {
	if v.command != nil {
		return v.command, nil
	}
	return engine.DecodeCommand(v.encoded)
}

// appendRequest begins the command at a multiple of 4 bytes, which is what its vectors are aligned to.
func (v *applyVerb) appendRequest(b []byte) []byte {
	b = v.labels.append(b)
	b = append(b, bits(v.grows, v.exists))
	pad := (4 - (len(b)+1)%4) % 4
	b = append(b, byte(pad), 0, 0, 0)[:len(b)+1+pad]
	if v.encoded != nil {
		return append(b, v.encoded...)
	}
	return engine.AppendCommand(b, v.command)
}

func (v *applyVerb) readRequest(r *codec.Reader) {
	v.labels.read(r)
	flags := r.Byte()
	v.grows, v.exists = flags&1 != 0, flags&2 != 0
	r.Raw(int(r.Byte()))
	v.encoded = bytes.Clone(r.Raw(r.Len())) // raft keeps it
}

func (v *applyVerb) appendAnswer(b []byte) []byte { return appendWritten(b, &v.written) }
func (v *applyVerb) readAnswer(r *codec.Reader)   { v.written = readWritten(r) }

// whereVerb changes or removes the records that match a filter.
type whereVerb struct {
	labels
	remove  bool
	dryRun  bool
	filter  *filter.Expr
	set     metadata.Map
	once    *engine.Once
	written Written
}

func (v *whereVerb) method() method {
	if v.remove {
		return methodDelete
	}
	return methodUpdate
}

func (v *whereVerb) weight() (tenancy.Class, int64) { return tenancy.Write, maxTargets }

func (v *whereVerb) run(ctx context.Context, n *Node, sh *shard, key engine.Key) error {
	if err := sh.readable(ctx); err != nil {
		return err
	}
	if _, ok, err := v.partition(sh, key); err != nil || !ok {
		v.written = Written{Shard: NoShard}
		return err
	}
	if known, err := v.answered(sh, key); known || err != nil {
		return err
	}
	targets, err := sh.engine.Resolve(ctx, key, v.filter)
	if err != nil || v.dryRun {
		v.written = Written{Affected: len(targets), Shard: int(sh.id)}
		return err
	}
	ix := &Index{ID: key.Index, Name: v.index}
	v.written, err = inBatches(sh, targets, func(batch []engine.Target, before int, last bool) (Written, error) {
		c := &engine.Command{Op: engine.OpDelete, Key: key, Targets: batch}
		if !v.remove {
			c = &engine.Command{Op: engine.OpUpdate, Key: key, Update: engine.Update{Targets: batch, SetMetadata: v.set}}
		}
		if last && v.once != nil { // without it, the whole is done again, as far as there is something to do
			c.Once = &engine.Once{Key: v.once.Key, Body: v.once.Body, At: v.once.At, Before: before}
		}
		if !v.remove {
			if err := n.checkStorage(ctx, sh, key, func() (*engine.Command, error) { return c, nil }); err != nil {
				return Written{}, err
			}
		}
		w, err := n.commit(ctx, sh, ix, !v.remove, engine.AppendCommand(make([]byte, 0, engine.EncodedSize(c)), c))
		if c.Once != nil && !w.Repeated {
			w.Affected -= before // the entry answers for the whole request
		}
		return w, err
	})
	return err
}

// answered takes the answer of an earlier request of the same name: what matches may be something else by now.
func (v *whereVerb) answered(sh *shard, key engine.Key) (bool, error) {
	if v.once == nil || v.dryRun {
		return false, nil
	}
	a, ok, err := sh.engine.Answered(key.Tenant, v.once)
	if err != nil || !ok {
		return false, err
	}
	v.written = sh.written(a)
	return true, a.Err
}

func (v *whereVerb) appendRequest(b []byte) []byte {
	b = v.labels.append(b)
	b = append(b, bits(v.dryRun))
	b = appendOnce(b, v.once)
	b = appendMetadata(b, v.set)
	return filter.AppendBinary(b, v.filter)
}

func (v *whereVerb) readRequest(r *codec.Reader) {
	v.labels.read(r)
	v.dryRun = r.Byte() != 0
	v.once = readOnce(r)
	v.set = readMetadata(r)
	v.filter = filter.ReadBinary(r)
}

func (v *whereVerb) appendAnswer(b []byte) []byte { return appendWritten(b, &v.written) }
func (v *whereVerb) readAnswer(r *codec.Reader)   { v.written = readWritten(r) }

// queryVerb searches a partition. It is pooled, and so is the memory of searches for others.
type queryVerb struct {
	route    route
	q        *engine.Query
	res      *engine.Result
	tooLarge bool // the answer is engine.ErrAnswerTooLarge

	query  engine.Query // for others
	result engine.Result

	lookup cacheLookup
}

var queryVerbs = sync.Pool{New: func() any { return new(queryVerb) }}

// getQueryVerb returns one that has its own query and result.
func getQueryVerb() *queryVerb {
	v := queryVerbs.Get().(*queryVerb)
	v.q, v.res, v.tooLarge = &v.query, &v.result, false
	v.lookup.reset()
	return v
}

func (v *queryVerb) release() {
	v.q, v.res = nil, nil
	v.lookup.found, v.lookup.encoded = nil, nil
	queryVerbs.Put(v)
}

func (v *queryVerb) method() method { return methodQuery }

// weight takes a match for some hundred bytes, and what may be read of them for as much as is asked for.
func (v *queryVerb) weight() (tenancy.Class, int64) {
	if v.lookup.found != nil {
		return tenancy.Hit, 0
	}
	size := int64(4*len(v.q.Vector)) + int64(v.q.K)*128
	if v.q.IncludeValues {
		size += int64(v.q.K) * int64(4*len(v.q.Vector))
	}
	if v.q.MaxBytes > 0 {
		size = min(size, int64(v.q.MaxBytes)+int64(4*len(v.q.Vector)))
	}
	return tenancy.Search, size
}

func (v *queryVerb) run(ctx context.Context, n *Node, sh *shard, key engine.Key) error {
	if v.lookup.found != nil {
		return v.answerFound()
	}
	q, degraded := v.q, ctx.Value(degradedKey{}) != nil
	if degraded {
		less := *q
		less.Ef, less.Recall = 0, degradedRecall
		q = &less
	}
	err := sh.engine.Query(ctx, key, q, v.res)
	if v.tooLarge = errors.Is(err, engine.ErrAnswerTooLarge); v.tooLarge {
		return nil
	}
	if err == nil && !degraded {
		v.keepResult(n)
	}
	return err
}

func (v *queryVerb) appendRequest(b []byte) []byte { return appendQuery(b, v.q) }
func (v *queryVerb) readRequest(r *codec.Reader)   { v.lookup.forOther = true; readQuery(r, v.q) }

func (v *queryVerb) appendAnswer(b []byte) []byte {
	b = append(b, boolByte(v.tooLarge))
	if v.tooLarge {
		return b
	}
	if v.lookup.encoded != nil {
		return append(b, v.lookup.encoded...)
	}
	return appendResult(b, v.res)
}

func (v *queryVerb) readAnswer(r *codec.Reader) {
	if v.tooLarge = r.Byte() != 0; !v.tooLarge {
		readResult(r, v.res)
	}
}

// fetchVerb reads records by id.
type fetchVerb struct {
	ids   []string
	owner engine.TenantID // whose records were read
	recs  []engine.Record
}

func (v *fetchVerb) method() method { return methodFetch }

func (v *fetchVerb) weight() (tenancy.Class, int64) { return tenancy.Read, int64(len(v.ids)) * 1024 }

func (v *fetchVerb) run(ctx context.Context, _ *Node, sh *shard, key engine.Key) (err error) {
	v.owner = key.Tenant
	v.recs, err = sh.engine.Fetch(ctx, key, v.ids)
	return err
}

func (v *fetchVerb) appendRequest(b []byte) []byte { return appendTexts(b, v.ids) }
func (v *fetchVerb) readRequest(r *codec.Reader)   { v.ids = readTexts(r) }

func (v *fetchVerb) appendAnswer(b []byte) []byte {
	return appendRecords(append(b, v.owner[:]...), v.recs)
}
func (v *fetchVerb) readAnswer(r *codec.Reader) {
	copy(v.owner[:], r.Raw(len(v.owner)))
	v.recs = readRecords(r)
}

// scanVerb reads records or ids in order.
type scanVerb struct {
	idsOnly       bool
	prefix, after string
	filter        *filter.Expr
	limit         int
	owner         engine.TenantID // whose records were read
	recs          []engine.Record
	ids           []string
	more          bool
}

func (v *scanVerb) method() method { return methodScan }

func (v *scanVerb) weight() (tenancy.Class, int64) { return tenancy.Read, int64(v.limit) * 1024 }

func (v *scanVerb) run(ctx context.Context, _ *Node, sh *shard, key engine.Key) (err error) {
	v.owner = key.Tenant
	if v.idsOnly {
		v.ids, v.more, err = sh.engine.ScanIDs(ctx, key, v.prefix, v.after, v.limit)
	} else {
		v.recs, v.more, err = sh.engine.Scan(ctx, key, v.prefix, v.after, v.filter, v.limit)
	}
	return err
}

func (v *scanVerb) appendRequest(b []byte) []byte {
	b = append(b, boolByte(v.idsOnly))
	b = appendInt(codec.AppendString(codec.AppendString(b, v.prefix), v.after), v.limit)
	return filter.AppendBinary(b, v.filter)
}

func (v *scanVerb) readRequest(r *codec.Reader) {
	v.idsOnly = r.Byte() != 0
	v.prefix, v.after, v.limit = r.String(), r.String(), readSigned(r)
	v.filter = filter.ReadBinary(r)
}

func (v *scanVerb) appendAnswer(b []byte) []byte {
	b = append(append(b, bits(v.more, v.idsOnly)), v.owner[:]...)
	if v.idsOnly {
		return appendTexts(b, v.ids)
	}
	return appendRecords(b, v.recs)
}

func (v *scanVerb) readAnswer(r *codec.Reader) {
	flags := r.Byte()
	v.more = flags&1 != 0
	copy(v.owner[:], r.Raw(len(v.owner)))
	if flags&2 != 0 {
		v.ids = readTexts(r)
	} else {
		v.recs = readRecords(r)
	}
}

// createVerb makes a partition that must not be there.
type createVerb struct {
	labels
	stats engine.PartitionStats
}

func (v *createVerb) method() method { return methodCreate }

func (v *createVerb) weight() (tenancy.Class, int64) { return tenancy.Write, 0 }

func (v *createVerb) run(ctx context.Context, n *Node, sh *shard, key engine.Key) error {
	sh.creating.Lock() // of two who create it at once, one is told that it exists
	defer sh.creating.Unlock()
	if err := sh.readable(ctx); err != nil {
		return err
	}
	switch _, ok, err := sh.engine.Partition(key); {
	case err != nil:
		return err
	case ok:
		return errNamespaceExists(v.index, v.namespace)
	}
	c := &engine.Command{Op: engine.OpCreatePartition, Key: key}
	if _, err := n.commit(ctx, sh, &Index{ID: key.Index, Name: v.index}, true, engine.AppendCommand(nil, c)); err != nil {
		return err
	}
	var err error
	if v.stats, _, err = sh.engine.Partition(key); err != nil {
		v.stats = engine.PartitionStats{Key: key} // it was made, and its tenant has left since
	}
	return nil
}

func (v *createVerb) appendRequest(b []byte) []byte { return v.labels.append(b) }
func (v *createVerb) readRequest(r *codec.Reader)   { v.labels.read(r) }
func (v *createVerb) appendAnswer(b []byte) []byte  { return appendStats(b, &v.stats) }
func (v *createVerb) readAnswer(r *codec.Reader)    { v.stats = readStats(r) }

// partitionsVerb lists the namespaces of an index that live in a shard, or describes the one of the request's tenant.
type partitionsVerb struct {
	labels               // with one
	one           bool   // only the request's tenant
	recorded      bool   // only those with records
	prefix, after string // of labels
	limit         int

	shard int
	stats engine.PartitionStats // of one
	there bool                  // one has a partition
	found []Namespace           // in order of name
	total int                   // with the prefix
}

func (v *partitionsVerb) method() method { return methodPartitions }

func (v *partitionsVerb) weight() (tenancy.Class, int64) { return tenancy.Read, 0 }

func (v *partitionsVerb) run(ctx context.Context, n *Node, sh *shard, key engine.Key) (err error) {
	v.shard, v.found, v.total = int(sh.id), nil, 0
	if v.one {
		v.stats, v.there, err = v.partition(sh, key)
		return err
	}
	all := sh.engine.Partitions(key.Index)
	s, err := n.stateWith(ctx, all)
	if err != nil {
		return err
	}
	for _, p := range all {
		// That of a deleted tenant is no namespace. Copies of tenants that live elsewhere are not among them.
		t, ok := s.tenantByID(p.Key.Tenant)
		if !ok || t.life != tenantLive || !strings.HasPrefix(t.name, v.prefix) || v.recorded && p.Records == 0 {
			continue
		}
		v.total++
		switch ns := (Namespace{t.name, p, v.shard}); {
		case t.name <= v.after:
		case v.limit < len(all):
			v.found = insertFirst(v.found, ns, v.limit)
		default:
			v.found = append(v.found, ns)
		}
	}
	sortNames(v.found)
	return nil
}

// stateWith returns a state of the metadata plane that knows the tenants of all partitions. They were made before their
// partitions, but this node may hear of it later.
func (n *Node) stateWith(ctx context.Context, all []engine.PartitionStats) (*state, error) {
	s := n.meta.state()
	if !slices.ContainsFunc(all, func(p engine.PartitionStats) bool { _, ok := s.tenantByID(p.Key.Tenant); return !ok }) {
		return s, nil
	}
	err := n.Refresh(ctx)
	return n.meta.state(), err
}

// insertFirst keeps the first n namespaces in order of name.
func insertFirst(page []Namespace, ns Namespace, n int) []Namespace {
	if len(page) == n && (n == 0 || ns.Name > page[n-1].Name) {
		return page
	}
	at := sort.Search(len(page), func(i int) bool { return page[i].Name >= ns.Name })
	page = slices.Insert(page, at, ns)
	return page[:min(len(page), n)]
}

func sortNames(all []Namespace) {
	slices.SortFunc(all, func(a, b Namespace) int { return cmp.Compare(a.Name, b.Name) })
}

func (v *partitionsVerb) appendRequest(b []byte) []byte {
	b = v.labels.append(b)
	b = append(b, bits(v.one, v.recorded))
	return appendInt(codec.AppendString(codec.AppendString(b, v.prefix), v.after), v.limit)
}

func (v *partitionsVerb) readRequest(r *codec.Reader) {
	v.labels.read(r)
	flags := r.Byte()
	v.one, v.recorded = flags&1 != 0, flags&2 != 0
	v.prefix, v.after, v.limit = r.String(), r.String(), max(readSigned(r), 0)
}

func (v *partitionsVerb) appendAnswer(b []byte) []byte {
	b = appendInt(append(b, boolByte(v.there)), v.shard)
	b = appendStats(b, &v.stats)
	b = appendInt(b, v.total)
	return appendNamespaces(b, v.found)
}

func (v *partitionsVerb) readAnswer(r *codec.Reader) {
	v.there, v.shard = r.Byte() != 0, readSigned(r)
	v.stats, v.total = readStats(r), readSigned(r)
	v.found = readNamespaces(r, v.shard)
}
