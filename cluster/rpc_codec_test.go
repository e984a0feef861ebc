package cluster

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/engine/filter"
	"github.com/croftdb/croft/engine/metadata"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

var sampleFilters = []string{
	`{}`, `{"a":1}`, `{"a":{"$in":["x","y",true]},"b":{"$gte":-1,"$lt":7.5}}`,
	`{"$or":[{"a":{"$ne":"z"}},{"$and":[{"b":{"$exists":false}},{"c":{"$nin":[]}}]}]}`,
}

func drawFilterExpr(t *rapid.T) *filter.Expr {
	f, err := filter.Parse([]byte(rapid.SampledFrom(sampleFilters).Draw(t, "filter")))
	require.NoError(t, err)
	return f
}

func drawFloats(t *rapid.T, label string, n int) []float32 {
	if n == 0 {
		return nil
	}
	return rapid.SliceOfN(rapid.Float32(), n, n).Draw(t, label)
}

func drawSparse(t *rapid.T) (s engine.Sparse) {
	if n := rapid.IntRange(0, 3).Draw(t, "indices"); n > 0 {
		s.Indices = rapid.SliceOfN(rapid.Uint32(), n, n).Draw(t, "indices")
		s.Values = drawFloats(t, "sparse values", n)
	}
	return s
}

func drawMetadata(t *rapid.T) metadata.Map {
	var fields []metadata.Field
	for _, k := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"", "a", "b", "é"}), 0, 3, rapid.ID).Draw(t, "keys") {
		v := rapid.SampledFrom([]metadata.Value{
			metadata.StringValue("x"), metadata.NumberValue(-1.5), metadata.BoolValue(true), metadata.StringsValue("p", "", "p"),
		}).Draw(t, "value")
		fields = append(fields, metadata.Field{Key: k, Value: v})
	}
	m, err := metadata.Make(fields...)
	require.NoError(t, err)
	return m
}

func drawRecord(t *rapid.T) engine.Record {
	return engine.Record{
		ID: rapid.String().Draw(t, "id"), Values: drawFloats(t, "values", rapid.IntRange(0, 4).Draw(t, "dim")),
		Sparse: drawSparse(t), Metadata: drawMetadata(t), Version: rapid.Uint64().Draw(t, "version"),
	}
}

func drawStats(t *rapid.T) engine.PartitionStats {
	return engine.PartitionStats{
		Key: drawKey(t), Records: rapid.Uint64().Draw(t, "records"), Bytes: rapid.Uint64().Draw(t, "bytes"),
		Version: rapid.Uint64().Draw(t, "version"), Indexed: rapid.Uint64().Draw(t, "indexed"), Ef: rapid.IntRange(0, 1000).Draw(t, "ef"),
		SampledRecall: rapid.Float64Range(0, 1).Draw(t, "recall"),
	}
}

func drawKey(t *rapid.T) (k engine.Key) {
	copy(k.Tenant[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "tenant"))
	k.Index = engine.IndexID(rapid.Uint64().Draw(t, "index"))
	return k
}

