package engine

import (
	"encoding/binary"
	"math"
	"unsafe"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

const keySize = 24

// AppendCommand appends the encoding of c, the form in which it travels in the log. See docs/format/log.md.
func AppendCommand(b []byte, c *Command) []byte {
	switch c.Op {
	case OpDefineIndex:
		return appendSchema(append(b, byte(c.Op)), c.Schema)
	case OpDropIndex:
		return codec.AppendUint64(append(b, byte(c.Op)), uint64(c.Key.Index))
	case OpCostate:
		return appendCostate(codec.AppendUvarint(append(b, byte(c.Op)), c.Term), c.Costate)
	case OpDropTenant:
		return append(append(b, byte(c.Op)), c.Key.Tenant[:]...)
	}
	if c.Op.moves() {
		return appendMoveCommand(b, c)
	}
	if c.Once == nil {
		b = append(b, byte(c.Op))
	} else {
		b = appendOnce(append(b, byte(c.Op)|onceFlag), c.Once)
	}
	b = appendKey(b, c.Key)
	switch c.Op {
	case OpUpsert:
		b = codec.AppendUvarint(b, uint64(len(c.Records)))
		for i := range c.Records {
			b = appendRecord(b, &c.Records[i])
		}
	case OpUpdate:
		b = appendTargets(b, c.Update.Targets)
		b = appendUpdate(b, &c.Update)
	case OpDelete:
		b = appendTargets(b, c.Targets)
	}
	return b
}

// EncodedSize returns about how many bytes AppendCommand appends, to size its buffer.
func EncodedSize(c *Command) int {
	n := 128
	for i := range c.Records {
		r := &c.Records[i]
		n += 32 + len(r.ID) + 4*len(r.Values) + 8*len(r.Sparse.Indices) + r.Metadata.Size()
	}
	for i := range c.Targets {
		n += 12 + len(c.Targets[i].ID)
	}
	for i := range c.Costate {
		n += 24 + len(c.Costate[i].Name) + len(c.Costate[i].Value)
	}
	for i := range c.Update.Targets {
		n += 12 + len(c.Update.Targets[i].ID)
	}
	return n + 4*len(c.Update.Values) + c.Update.SetMetadata.Size() + moveSize(c)
}

// DecodeCommand reads what AppendCommand wrote. Values may alias b. Damaged input gives an error of kind Corrupt.
func DecodeCommand(b []byte) (*Command, error) {
	r := codec.NewReader(b)
	op := r.Byte()
	c := &Command{Op: Op(op &^ onceFlag)}
	if op&onceFlag != 0 {
		if c.Op.wide() {
			return nil, errs.New(errs.Corrupt, "decode command: operation %d has a key", c.Op)
		}
		c.Once = readOnce(r)
	}
	switch c.Op {
	case OpDefineIndex:
		c.Schema = readSchema(r)
	case OpDropIndex:
		c.Key.Index = IndexID(r.Uint64())
	case OpCreatePartition, OpDropPartition, OpDeleteAll:
		c.Key = readKey(r)
	case OpUpsert:
		c.Key = readKey(r)
		c.Records = make([]Record, r.Count(3))
		for i := range c.Records {
			readRecord(r, &c.Records[i])
		}
	case OpUpdate:
		c.Key = readKey(r)
		c.Update.Targets = readTargets(r)
		readUpdate(r, &c.Update)
	case OpDelete:
		c.Key = readKey(r)
		c.Targets = readTargets(r)
	case OpCostate:
		c.Term, c.Costate = r.Uvarint(), readCostate(r)
	case OpDropTenant:
		copy(c.Key.Tenant[:], r.Raw(len(c.Key.Tenant)))
	default:
		if !c.Op.moves() {
			return nil, errs.New(errs.Corrupt, "decode command: unknown operation %d", c.Op)
		}
		readMoveCommand(r, c)
	}
	if err := r.Done(); err != nil {
		return nil, err
	}
	return c, nil
}

// wide reports whether commands of an operation are about more than one partition.
func (op Op) wide() bool {
	return op == OpDefineIndex || op == OpDropIndex || op == OpCostate || op == OpDropTenant || op.moves()
}

// onceFlag is set in the first byte of commands that have a Once.
const onceFlag = 0x80

func appendOnce(b []byte, o *Once) []byte {
	b = append(b, o.Key[:]...)
	b = append(b, o.Body[:]...)
	b = codec.AppendUint64(b, uint64(o.At))
	return codec.AppendUvarint(b, uint64(o.Before))
}

func readOnce(r *codec.Reader) *Once {
	o := &Once{}
	copy(o.Key[:], r.Raw(len(o.Key)))
	copy(o.Body[:], r.Raw(len(o.Body)))
	o.At, o.Before = int64(r.Uint64()), readInt(r)
	return o
}

// A value of co-state may be empty, which is something else than none.
func appendCostate(b []byte, entries []CostateEntry) []byte {
	b = codec.AppendUvarint(b, uint64(len(entries)))
	for i := range entries {
		e := &entries[i]
		b = codec.AppendString(append(b, e.Tenant[:]...), e.Name)
		if e.Value == nil {
			b = append(b, 0)
			continue
		}
		b = codec.AppendBytes(append(b, 1), e.Value)
	}
	return b
}

// readCostate leaves values where they are in the input.
func readCostate(r *codec.Reader) []CostateEntry {
	entries := make([]CostateEntry, r.Count(len(TenantID{})+2))
	for i := range entries {
		e := &entries[i]
		copy(e.Tenant[:], r.Raw(len(e.Tenant)))
		e.Name = r.String()
		if r.Byte() == 0 {
			continue
		}
		if e.Value = r.Bytes(); e.Value == nil {
			e.Value = []byte{}
		}
	}
	return entries
}

func appendKey(b []byte, k Key) []byte {
	b = append(b, k.Tenant[:]...)
	return binary.BigEndian.AppendUint64(b, uint64(k.Index))
}

func readKey(r *codec.Reader) (k Key) {
	if p := r.Raw(keySize); p != nil {
		copy(k.Tenant[:], p)
		k.Index = IndexID(binary.BigEndian.Uint64(p[16:]))
	}
	return k
}

// appendSchema encodes s. The width of codes came later: it stands at the end, where it is not chosen by the dimension.
func appendSchema(b []byte, s Schema) []byte {
	b = codec.AppendUint64(b, uint64(s.ID))
	for _, v := range []int{s.Dim, int(s.Metric), s.M, s.EfConstruction, s.EfSearch} {
		b = codec.AppendUvarint(b, uint64(v))
	}
	if s.Bits != 0 {
		b = codec.AppendUvarint(b, uint64(s.Bits-NoCodes))
	}
	return b
}

// readSchema reads the last thing in r.
func readSchema(r *codec.Reader) Schema {
	s := Schema{
		ID: IndexID(r.Uint64()), Dim: readInt(r), Metric: ann.Metric(r.Uvarint()),
		M: readInt(r), EfConstruction: readInt(r), EfSearch: readInt(r),
	}
	if r.Err() == nil && r.Len() > 0 {
		s.Bits = readInt(r) + NoCodes
	}
	return s
}

func readInt(r *codec.Reader) int { return int(min(r.Uvarint(), math.MaxInt32)) }

func appendTargets(b []byte, ts []Target) []byte {
	b = codec.AppendUvarint(b, uint64(len(ts)))
	for _, t := range ts {
		b = codec.AppendString(b, t.ID)
		b = codec.AppendUvarint(b, t.Version)
	}
	return b
}

func readTargets(r *codec.Reader) []Target {
	ts := make([]Target, r.Count(2))
	for i := range ts {
		ts[i] = Target{ID: r.String(), Version: r.Uvarint()}
	}
	return ts
}

func appendRecord(b []byte, rec *Record) []byte {
	b = codec.AppendString(b, rec.ID)
	b = appendValues(b, rec.Values)
	b = appendSparse(b, rec.Sparse)
	return codec.AppendBytes(b, metadata.AppendBinary(nil, rec.Metadata))
}

func readRecord(r *codec.Reader, rec *Record) {
	rec.ID = r.String()
	rec.Values = readValues(r)
	rec.Sparse = readSparse(r)
	rec.Metadata = readMetadata(r)
}

const (
	updateSparse   = 1 << iota // the sparse vector is replaced
	updateMetadata             // metadata is merged
)

func appendUpdate(b []byte, u *Update) []byte {
	var flags byte
	if u.Sparse != nil {
		flags |= updateSparse
	}
	if u.SetMetadata != nil {
		flags |= updateMetadata
	}
	b = append(b, flags)
	b = appendValues(b, u.Values)
	if u.Sparse != nil {
		b = appendSparse(b, *u.Sparse)
	}
	if u.SetMetadata != nil {
		b = codec.AppendBytes(b, metadata.AppendBinary(nil, u.SetMetadata))
	}
	return b
}

func readUpdate(r *codec.Reader, u *Update) {
	flags := r.Byte()
	u.Values = readValues(r)
	if flags&updateSparse != 0 {
		s := readSparse(r)
		u.Sparse = &s
	}
	if flags&updateMetadata != 0 {
		u.SetMetadata = readMetadata(r)
	}
}

// appendValues pads the values to a multiple of 4 bytes from the start of b, so that a reader of an aligned entry
// can use them in place.
func appendValues(b []byte, v []float32) []byte {
	b = codec.AppendUvarint(b, uint64(len(v)))
	if len(v) == 0 {
		return b
	}
	pad := (4 - (len(b)+1)%4) % 4
	b = append(b, byte(pad))
	b = append(b, make([]byte, pad)...)
	return append(b, codec.Float32Bytes(v)...)
}

func readValues(r *codec.Reader) []float32 {
	n := r.Count(4)
	if n == 0 {
		return nil
	}
	r.Raw(int(r.Byte()))
	p := r.Raw(4 * n)
	if p == nil {
		return nil
	}
	if uintptr(unsafe.Pointer(unsafe.SliceData(p)))%4 == 0 {
		return codec.Float32sFromBytes(p)
	}
	v := make([]float32, n)
	copy(codec.Float32Bytes(v), p)
	return v
}

func appendSparse(b []byte, s Sparse) []byte {
	b = codec.AppendUvarint(b, uint64(len(s.Indices)))
	for _, i := range s.Indices {
		b = codec.AppendUint32(b, i)
	}
	return codec.AppendFloat32s(b, s.Values)
}

func readSparse(r *codec.Reader) (s Sparse) {
	n := r.Count(8)
	if n == 0 {
		return s
	}
	s.Indices = make([]uint32, n)
	for i := range s.Indices {
		s.Indices[i] = r.Uint32()
	}
	s.Values = make([]float32, n)
	r.Float32s(s.Values)
	return s
}

func readMetadata(r *codec.Reader) metadata.Map {
	p := r.Bytes()
	if len(p) == 0 {
		return nil
	}
	m, err := metadata.Decode(p)
	if err != nil {
		r.Fail(err)
	}
	return m
}
