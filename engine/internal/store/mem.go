package store

import (
	"bytes"
	"sync"
	"sync/atomic"

	"github.com/tidwall/btree"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// Mem is the KV in memory, with a journal on a disk: the twin of Bolt for simulations, whose disks bbolt cannot use. It
// has the same limits, checksums, isolation and durability.
type Mem struct {
	schema  *schema
	journal *journal
	write   sync.Mutex
	users   sync.RWMutex // held shared by every call, so that Close can wait for them
	closed  bool         // guarded by users
	poison  atomic.Pointer[errs.Error]
	state   atomic.Pointer[memState] // what was committed last
}

var _ KV = (*Mem)(nil)

// memState is one committed state. Its trees are never changed again.
type memState struct {
	copying sync.Mutex // copying a tree marks it
	trees   []*memTree
	bytes   int64 // of keys and sealed values
}

type memTree = btree.BTreeG[memItem]

type memItem struct{ key, sealed []byte }

func memLess(a, b memItem) bool { return bytes.Compare(a.key, b.key) < 0 }

// OpenMem opens the store with its journal at path, or makes an empty one. Of o only Buckets matters. Kind Corrupt if the
// file is something else, or of a store with other buckets.
func OpenMem(disk vfs.FS, path string, o Options) (*Mem, error) {
	o, err := o.prepared()
	if err != nil {
		return nil, err
	}
	m := &Mem{schema: newSchema(o.Buckets)}
	st := &memState{}
	for range o.Buckets {
		st.trees = append(st.trees, btree.NewBTreeGOptions(memLess, btree.Options{NoLocks: true}))
	}
	if m.journal, err = openJournal(disk, path, st); err != nil {
		return nil, errs.Wrap(errs.KindOf(err), err, "open store %s", path)
	}
	m.state.Store(st)
	return m, nil
}

func (m *Mem) enter() error {
	m.users.RLock()
	if m.closed {
		m.users.RUnlock()
		return errs.New(errs.Unavailable, "store %s is closed", m.journal.path)
	}
	if e := m.poison.Load(); e != nil {
		m.users.RUnlock()
		return e
	}
	return nil
}

// View implements KV.
func (m *Mem) View(fn func(Tx) error) error {
	if err := m.enter(); err != nil {
		return err
	}
	defer m.users.RUnlock()
	t := tx{schema: m.schema, raw: &memTx{memState: m.state.Load()}}
	defer func() { t.over = true }()
	return fn(&t)
}

// Update implements KV.
func (m *Mem) Update(fn func(RW) error) error {
	m.write.Lock()
	defer m.write.Unlock()
	if err := m.enter(); err != nil {
		return err
	}
	defer m.users.RUnlock()
	changes := &memTx{memState: m.state.Load().copy()}
	t := tx{schema: m.schema, raw: changes}
	defer func() { t.over = true }()
	if err := fn(&t); err != nil {
		return err
	}
	return m.commit(changes)
}

// commit shows the changes to readers once they are durable.
func (m *Mem) commit(t *memTx) error {
	err := m.journal.commit(t)
	if err == nil {
		m.state.Store(t.memState)
		return nil
	}
	kind := errs.OutcomeUnknown
	if fullDisk(err) {
		kind = errs.StorageFull
	}
	m.poison.CompareAndSwap(nil, poisoned("store "+m.journal.path, err))
	return errs.New(kind, "commit to store %s: %w", m.journal.path, err).WithHint(poisonHint)
}

// Size implements KV.
func (m *Mem) Size() int64 {
	m.users.RLock()
	defer m.users.RUnlock()
	if m.closed {
		return 0
	}
	return m.state.Load().bytes
}

// Close implements KV.
func (m *Mem) Close() error {
	m.users.Lock()
	defer m.users.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	return errs.Wrap(errs.Internal, m.journal.close(), "close store %s", m.journal.path)
}

func (s *memState) copy() *memState {
	s.copying.Lock()
	defer s.copying.Unlock()
	next := &memState{bytes: s.bytes}
	for _, t := range s.trees {
		next.trees = append(next.trees, t.Copy())
	}
	return next
}

// memTx is the raw transaction in memory.
type memTx struct {
	*memState
	log []byte // changes, as the journal keeps them
}

func (t *memTx) get(b Bucket, key []byte) ([]byte, error) {
	it, _ := t.trees[b].Get(memItem{key: key})
	return it.sealed, nil
}

func (t *memTx) ascend(b Bucket, from []byte, fn func(k, sealed []byte) (bool, error)) (err error) {
	t.trees[b].Ascend(memItem{key: from}, func(it memItem) bool {
		var more bool
		more, err = fn(it.key, it.sealed)
		return more && err == nil
	})
	return err
}

func (t *memTx) put(b Bucket, key, sealed []byte) error {
	t.log = codec.AppendBytes(codec.AppendBytes(append(t.log, changePut, byte(b)), key), sealed)
	t.set(b, key, sealed)
	return nil
}

func (t *memTx) delete(b Bucket, key []byte) error {
	t.log = codec.AppendBytes(append(t.log, changeDelete, byte(b)), key)
	t.unset(b, key)
	return nil
}

func (t *memTx) set(b Bucket, key, sealed []byte) {
	old, replaced := t.trees[b].Set(memItem{bytes.Clone(key), sealed})
	t.bytes += int64(len(key) + len(sealed))
	t.drop(old, replaced)
}

func (t *memTx) unset(b Bucket, key []byte) { t.drop(t.trees[b].Delete(memItem{key: key})) }

func (t *memTx) drop(old memItem, was bool) {
	if was {
		t.bytes -= int64(len(old.key) + len(old.sealed))
	}
}
