package engine

import (
	"encoding/binary"
	"math"

	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// The buckets of records.db; docs/format/records.md describes their keys and values.
const (
	bucketMeta       store.Bucket = iota // "shard" → shardState
	bucketSchemas                        // index id → schema, or nothing for a dropped index
	bucketPartitions                     // partition key → head
	bucketRecords                        // partition number, record id → storedRecord
	bucketSegments                       // segment id → segmentUse
	bucketGarbage                        // number of a dropped partition whose records are still there
	bucketOnce                           // what commands with a key have done, see once.go
	bucketCostate                        // tenant id, name → what is kept there
	bucketDropped                        // id of a dropped tenant → nothing
	bucketResidents                      // tenant id → residence
)

var bucketNames = []string{"meta", "schemas", "partitions", "records", "segments", "garbage", "once", "costate", "dropped", "residents"}

const recordsFormat = 1

var shardStateKey = []byte("shard")

// shardState is what a shard knows of itself as of its last flush.
type shardState struct {
	Ident       [16]byte // random, given at creation; in the header of every segment and checkpoint
	Applied     uint64   // index of the last log entry whose effects are stored
	NextNumber  uint64   // of the next partition
	NextSegment uint64
	CostateTerm uint64 // the latest that has written co-state, 0: none has yet
}

func (s *shardState) encode() []byte {
	b := []byte{recordsFormat}
	b = append(b, s.Ident[:]...)
	b = codec.AppendUint64(b, s.Applied)
	b = codec.AppendUint64(b, s.NextNumber)
	b = codec.AppendUint64(b, s.NextSegment)
	if s.CostateTerm == 0 {
		return b
	}
	return codec.AppendUint64(codec.AppendUint64(b, 0), s.CostateTerm) // 0: once a clock of the shard's
}

// storedShardState reads the state that the last flush stored.
func storedShardState(tx store.Tx) (shardState, error) {
	v, err := tx.Get(bucketMeta, shardStateKey)
	if err != nil {
		return shardState{}, err
	}
	return decodeShardState(v)
}

func decodeShardState(p []byte) (s shardState, err error) {
	r := codec.NewReader(p)
	if v := r.Byte(); v > recordsFormat {
		return s, errs.New(errs.FailedPrecondition, "records.db has format %d, this croft knows up to %d", v, recordsFormat).
			WithHint("start it with the newer croft that wrote it")
	}
	copy(s.Ident[:], r.Raw(16))
	s.Applied, s.NextNumber, s.NextSegment = r.Uint64(), r.Uint64(), r.Uint64()
	if r.Err() == nil && r.Len() > 0 {
		r.Uint64()
	}
	if r.Err() == nil && r.Len() > 0 {
		s.CostateTerm = r.Uint64()
	}
	return s, r.Done()
}

// digest is an order-free sum of record digests: equal sets of records have equal digests on every replica.
type digest [2]uint64

func (d *digest) add(o digest) { d[0] += o[0]; d[1] += o[1] }
func (d *digest) sub(o digest) { d[0] -= o[0]; d[1] -= o[1] }

// digestSeed makes the second half independent of the first.
const digestSeed = 0x9e3779b97f4a7c15

// digestRecord hashes all that a client can read of a record.
func digestRecord(id string, version uint64, values []float32, sparse Sparse, meta []byte) digest {
	var lengths [24]byte
	binary.LittleEndian.PutUint64(lengths[:], version)
	binary.LittleEndian.PutUint32(lengths[8:], uint32(len(id)))
	binary.LittleEndian.PutUint32(lengths[12:], uint32(len(values)))
	binary.LittleEndian.PutUint32(lengths[16:], uint32(len(sparse.Indices)))
	binary.LittleEndian.PutUint32(lengths[20:], uint32(len(meta)))
	var d digest
	for i, seed := range []uint64{0, digestSeed} {
		h := codec.NewHasher(seed)
		h.Write(lengths[:])
		h.WriteString(id)
		h.Write(codec.Float32Bytes(values))
		h.Write(appendSparse(nil, sparse))
		h.Write(meta)
		d[i] = h.Sum64()
	}
	return d
}

// head is what is kept of a partition without its records.
type head struct {
	Number  uint64 // prefix of its records' keys; a partition that is emptied gets a new one
	Seq     uint64 // version of the newest record
	Version uint64 // grows with every entry that names the partition
	Records uint64
	Bytes   uint64 // logical
	Digest  digest
}

func (h *head) encode() []byte {
	b := codec.AppendUint64(nil, h.Number)
	for _, v := range []uint64{h.Seq, h.Version, h.Records, h.Bytes} {
		b = codec.AppendUvarint(b, v)
	}
	return codec.AppendUint64(codec.AppendUint64(b, h.Digest[0]), h.Digest[1])
}

func decodeHead(p []byte) (h head, err error) {
	r := codec.NewReader(p)
	h.Number, h.Seq, h.Version, h.Records, h.Bytes = r.Uint64(), r.Uvarint(), r.Uvarint(), r.Uvarint(), r.Uvarint()
	h.Digest = digest{r.Uint64(), r.Uint64()}
	return h, r.Done()
}

// storedRecord is a record on disk, without its values: those are at Segment and Offset.
type storedRecord struct {
	Version uint64
	Digest  digest
	Segment uint64 // zero: no values
	Offset  uint32
	Scale   float32
	Sparse  Sparse
	Meta    []byte // metadata in binary form; aliases the input of decode
}

func (s *storedRecord) append(b []byte) []byte {
	b = codec.AppendUvarint(b, s.Version)
	b = codec.AppendUint64(codec.AppendUint64(b, s.Digest[0]), s.Digest[1])
	b = codec.AppendUvarint(b, s.Segment)
	b = codec.AppendUvarint(b, uint64(s.Offset))
	b = codec.AppendUint32(b, math.Float32bits(s.Scale))
	b = appendSparse(b, s.Sparse)
	return codec.AppendBytes(b, s.Meta)
}

func decodeStoredRecord(p []byte) (s storedRecord, err error) {
	r := codec.NewReader(p)
	s.Version = r.Uvarint()
	s.Digest = digest{r.Uint64(), r.Uint64()}
	s.Segment = r.Uvarint()
	s.Offset = uint32(r.Uvarint())
	s.Scale = math.Float32frombits(r.Uint32())
	s.Sparse = readSparse(r)
	s.Meta = r.Bytes()
	return s, r.Done()
}

// segmentUse is what is known of a segment beside its file. It may be deleted when no unit is live.
type segmentUse struct {
	Units uint64 // of rows written
	Dead  uint64 // of rows that no record names any more
}

func (u segmentUse) encode() []byte {
	return codec.AppendUvarint(codec.AppendUvarint(nil, u.Units), u.Dead)
}

func decodeSegmentUse(p []byte) (u segmentUse, err error) {
	r := codec.NewReader(p)
	u.Units, u.Dead = r.Uvarint(), r.Uvarint()
	return u, r.Done()
}

func uint64Key(v uint64) []byte { return binary.BigEndian.AppendUint64(nil, v) }

func recordKey(number uint64, id string) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, 8+len(id)), number), id...)
}

// splitRecordKey undoes recordKey.
func splitRecordKey(k []byte) (number uint64, id []byte) {
	if len(k) < 8 {
		return 0, nil
	}
	return binary.BigEndian.Uint64(k), k[8:]
}
