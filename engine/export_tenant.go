package engine

import (
	"bufio"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"runtime/debug"
	"slices"

	"github.com/croftdb/croft/engine/cold"
	"github.com/croftdb/croft/engine/internal/segment"
	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/longlock"
	"github.com/croftdb/croft/internal/vfs"
)

// TenantExport is all that a shard keeps of a tenant at one entry of its log, held open while it is copied into another shard.
// The shard goes on meanwhile. It takes little memory, and as much disk as the tenant's records take without their values.
type TenantExport struct {
	shard   *Shard
	tenant  TenantID
	applied uint64
	digest  TenantDigest
	beside  beside

	mu       longlock.Mutex              // held while a batch is read
	segments map[uint64]*segment.Segment // mappings of its own
	spool    vfs.File                    // records of parts, in order, without their values; nil once closed
	entries  *bufio.Reader               // of spool
	parts    []exportedPart              // to come; the first may have begun
	number   uint64                      // of the last batch
	ended    bool
}

// exportedPart is a partition of an export.
type exportedPart struct {
	key  Key
	dim  int
	head head
	left uint64 // records to come
}

// ExportTenant flushes the shard and holds what it then keeps of a tenant that lives there, all of one log entry. ErrStaged,
// ErrLeft: the tenant lives elsewhere. StorageFull: the disk has no room for its records without their values. The caller
// closes it; a process that dies leaves nothing behind but what OpenShard removes.
func (s *Shard) ExportTenant(ctx context.Context, t TenantID) (*TenantExport, error) {
	if _, err := s.Flush(ctx); err != nil {
		return nil, err
	}
	x := &TenantExport{shard: s, tenant: t, segments: map[uint64]*segment.Segment{}}
	if err := x.cut(ctx); err != nil {
		kind := errs.KindOf(err)
		if vfs.IsFull(err) {
			kind = errs.StorageFull
		}
		return nil, errors.Join(errs.Wrap(kind, err, "export tenant %s of shard %s", t, s.dir), x.Close())
	}
	return x, nil
}

// Applied returns the entry of the shard's log that the export stands for.
func (x *TenantExport) Applied() uint64 { return x.applied }

// Records returns how many there are.
func (x *TenantExport) Records() uint64 { return x.digest.Records() }

// Bytes returns the logical size of the records.
func (x *TenantExport) Bytes() uint64 { return x.digest.Bytes() }

// Digest returns what the tenant's digest was at that entry.
func (x *TenantExport) Digest() TenantDigest { return x.digest }

// cut takes one state, as a checkpoint does: segments come and go under the lock alone, and a mapped one stays readable when its
// name goes. What records.db has of the tenant is copied under one view into a file without a name, but for what fits into
// memory in any case.
func (x *TenantExport) cut(ctx context.Context) error {
	return x.shard.cut(x.openSegments, func(tx store.Tx) error {
		if err := x.readShard(tx); err != nil {
			return err
		}
		return x.spoolRecords(ctx, tx)
	})
}

func (x *TenantExport) openSegments(tx store.Tx) error {
	s := x.shard
	ids, err := keysOf(tx, bucketSegments)
	if err != nil {
		return err
	}
	for _, id := range ids {
		if x.segments[id], err = segment.Open(s.fs, s.path(segmentsDir), id, s.ident); err != nil {
			delete(x.segments, id)
			return err
		}
	}
	return nil
}

// readShard reads what does not grow with the tenant's records.
func (x *TenantExport) readShard(tx store.Tx) error {
	st, err := storedShardState(tx)
	if err != nil {
		return err
	}
	x.applied, x.digest.Applied = st.Applied, st.Applied
	r, err := storedResidence(tx, x.tenant)
	if err != nil {
		return err
	}
	if !r.visible() {
		return r.refusal(x.tenant)
	}
	x.beside.origin = origin{fenced: r.Standing == Fenced, move: r.Move, closed: r.Closed, term: st.CostateTerm}
	if err := x.readSchemas(tx); err != nil {
		return err
	}
	x.beside.kept, err = keptBeside(tx, x.tenant)
	x.digest.Beside = x.beside.digest()
	return err
}

