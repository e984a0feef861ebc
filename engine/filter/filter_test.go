package filter

import (
	"fmt"
	"slices"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/engine/metadata"
)

func mustParse(t require.TestingT, text string) *Expr {
	e, err := Parse([]byte(text))
	require.NoError(t, err, text)
	return e
}

func mustMap(t require.TestingT, text string) metadata.Map {
	var m metadata.Map
	require.NoError(t, json.Unmarshal([]byte(text), &m), text)
	return m
}

// TestSemantics is the filter language, operator by operator: which of the records pass. Match and an Index of the
// records must agree.
func TestSemantics(t *testing.T) {
	records := []string{ // by number
		0:  `{}`,
		1:  `{"f":"a"}`,
		2:  `{"f":"b"}`,
		3:  `{"f":"42"}`,
		4:  `{"f":42}`,
		5:  `{"f":-0}`,
		6:  `{"f":7.5}`,
		7:  `{"f":true}`,
		8:  `{"f":false}`,
		9:  `{"f":["a","c"]}`,
		10: `{"f":["b"]}`,
		11: `{"f":[]}`,
		12: `{"g":"a"}`,
		13: `{"f":"true","g":1}`,
		14: `{"f":["a","a"],"g":["x"]}`,
		15: `{"":"a"}`,
	}
	const all = "0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15"
	for _, c := range []struct{ filter, want string }{
		{`{}`, all},
		{`{"f":"a"}`, "1 9 14"},
		{`{"f":{"$eq":"a"}}`, "1 9 14"},
		{`{"f":42}`, "4"},
		{`{"f":42.0}`, "4"},
		{`{"f":"42"}`, "3"},
		{`{"f":0}`, "5"},
		{`{"f":-0}`, "5"},
		{`{"f":true}`, "7"},
		{`{"f":false}`, "8"},
		{`{"f":"true"}`, "13"},
		{`{"f":1}`, ""},
		{`{"f":""}`, ""},
		{`{"":"a"}`, "15"},
		{`{"h":"a"}`, ""},
		{`{"f":{"$ne":"a"}}`, "0 2 3 4 5 6 7 8 10 11 12 13 15"},
		{`{"f":{"$ne":0}}`, "0 1 2 3 4 6 7 8 9 10 11 12 13 14 15"},
		{`{"f":{"$ne":true}}`, "0 1 2 3 4 5 6 8 9 10 11 12 13 14 15"},
		{`{"h":{"$ne":"a"}}`, all},
		{`{"f":{"$gt":7.5}}`, "4"},
		{`{"f":{"$gte":7.5}}`, "4 6"},
		{`{"f":{"$lt":7.5}}`, "5"},
		{`{"f":{"$lte":7.5}}`, "5 6"},
		{`{"f":{"$gte":-0}}`, "4 5 6"},
		{`{"f":{"$gt":0}}`, "4 6"},
		{`{"f":{"$lt":-0}}`, ""},
		{`{"f":{"$gt":0,"$lt":42}}`, "6"},
		{`{"f":{"$gte":0,"$lte":42}}`, "4 5 6"},
		{`{"f":{"$gt":10,"$lt":5}}`, ""},
		{`{"f":{"$gt":7.5,"$lt":7.5}}`, ""},
		{`{"f":{"$gte":7.5,"$lte":7.5}}`, "6"},
		{`{"f":{"$gte":1,"$ne":42}}`, "6"},
		{`{"h":{"$gt":1}}`, ""},
		{`{"f":{"$in":["a","b"]}}`, "1 2 9 10 14"},
		{`{"f":{"$in":["c",42,true,"c"]}}`, "4 7 9"},
		{`{"f":{"$in":[]}}`, ""},
		{`{"h":{"$in":["a"]}}`, ""},
		{`{"f":{"$nin":["a","b"]}}`, "0 3 4 5 6 7 8 11 12 13 15"},
		{`{"f":{"$nin":["a","c",0]}}`, "0 2 3 4 6 7 8 10 11 12 13 15"},
		{`{"f":{"$nin":[]}}`, all},
		{`{"f":{"$exists":true}}`, "1 2 3 4 5 6 7 8 9 10 11 13 14"},
		{`{"f":{"$exists":false}}`, "0 12 15"},
		{`{"h":{"$exists":true}}`, ""},
		{`{"h":{"$exists":false}}`, all},
		{`{"f":{"$exists":true,"$nin":["a","b","c"]}}`, "3 4 5 6 7 8 11 13"},
		{`{"$and":[{"f":"a"},{"f":"c"}]}`, "9"},
		{`{"$and":[{"f":"a"},{"f":"b"}]}`, ""},
		{`{"f":"a","g":"x"}`, "14"},
		{`{"$or":[{"f":"a"},{"g":"a"}]}`, "1 9 12 14"},
		{`{"$or":[{"f":{"$ne":"a"}},{"g":"x"}]}`, "0 2 3 4 5 6 7 8 10 11 12 13 14 15"},
		{`{"f":{"$exists":true},"$or":[{"f":{"$lt":1}},{"f":{"$gt":8}},{"f":"b"}]}`, "2 4 5 10"},
		{`{"$and":[{"$or":[{"f":"a"},{"f":"b"}]},{"$or":[{"f":"c"},{"g":{"$exists":true}}]}]}`, "9 14"},
	} {
		e := mustParse(t, c.filter)
		x := NewIndex()
		var got string
		for i, r := range records {
			m := mustMap(t, r)
			x.Add(uint32(i), m)
			if e.Match(m) {
				got = join1(got, i)
			}
		}
		require.Equal(t, c.want, got, "Match of %s", c.filter)
		set, exact := x.Eval(e)
		require.True(t, exact, c.filter)
		got = ""
		for _, slot := range set.ToArray() {
			got = join1(got, int(slot))
		}
		require.Equal(t, c.want, got, "Eval of %s", c.filter)
	}
}