// anyVerb draws a verb with a request and an answer, and an empty one to read them into.
func anyVerb(t *rapid.T) (full, empty verb) {
	who := labels{rapid.String().Draw(t, "index"), rapid.String().Draw(t, "namespace")}
	text := rapid.String()
	count := rapid.IntRange(-5, math.MaxInt32)
	written := Written{Affected: count.Draw(t, "affected"), LSN: rapid.Uint64().Draw(t, "lsn"), Shard: rapid.IntRange(-1, 300).Draw(t, "shard")}
	recs := rapid.SliceOfN(rapid.Custom(drawRecord), 0, 3)
	flag := rapid.Bool()
	switch rapid.IntRange(0, 7).Draw(t, "verb") {
	case 0:
		return &applyVerb{labels: who, grows: flag.Draw(t, "grows"), exists: flag.Draw(t, "exists"), written: written,
			encoded: append([]byte("command"), rapid.SliceOf(rapid.Byte()).Draw(t, "command")...)}, new(applyVerb)
	case 1:
		remove := flag.Draw(t, "remove")
		return &whereVerb{labels: who, remove: remove, dryRun: flag.Draw(t, "dry"), filter: drawFilterExpr(t),
			set: drawMetadata(t), written: written}, &whereVerb{remove: remove}
	case 2:
		q := &engine.Query{Vector: drawFloats(t, "vector", rapid.IntRange(0, 5).Draw(t, "dim")), Sparse: drawSparse(t), Filter: drawFilterExpr(t),
			K: count.Draw(t, "k"), Ef: count.Draw(t, "ef"), MaxBytes: count.Draw(t, "bytes"), Recall: rapid.Float32().Draw(t, "recall"),
			IncludeValues: flag.Draw(t, "values"), IncludeMetadata: flag.Draw(t, "metadata")}
		return &queryVerb{q: q, res: drawResult(t)}, &queryVerb{q: new(engine.Query), res: new(engine.Result)}
	case 3:
		return &fetchVerb{ids: rapid.SliceOfN(text, 1, 5).Draw(t, "ids"), recs: recs.Draw(t, "records")}, new(fetchVerb)
	case 4:
		v := &scanVerb{idsOnly: flag.Draw(t, "ids only"), prefix: text.Draw(t, "prefix"), after: text.Draw(t, "after"),
			filter: drawFilterExpr(t), limit: count.Draw(t, "limit"), more: flag.Draw(t, "more")}
		if v.idsOnly {
			v.ids = rapid.SliceOfN(text, 1, 5).Draw(t, "ids")
		} else {
			v.recs = recs.Draw(t, "records")
		}
		return v, new(scanVerb)
	case 5:
		return &createVerb{labels: who, stats: drawStats(t)}, new(createVerb)
	case 6:
		v := &holdingsVerb{after: drawKey(t).Tenant, limit: rapid.IntRange(0, maxHeld).Draw(t, "limit"), more: flag.Draw(t, "more")}
		for range rapid.IntRange(0, 3).Draw(t, "held") {
			v.held = append(v.held, holding{drawKey(t).Tenant, rapid.Uint64().Draw(t, "records"), rapid.Uint64().Draw(t, "bytes"),
				rapid.Float64().Draw(t, "queries"), rapid.Float64().Draw(t, "compute"), flag.Draw(t, "hidden")})
		}
		return v, new(holdingsVerb)
	}
	v := &partitionsVerb{labels: who, one: flag.Draw(t, "one"), recorded: flag.Draw(t, "recorded"), prefix: text.Draw(t, "prefix"),
		after: text.Draw(t, "after"), limit: rapid.IntRange(0, math.MaxInt32).Draw(t, "limit"), shard: rapid.IntRange(0, 300).Draw(t, "shard"),
		stats: drawStats(t), there: flag.Draw(t, "there"), total: count.Draw(t, "total")}
	for range rapid.IntRange(0, 3).Draw(t, "found") {
		v.found = append(v.found, Namespace{text.Draw(t, "name"), drawStats(t), v.shard})
	}
	return v, new(partitionsVerb)
}

func drawResult(t *rapid.T) *engine.Result {
	res := &engine.Result{Plan: rapid.SampledFrom(plans[:]).Draw(t, "plan"), Scanned: rapid.IntRange(0, 1<<40).Draw(t, "scanned"),
		Version: rapid.Uint64().Draw(t, "version")}
	for range rapid.IntRange(0, 4).Draw(t, "matches") {
		res.Matches = append(res.Matches, engine.Match{Record: drawRecord(t), Score: rapid.Float32().Draw(t, "score")})
	}
	return res
}

// TestVerbsTravel: what is read on the other side encodes to the same bytes, and has the same fields where those can be
// compared: empty and missing lists are the same.
func TestVerbsTravel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		full, empty := anyVerb(t)
		request, answer := full.appendRequest(nil), full.appendAnswer(nil)
		r := codec.NewReader(request)
		empty.readRequest(r)
		require.NoError(t, r.Done())
		require.Equal(t, request, empty.appendRequest(nil))
		r = codec.NewReader(answer)
		empty.readAnswer(r)
		require.NoError(t, r.Done())
		require.Equal(t, answer, empty.appendAnswer(nil))
		require.Equal(t, full.method(), empty.method())
		if h, ok := full.(*holdingsVerb); ok && len(h.held) > 0 {
			require.Equal(t, full, empty)
		}
		if p, ok := full.(*partitionsVerb); ok {
			require.Equal(t, full, empty)
			require.Equal(t, p.found, empty.(*partitionsVerb).found)
		}
		if q, ok := full.(*queryVerb); ok {
			requireSameQuery(t, q, empty.(*queryVerb))
		} else if s, ok := full.(*scanVerb); ok && s.idsOnly {
			require.Equal(t, full, empty)
		}
	})
}

func requireSameQuery(t *rapid.T, want, got *queryVerb) {
	require.Equal(t, len(want.res.Matches), len(got.res.Matches))
	for i, m := range want.res.Matches {
		require.Equal(t, m, got.res.Matches[i])
	}
	require.Equal(t, want.res.Plan, got.res.Plan)
	require.Equal(t, want.q.Vector, got.q.Vector)
	require.Equal(t, want.q.Filter, got.q.Filter)
}

func TestHeadsTravel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := head{
			shard: rapid.Uint16().Draw(t, "shard"), level: Consistency(rapid.IntRange(0, 2).Draw(t, "level")), key: drawKey(t),
			meta: rapid.Uint64().Draw(t, "meta"),
		}
		s := Staleness{rapid.Uint64().Draw(t, "applied"), rapid.Uint64().Draw(t, "behind"), time.Duration(rapid.Int64Range(-1, 1<<60).Draw(t, "age"))}
		r := codec.NewReader(appendStaleness(h.append(nil), &s))
		var got head
		got.read(r)
		require.Equal(t, s, readStaleness(r))
		require.NoError(t, r.Done())
		require.Equal(t, h, got)
	})
}

