package engine

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/codec"
)

// TenantDigest stands for all that a shard keeps of a tenant. Equal ones, but for Applied, mean equal data, versions, answers
// to repeated commands and co-state: what a tenant is to be after a move.
type TenantDigest struct {
	Applied    uint64 // last entry of the shard's log that it takes in
	Partitions []PartitionDigest
	Beside     Digest // of what is kept beside records
}

// PartitionDigest stands for a partition.
type PartitionDigest struct {
	Index   IndexID
	Seq     uint64 // version of the newest record
	Version uint64
	Records uint64
	Bytes   uint64
	Digest  Digest
}

// Sum makes 128 bits of it, equal when all is equal but Applied.
func (d *TenantDigest) Sum() Digest {
	var sum Digest
	sum.addHash(d.appendData(nil))
	return sum
}

// Records returns how many there are, over all indexes.
func (d *TenantDigest) Records() (n uint64) {
	for i := range d.Partitions {
		n += d.Partitions[i].Records
	}
	return n
}

// Bytes returns their logical size.
func (d *TenantDigest) Bytes() (n uint64) {
	for i := range d.Partitions {
		n += d.Partitions[i].Bytes
	}
	return n
}

func (d *TenantDigest) append(b []byte) []byte {
	return d.appendData(codec.AppendUvarint(b, d.Applied))
}

func (d *TenantDigest) appendData(b []byte) []byte {
	b = codec.AppendUvarint(b, uint64(len(d.Partitions)))
	for i := range d.Partitions {
		p := &d.Partitions[i]
		for _, v := range [...]uint64{uint64(p.Index), p.Seq, p.Version, p.Records, p.Bytes} {
			b = codec.AppendUvarint(b, v)
		}
		b = appendDigest(b, p.Digest)
	}
	return appendDigest(b, d.Beside)
}

func readTenantDigest(r *codec.Reader) *TenantDigest {
	d := &TenantDigest{Applied: r.Uvarint()}
	if n := r.Count(5 + len(Digest{})*8); n > 0 {
		d.Partitions = make([]PartitionDigest, n)
	}
	for i := range d.Partitions {
		d.Partitions[i] = PartitionDigest{IndexID(r.Uvarint()), r.Uvarint(), r.Uvarint(), r.Uvarint(), r.Uvarint(), readDigest(r)}
	}
	d.Beside = readDigest(r)
	return d
}

func appendDigest(b []byte, d Digest) []byte {
	return codec.AppendUint64(codec.AppendUint64(b, d[0]), d[1])
}

func readDigest(r *codec.Reader) Digest { return Digest{r.Uint64(), r.Uint64()} }

// TenantDigest sums up what the shard keeps of a tenant, also of one that is staged or has left. It reads the tenant's answers
// to commands that take effect once, 10,000 at most, and its co-state, but no record.
func (s *Shard) TenantDigest(t TenantID) (d TenantDigest, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	err = s.kv.View(func(tx store.Tx) error {
		d, err = s.tenantDigest(tx, t)
		return err
	})
	d.Applied = s.applied.Load()
	return d, err
}

// tenantDigest is TenantDigest without Applied, under mu and in a view.
func (s *Shard) tenantDigest(tx store.Tx, t TenantID) (d TenantDigest, err error) {
	for _, p := range s.partitionsOf(t) {
		d.Partitions = append(d.Partitions, p.head.digestOf(p.key.Index))
	}
	k, err := keptBeside(tx, t, s.frozen, s.active)
	d.Beside = k.digest()
	return d, err
}

func (h *head) digestOf(id IndexID) PartitionDigest {
	return PartitionDigest{Index: id, Seq: h.Seq, Version: h.Version, Records: h.Records, Bytes: h.Bytes, Digest: Digest(h.Digest)}
}

// kept is what a shard keeps of a tenant beside its records.
type kept struct {
	use     onceUse
	answers []keyedAnswer // that are remembered, in the order in which they were given
	costate []CostateEntry
}

// keyedAnswer is what a command with a key has done.
type keyedAnswer struct {
	key [16]byte
	onceAnswer
}

