package engine

import (
	"cmp"
	"encoding/binary"
	"maps"
	"slices"

	"github.com/croftdb/croft/engine/internal/store"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// Once makes a command take effect once, however often it is proposed: the first success is remembered under the tenant
// and Key, and every later command with that key is answered with it and changes nothing. With another Body it is refused.
//
// What is remembered is part of the shard's state, so whether a command is a repetition follows from the log alone, and from the
// tenant's own commands in it: it is the same when they come through another shard's log. A key is forgotten when its tenant's
// clock, the highest that came with a key of his, is 24 hours further, or when the tenant has used OnceLimit newer ones.
type Once struct {
	Key    [16]byte // digest of what the client calls the request
	Body   [16]byte // digest of the request
	At     int64    // when it was proposed, in milliseconds since 1970
	Before int      // records that earlier entries of the same request have changed; added to the answer
}

const (
	// OnceLimit is how many keys of a tenant are remembered.
	OnceLimit = 10_000

	onceKept = 24 * 60 * 60 * 1000 // milliseconds
	// onceStep is how far one entry may set the clock ahead. It takes the clock of whoever proposes, and one that is years
	// ahead must not make all keys forgotten.
	onceStep = 60 * 60 * 1000
)

// onceKey is a key of a tenant.
type onceKey struct {
	tenant TenantID
	key    [16]byte
}

// onceAnswer is what a command with a key has done.
type onceAnswer struct {
	body     [16]byte
	at       int64  // by the tenant's clock
	seq      uint64 // how many keys the tenant had used, this one included
	index    uint64 // of the entry
	affected int
	version  uint64
}

// onceUse sums up a tenant's keys.
type onceUse struct {
	keys uint64 // that were used in all
	now  int64  // the tenant's clock, 0: not known
}

// remembers tells whether an answer is to be remembered.
func (u onceUse) remembers(o *onceAnswer) bool {
	return o.at > u.now-onceKept && o.seq+OnceLimit > u.keys
}

// onceTable is the part of it that is not yet in records.db.
type onceTable struct {
	answers map[onceKey]onceAnswer
	used    map[TenantID]onceUse
	cleared map[TenantID]struct{} // of what is older, nothing is left
}

func newOnceTable() onceTable {
	return onceTable{map[onceKey]onceAnswer{}, map[TenantID]onceUse{}, map[TenantID]struct{}{}}
}

// clear forgets all of a tenant.
func (o *onceTable) clear(t TenantID) {
	maps.DeleteFunc(o.answers, func(k onceKey, _ onceAnswer) bool { return k.tenant == t })
	delete(o.used, t)
	o.cleared[t] = struct{}{}
}

// repeated answers a command that has been applied before, and refuses one that takes another's key.
func (a *applier) repeated(c *Command) (bool, error) {
	s := a.shard
	found, ok, err := s.onceAnswer(onceKey{c.Key.Tenant, c.Once.Key})
	if err != nil || !ok {
		return false, err
	}
	index := a.out.Index
	a.out = found.applied(c.Once)
	a.out.Index = index
	return true, nil
}

// Answered returns what a command with the key of o has done for a tenant, if that is remembered: Err is set if it was
// another request.
func (s *Shard) Answered(tenant TenantID, o *Once) (a Applied, ok bool, err error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if err := s.away(tenant); err != nil {
		return Applied{}, false, err
	}
	found, ok, err := s.onceAnswer(onceKey{tenant, o.Key})
	if err != nil || !ok {
		return Applied{}, false, err
	}
	return found.applied(o), true, nil
}

// applied is the answer to a command that has the key of o.
func (o *onceAnswer) applied(again *Once) Applied {
	if o.body != again.Body {
		return Applied{Err: errs.New(errs.AlreadyExists, "the idempotency key was used for another request").
			WithHint("use a new key for each request, and the same one only to repeat it")}
	}
	return Applied{Repeated: true, First: o.index, Affected: o.affected, Version: o.version}
}

// remember notes what a command with a key has done.
func (a *applier) remember(c *Command) error {
	s, tenant := a.shard, c.Key.Tenant
	use, err := s.onceUsed(tenant)
	if err != nil {
		return err
	}
	use = onceUse{keys: use.keys + 1, now: advance(use.now, c.Once.At)}
	a.out.Affected += c.Once.Before
	s.active.once.used[tenant] = use
	s.active.once.answers[onceKey{tenant, c.Once.Key}] = onceAnswer{
		body: c.Once.Body, at: use.now, seq: use.keys, index: a.out.Index, affected: a.out.Affected, version: a.out.Version,
	}
	s.active.bytes += onceBytes
	return nil
}

// onceBytes is about what an answer takes in memory.
const onceBytes = 160

// advance sets a clock that never goes back to at.
func advance(now, at int64) int64 {
	if now == 0 {
		return max(at, 1)
	}
	return max(now, min(at, now+onceStep))
}

// onceAnswer returns what was done under a key, if that is to be remembered still.
func (s *Shard) onceAnswer(k onceKey) (found onceAnswer, ok bool, err error) {
	use, err := s.onceUsed(k.tenant)
	if err != nil || use.keys == 0 {
		return found, false, err
	}
	for _, m := range [...]*memtable{s.active, s.frozen} {
		if m == nil {
			continue
		}
		if found, ok = m.once.answers[k]; ok {
			return found, use.remembers(&found), nil
		}
		if _, cleared := m.once.cleared[k.tenant]; cleared {
			return found, false, nil
		}
	}
	err = s.kv.View(func(tx store.Tx) (err error) {
		found, ok, err = readOnceAnswer(tx, k)
		return err
	})
	return found, ok && use.remembers(&found), err
}

// onceUsed sums up the keys that a tenant has used.
func (s *Shard) onceUsed(tenant TenantID) (use onceUse, err error) {
	for _, m := range [...]*memtable{s.active, s.frozen} {
		if m == nil {
			continue
		}
		if use, ok := m.once.used[tenant]; ok {
			return use, nil
		}
		if _, cleared := m.once.cleared[tenant]; cleared {
			return use, nil
		}
	}
	err = s.kv.View(func(tx store.Tx) error {
		use, err = readOnceUsed(tx, tenant)
		return err
	})
	return use, err
}

// Keys of bucketOnce begin with what they are of.
const (
	onceUsedBy   = 'T' // tenant → onceUse
	onceAnswerOf = 'K' // tenant, key → answer
	onceOrder    = 'S' // tenant, sequence number → key
)

func (k onceKey) answerKey() []byte {
	return slices.Concat([]byte{onceAnswerOf}, k.tenant[:], k.key[:])
}

func onceUsedKey(t TenantID) []byte { return append([]byte{onceUsedBy}, t[:]...) }

func onceOrderKey(t TenantID, seq uint64) []byte {
	return binary.BigEndian.AppendUint64(append([]byte{onceOrder}, t[:]...), seq)
}

func (o *onceAnswer) encode() []byte {
	b := append([]byte(nil), o.body[:]...)
	b = codec.AppendUint64(b, uint64(o.at))
	for _, v := range []uint64{o.seq, o.index, uint64(o.affected), o.version} {
		b = codec.AppendUvarint(b, v)
	}
	return b
}

func decodeOnceAnswer(p []byte) (o onceAnswer, err error) {
	r := codec.NewReader(p)
	copy(o.body[:], r.Raw(len(o.body)))
	o.at = int64(r.Uint64())
	o.seq, o.index = r.Uvarint(), r.Uvarint()
	o.affected = readInt(r)
	o.version = r.Uvarint()
	return o, r.Done()
}

func readOnceAnswer(tx store.Tx, k onceKey) (o onceAnswer, ok bool, err error) {
	v, err := tx.Get(bucketOnce, k.answerKey())
	if err != nil || v == nil {
		return o, false, err
	}
	o, err = decodeOnceAnswer(v)
	return o, err == nil, err
}

func (u onceUse) encode() []byte {
	return codec.AppendUint64(codec.AppendUvarint(nil, u.keys), uint64(u.now))
}

// readOnceUsed finds no clock where it was written before tenants had one of their own: it begins with the next key.
func readOnceUsed(tx store.Tx, t TenantID) (u onceUse, err error) {
	v, err := tx.Get(bucketOnce, onceUsedKey(t))
	if err != nil || v == nil {
		return u, err
	}
	r := codec.NewReader(v)
	u.keys = r.Uvarint()
	if r.Err() == nil && r.Len() > 0 {
		u.now = int64(r.Uint64())
	}
	return u, r.Done()
}

// commitOnce writes a memtable's answers and removes those that are forgotten since. What is left of them longer, as of
// tenants that use no keys any more, changes no outcome: remembering is decided by clock and number alone.
func (f *flushing) commitOnce(tx store.RW) error {
	t := &f.mem.once
	for _, tenant := range slices.SortedFunc(maps.Keys(t.cleared), compareTenants) {
		if err := clearOnce(tx, tenant); err != nil {
			return err
		}
	}
	keys := make([]onceKey, 0, len(t.answers))
	for k := range t.answers {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b onceKey) int {
		return cmp.Or(slices.Compare(a.tenant[:], b.tenant[:]), cmp.Compare(t.answers[a].seq, t.answers[b].seq))
	})
	for _, k := range keys {
		if err := t.commitAnswer(tx, k, t.answers[k]); err != nil {
			return err
		}
	}
	for tenant, use := range t.used {
		if err := tx.Put(bucketOnce, onceUsedKey(tenant), use.encode()); err != nil {
			return err
		}
	}
	return nil
}