func join1(s string, i int) string {
	if s == "" {
		return fmt.Sprint(i)
	}
	return fmt.Sprint(s, " ", i)
}

func TestNilMatchesAll(t *testing.T) {
	var e *Expr
	require.True(t, e.IsEmpty())
	require.True(t, e.Match(nil))
	require.Equal(t, "{}", e.String())
	require.True(t, (&Expr{}).IsEmpty())
	require.True(t, (&Expr{}).Match(metadata.Map{{Key: "a", Value: metadata.NumberValue(1)}}))
}

// The generators draw filters and records over few keys and values, so that they meet.
var (
	keys   = []string{"a", "b", "c", "", "long" + string(make([]byte, maxKey))}
	texts  = []string{"", "x", "y", "z", longText + "1", longText + "2"}
	values = rapid.OneOf(
		rapid.Map(rapid.SampledFrom(texts), func(s string) any { return s }),
		rapid.Map(rapid.IntRange(-3, 12), func(i int) any { return float64(i) / 2 }),
		rapid.Map(rapid.Bool(), func(b bool) any { return b }),
	)
	longText = string(slices.Repeat([]byte{'t'}, maxText))
)

func anyRecord() *rapid.Generator[metadata.Map] {
	value := rapid.OneOf(values, rapid.Map(rapid.SliceOfN(rapid.SampledFrom(texts), 0, 4), func(l []string) any { return l }))
	return rapid.Custom(func(t *rapid.T) metadata.Map {
		b, err := json.Marshal(rapid.MapOfN(rapid.SampledFrom(keys), value, 0, len(keys)).Draw(t, "fields"))
		require.NoError(t, err)
		return mustMap(t, string(b))
	})
}

func anyFilter(depth int) *rapid.Generator[map[string]any] {
	return rapid.Custom(func(t *rapid.T) map[string]any {
		out := map[string]any{}
		for range rapid.IntRange(1, 2).Draw(t, "members") {
			if o := rapid.IntRange(0, 5).Draw(t, "kind"); depth > 0 && o <= 1 {
				kids := rapid.SliceOfN(anyFilter(depth-1), 1, 3).Draw(t, "kids")
				out[[]string{"$and", "$or"}[o]] = kids
			} else {
				out[rapid.SampledFrom(keys).Draw(t, "key")] = anyCondition(t)
			}
		}
		return out
	})
}

