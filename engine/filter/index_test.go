package filter

import (
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/RoaringBitmap/roaring/v2"
	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/engine/metadata"
)

func parseMap(b []byte) (m metadata.Map, err error) {
	err = json.Unmarshal(b, &m)
	return m, err
}

// matching is the oracle of Eval.
func matching(model map[uint32]metadata.Map, e *Expr) []uint32 {
	slots := []uint32{}
	for slot, m := range model {
		if e.Match(m) {
			slots = append(slots, slot)
		}
	}
	slices.Sort(slots)
	return slots
}

func checkEval(t require.TestingT, x *Index, model map[uint32]metadata.Map, e *Expr, mustBeExact bool) {
	want := matching(model, e)
	set, exact := x.Eval(e)
	got := set.ToArray()
	if exact {
		require.ElementsMatch(t, want, got, "%s", e)
	} else {
		require.False(t, mustBeExact, "%s should be exact", e)
		require.Equal(t, len(want), int(roaring.BitmapOf(want...).AndCardinality(set)), "%s is not a superset", e)
		for _, slot := range got {
			if _, ok := model[slot]; !ok {
				require.Fail(t, "a slot that is not in", "%d for %s", slot, e)
			}
		}
	}
	require.GreaterOrEqual(t, x.Estimate(e), len(want), "estimate of %s", e)
	require.LessOrEqual(t, x.Estimate(e), x.Len())

	set.AddRange(0, 1<<20) // the result is ours: spoiling it must not reach the index
	set.Clear()
	again, _ := x.Eval(e)
	require.Equal(t, got, again.ToArray(), "%s changed by a change of its result", e)
}

// TestIndexAgainstModel adds and removes at random and compares Eval with Match over a plain map, with a limit on
// fields in half of the runs.
func TestIndexAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, model := NewIndex(), map[uint32]metadata.Map{}
		x.limit = rapid.SampledFrom([]int{2, maxFields}).Draw(t, "limit")
		slot := rapid.OneOf(rapid.Uint32Range(0, 20), rapid.SampledFrom([]uint32{65535, 65536, 1 << 20, math.MaxUint32}))
		t.Repeat(map[string]func(*rapid.T){
			"add": func(t *rapid.T) {
				s := slot.Draw(t, "slot")
				if m, ok := model[s]; ok {
					x.Remove(s, m)
				}
				model[s] = anyRecord().Draw(t, "record")
				x.Add(s, model[s])
				x.Add(s, metadata.Map{{Key: "again", Value: metadata.BoolValue(true)}}) // is passed over
			},
			"remove": func(t *rapid.T) {
				s := slot.Draw(t, "slot")
				x.Remove(s, model[s])
				delete(model, s)
			},
			"eval": func(t *rapid.T) { checkEval(t, x, model, drawFilter(t), false) },
			"":     func(t *rapid.T) { require.Equal(t, len(model), x.Len()) },
		})
		for s, m := range model {
			x.Remove(s, m)
		}
		require.Empty(t, x.fields)
		require.Zero(t, x.refused)
		require.Zero(t, x.loose.n)
		require.LessOrEqual(t, x.Bytes(), int64(64))
	})
}

// TestIndexIsExact: with short keys and values and no limit reached, no evaluation may fall back to a superset.
func TestIndexIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		x, model := NewIndex(), map[uint32]metadata.Map{}
		for i, m := range rapid.SliceOfN(anyRecord(), 0, 20).Draw(t, "records") {
			m = slices.DeleteFunc(m, func(f metadata.Field) bool { return len(f.Key) > maxKey })
			model[uint32(i)] = m
			x.Add(uint32(i), m)
		}
		e := drawFilter(t)
		checkEval(t, x, model, e, !strings.Contains(e.String(), longText))
	})
}

