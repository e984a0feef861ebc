package cluster

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

const (
	stateMagic   = 0x534d4c43 // "CLMS": croft metadata snapshot
	stateVersion = 7          // behind the magic; with the checksum at the end, they keep their places in later versions
)

// appendState encodes s, docs/format/meta.md. Equal states have equal bytes.
func appendState(b []byte, s *state) []byte {
	start := len(b)
	b = codec.AppendUint32(b, stateMagic)
	b = codec.AppendUint32(b, stateVersion)
	b = codec.AppendUvarint(b, s.index)
	b = codec.AppendString(b, s.clusterID)
	b = codec.AppendUvarint(b, s.epoch)
	b = codec.AppendUvarint(b, uint64(s.nextIndex))
	b = appendUint16s(b, s.shards)
	b = appendUint16s(b, s.ring)
	b = codec.AppendUvarint(b, uint64(len(s.indexes)))
	for i := range s.indexes {
		b = appendIndex(b, &s.indexes[i])
	}
	b = codec.AppendUvarint(b, uint64(len(s.dropped)))
	for _, id := range s.dropped {
		b = codec.AppendUvarint(b, uint64(id))
	}
	b = codec.AppendUvarint(b, uint64(s.byID.n))
	for _, t := range s.tenantsByName() {
		b = appendKeptTenant(b, t)
	}
	b = codec.AppendUvarint(b, uint64(s.keys.n))
	for _, k := range s.keysByID() {
		b = appendKey(b, k)
	}
	b = appendMembers(b, s)
	b = appendShards(b, s)
	b = appendRecoveries(b, s.recoveries)
	b = appendTiers(b, s)
	b = appendPrices(b, &s.prices)
	b = appendMoves(b, s)
	b = appendBalance(b, s)
	b = appendBounds(b, s.bounds)
	return codec.AppendUint32(b, codec.CRC(b[start:]))
}

// decodeState reads what appendState wrote. Corrupt: damaged; FailedPrecondition: written by a newer version.
func decodeState(b []byte) (*state, error) {
	if len(b) < 12 || codec.NewReader(b).Uint32() != stateMagic {
		return nil, errs.New(errs.Corrupt, "metadata snapshot of %d bytes does not begin with its mark", len(b))
	}
	body := b[:len(b)-4]
	if want, got := codec.NewReader(b[len(body):]).Uint32(), codec.CRC(body); want != got {
		return nil, errs.New(errs.Corrupt, "metadata snapshot has checksum %08x, should have %08x", got, want)
	}
	v := codec.NewReader(b[4:]).Uint32()
	if v < 1 || v > stateVersion {
		return nil, errs.New(errs.FailedPrecondition, "metadata snapshot has format %d, this version reads 1 to %d", v, stateVersion).
			WithHint("start the version of croft that wrote it")
	}
	r := codec.NewReader(body[8:])
	s := readState(r, int(v))
	if err := r.Done(); err != nil {
		return nil, err
	}
	if err := checkPlacement(s); err != nil {
		return nil, err
	}
	if s.clusterID != "" {
		s.countResidents()
	}
	return s, nil
}

func readState(r *codec.Reader, version int) *state {
	s := newState()
	s.index = r.Uvarint()
	s.indexesAt = s.index
	s.clusterID = r.String()
	s.epoch = r.Uvarint()
	s.nextIndex = engine.IndexID(r.Uvarint())
	s.shards = readUint16s(r)
	s.ring = readUint16s(r)
	for range r.Count(1) {
		s.indexes = append(s.indexes, readIndex(r, version))
	}
	for range r.Count(1) {
		s.dropped = append(s.dropped, engine.IndexID(r.Uvarint()))
	}
	for range r.Count(18) {
		t := readKeptTenant(r, version)
		s.putTenant(t)
		s.groups = t.appendGroups(s.groups)
	}
	slices.SortFunc(s.groups, grouped.compare)
	for range r.Count(1) {
		s.putKey(readKey(r, version))
	}
	if version >= 3 {
		readMembers(r, s, version)
	}
	s.nextShard = afterShards(s.shards)
	if version >= 4 {
		readShards(r, s)
	}
	if version >= 5 {
		s.recoveries = readRecoveries(r)
	}
	if version >= 6 {
		readTiers(r, s)
		s.prices = readPrices(r)
	}
	if version >= 7 {
		readMoves(r, s)
		readBalance(r, s)
		s.bounds = readBounds(r)
	}
	return s
}

// checkPlacement reports a slot, a tenant or a port that lies outside its table.
func checkPlacement(s *state) error {
	if err := checkRing(s.shards, s.ring); err != nil && s.clusterID != "" {
		return err
	}
	for _, ix := range s.indexes {
		if ix.Port < 0 || ix.Port > maxPort {
			return errs.New(errs.Corrupt, "index %q has port %d of %d", ix.Name, ix.Port, maxPort)
		}
	}
	for t := range s.byID.all() {
		if t.pin != noPin && !s.hasShard(uint16(t.pin)) {
			return errs.New(errs.Corrupt, "tenant %s is pinned to shard %d, which does not exist", t.id, t.pin)
		}
	}
	return cmp.Or(checkShards(s), checkRingChanges(s), checkRuns(s), checkBounds(s), checkMoves(s), checkMembers(s))
}

