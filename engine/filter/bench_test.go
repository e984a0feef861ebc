package filter

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/engine/metadata"
)

const benchRecords = 100_000

// benchIndex models a partition of documents cut in chunks: a field with ten values, one with a thousand, a tag list,
// a unique time in order of arrival and one in no order.
func benchIndex() *Index {
	x, r := NewIndex(), rand.New(rand.NewPCG(1, 1))
	shuffled := r.Perm(benchRecords)
	for i := range uint32(benchRecords) {
		x.Add(i, metadata.Map{
			{Key: "created", Value: metadata.NumberValue(float64(i))},
			{Key: "genre", Value: metadata.StringValue(fmt.Sprint("genre", r.IntN(10)))},
			{Key: "rank", Value: metadata.NumberValue(float64(shuffled[i]))},
			{Key: "tags", Value: metadata.StringsValue(fmt.Sprint("t", r.IntN(50)), fmt.Sprint("t", r.IntN(50)))},
			{Key: "user", Value: metadata.StringValue(fmt.Sprint("user", r.IntN(1000)))},
			{Key: "year", Value: metadata.NumberValue(float64(1950 + r.IntN(75)))},
		})
	}
	return x
}

func BenchmarkEval(b *testing.B) {
	x := benchIndex()
	for _, c := range []struct{ name, filter string }{
		{"all", `{}`},
		{"eq=10%", `{"genre":"genre3"}`},
		{"eq=0.1%", `{"user":"user7"}`},
		{"ne=90%", `{"genre":{"$ne":"genre3"}}`},
		{"in=4%", `{"tags":{"$in":["t1","t2"]}}`},
		{"years=13%", `{"year":{"$gte":1990,"$lt":2000}}`},
		{"created=1%", `{"created":{"$gte":5000,"$lt":6000}}`},
		{"created=50%", `{"created":{"$gte":50000}}`},
		{"rank=1%", `{"rank":{"$gte":5000,"$lt":6000}}`},
		{"rank=50%", `{"rank":{"$gte":50000}}`},
		{"rank=99%", `{"rank":{"$gte":1000}}`},
		{"and=0.01%", `{"user":"user7","genre":"genre3"}`},
		{"and=1%", `{"genre":"genre3","year":{"$gte":1990,"$lt":2000},"tags":{"$nin":["t1"]}}`},
		{"and-recheck", `{"user":"user7","rank":{"$gte":30000,"$lt":80000}}`},
		{"or=20%", `{"$or":[{"genre":"genre1"},{"genre":"genre2"}]}`},
	} {
		e := mustParse(b, c.filter)
		b.Run(c.name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				set, _ := x.Eval(e)
				if set.IsEmpty() {
					b.Fatal("empty")
				}
			}
		})
		b.Run(c.name+"/estimate", func(b *testing.B) {
			for b.Loop() {
				x.Estimate(e)
			}
		})
	}
}

func BenchmarkAdd(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	x, slot := NewIndex(), uint32(0)
	for b.Loop() {
		x.Add(slot, metadata.Map{
			{Key: "created", Value: metadata.NumberValue(r.Float64())},
			{Key: "genre", Value: metadata.StringValue("drama")},
			{Key: "user", Value: metadata.StringValue("u")},
		})
		slot++
	}
}

func BenchmarkMatch(b *testing.B) {
	e := mustParse(b, `{"genre":"drama","year":{"$gte":1990,"$lt":2000}}`)
	m := metadata.Map{{Key: "genre", Value: metadata.StringsValue("comedy", "drama")}, {Key: "year", Value: metadata.NumberValue(1994)}}
	b.ReportAllocs()
	for b.Loop() {
		if !e.Match(m) {
			b.Fatal("no match")
		}
	}
}

func BenchmarkParse(b *testing.B) {
	text := []byte(`{"genre":{"$in":["drama","comedy"]},"year":{"$gte":1990,"$lt":2000}}`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse(text); err != nil {
			b.Fatal(err)
		}
	}
}

// shapes are the ways that memory is spent, by record.
func shapes() map[string]func(i int) metadata.Map {
	one := func(v metadata.Value) metadata.Map { return metadata.Map{{Key: "k", Value: v}} }
	return map[string]func(i int) metadata.Map{
		"none":          func(int) metadata.Map { return nil },
		"unique-string": func(i int) metadata.Map { return one(metadata.StringValue(fmt.Sprintf("document-%07d", i))) },
		"string-of-10":  func(i int) metadata.Map { return one(metadata.StringValue(fmt.Sprintf("document-%07d", i/10))) },
		"string-of-500": func(i int) metadata.Map { return one(metadata.StringValue(fmt.Sprint(i * 7919 % 200))) },
		"unique-number": func(i int) metadata.Map { return one(metadata.NumberValue(float64(i))) },
		"random-number": func(i int) metadata.Map { return one(metadata.NumberValue(float64(i * 7919 % benchRecords))) },
		"year":          func(i int) metadata.Map { return one(metadata.NumberValue(float64(i % 75))) },
		"bool":          func(i int) metadata.Map { return one(metadata.BoolValue(i%3 == 0)) },
	}
}

func heapOf(build func() *Index) (x *Index, heap int64) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	x = build()
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	return x, int64(after.HeapAlloc) - int64(before.HeapAlloc)
}

func fill(record func(i int) metadata.Map) func() *Index {
	return func() *Index {
		x := NewIndex()
		for i := range benchRecords {
			x.Add(uint32(i), record(i))
		}
		return x
	}
}

// TestBytesIsNearTheHeap compares the running estimate with what the collector counts.
func TestBytesIsNearTheHeap(t *testing.T) {
	for name, record := range shapes() {
		x, heap := heapOf(fill(record))
		t.Logf("%-14s %6.1f bytes a record, told %6.1f", name, float64(heap)/benchRecords, float64(x.Bytes())/benchRecords)
		require.InDelta(t, float64(heap), float64(x.Bytes()), 0.6*float64(heap)+64<<10, name)
	}
}