// clearOnce removes all of a tenant.
func clearOnce(tx store.RW, t TenantID) error {
	for _, kind := range []byte{onceUsedBy, onceAnswerOf, onceOrder} {
		if err := deletePrefix(tx, bucketOnce, append([]byte{kind}, t[:]...)); err != nil {
			return err
		}
	}
	return nil
}

// commitAnswer writes one answer, and makes room by up to two that are forgotten.
func (t *onceTable) commitAnswer(tx store.RW, k onceKey, o onceAnswer) error {
	if err := tx.Put(bucketOnce, k.answerKey(), o.encode()); err != nil {
		return err
	}
	if err := tx.Put(bucketOnce, onceOrderKey(k.tenant, o.seq), k.key[:]); err != nil {
		return err
	}
	for range 2 {
		gone, err := forgetOldest(tx, k.tenant, onceUse{keys: o.seq, now: t.used[k.tenant].now})
		if err != nil || !gone {
			return err
		}
	}
	return nil
}

// forgetOldest removes a tenant's oldest answer if it is not to be remembered.
func forgetOldest(tx store.RW, tenant TenantID, use onceUse) (gone bool, err error) {
	var seq uint64
	k := onceKey{tenant: tenant}
	first := onceOrderKey(tenant, 0)
	err = tx.Ascend(bucketOnce, first, func(key, v []byte) (bool, error) {
		if len(key) == len(first) && string(key[:17]) == string(first[:17]) {
			seq = binary.BigEndian.Uint64(key[17:])
			copy(k.key[:], v)
		}
		return false, nil
	})
	if err != nil || seq == 0 {
		return false, err
	}
	o, ok, err := readOnceAnswer(tx, k)
	if err != nil {
		return false, err
	}
	current := ok && o.seq == seq // else the key was used again since
	if current && use.remembers(&o) {
		return false, nil
	}
	if current {
		if err := tx.Delete(bucketOnce, k.answerKey()); err != nil {
			return false, err
		}
	}
	return true, tx.Delete(bucketOnce, onceOrderKey(tenant, seq))
}