// TestIndexAtScale crosses the borders of postings and containers: values with one slot, lists, array containers,
// full containers, several containers, and back again on removal.
func TestIndexAtScale(t *testing.T) {
	const n = 25_000
	slot := func(i uint32) uint32 { // dense in the first container, thin in seven more
		if i < 10_000 {
			return i
		}
		return 20 * i
	}
	x, model := NewIndex(), make([]metadata.Map, n)
	for i := range uint32(n) {
		m := metadata.Map{
			{Key: "bit", Value: metadata.BoolValue(i%2 == 0)},
			{Key: "day", Value: metadata.NumberValue(float64(i / 50))},
			{Key: "dense", Value: metadata.StringValue([]string{"lo", "hi"}[min(1, i/15_000)])},
			{Key: "id", Value: metadata.StringValue(fmt.Sprint(i / 3))},
			{Key: "mod", Value: metadata.NumberValue(float64(i % 7))},
			{Key: "time", Value: metadata.NumberValue(float64((i * 7919) % n))},
		}
		if i%1000 == 0 {
			m = m[:2]
		}
		model[i] = m
		x.Add(slot(i), m)
	}
	filters := []string{
		`{"id":"77"}`, `{"id":{"$in":["1","2","8000"]}}`, `{"bit":true}`, `{"dense":"lo"}`, `{"dense":{"$ne":"lo"}}`,
		`{"time":{"$gte":100,"$lt":200}}`, `{"time":{"$lt":17000}}`, `{"time":{"$gte":5}}`, `{"day":{"$gt":10,"$lte":13}}`,
		`{"day":{"$gt":20}}`, `{"mod":{"$in":[1,2]},"bit":false}`, `{"$or":[{"mod":3},{"time":{"$lt":9}},{"dense":"hi"}]}`,
		`{"time":{"$exists":false}}`, `{"mod":{"$nin":[1,2,3]},"dense":"hi","day":{"$lt":400}}`, `{"time":{"$gt":30000}}`,
	}
	check := func(step uint32) { // every slot that step divides is in
		for _, f := range filters {
			e := mustParse(t, f)
			want := roaring.New()
			for i := uint32(0); i < n; i += step {
				if e.Match(model[i]) {
					want.Add(slot(i))
				}
			}
			set, exact := x.Eval(e)
			require.True(t, exact, f)
			require.True(t, want.Equals(set), "%s: want %d, got %d", f, want.GetCardinality(), set.GetCardinality())
			require.GreaterOrEqual(t, x.Estimate(e), int(want.GetCardinality()), f)
		}
	}
	check(1)
	before := x.Bytes()
	for i := range uint32(n) {
		if i%16 != 0 {
			x.Remove(slot(i), model[i])
		}
	}
	check(16)
	require.Less(t, x.Bytes(), before/5, "a fifth of the ids is left, a sixteenth of all else")
}

// TestFullContainer: roaring keeps a full container in another form, which must not be shared with results.
func TestFullContainer(t *testing.T) {
	x, m := NewIndex(), metadata.Map{{Key: "k", Value: metadata.BoolValue(true)}}
	for i := range uint32(65536 + 10) {
		x.Add(i, m)
	}
	for _, f := range []string{`{}`, `{"k":true}`, `{"k":{"$ne":false}}`, `{"j":{"$exists":false},"k":true}`, `{"$or":[{"k":true},{"j":1}]}`} {
		for range 2 {
			set, exact := x.Eval(mustParse(t, f))
			require.True(t, exact)
			require.EqualValues(t, 65536+10, set.GetCardinality(), f)
			set.RemoveRange(5, 70_000)
			set.Remove(0)
		}
	}
	for i := range uint32(65536 + 10) {
		x.Remove(i, m)
	}
	require.Zero(t, x.Len())
	require.Empty(t, x.fields)
}

// TestEvalLeavesTheRestToMatch: one part of a conjunction finds few, the other would visit many values.
func TestEvalLeavesTheRestToMatch(t *testing.T) {
	x, model := NewIndex(), map[uint32]metadata.Map{}
	for i := range uint32(20_000) {
		model[i] = metadata.Map{
			{Key: "time", Value: metadata.NumberValue(float64(i))},
			{Key: "user", Value: metadata.StringValue(fmt.Sprint(i / 4))},
		}
		x.Add(i, model[i])
	}
	few := mustParse(t, `{"user":"1000","time":{"$gte":4002,"$lt":14000}}`)
	set, exact := x.Eval(few)
	require.False(t, exact)
	require.Equal(t, []uint32{4000, 4001, 4002, 4003}, set.ToArray())
	checkEval(t, x, model, few, false)
	checkEval(t, x, model, mustParse(t, `{"user":"1000","time":{"$gte":4002,"$lt":4100}}`), true)
	checkEval(t, x, model, mustParse(t, `{"user":"none","time":{"$gte":4002,"$lt":14000}}`), true)
	checkEval(t, x, model, mustParse(t, `{"$or":[{"user":"1000","time":{"$gte":4002,"$lt":14000}},{"user":"1"}]}`), true)
}

func TestVisitsAreBounded(t *testing.T) {
	x := NewIndex()
	for i := range uint32(4000) {
		x.Add(i, metadata.Map{{Key: "t", Value: metadata.NumberValue(float64(i))}})
	}
	var parts []string
	for i := range MaxConditions {
		parts = append(parts, fmt.Sprintf(`{"t":{"$gte":%d,"$lt":%d}}`, i, 1000+i))
	}
	set, exact := x.Eval(mustParse(t, `{"$or":[`+strings.Join(parts[:500], ",")+`]}`))
	require.False(t, exact)
	require.EqualValues(t, 4000, set.GetCardinality())
}

