package store

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"

	"github.com/tidwall/btree"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// Mem is the KV in memory: the twin of Bolt for simulations, with the same limits, checksums and isolation.
type Mem struct {
	schema *schema
	write  sync.Mutex
	users  sync.RWMutex // held shared by every call, so that Close can wait for them
	closed bool         // guarded by users
	poison atomic.Pointer[errs.Error]
	state  atomic.Pointer[memState] // what was committed last
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

// NewMem makes an empty store in memory. Only o.Buckets matters.
func NewMem(o Options) (*Mem, error) {
	o, err := o.prepared()
	if err != nil {
		return nil, err
	}
	st := &memState{}
	for range o.Buckets {
		st.trees = append(st.trees, btree.NewBTreeGOptions(memLess, btree.Options{NoLocks: true}))
	}
	return newMem(newSchema(o.Buckets), st), nil
}

// memMagic begins a copy of a store in memory: then for each bucket the number of its keys, and key and sealed value of
// each, behind their lengths.
const memMagic = "croftmem"

// LoadMem makes a store of what Tx.Copy of another Mem with the same buckets wrote. Kind Corrupt if b is something else.
func LoadMem(b []byte, o Options) (*Mem, error) {
	m, err := NewMem(o)
	if err != nil {
		return nil, err
	}
	t := &memTx{m.state.Load()}
	r := codec.NewReader(b)
	if string(r.Raw(len(memMagic))) != memMagic {
		return nil, errs.New(errs.Corrupt, "not a copy of a store in memory")
	}
	for i := range t.trees {
		for range r.Count(2) {
			key, sealed := r.Bytes(), bytes.Clone(r.Bytes())
			if err := t.put(Bucket(i), key, sealed); err != nil {
				return nil, err
			}
		}
	}
	return m, errs.Wrap(errs.Corrupt, r.Done(), "load store in memory")
}

func (t *memTx) copyTo(w io.Writer) error {
	b := []byte(memMagic)
	for _, tree := range t.trees {
		b = codec.AppendUvarint(b, uint64(tree.Len()))
		tree.Scan(func(it memItem) bool {
			b = codec.AppendBytes(codec.AppendBytes(b, it.key), it.sealed)
			return true
		})
	}
	_, err := w.Write(b)
	return errs.Wrap(errs.Internal, err, "copy store")
}

func newMem(sc *schema, st *memState) *Mem {
	m := &Mem{schema: sc}
	m.state.Store(st)
	return m
}

// CrashClone returns a store with the state that was committed last, as a restart after a power cut would find it,
// also when m is closed or poisoned. The two share nothing that changes.
func (m *Mem) CrashClone() *Mem { return newMem(m.schema, m.state.Load()) }

// Poison makes m refuse all later calls with err as the cause, as after a failed commit.
func (m *Mem) Poison(err error) {
	m.poison.CompareAndSwap(nil, poisoned("store in memory", err))
}

func (m *Mem) enter() error {
	m.users.RLock()
	if m.closed {
		m.users.RUnlock()
		return errs.New(errs.Unavailable, "store in memory is closed")
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
	next := m.state.Load().copy()
	t := tx{schema: m.schema, raw: &memTx{memState: next}}
	defer func() { t.over = true }()
	if err := fn(&t); err != nil {
		return err
	}
	if e := m.poison.Load(); e != nil {
		return e
	}
	m.state.Store(next)
	return nil
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
	m.closed = true
	return nil
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
type memTx struct{ *memState }

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
	old, replaced := t.trees[b].Set(memItem{bytes.Clone(key), sealed})
	t.bytes += int64(len(key) + len(sealed))
	t.drop(old, replaced)
	return nil
}

func (t *memTx) delete(b Bucket, key []byte) error {
	t.drop(t.trees[b].Delete(memItem{key: key}))
	return nil
}

func (t *memTx) drop(old memItem, was bool) {
	if was {
		t.bytes -= int64(len(old.key) + len(old.sealed))
	}
}