// TestResultsReuseMemory: once a result has grown, an answer costs the one allocation that its ids take.
func TestResultsReuseMemory(t *testing.T) {
	res := engine.Result{Plan: engine.PlanFlat}
	for range 100 {
		res.Matches = append(res.Matches, engine.Match{Record: engine.Record{ID: "some id", Values: make([]float32, 8)}})
	}
	b := appendResult(nil, &res)
	var into engine.Result
	reader := codec.NewReader(b)
	read := func() {
		*reader = *codec.NewReader(b)
		readResult(reader, &into)
		if reader.Done() != nil || into.Matches[99].ID != "some id" {
			t.Fatal(reader.Done())
		}
	}
	read()
	require.Equal(t, 1.0, testing.AllocsPerRun(100, read))
}

// FuzzVerbs reads any bytes as the head of a request, and as the request and the answer of every verb: no panic, no more
// memory than the input could hold, and what is taken is the same when it has travelled once more.
func FuzzVerbs(f *testing.F) {
	f.Add(byte(methodQuery), appendQuery(nil, &engine.Query{Vector: []float32{1, 2}, K: 3, Sparse: engine.Sparse{Indices: []uint32{1}, Values: []float32{2}}}), true)
	res := engine.Result{Plan: engine.PlanGraph, Matches: []engine.Match{{Record: engine.Record{ID: "a", Values: []float32{1}}}}}
	f.Add(byte(methodQuery), append([]byte{0}, appendResult(nil, &res)...), false)
	f.Add(byte(methodFetch), appendTexts(nil, []string{"a", "", "bc"}), true)
	f.Add(byte(methodFetch), appendRecords(nil, []engine.Record{{ID: "a", Values: []float32{1}}}), false)
	f.Add(byte(methodScan), (&scanVerb{prefix: "a", limit: 3}).appendRequest(nil), true)
	f.Add(byte(methodApply), (&applyVerb{encoded: []byte("xyz")}).appendRequest(nil), true)
	f.Add(byte(methodUpdate), (&whereVerb{dryRun: true}).appendRequest(nil), true)
	f.Add(byte(methodPartitions), (&partitionsVerb{found: []Namespace{{Name: "a"}}}).appendAnswer(nil), false)
	f.Add(byte(methodUsed), (&usedVerb{tenants: make([]engine.TenantID, 2), to: 3}).appendRequest(nil), true)
	f.Add(byte(methodUsed), (&usedVerb{used: [][]Used{{{Begin: time.Unix(3600, 0).UTC(), ByteHours: 2}}, nil}}).appendAnswer(nil), false)
	f.Add(byte(methodCreate), (&createVerb{}).appendAnswer(nil), false)
	f.Add(byte(methodHoldings), (&holdingsVerb{held: []holding{{records: 3, queries: 1}, {hidden: true}}, more: true}).appendAnswer(nil), false)
	newer := codec.AppendFloat64(codec.AppendUvarint([]byte{1, 1}, 1), 2)
	f.Add(byte(methodUsed), append(append(newer, 99), make([]byte, 40)...), false) // of a version that is not known
	last := bill{id: engine.TenantID{3}, name: "a", tier: "b", deleted: time.Unix(9, 0)}
	f.Add(byte(methodClose), (&closeVerb{last}).appendRequest(nil), true)
	f.Add(byte(methodBills), (&billsVerb{prefix: "a", after: last, limit: 3}).appendRequest(nil), true)
	f.Add(byte(methodBills), (&billsVerb{found: []bill{last}}).appendAnswer(nil), false)
	f.Add(byte(methodCarry), (&carryVerb{take: true, entries: []engine.CostateEntry{last.costate()}}).appendRequest(nil), true)
	f.Add(byte(methodCarry), (&carryVerb{entries: []engine.CostateEntry{last.costate()}}).appendAnswer(nil), false)
	f.Fuzz(func(t *testing.T, m byte, b []byte, request bool) {
		var h head
		h.read(codec.NewReader(b))
		newVerb, ok := verbs[method(m)]
		if !ok {
			return
		}
		v, again := newVerb(), newVerb()
		read, write := verb.readAnswer, verb.appendAnswer
		if request {
			read, write = verb.readRequest, verb.appendRequest
		}
		r := codec.NewReader(b)
		read(v, r)
		if err := r.Done(); err != nil {
			if !errs.Is(err, errs.Corrupt) && !errs.Is(err, errs.FailedPrecondition) { // the latter of what a newer croft wrote
				t.Fatal(err)
			}
			return
		}
		form := write(v, nil)
		r = codec.NewReader(form)
		read(again, r)
		if err := r.Done(); err != nil || string(write(again, nil)) != string(form) {
			t.Fatalf("%v: % x reads as % x, which reads as % x", err, b, form, write(again, nil))
		}
	})
}
