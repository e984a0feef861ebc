package filter

import (
	"strings"
	"sync"

	"github.com/croftdb/croft/engine/metadata"
)

const (
	// maxFields is how many keys an Index indexes, so that a key name per record cannot fill the memory.
	maxFields = 1000
	// maxKey is the longest key, in bytes, that is indexed.
	maxKey = 256
)

// Index holds the bitmaps of one partition: for every field and value, the slots whose record has it. It is safe for
// use by many goroutines; evaluations run beside each other and wait for changes.
//
// Fields beyond maxFields are not indexed. While records with such a field exist, no field is newly admitted; thus
// whatever is in fields holds every record with that key, and whatever is not, none.
type Index struct {
	mu      sync.RWMutex
	all     set               // every slot
	fields  map[string]*field // by key
	loose   set               // slots of records with a field that is not indexed
	refused int               // fields of records that were kept out by maxFields
	mem     int64
	limit   int // maxFields but in tests
}

// NewIndex returns an empty Index.
func NewIndex() *Index {
	return &Index{fields: map[string]*field{}, limit: maxFields}
}

// Len returns the number of slots.
func (x *Index) Len() int {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.all.n
}

// Bytes returns about how much memory the index takes, in O(1).
func (x *Index) Bytes() int64 {
	x.mu.RLock()
	defer x.mu.RUnlock()
	return x.mem
}

// Add puts in a slot with its metadata, of which it keeps no memory. A slot that is in already stays as it is.
func (x *Index) Add(slot uint32, m metadata.Map) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.all.add(slot, &x.mem) {
		return
	}
	for i := range m {
		if f := x.admit(m[i].Key); f != nil {
			f.add(slot, &m[i].Value, &x.mem)
		} else {
			x.loose.add(slot, &x.mem)
		}
	}
}

// admit returns the field of a key, made if need be, or nil if the key is not to be indexed.
func (x *Index) admit(key string) *field {
	f := x.fields[key]
	switch {
	case f != nil || len(key) > maxKey:
		return f
	case x.refused > 0 || len(x.fields) >= x.limit:
		x.refused++
		return nil
	}
	f = &field{}
	x.fields[strings.Clone(key)] = f
	x.mem += fieldBytes + textBytes(key)
	return f
}

// Remove takes out a slot. m must be the metadata that it was added with. A slot that is not in is passed over.
func (x *Index) Remove(slot uint32, m metadata.Map) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.all.remove(slot, &x.mem) {
		return
	}
	x.loose.remove(slot, &x.mem)
	for i := range m {
		key := m[i].Key
		f := x.fields[key]
		if f == nil {
			if len(key) <= maxKey {
				x.refused--
			}
			continue
		}
		f.remove(slot, &m[i].Value, &x.mem)
		if f.present.n == 0 {
			delete(x.fields, key)
			x.mem -= fieldBytes + textBytes(key) + f.present.bytes
		}
	}
}

// unindexed reports whether records may have a key that is not in fields.
func (x *Index) unindexed(key string) bool {
	return x.refused > 0 || len(key) > maxKey && x.loose.n > 0
}
