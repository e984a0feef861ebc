package engine

import (
	"context"
	"encoding/hex"
	"runtime/debug"

	"github.com/croftdb/croft/engine/internal/segment"
	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// Digest stands for all that clients can read in a shard, and for what is kept beside it: 128 bits, the same on each replica that holds the same, in
// whatever order and files.
type Digest [2]uint64

func (d Digest) String() string {
	return hex.EncodeToString(codec.AppendUint64(codec.AppendUint64(nil, d[0]), d[1]))
}

// Digest flushes the shard, reads every record from the disk and sums up what it found, as of the entry of the log that
// it returns. Corrupt: a record is damaged, or what is there is not what the log has led to. Writes go on meanwhile.
func (s *Shard) Digest(ctx context.Context) (d Digest, applied uint64, err error) {
	return s.digest(ctx, true)
}

// DigestRecords is Digest without what is kept beside the records: a leader goes on writing that, usage for example, when nobody
// writes records.
func (s *Shard) DigestRecords(ctx context.Context) (d Digest, err error) {
	d, _, err = s.digest(ctx, false)
	return d, err
}

func (s *Shard) digest(ctx context.Context, beside bool) (d Digest, applied uint64, err error) {
	if _, err := s.Flush(ctx); err != nil {
		return d, 0, err
	}
	defer catchFault(&err)
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer s.epochs.unpin(s.epochs.pin()) // no segment of the view is unmapped
	err = s.kv.View(func(tx store.Tx) error {
		st, err := storedShardState(tx)
		if err != nil {
			return err
		}
		applied = st.Applied
		if err := s.digestPartitions(ctx, tx, &d); err != nil {
			return err
		}
		if err := d.addDropped(tx); err != nil {
			return err
		}
		if err := d.addResidents(tx); err != nil || !beside {
			return err
		}
		return d.addCostate(tx)
	})
	return d, applied, errs.Wrap(errs.KindOf(err), err, "digest of shard %s", s.dir)
}

func (s *Shard) digestPartitions(ctx context.Context, tx store.Tx, d *Digest) error {
	dims, err := s.storedDims(tx)
	if err != nil {
		return err
	}
	return tx.Ascend(bucketPartitions, nil, func(k, v []byte) (bool, error) {
		key := readKey(codec.NewReader(k))
		h, err := decodeHead(v)
		if err != nil {
			return false, err
		}
		p := &partitionDigest{shard: s, key: key, number: h.Number, dim: dims[key.Index]}
		if err := p.read(ctx, tx); err != nil {
			return false, errs.Wrap(errs.KindOf(err), err, "partition %s", key)
		}
		if p.records != h.Records || p.sum != h.Digest {
			return false, errs.New(errs.Corrupt, "partition %s: %d records with digest %x, want %d with %x",
				key, p.records, p.sum, h.Records, h.Digest)
		}
		d.add(key, &h)
		return true, nil
	})
}

// add adds a partition. Its version counts too: an entry that was applied twice shows there.
func (d *Digest) add(k Key, h *head) {
	b := appendKey(make([]byte, 0, 64), k)
	for _, v := range [...]uint64{h.Seq, h.Version, h.Records, h.Digest[0], h.Digest[1]} {
		b = codec.AppendUint64(b, v)
	}
	d.addHash(b)
}

func (d *Digest) addHash(b []byte) {
	for i, seed := range [...]uint64{0, digestSeed} {
		hash := codec.NewHasher(seed)
		hash.Write(b)
		d[i] += hash.Sum64()
	}
}

// storedDims returns the dimension of each index of a view.
func (s *Shard) storedDims(tx store.Tx) (map[IndexID]int, error) {
	dims := map[IndexID]int{}
	err := tx.Ascend(bucketSchemas, nil, func(_, v []byte) (bool, error) {
		if len(v) > 0 {
			sc := readSchema(codec.NewReader(v))
			dims[sc.ID] = sc.Dim
		}
		return true, nil
	})
	return dims, err
}

// partitionDigest sums up the records of one partition.
type partitionDigest struct {
	shard   *Shard
	key     Key
	number  uint64
	dim     int
	records uint64
	sum     digest
}

func (p *partitionDigest) read(ctx context.Context, tx store.Tx) error {
	return tx.Ascend(bucketRecords, uint64Key(p.number), func(k, v []byte) (bool, error) {
		number, id := splitRecordKey(k)
		if number != p.number {
			return false, nil
		}
		if p.records++; p.records%1024 == 0 && ctx.Err() != nil {
			return false, ctx.Err()
		}
		return true, p.add(string(id), v)
	})
}

func (p *partitionDigest) add(id string, v []byte) error {
	r, err := decodeStoredRecord(v)
	if err != nil {
		return err
	}
	var values []float32
	if r.Segment != 0 {
		if values, err = p.row(r.Segment, r.Offset); err != nil {
			return errs.Wrap(errs.KindOf(err), err, "record %q", id)
		}
	}
	p.sum.add(digestRecord(id, r.Version, values, r.Sparse, r.Meta))
	return nil
}

func (p *partitionDigest) row(id uint64, off uint32) ([]float32, error) {
	b, ok := (*p.shard.segments.Load())[id]
	if !ok {
		return nil, errs.New(errs.Corrupt, "segment %016x is missing", id)
	}
	seg := (*p.shard.blocks.table.Load())[b].seg
	if err := seg.Verify(off, 1, p.dim, segment.Owner(appendKey(nil, p.key))); err != nil {
		return nil, err
	}
	return seg.Row(off, p.dim), nil
}
