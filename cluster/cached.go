package cluster

import (
	"encoding/binary"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/tenancy"
)

// cacheLookup is what a query knows of its result in the cache.
type cacheLookup struct {
	forOther bool // the answer goes to another node as it is kept
	keep     bool // what the search finds is to be kept under key
	key      tenancy.CacheKey
	found    []byte // what the cache has; it is not changed
	encoded  []byte // the answer in the form that travels, if there is no other
	request  []byte // scratch
	reader   codec.Reader
}

func (l *cacheLookup) reset() { *l = cacheLookup{request: l.request[:0]} }

func (l *cacheLookup) state() tenancy.CacheState {
	switch {
	case l.found != nil:
		return tenancy.CacheHit
	case l.keep:
		return tenancy.CacheMiss
	}
	return tenancy.CacheNone
}

// look looks for a query's answer in the cache, where the replica has been found fit to answer. The version of the partition is
// read here, before any search: an answer that is kept under it holds all that had been applied by then. Partitions are numbered
// by shard, and a tenant that moves between two that are carried here is in both.
func (n *Node) look(sh *shard, key engine.Key, v verb, s *tenancy.Settings, reading *Reading) {
	q, ok := v.(*queryVerb)
	if !ok || n.cache == nil {
		return
	}
	l := &q.lookup
	l.keep, l.found, l.encoded = false, nil, nil
	if !n.cache.Wants(tenancy.ID(key.Tenant), s) {
		return
	}
	number, version, ok := sh.engine.Seen(key)
	if !ok {
		return
	}
	l.request = appendQuery(l.request[:0], q.q)
	l.key = tenancy.CacheKey{
		Tenant: tenancy.ID(key.Tenant), Index: uint64(key.Index), Partition: uint64(sh.id)<<48 | number, Version: version, Settings: s.Version,
		Request: n.cache.Hash(l.request),
	}
	l.found = n.cache.Get(&l.key)
	l.keep = l.found == nil
}

// storedLen is the length of what stands before the result in the cache: the size of the partition.
const storedLen = 8

// answerFound answers from the cache.
func (v *queryVerb) answerFound() error {
	l := &v.lookup
	stored, result := binary.LittleEndian.Uint64(l.found), l.found[storedLen:]
	if l.forOther {
		l.encoded = result
		*v.res = engine.Result{Matches: v.res.Matches[:0]}
	} else {
		l.reader = *codec.NewReader(result)
		readResult(&l.reader, v.res)
		if err := l.reader.Done(); err != nil {
			return err
		}
		v.res.Distances, v.res.Read = 0, 0
	}
	v.res.Stored = stored
	return nil
}

// keepResult keeps what a search has found, if it has seen the version that it was looked up for.
func (v *queryVerb) keepResult(n *Node) {
	l := &v.lookup
	if !l.keep || v.res.Version != l.key.Version {
		return
	}
	b := codec.AppendUint64(make([]byte, 0, storedLen+resultSize(v.res)), v.res.Stored)
	b = appendResult(b, v.res)
	n.cache.Put(&l.key, b)
	if l.forOther {
		l.encoded = b[storedLen:]
	}
}

// resultSize is about how many bytes appendResult appends, rather more.
func resultSize(res *engine.Result) int {
	n := 48
	for i := range res.Matches {
		r := &res.Matches[i].Record
		n += 16 + len(r.ID) + 4*len(r.Values) + 8*len(r.Sparse.Indices) + r.Metadata.Size()
	}
	return n
}