func (x *TenantExport) readSchemas(tx store.Tx) error {
	return tx.Ascend(bucketSchemas, nil, func(k, v []byte) (bool, error) {
		if len(v) == 0 {
			x.beside.dropped = append(x.beside.dropped, IndexID(binary.BigEndian.Uint64(k)))
			return true, nil
		}
		r := codec.NewReader(v)
		x.beside.schemas = append(x.beside.schemas, readSchema(r))
		return true, r.Done()
	})
}

// storedResidence returns where a tenant lives, in a view.
func storedResidence(tx store.Tx, t TenantID) (*Residence, error) {
	v, err := tx.Get(bucketResidents, t[:])
	if err != nil || v == nil {
		return &Residence{}, err
	}
	return decodeResidence(v)
}

// spoolBuffer is what is read and written at once of the records without their values.
const spoolBuffer = 256 << 10

// spoolRecords copies the records of all partitions, without their values.
func (x *TenantExport) spoolRecords(ctx context.Context, tx store.Tx) (err error) {
	if x.spool, err = x.shard.createUnnamed(); err != nil {
		return err
	}
	w := bufio.NewWriterSize(contextWriter{ctx, x.spool}, spoolBuffer)
	err = tx.Ascend(bucketPartitions, x.tenant[:], func(k, v []byte) (bool, error) {
		key := readKey(codec.NewReader(k))
		if key.Tenant != x.tenant {
			return false, nil
		}
		h, err := decodeHead(v)
		if err != nil {
			return false, err
		}
		return true, x.spoolPartition(tx, key, h, w)
	})
	if err == nil {
		err = w.Flush()
	}
	x.entries = bufio.NewReaderSize(io.NewSectionReader(x.spool, 0, math.MaxInt64), spoolBuffer)
	return err
}

func (x *TenantExport) spoolPartition(tx store.Tx, key Key, h head, w *bufio.Writer) error {
	i := slices.IndexFunc(x.beside.schemas, func(sc Schema) bool { return sc.ID == key.Index })
	if i < 0 {
		return errs.New(errs.Corrupt, "records.db has partition %s of an index without schema", key)
	}
	part := exportedPart{key: key, dim: x.beside.schemas[i].Dim, head: h}
	x.digest.Partitions = append(x.digest.Partitions, h.digestOf(key.Index))
	var buf []byte
	err := tx.Ascend(bucketRecords, uint64Key(h.Number), func(k, v []byte) (bool, error) {
		number, id := splitRecordKey(k)
		if number != h.Number {
			return false, nil
		}
		part.left++
		buf = codec.AppendBytes(codec.AppendBytes(buf[:0], id), v)
		_, err := w.Write(buf)
		return err == nil, err
	})
	x.parts = append(x.parts, part)
	return err
}

// Next returns the next batch for a copy, of about size bytes: first what the rest depends on, then records by index and id, at
// last what is kept beside them. Of the last one Batch.Last is set. The caller fills in Move. NotFound: there is none left, or
// the export is closed. Corrupt: a record is damaged.
func (x *TenantExport) Next(size int) (c *Command, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.spool == nil || x.ended {
		return nil, errs.New(errs.NotFound, "the export of tenant %s has no batch %d", x.tenant, x.number+1)
	}
	b := &Batch{Number: x.number + 1, Position: x.applied}
	c = &Command{Op: OpStageBeside, Key: Key{Tenant: x.tenant}, Batch: b}
	switch {
	case x.number == 0:
		b.beside = beside{origin: x.beside.origin, schemas: x.beside.schemas, dropped: x.beside.dropped}
	case len(x.parts) > 0:
		c.Op, c.Key = OpStageRecords, x.parts[0].key
		if err := x.nextRecords(b, size); err != nil {
			return nil, errs.Wrap(errs.KindOf(err), err, "export partition %s", c.Key)
		}
	default:
		b.beside.kept = x.beside.next(size)
		b.Last = len(x.beside.answers) == 0 && len(x.beside.costate) == 0
	}
	x.number, x.ended = b.Number, b.Last
	return c, nil
}