// checkRing reports a table that is not Slots long or names other shards.
func checkRing(shards []uint16, ring ringTable) error {
	if len(ring) != Slots {
		return errs.New(errs.Corrupt, "ring table has %d slots, must have %d", len(ring), Slots)
	}
	for _, s := range ring.shards() {
		if !slices.Contains(shards, s) {
			return errs.New(errs.Corrupt, "ring table names shard %d, which does not exist", s)
		}
	}
	return nil
}

func appendUint16s(b []byte, v []uint16) []byte {
	b = codec.AppendUvarint(b, uint64(len(v)))
	for _, x := range v {
		b = codec.AppendUvarint(b, uint64(x))
	}
	return b
}

func readUint16s(r *codec.Reader) []uint16 {
	n := r.Count(1)
	if n == 0 {
		return nil
	}
	v := make([]uint16, n)
	for i := range v {
		v[i] = uint16(r.Uvarint())
	}
	return v
}

func appendTenant(b []byte, t *tenant) []byte {
	return append(codec.AppendString(b, t.name), t.id[:]...)
}

func readTenant(r *codec.Reader) *tenant {
	t := &tenant{name: r.String(), pin: noPin}
	copy(t.id[:], r.Raw(len(t.id)))
	t.slot = slotOf(t.id)
	return t
}

// readPin reads a shard or noPin, written as one more.
func readPin(r *codec.Reader) int32 { return int32(min(r.Uvarint(), 1<<16)) - 1 }

func appendIndex(b []byte, ix *Index) []byte {
	b = codec.AppendUvarint(b, uint64(ix.ID))
	b = codec.AppendString(b, ix.Name)
	for _, v := range []int{ix.Dim, int(ix.Metric), ix.M, ix.EfConstruction, ix.EfSearch, ix.Port} {
		b = codec.AppendUvarint(b, uint64(v))
	}
	b = append(b, boolByte(ix.Sparse), boolByte(ix.DeletionProtection))
	b = appendTags(b, ix.Tags)
	b = codec.AppendBytes(b, ix.Spec)
	b = appendTime(b, ix.CreatedAt)
	b = codec.AppendUvarint(b, uint64(ix.Bits-engine.NoCodes))
	return codec.AppendUint32(b, math.Float32bits(ix.TargetRecall))
}

// readIndex reads an index as it was written since version 2 of snapshots and commands, or before.
func readIndex(r *codec.Reader, version int) Index {
	ix := Index{ID: engine.IndexID(r.Uvarint()), Name: r.String()}
	ix.Dim = readInt(r)
	ix.Metric = ann.Metric(readInt(r))
	for _, p := range []*int{&ix.M, &ix.EfConstruction, &ix.EfSearch, &ix.Port} {
		*p = readInt(r)
	}
	ix.Sparse, ix.DeletionProtection = r.Byte() != 0, r.Byte() != 0
	ix.Tags = readTags(r)
	if spec := r.Bytes(); len(spec) > 0 {
		ix.Spec = slices.Clone(spec)
	}
	ix.CreatedAt = readTime(r)
	if version >= 2 {
		ix.Bits = readInt(r) + engine.NoCodes
		ix.TargetRecall = math.Float32frombits(r.Uint32())
	} else if !ix.Sparse {
		ix.settle()
	}
	return ix
}

// settle fills in what version 1 meant by zeros.
func (ix *Index) settle() {
	setDefault(&ix.M, 16)
	setDefault(&ix.EfConstruction, 200)
	setDefault(&ix.TargetRecall, 0.99)
}

// readInt reads a count that fits 31 bits, whatever was written.
func readInt(r *codec.Reader) int { return int(r.Uvarint() & 0x7fffffff) }

func appendTags(b []byte, tags map[string]string) []byte {
	b = codec.AppendUvarint(b, uint64(len(tags)))
	for _, k := range sortedKeys(tags) {
		b = codec.AppendString(codec.AppendString(b, k), tags[k])
	}
	return b
}

func readTags(r *codec.Reader) map[string]string {
	n := r.Count(2)
	if n == 0 {
		return nil
	}
	tags := make(map[string]string, n)
	for range n {
		k := r.String()
		tags[k] = r.String()
	}
	return tags
}

func appendTime(b []byte, t time.Time) []byte { return codec.AppendUint64(b, uint64(t.UnixNano())) }

func readTime(r *codec.Reader) time.Time { return time.Unix(0, int64(r.Uint64())).UTC() }

func boolByte(v bool) byte {
	if v {
		return 1
	}
	return 0
}

func (s *state) String() string {
	return fmt.Sprintf("metadata at entry %d: %d shards, %d indexes, %d tenants", s.index, len(s.shards), len(s.indexes), s.byName.n)
}
