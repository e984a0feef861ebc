package cluster

import (
	"encoding/binary"
	"math"
	"slices"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// The forms in which requests and their answers travel between nodes. Integers are varints unless told otherwise, strings
// are preceded by their length. Whatever is read out of an answer has memory of its own, since the buffers are used again.

// head begins every request of a shard.
type head struct {
	shard uint16
	level Consistency
	key   engine.Key // Tenant is zero where the whole shard is meant
	meta  uint64     // entry of the metadata plane's log that the caller has applied
}

func (h *head) append(b []byte) []byte {
	b = append(b, byte(h.level))
	b = codec.AppendUvarint(b, uint64(h.shard))
	b = codec.AppendUvarint(b, h.meta)
	b = append(b, h.key.Tenant[:]...)
	return codec.AppendUvarint(b, uint64(h.key.Index))
}

func (h *head) read(r *codec.Reader) {
	h.level = Consistency(r.Byte())
	shard := r.Uvarint()
	h.meta = r.Uvarint()
	copy(h.key.Tenant[:], r.Raw(len(h.key.Tenant)))
	h.key.Index = engine.IndexID(r.Uvarint())
	if h.level >= consistencyCount || shard > math.MaxUint16 {
		fail(r, "a level of consistency or a shard that there is not")
	}
	h.shard = uint16(shard)
}

func fail(r *codec.Reader, what string) { r.Fail(errs.New(errs.Corrupt, "decode: %s", what)) }

func appendStaleness(b []byte, s *Staleness) []byte {
	b = codec.AppendUvarint(b, s.Applied)
	b = codec.AppendUvarint(b, s.Behind)
	return codec.AppendUvarint(b, uint64(max(s.Age, -1)+1))
}

func readStaleness(r *codec.Reader) Staleness {
	return Staleness{r.Uvarint(), r.Uvarint(), time.Duration(min(r.Uvarint(), math.MaxInt64)) - 1}
}

const (
	queryValues = 1 << iota
	queryMetadata
	querySparse
	queryFilter
)

func appendQuery(b []byte, q *engine.Query) []byte {
	b = append(b, bits(q.IncludeValues, q.IncludeMetadata, len(q.Sparse.Indices) > 0, !q.Filter.IsEmpty()))
	for _, v := range [...]int{q.K, q.Ef, q.MaxBytes} {
		b = appendInt(b, v)
	}
	b = codec.AppendUint32(b, math.Float32bits(q.Recall))
	b = appendFloats(b, q.Vector)
	if len(q.Sparse.Indices) > 0 {
		b = appendSparse(b, &q.Sparse)
	}
	if !q.Filter.IsEmpty() {
		b = filter.AppendBinary(b, q.Filter)
	}
	return b
}

// readQuery fills q, whose slices are used again.
func readQuery(r *codec.Reader, q *engine.Query) {
	flags := r.Byte()
	q.IncludeValues, q.IncludeMetadata = flags&queryValues != 0, flags&queryMetadata != 0
	for _, v := range [...]*int{&q.K, &q.Ef, &q.MaxBytes} {
		*v = readSigned(r)
	}
	q.Recall = math.Float32frombits(r.Uint32())
	q.Vector = readFloats(r, q.Vector)
	q.Sparse.Indices, q.Sparse.Values = q.Sparse.Indices[:0], q.Sparse.Values[:0]
	if flags&querySparse != 0 {
		readSparse(r, &q.Sparse)
	}
	q.Filter = nil
	if flags&queryFilter != 0 {
		q.Filter = filter.ReadBinary(r)
	}
}

// plans are the ways of execution by their number on the wire: append only.
var plans = [...]engine.Plan{
	engine.PlanEmpty, engine.PlanFlat, engine.PlanGraph, engine.PlanFilterScan, engine.PlanFilterCodes,
	engine.PlanFilterGraph, engine.PlanSparse,
}

func appendResult(b []byte, res *engine.Result) []byte {
	b = append(b, byte(slices.Index(plans[:], res.Plan)))
	b = codec.AppendUvarint(b, uint64(res.Scanned))
	b = codec.AppendUvarint(b, res.Version)
	b = append(b, res.Tenant[:]...)
	b = codec.AppendUvarint(b, uint64(len(res.Matches)))
	for i := range res.Matches {
		b = codec.AppendUvarint(b, uint64(len(res.Matches[i].ID)))
	}
	for i := range res.Matches {
		b = append(b, res.Matches[i].ID...)
	}
	for i := range res.Matches {
		b = codec.AppendUint32(b, math.Float32bits(res.Matches[i].Score))
		b = appendPayload(b, &res.Matches[i].Record)
	}
	return b
}

// readResult fills res, whose slices are used again. All ids together are one allocation.
func readResult(r *codec.Reader, res *engine.Result) {
	plan := int(r.Byte())
	if plan >= len(plans) {
		fail(r, "a plan that this version does not know")
		return
	}
	res.Plan, res.Scanned, res.Version = plans[plan], int(r.Uvarint()), r.Uvarint()
	copy(res.Tenant[:], r.Raw(len(res.Tenant)))
	n := r.Count(minMatch)
	lengths := *r
	text := readText(r, n)
	res.Matches = slices.Grow(res.Matches[:0], n)[:n]
	for i := range res.Matches {
		m := &res.Matches[i]
		m.ID, text = cut(text, lengths.Uvarint())
		m.Score = math.Float32frombits(r.Uint32())
		readPayload(r, &m.Record)
	}
	if r.Err() != nil {
		res.Matches = res.Matches[:0]
	}
}

// minMatch and minRecord are the fewest bytes of a match and of a record, ids counted.
const (
	minRecord = 5
	minMatch  = minRecord + 4
	// minNamespace is the fewest of a namespace with its figures.
	minNamespace = 31
)

// readText reads the lengths of n strings and then all their text in one piece.
func readText(r *codec.Reader, n int) string {
	size := uint64(0)
	for range n {
		size += min(r.Uvarint(), math.MaxInt32)
	}
	return string(r.Raw(int(min(size, math.MaxInt32))))
}

// cut takes n bytes off text. After a fault text is empty.
func cut(text string, n uint64) (first, rest string) {
	if n > uint64(len(text)) {
		return "", ""
	}
	return text[:n], text[n:]
}

func appendTexts(b []byte, list []string) []byte {
	b = codec.AppendUvarint(b, uint64(len(list)))
	for _, s := range list {
		b = codec.AppendUvarint(b, uint64(len(s)))
	}
	for _, s := range list {
		b = append(b, s...)
	}
	return b
}

// readTexts reads a list whose strings share one piece of memory; an empty one is nil.
func readTexts(r *codec.Reader) []string {
	n := r.Count(1)
	lengths := *r
	text := readText(r, n)
	if n == 0 || r.Err() != nil {
		return nil
	}
	list := make([]string, n)
	for i := range list {
		list[i], text = cut(text, lengths.Uvarint())
	}
	return list
}

func appendRecords(b []byte, recs []engine.Record) []byte {
	b = codec.AppendUvarint(b, uint64(len(recs)))
	for i := range recs {
		b = codec.AppendString(b, recs[i].ID)
		b = appendPayload(b, &recs[i])
	}
	return b
}

func readRecords(r *codec.Reader) []engine.Record {
	n := r.Count(minRecord)
	if n == 0 {
		return nil
	}
	recs := make([]engine.Record, n)
	for i := range recs {
		recs[i].ID = r.String()
		readPayload(r, &recs[i])
	}
	return recs
}

// appendPayload appends all of a record but its id.
func appendPayload(b []byte, rec *engine.Record) []byte {
	b = codec.AppendUvarint(b, rec.Version)
	b = appendFloats(b, rec.Values)
	b = appendSparse(b, &rec.Sparse)
	return appendMetadata(b, rec.Metadata)
}

func readPayload(r *codec.Reader, rec *engine.Record) {
	rec.Version = r.Uvarint()
	rec.Values = readFloats(r, rec.Values)
	rec.Sparse = engine.Sparse{}
	readSparse(r, &rec.Sparse)
	rec.Metadata = readMetadata(r)
}

func appendFloats(b []byte, v []float32) []byte {
	b = codec.AppendUvarint(b, uint64(len(v)))
	return append(b, codec.Float32Bytes(v)...)
}

// readFloats reads into dst's memory as far as it goes. Nothing read into nil stays nil.
func readFloats(r *codec.Reader, dst []float32) []float32 {
	n := r.Count(4)
	dst = slices.Grow(dst[:0], n)[:n]
	copy(codec.Float32Bytes(dst), r.Raw(4*n))
	return dst
}

func appendSparse(b []byte, s *engine.Sparse) []byte {
	b = codec.AppendUvarint(b, uint64(len(s.Indices)))
	for _, i := range s.Indices {
		b = codec.AppendUint32(b, i)
	}
	return append(b, codec.Float32Bytes(s.Values[:len(s.Indices)])...)
}

func readSparse(r *codec.Reader, s *engine.Sparse) {
	n := r.Count(8)
	if n == 0 {
		return
	}
	s.Indices, s.Values = slices.Grow(s.Indices[:0], n)[:n], slices.Grow(s.Values[:0], n)[:n]
	for i := range s.Indices {
		s.Indices[i] = r.Uint32()
	}
	copy(codec.Float32Bytes(s.Values), r.Raw(4*n))
}

// appendMetadata appends the length of a map in 4 bytes, which it comes to know last, and the map.
func appendMetadata(b []byte, m metadata.Map) []byte {
	if len(m) == 0 {
		return append(b, 0)
	}
	b = append(b, 1, 0, 0, 0, 0)
	start := len(b)
	b = metadata.AppendBinary(b, m)
	binary.LittleEndian.PutUint32(b[start-4:], uint32(len(b)-start))
	return b
}

func readMetadata(r *codec.Reader) metadata.Map {
	if r.Byte() == 0 {
		return nil
	}
	m, err := metadata.Decode(r.Raw(int(r.Uint32())))
	if err != nil {
		r.Fail(err)
	}
	return m
}

func appendWritten(b []byte, w *Written) []byte {
	b = appendInt(b, w.Affected)
	b = codec.AppendUvarint(b, w.LSN)
	b = appendInt(b, w.Shard)
	return append(b, boolByte(w.Repeated))
}

func readWritten(r *codec.Reader) Written {
	return Written{Affected: readSigned(r), LSN: r.Uvarint(), Shard: readSigned(r), Repeated: r.Byte() != 0}
}

func appendNamespaces(b []byte, all []Namespace) []byte {
	b = codec.AppendUvarint(b, uint64(len(all)))
	for i := range all {
		b = codec.AppendString(b, all[i].Name)
		b = appendStats(b, &all[i].Stats)
	}
	return b
}

// readNamespaces reads those of a shard.
func readNamespaces(r *codec.Reader, shard int) []Namespace {
	n := r.Count(minNamespace)
	if n == 0 {
		return nil
	}
	all := make([]Namespace, n)
	for i := range all {
		all[i] = Namespace{Name: r.String(), Stats: readStats(r), Shard: shard}
	}
	return all
}

func appendStats(b []byte, p *engine.PartitionStats) []byte {
	b = append(b, p.Key.Tenant[:]...)
	for _, v := range [...]uint64{uint64(p.Key.Index), p.Records, p.Bytes, p.Version, p.Indexed, uint64(p.Ef)} {
		b = codec.AppendUvarint(b, v)
	}
	return codec.AppendFloat64(b, p.SampledRecall)
}

func readStats(r *codec.Reader) (p engine.PartitionStats) {
	copy(p.Key.Tenant[:], r.Raw(len(p.Key.Tenant)))
	p.Key.Index = engine.IndexID(r.Uvarint())
	for _, v := range [...]*uint64{&p.Records, &p.Bytes, &p.Version, &p.Indexed} {
		*v = r.Uvarint()
	}
	p.Ef, p.SampledRecall = readInt(r), r.Float64()
	return p
}

// appendInt appends an int in the form for small numbers of either sign.
func appendInt(b []byte, v int) []byte { return binary.AppendVarint(b, int64(v)) }

func readSigned(r *codec.Reader) int {
	u := r.Uvarint()
	return int(int64(u>>1) ^ -int64(u&1))
}

// bits packs flags, the first lowest.
func bits(flags ...bool) (b byte) {
	for i, f := range flags {
		b |= boolByte(f) << i
	}
	return b
}