func anyCondition(t *rapid.T) any {
	number := func() any { return float64(rapid.IntRange(-4, 13).Draw(t, "bound")) / 2 }
	switch rapid.IntRange(0, 7).Draw(t, "operator") {
	case 0:
		return values.Draw(t, "value")
	case 1:
		return map[string]any{"$ne": values.Draw(t, "value")}
	case 2:
		return map[string]any{"$in": rapid.SliceOfN(values, 0, 4).Draw(t, "values")}
	case 3:
		return map[string]any{"$nin": rapid.SliceOfN(values, 0, 4).Draw(t, "values")}
	case 4:
		return map[string]any{"$exists": rapid.Bool().Draw(t, "exists")}
	case 5:
		return map[string]any{"$gte": number(), "$lt": number()}
	case 6:
		return map[string]any{"$gt": number()}
	}
	return map[string]any{"$lte": number(), "$ne": values.Draw(t, "value")}
}

func drawFilter(t *rapid.T) *Expr {
	b, err := json.Marshal(anyFilter(2).Draw(t, "filter"))
	require.NoError(t, err)
	return mustParse(t, string(b))
}

// TestPlainReading compares Match with an evaluation of the parsed JSON itself, which knows no tree of ours.
func TestPlainReading(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := anyFilter(3).Draw(t, "filter")
		b, err := json.Marshal(f)
		require.NoError(t, err)
		e := mustParse(t, string(b))
		var plain map[string]any
		require.NoError(t, json.Unmarshal(b, &plain))
		for range 5 {
			m := anyRecord().Draw(t, "record")
			require.Equal(t, plainMatch(plain, m), e.Match(m), "%s over %v", b, m)
		}
	})
}

func plainMatch(f map[string]any, m metadata.Map) bool {
	for key, want := range f {
		switch key {
		case "$and":
			if slices.ContainsFunc(want.([]any), func(k any) bool { return !plainMatch(k.(map[string]any), m) }) {
				return false
			}
		case "$or":
			if !slices.ContainsFunc(want.([]any), func(k any) bool { return plainMatch(k.(map[string]any), m) }) {
				return false
			}
		default:
			if !plainField(want, key, m) {
				return false
			}
		}
	}
	return true
}

func plainField(want any, key string, m metadata.Map) bool {
	var have []any
	v, ok := m.Get(key)
	switch v.Kind {
	case metadata.String:
		have = []any{v.Str}
	case metadata.Number:
		have = []any{v.Num}
	case metadata.Bool:
		have = []any{v.Boolean}
	case metadata.Strings:
		for _, s := range v.List {
			have = append(have, s)
		}
	}
	ops, isObject := want.(map[string]any)
	if !isObject {
		return slices.Contains(have, want)
	}
	number := func(test func(f float64) bool) bool { return v.Kind == metadata.Number && test(v.Num) }
	in := func(list any) bool {
		return slices.ContainsFunc(list.([]any), func(w any) bool { return slices.Contains(have, w) })
	}
	for op, arg := range ops {
		var pass bool
		switch op {
		case "$eq":
			pass = slices.Contains(have, arg)
		case "$ne":
			pass = !slices.Contains(have, arg)
		case "$in":
			pass = in(arg)
		case "$nin":
			pass = !in(arg)
		case "$exists":
			pass = ok == arg.(bool)
		case "$gt":
			pass = number(func(f float64) bool { return f > arg.(float64) })
		case "$gte":
			pass = number(func(f float64) bool { return f >= arg.(float64) })
		case "$lt":
			pass = number(func(f float64) bool { return f < arg.(float64) })
		case "$lte":
			pass = number(func(f float64) bool { return f <= arg.(float64) })
		}
		if !pass {
			return false
		}
	}
	return true
}
