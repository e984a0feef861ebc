package cluster

import (
	"math"
	"slices"

	"github.com/croftdb/croft/ann"
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
)

// searchAsk asks a node to search the partitions of many tenants, in shards that it answers for.
type searchAsk struct {
	level  Consistency
	meta   uint64 // entry of the metadata plane's log that the caller has applied
	index  engine.IndexID
	metric ann.Metric
	query  engine.Query
	parts  []searchPart
}

// searchPart is whose partitions are to be searched in one shard.
type searchPart struct {
	shard   uint16
	tenants []engine.TenantID
}

// searchFound is what a node has found.
type searchFound struct {
	hits     []SearchHit   // the best of all parts, in order; tenants are named by part and at
	parts    []partOutcome // one for each that was asked for
	stale    Staleness
	tooLarge bool // engine.ErrAnswerTooLarge: there is nothing else
}

// partOutcome tells what of a part was not searched.
type partOutcome struct {
	err  error // of the shard: nothing of it was
	left []leftTenant
}

// leftTenant is a tenant that was not searched.
type leftTenant struct {
	at  int // in the request
	why leftWhy
	err string // of leftFailed
}

// leftWhy is why a tenant was not searched. Numbers are on the wire: append only.
type leftWhy uint8

const (
	leftLate   leftWhy = iota // there was no time
	leftMoved                 // it lives elsewhere, or is on its way
	leftGone                  // it was deleted
	leftFailed                // the search of its partition failed
)

func (a *searchAsk) append(b []byte) []byte {
	b = append(b, byte(a.level), byte(a.metric))
	b = codec.AppendUvarint(b, a.meta)
	b = codec.AppendUvarint(b, uint64(a.index))
	b = appendQuery(b, &a.query)
	b = codec.AppendUvarint(b, uint64(len(a.parts)))
	for i := range a.parts {
		p := &a.parts[i]
		b = codec.AppendUvarint(b, uint64(p.shard))
		b = codec.AppendUvarint(b, uint64(len(p.tenants)))
		for j := range p.tenants {
			b = append(b, p.tenants[j][:]...)
		}
	}
	return b
}

func (a *searchAsk) read(r *codec.Reader) {
	a.level, a.metric = Consistency(r.Byte()), ann.Metric(r.Byte())
	a.meta = r.Uvarint()
	a.index = engine.IndexID(r.Uvarint())
	readQuery(r, &a.query)
	a.parts = make([]searchPart, r.Count(2))
	for i := range a.parts {
		p := &a.parts[i]
		shard := r.Uvarint()
		p.shard, p.tenants = uint16(shard), make([]engine.TenantID, r.Count(len(engine.TenantID{})))
		for j := range p.tenants {
			copy(p.tenants[j][:], r.Raw(len(p.tenants[j])))
		}
		if shard > math.MaxUint16 {
			fail(r, "a shard that there is not")
		}
	}
	if a.level >= consistencyCount || a.metric < ann.Cosine || a.metric > ann.Euclidean {
		fail(r, "a level of consistency or a metric that there is not")
	}
}

func (f *searchFound) append(b []byte) []byte {
	if b = append(b, boolByte(f.tooLarge)); f.tooLarge {
		return b
	}
	b = appendStaleness(b, &f.stale)
	b = codec.AppendUvarint(b, uint64(len(f.parts)))
	for i := range f.parts {
		b = f.parts[i].append(b)
	}
	res := engine.Result{Plan: engine.PlanEmpty, Matches: make([]engine.Match, len(f.hits))}
	for i := range f.hits {
		res.Matches[i] = f.hits[i].Match
	}
	b = appendResult(b, &res)
	for i := range f.hits {
		b = codec.AppendUvarint(b, uint64(f.hits[i].part))
		b = codec.AppendUvarint(b, uint64(f.hits[i].at))
	}
	return b
}

func (p *partOutcome) append(b []byte) []byte {
	if p.err != nil {
		return codec.AppendBytes(append(b, 1), appendError(nil, p.err))
	}
	b = codec.AppendUvarint(append(b, 0), uint64(len(p.left)))
	for _, l := range p.left {
		b = append(codec.AppendUvarint(b, uint64(l.at)), byte(l.why))
		if l.why == leftFailed {
			b = codec.AppendString(b, l.err)
		}
	}
	return b
}

// read reads the answer to a request with the given parts.
func (f *searchFound) read(r *codec.Reader, asked []searchPart) {
	if f.tooLarge = r.Byte() != 0; f.tooLarge {
		return
	}
	f.stale = readStaleness(r)
	if n := r.Count(2); n != len(asked) {
		fail(r, "an answer of other shards than were asked")
		return
	}
	f.parts = make([]partOutcome, len(asked))
	for i := range f.parts {
		f.parts[i].read(r, len(asked[i].tenants))
	}
	var res engine.Result
	readResult(r, &res)
	f.hits = make([]SearchHit, len(res.Matches))
	for i := range f.hits {
		part, at := r.Uvarint(), r.Uvarint()
		if part >= uint64(len(asked)) || at >= uint64(len(asked[part].tenants)) {
			fail(r, "a match of nobody who was asked for")
			return
		}
		f.hits[i] = SearchHit{Match: res.Matches[i], part: int(part), at: int(at)}
	}
}

func (p *partOutcome) read(r *codec.Reader, tenants int) {
	if r.Byte() != 0 {
		err, ok := readError(slices.Clone(r.Bytes()))
		if !ok {
			fail(r, "an error that cannot be read")
		}
		p.err = err
		return
	}
	p.left = make([]leftTenant, r.Count(2))
	for i := range p.left {
		at := r.Uvarint()
		l := &p.left[i]
		if l.why = leftWhy(r.Byte()); l.why == leftFailed {
			l.err = r.String()
		}
		if at >= uint64(tenants) || l.why > leftFailed {
			fail(r, "a tenant that was not asked for, or a reason that there is not")
			return
		}
		l.at = int(at)
	}
}
