package store

import (
	"encoding/binary"
	"io"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// crcLen is the length of the checksum behind each stored value.
const crcLen = 4

// raw is what an implementation adds: plain bytes under plain keys. All arguments are checked before.
type raw interface {
	get(b Bucket, key []byte) ([]byte, error)
	ascend(b Bucket, from []byte, fn func(k, sealed []byte) (bool, error)) error
	put(b Bucket, key, sealed []byte) error // keeps sealed, copies key
	delete(b Bucket, key []byte) error
	copyTo(w io.Writer) error
}

// schema is the part of Options that every transaction needs.
type schema struct {
	names []string
	seeds []uint32 // where the checksums of a bucket start: the CRC of its name
}

func newSchema(names []string) *schema {
	s := &schema{names: names, seeds: make([]uint32, len(names))}
	for i, n := range names {
		s.seeds[i] = codec.CRC([]byte(n))
	}
	return s
}

// sum covers the bucket's name, the key and the value. The key's length goes into the starting state, so that bytes
// which change sides between key and value change the sum.
func (s *schema) sum(b Bucket, key, value []byte) uint32 {
	return codec.UpdateCRC(codec.UpdateCRC(s.seeds[b]^uint32(len(key)), key), value)
}

func (s *schema) seal(b Bucket, key, value []byte) []byte {
	sealed := append(make([]byte, 0, len(value)+crcLen), value...)
	return codec.AppendUint32(sealed, s.sum(b, key, value))
}

func (s *schema) unseal(b Bucket, key, sealed []byte) ([]byte, error) {
	n := len(sealed) - crcLen
	if n < 0 {
		return nil, errs.New(errs.Corrupt, "store bucket %s key %q: value of %d bytes has no checksum",
			s.names[b], shown(key), len(sealed))
	}
	value := sealed[:n:n]
	if want, got := binary.LittleEndian.Uint32(sealed[n:]), s.sum(b, key, value); want != got {
		return nil, errs.New(errs.Corrupt, "store bucket %s key %q: value of %d bytes has checksum %08x, stored is %08x",
			s.names[b], shown(key), n, got, want)
	}
	return value, nil
}

// tx checks arguments and checksums over a raw transaction.
type tx struct {
	*schema
	raw      raw
	scanning int  // running Ascends
	over     bool // the function that it was given to has returned
}

func (t *tx) check(b Bucket) error {
	if t.over {
		return errs.New(errs.Internal, "store transaction used after its end")
	}
	if int(b) >= len(t.names) {
		return errs.New(errs.Internal, "store has no bucket %d, only %d of them", b, len(t.names))
	}
	return nil
}

func (t *tx) checkChange(b Bucket, key []byte) error {
	if err := t.check(b); err != nil {
		return err
	}
	if t.scanning > 0 {
		return errs.New(errs.Internal, "store bucket %s: changed within an Ascend; collect the changes first", t.names[b])
	}
	if n := len(key); n < 1 || n > MaxKey {
		return errs.New(errs.Invalid, "store bucket %s: key of %d bytes, want 1 to %d", t.names[b], n, MaxKey)
	}
	return nil
}

// Get implements Tx.
func (t *tx) Get(b Bucket, key []byte) ([]byte, error) {
	if err := t.check(b); err != nil {
		return nil, err
	}
	sealed, err := t.raw.get(b, key)
	if sealed == nil || err != nil {
		return nil, err
	}
	return t.unseal(b, key, sealed)
}

// Ascend implements Tx.
func (t *tx) Ascend(b Bucket, from []byte, fn func(k, v []byte) (bool, error)) error {
	if err := t.check(b); err != nil {
		return err
	}
	t.scanning++
	defer func() { t.scanning-- }()
	return t.raw.ascend(b, from, func(k, sealed []byte) (bool, error) {
		v, err := t.unseal(b, k, sealed)
		if err != nil {
			return false, err
		}
		return fn(k, v)
	})
}

// Copy implements Tx.
func (t *tx) Copy(w io.Writer) error {
	if err := t.check(0); err != nil {
		return err
	}
	return t.raw.copyTo(w)
}

// Put implements RW.
func (t *tx) Put(b Bucket, key, value []byte) error {
	if err := t.checkChange(b, key); err != nil {
		return err
	}
	if len(value) > MaxValue {
		return errs.New(errs.TooLarge, "store bucket %s key %q: value of %d bytes, limit %d",
			t.names[b], shown(key), len(value), MaxValue)
	}
	return t.raw.put(b, key, t.seal(b, key, value))
}

// Delete implements RW.
func (t *tx) Delete(b Bucket, key []byte) error {
	if err := t.checkChange(b, key); err != nil {
		return err
	}
	return t.raw.delete(b, key)
}
