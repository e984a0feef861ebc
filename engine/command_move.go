package engine

import (
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// Batch is a part of a tenant's export (ExportTenant) on its way into a copy.
type Batch struct {
	Number   uint64 // from 1, without gaps
	Position uint64 // entry of the source's log that the export stands for
	Last     bool   // of the export

	// OpStageRecords: a partition's counters, and some of its records, ids ascending.
	seq, version uint64
	records      []stagedRecord
	// OpStageBeside.
	beside beside
}

// stagedRecord is a record as it is stored, metadata in binary form.
type stagedRecord struct {
	id      string
	version uint64
	values  []float32
	sparse  Sparse
	meta    []byte
}

// beside is a part of what is kept beside records. The first batch of an export brings what stands first here.
type beside struct {
	origin  origin
	schemas []Schema
	dropped []IndexID // indexes that the source has dropped

	kept
}

// Tail is what entries of the source's log, those after From up to To, did to a tenant: the commands that TailCommand has made
// of them, in order.
type Tail struct {
	From, To uint64
	Commands [][]byte
}

// moves tells whether an operation is about where a tenant lives.
func (op Op) moves() bool { return op >= OpStageTenant && op <= OpForgetTenant }

func appendMoveCommand(b []byte, c *Command) []byte {
	b = appendMove(append(append(b, byte(c.Op)), c.Key.Tenant[:]...), c.Move)
	switch c.Op {
	case OpStageRecords:
		b = codec.AppendUvarint(c.Batch.appendHead(b), uint64(c.Key.Index))
		b = c.Batch.appendRecords(b)
	case OpStageBeside:
		b = c.Batch.beside.append(c.Batch.appendHead(b))
	case OpStageTail:
		b = codec.AppendUvarint(codec.AppendUvarint(b, c.Tail.From), c.Tail.To)
		b = codec.AppendUvarint(b, uint64(len(c.Tail.Commands)))
		for _, cmd := range c.Tail.Commands {
			b = codec.AppendBytes(b, cmd)
		}
	case OpStageReady:
		b = c.Digest.append(b)
	case OpSettleTenant, OpLeaveTenant:
		b = codec.AppendUvarint(b, c.Epoch)
	}
	return b
}

func readMoveCommand(r *codec.Reader, c *Command) {
	copy(c.Key.Tenant[:], r.Raw(len(c.Key.Tenant)))
	c.Move = readMove(r)
	switch c.Op {
	case OpStageRecords:
		c.Batch = readBatchHead(r)
		c.Key.Index = IndexID(r.Uvarint())
		c.Batch.readRecords(r)
	case OpStageBeside:
		c.Batch = readBatchHead(r)
		c.Batch.beside.read(r)
	case OpStageTail:
		c.Tail = &Tail{From: r.Uvarint(), To: r.Uvarint()}
		c.Tail.Commands = make([][]byte, r.Count(1))
		for i := range c.Tail.Commands {
			c.Tail.Commands[i] = r.Bytes()
		}
	case OpStageReady:
		c.Digest = readTenantDigest(r)
	case OpSettleTenant, OpLeaveTenant:
		c.Epoch = r.Uvarint()
	}
}

// moveSize is about how many bytes a command takes beside what EncodedSize knows.
func moveSize(c *Command) (n int) {
	if c.Batch != nil {
		n += c.Batch.size()
	}
	if c.Tail != nil {
		for _, cmd := range c.Tail.Commands {
			n += 5 + len(cmd)
		}
	}
	if c.Digest != nil {
		n += 64 * (1 + len(c.Digest.Partitions))
	}
	return n
}

func (b *Batch) size() (n int) {
	for i := range b.records {
		n += b.records[i].size()
	}
	n += 64*(len(b.beside.schemas)+len(b.beside.answers)) + 16*len(b.beside.dropped)
	for i := range b.beside.costate {
		n += 24 + len(b.beside.costate[i].Name) + len(b.beside.costate[i].Value)
	}
	return n
}

func (r *stagedRecord) size() int {
	return 40 + len(r.id) + 4*len(r.values) + 8*len(r.sparse.Indices) + len(r.meta)
}

func (b *Batch) appendHead(p []byte) []byte {
	p = codec.AppendUvarint(codec.AppendUvarint(p, b.Number), b.Position)
	return append(p, bit(b.Last))
}

func readBatchHead(r *codec.Reader) *Batch {
	return &Batch{Number: r.Uvarint(), Position: r.Uvarint(), Last: r.Byte() != 0}
}

func bit(set bool) byte {
	if set {
		return 1
	}
	return 0
}

func (b *Batch) appendRecords(p []byte) []byte {
	p = codec.AppendUvarint(codec.AppendUvarint(p, b.seq), b.version)
	p = codec.AppendUvarint(p, uint64(len(b.records)))
	for i := range b.records {
		r := &b.records[i]
		p = codec.AppendUvarint(codec.AppendString(p, r.id), r.version)
		p = appendSparse(appendValues(p, r.values), r.sparse)
		p = codec.AppendBytes(p, r.meta)
	}
	return p
}

func (b *Batch) readRecords(r *codec.Reader) {
	b.seq, b.version = r.Uvarint(), r.Uvarint()
	b.records = make([]stagedRecord, r.Count(5))
	for i := range b.records {
		b.records[i] = stagedRecord{id: r.String(), version: r.Uvarint(), values: readValues(r), sparse: readSparse(r), meta: r.Bytes()}
	}
}

func (b *beside) append(p []byte) []byte {
	o := &b.origin
	p = append(p, bit(o.fenced), bit(o.closed))
	p = codec.AppendUvarint(appendMove(p, o.move), o.term)
	p = codec.AppendUvarint(p, uint64(len(b.schemas)))
	for _, sc := range b.schemas {
		p = codec.AppendBytes(p, appendSchema(nil, sc))
	}
	p = codec.AppendUvarint(p, uint64(len(b.dropped)))
	for _, id := range b.dropped {
		p = codec.AppendUint64(p, uint64(id))
	}
	p = codec.AppendUvarint(p, b.use.keys)
	p = codec.AppendUint64(p, uint64(b.use.now))
	p = codec.AppendUvarint(p, uint64(len(b.answers)))
	for i := range b.answers {
		p = append(p, b.answers[i].key[:]...)
		p = codec.AppendBytes(p, b.answers[i].encode())
	}
	return appendCostate(p, b.costate)
}

func (b *beside) read(r *codec.Reader) {
	b.origin = origin{fenced: r.Byte() != 0, closed: r.Byte() != 0, move: readMove(r), term: r.Uvarint()}
	b.schemas = make([]Schema, r.Count(13))
	for i := range b.schemas {
		in := codec.NewReader(r.Bytes())
		b.schemas[i] = readSchema(in)
		if err := in.Done(); err != nil {
			r.Fail(err)
		}
	}
	b.dropped = make([]IndexID, r.Count(8))
	for i := range b.dropped {
		b.dropped[i] = IndexID(r.Uint64())
	}
	b.use = onceUse{keys: r.Uvarint(), now: int64(r.Uint64())}
	b.answers = make([]keyedAnswer, r.Count(16+1))
	for i := range b.answers {
		a := &b.answers[i]
		copy(a.key[:], r.Raw(len(a.key)))
		var err error
		if a.onceAnswer, err = decodeOnceAnswer(r.Bytes()); err != nil {
			r.Fail(err)
		}
	}
	b.costate = readCostate(r)
}

// TailCommand tells what an entry of a shard's log, a command as it was proposed, does to a tenant: the command that a copy of the
// tenant has to follow (OpStageTail), and whether there is one. The result may alias the entry.
//
// What becomes of indexes is part of it, and so are terms that write co-state: what the source makes of later entries depends on them.
func TailCommand(encoded []byte, t TenantID) (cmd []byte, concerns bool) {
	c, err := decodeScope(encoded)
	if err != nil {
		return nil, false // the source has refused it
	}
	switch c.Op {
	case OpDefineIndex, OpDropIndex:
		return encoded, true
	case OpCostate:
		cut := &Command{Op: OpCostate, Term: c.Term}
		for _, e := range c.Costate {
			if e.Tenant == t {
				cut.Costate = append(cut.Costate, e)
			}
		}
		return AppendCommand(nil, cut), true
	}
	if c.Key.Tenant != t || c.Op.moves() && c.Op != OpFenceTenant && c.Op != OpUnfenceTenant {
		return nil, false
	}
	return encoded, true
}

// decodeScope decodes of a command what it is about, and no records.
func decodeScope(encoded []byte) (*Command, error) {
	r := codec.NewReader(encoded)
	op := r.Byte()
	c := &Command{Op: Op(op &^ onceFlag)}
	if op&onceFlag != 0 {
		readOnce(r)
	}
	switch {
	case c.Op == OpDefineIndex || c.Op == OpDropIndex:
	case c.Op == OpCostate:
		c.Term, c.Costate = r.Uvarint(), readCostate(r)
	case c.Op == OpDropTenant || c.Op.moves():
		copy(c.Key.Tenant[:], r.Raw(len(c.Key.Tenant)))
	case c.Op >= OpCreatePartition && c.Op <= OpDeleteAll:
		c.Key = readKey(r)
	default:
		return nil, errs.New(errs.Corrupt, "decode command: unknown operation %d", c.Op)
	}
	return c, r.Err()
}

// decode returns the commands of a tail, without those that cannot be decoded: the source has refused them. Invalid: one is not
// the tenant's alone, or not of those that a copy follows.
func (tl *Tail) decode(t TenantID) ([]*Command, error) {
	commands := make([]*Command, 0, len(tl.Commands))
	for i, b := range tl.Commands {
		if _, concerns := TailCommand(b, t); !concerns {
			return nil, errs.New(errs.Invalid, "command %d of a tail is nothing that a copy of tenant %s follows", i, t)
		}
		c, err := DecodeCommand(b)
		if err != nil {
			continue
		}
		for _, e := range c.Costate {
			if e.Tenant != t {
				return nil, errs.New(errs.Invalid, "command %d of a tail has co-state of tenant %s, want %s", i, e.Tenant, t)
			}
		}
		commands = append(commands, c)
	}
	return commands, nil
}