func TestFieldsBeyondTheLimit(t *testing.T) {
	x, model := NewIndex(), map[uint32]metadata.Map{}
	for i := range uint32(maxFields + 500) {
		model[i] = metadata.Map{{Key: fmt.Sprintf("key%05d", i), Value: metadata.NumberValue(1)}}
		x.Add(i, model[i])
	}
	require.Len(t, x.fields, maxFields)
	for _, key := range []string{"key00000", "key00999", "key01000", "key01499", "other"} {
		for _, f := range []string{`{"%s":1}`, `{"%s":{"$ne":1}}`, `{"%s":{"$exists":false}}`, `{"%s":{"$gt":0}}`} {
			checkEval(t, x, model, mustParse(t, fmt.Sprintf(f, key)), key < "key01000")
		}
	}
	set, _ := x.Eval(mustParse(t, `{"key01200":1}`))
	require.EqualValues(t, 500, set.GetCardinality(), "only records with a field that is not indexed come into question")

	for i := uint32(0); i < maxFields+500; i++ {
		if i != 1200 {
			x.Remove(i, model[i])
			delete(model, i)
		}
	}
	x.Add(1, metadata.Map{{Key: "new", Value: metadata.BoolValue(true)}}) // not admitted while key01200 is out
	require.Empty(t, x.fields)
	x.Remove(1200, model[1200])
	x.Remove(1, metadata.Map{{Key: "new", Value: metadata.BoolValue(true)}})
	x.Add(2, metadata.Map{{Key: "new", Value: metadata.BoolValue(true)}})
	require.Len(t, x.fields, 1)
}

func TestIndexKeepsNoMemoryOfTheMap(t *testing.T) {
	b := metadata.AppendBinary(nil, metadata.Map{{Key: "k", Value: metadata.StringValue("v")}})
	m, err := metadata.Decode(b)
	require.NoError(t, err)
	x := NewIndex()
	x.Add(1, m)
	m[0] = metadata.Field{Key: "other", Value: metadata.StringValue("w")}
	set, exact := x.Eval(mustParse(t, `{"k":"v"}`))
	require.True(t, exact)
	require.Equal(t, []uint32{1}, set.ToArray())
}

// TestEvalBesideChanges: each evaluation sees a whole state, and the race detector sees the rest. Slots come and go in
// pairs whose records pass both or neither filter.
func TestEvalBesideChanges(t *testing.T) {
	x := NewIndex()
	record := func(i uint32) metadata.Map {
		return metadata.Map{
			{Key: "even", Value: metadata.BoolValue(i%2 == 0)},
			{Key: "n", Value: metadata.NumberValue(float64(i))},
			{Key: "s", Value: metadata.StringValue(fmt.Sprint(i % 10))},
		}
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	evens, low := mustParse(t, `{"even":true}`), mustParse(t, `{"n":{"$lt":500},"s":{"$ne":"3"}}`)
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				set, _ := x.Eval(evens)
				set.Iterate(func(s uint32) bool { return s%2 == 0 || bad(t, s) })
				if set, exact := x.Eval(low); exact {
					set.Iterate(func(s uint32) bool { return s < 500 && s%10 != 3 || bad(t, s) })
				}
				set.AddRange(0, 2000)
				x.Estimate(low)
			}
		})
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 4000 {
		if s := r.Uint32N(1000); r.IntN(2) == 0 {
			x.Add(s, record(s))
		} else {
			x.Remove(s, record(s))
		}
	}
	close(done)
	wg.Wait()
}

func bad(t *testing.T, slot uint32) bool {
	t.Errorf("slot %d does not belong", slot)
	return false
}

func TestPostingAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var ps postings[string]
		var mem int64
		model := map[uint32]bool{}
		slots := rapid.SliceOfN(rapid.Uint32Range(0, 120), 0, 300).Draw(t, "slots")
		for _, s := range slots {
			if model[s] {
				delete(model, s)
				ps.remove("k", s, &mem)
				ps.remove("k", s, &mem) // again changes nothing
			} else {
				model[s] = true
				ps.add("k", s, &mem)
				ps.add("k", s, &mem)
			}
			var u union
			if p, ok := ps.m["k"]; ok {
				u.add(p)
				require.Equal(t, len(model), p.len())
			}
			want := slices.Sorted(maps.Keys(model))
			require.Equal(t, len(want), int(u.bitmap().GetCardinality()))
			require.Equal(t, append([]uint32{}, want...), append([]uint32{}, u.bitmap().ToArray()...))
		}
		for s := range model {
			ps.remove("k", s, &mem)
		}
		require.Empty(t, ps.m)
		require.Zero(t, mem)
	})
}