// keptBeside reads what is kept of a tenant in a view, and in memtables that are newer, the oldest first.
func keptBeside(tx store.Tx, t TenantID, mems ...*memtable) (k kept, err error) {
	if k.use, err = readOnceUsed(tx, t); err != nil {
		return k, err
	}
	answers, err := readOnceAnswers(tx, t)
	if err != nil {
		return k, err
	}
	for _, m := range mems {
		if m == nil {
			continue
		}
		if _, ok := m.once.cleared[t]; ok {
			k.use = onceUse{}
			clear(answers)
		}
		if use, ok := m.once.used[t]; ok {
			k.use = use
		}
		for key, o := range m.once.answers { // any order: sorted below
			if key.tenant == t {
				answers[key.key] = o
			}
		}
	}
	for key, o := range answers { // any order: sorted below
		if k.use.remembers(&o) {
			k.answers = append(k.answers, keyedAnswer{key, o})
		}
	}
	slices.SortFunc(k.answers, func(a, b keyedAnswer) int { return cmp.Compare(a.seq, b.seq) })
	k.costate, err = scanCostate(tx, t, "", "", mems...)
	return k, err
}

// readOnceAnswers reads all answers of a tenant that are stored.
func readOnceAnswers(tx store.Tx, t TenantID) (map[[16]byte]onceAnswer, error) {
	answers := map[[16]byte]onceAnswer{}
	prefix := onceKey{tenant: t}.answerKey()[:1+len(t)]
	err := tx.Ascend(bucketOnce, prefix, func(k, v []byte) (bool, error) {
		if !bytes.HasPrefix(k, prefix) || len(k) != len(prefix)+16 {
			return false, nil
		}
		o, err := decodeOnceAnswer(v)
		answers[[16]byte(k[len(prefix):])] = o
		return err == nil, err
	})
	return answers, err
}

// digest leaves out the entries of the log that answers are of: each log has its own.
func (k *kept) digest() (d Digest) {
	b := codec.AppendUint64(codec.AppendUint64(nil, k.use.keys), uint64(k.use.now))
	for i := range k.answers {
		a := &k.answers[i]
		b = append(append(b, a.key[:]...), a.body[:]...)
		for _, v := range [...]uint64{uint64(a.at), a.seq, uint64(a.affected), a.version} {
			b = codec.AppendUint64(b, v)
		}
	}
	for i := range k.costate {
		b = codec.AppendBytes(codec.AppendString(b, k.costate[i].Name), k.costate[i].Value)
	}
	d.addHash(codec.AppendUint64(b, uint64(len(k.answers))))
	return d
}

// TenantFigures is what of a tenant is in a shard, and where it lives.
type TenantFigures struct {
	Tenant     TenantID
	Residence  Residence
	Partitions int
	Records    uint64
	Bytes      uint64
}

// TenantFigures returns what of a tenant is here, whatever its standing: records, and bytes of ids, values and metadata.
func (s *Shard) TenantFigures(t TenantID) (records, bytes uint64) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	sum := s.stored(t)
	return sum.Records, sum.Bytes
}

// Tenants returns up to limit tenants that have partitions here or a residence that is not zero, in order of id, after the given one.
func (s *Shard) Tenants(after TenantID, limit int) []TenantFigures {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := map[TenantID]*TenantFigures{}
	of := func(t TenantID) *TenantFigures {
		f := all[t]
		if f == nil {
			f = &TenantFigures{Tenant: t, Residence: s.Residence(t)}
			all[t] = f
		}
		return f
	}
	if table := s.residents.table.Load(); table != nil {
		for t := range *table {
			of(t)
		}
	}
	s.registry.all(func(p *partition) bool {
		f := of(p.key.Tenant)
		f.Partitions++
		f.Records += p.head.Records
		f.Bytes += p.head.Bytes
		return true
	})
	var page []TenantFigures
	for _, t := range slices.SortedFunc(maps.Keys(all), compareTenants) {
		if compareTenants(t, after) > 0 && len(page) < limit {
			page = append(page, *all[t])
		}
	}
	return page
}