// next takes some of what is kept.
func (k *kept) next(size int) kept {
	const answerBytes = 100
	n := min(len(k.answers), max(size/answerBytes, 1))
	some := kept{use: k.use, answers: k.answers[:n]}
	k.answers = k.answers[n:]
	size -= n * answerBytes
	for n = 0; n < len(k.costate) && (size > 0 || n == 0 && len(some.answers) == 0); n++ {
		size -= 24 + len(k.costate[n].Name) + len(k.costate[n].Value)
	}
	some.costate = k.costate[:n]
	k.costate = k.costate[n:]
	return some
}

// nextRecords fills a batch with records of the first partition, at least one if it has any left.
func (x *TenantExport) nextRecords(b *Batch, size int) error {
	p := &x.parts[0]
	b.seq, b.version = p.head.Seq, p.head.Version
	var rows []exportedRow
	for ; p.left > 0 && (size > 0 || len(b.records) == 0); p.left-- {
		rec, row, err := x.readEntry()
		if err != nil {
			return err
		}
		if row.Segment != 0 {
			row.record = len(b.records)
			rows = append(rows, row)
			size -= 4 * p.dim
		}
		b.records = append(b.records, rec)
		size -= rec.size()
	}
	if err := x.readRows(b, rows, p); err != nil {
		return err
	}
	if p.left == 0 {
		x.parts = x.parts[1:]
	}
	return nil
}

// exportedRow is where the values of a record of a batch are.
type exportedRow struct {
	record int
	storedRecord
}

// readEntry reads the next record of the spool.
func (x *TenantExport) readEntry() (rec stagedRecord, row exportedRow, err error) {
	id, err := x.readBytes()
	if err != nil {
		return rec, row, err
	}
	v, err := x.readBytes()
	if err != nil {
		return rec, row, err
	}
	row.storedRecord, err = decodeStoredRecord(v)
	return stagedRecord{id: string(id), version: row.Version, sparse: row.Sparse, meta: row.Meta}, row, err
}

func (x *TenantExport) readBytes() ([]byte, error) {
	n, err := binary.ReadUvarint(x.entries)
	if err != nil {
		return nil, err
	}
	b := make([]byte, n)
	_, err = io.ReadFull(x.entries, b)
	return b, err
}

// readRows reads the values of a batch's records, in the order in which they lie on the disk.
func (x *TenantExport) readRows(b *Batch, rows []exportedRow, p *exportedPart) (err error) {
	defer catchFault(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	slices.SortFunc(rows, func(a, b exportedRow) int {
		return cmp.Or(cmp.Compare(a.Segment, b.Segment), cmp.Compare(a.Offset, b.Offset))
	})
	x.ahead(rows, p.dim)
	values, owner := make([]float32, len(rows)*p.dim), segment.Owner(appendKey(nil, p.key))
	for _, r := range rows {
		rec, seg := &b.records[r.record], x.segments[r.Segment]
		if seg == nil {
			return errs.New(errs.Corrupt, "record %q is in segment %016x, which does not exist", rec.id, r.Segment)
		}
		if err := seg.Verify(r.Offset, 1, p.dim, owner); err != nil {
			return errs.Wrap(errs.KindOf(err), err, "record %q", rec.id)
		}
		rec.values, values = values[:p.dim:p.dim], values[p.dim:]
		copy(rec.values, seg.Row(r.Offset, p.dim))
	}
	return nil
}

// ahead asks for rows in order.
func (x *TenantExport) ahead(rows []exportedRow, dim int) {
	var run cold.Run
	for _, r := range rows {
		if seg := x.segments[r.Segment]; seg != nil {
			m, off := seg.Where(r.Offset)
			run.Add(m, off, 4*dim)
		}
	}
	run.Ask()
}

// Close lets go of the files. It may be called more than once.
func (x *TenantExport) Close() error {
	x.mu.Lock()
	defer x.mu.Unlock()
	var err error
	for _, seg := range x.segments {
		err = errors.Join(err, seg.Close())
	}
	x.segments = nil
	if x.spool != nil {
		err = errors.Join(err, x.spool.Close())
	}
	x.spool = nil
	return err
}
