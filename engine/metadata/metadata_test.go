package metadata

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/errs"
)

// anyMap draws valid maps, with keys from a small set so that draws meet each other.
func anyMap() *rapid.Generator[Map] {
	return rapid.Custom(func(t *rapid.T) Map {
		key := rapid.OneOf(rapid.SampledFrom([]string{"", "a", "b", "ab", "_x", "größe"}),
			rapid.String().Filter(func(s string) bool { return !strings.HasPrefix(s, "$") }))
		values := rapid.MapOfN(key, anyValue(), 0, 8).Draw(t, "fields")
		var fields []Field
		for _, k := range slices.Sorted(maps.Keys(values)) {
			fields = append(fields, Field{k, values[k]})
		}
		m, err := Make(fields...)
		require.NoError(t, err)
		return m
	})
}

func anyValue() *rapid.Generator[Value] {
	return rapid.OneOf(
		rapid.Map(rapid.String(), StringValue),
		rapid.Map(rapid.Float64(), NumberValue),
		rapid.Map(rapid.IntRange(-1000, 1000), func(i int) Value { return NumberValue(float64(i)) }),
		rapid.Map(rapid.Bool(), BoolValue),
		rapid.Map(rapid.SliceOfN(rapid.String(), 0, 5), func(l []string) Value { return StringsValue(l...) }),
	)
}

func TestMakeSortsAndRefusesRepeatedKeys(t *testing.T) {
	m, err := Make(Field{"b", NumberValue(1)}, Field{"", BoolValue(true)}, Field{"a", StringValue("x")})
	require.NoError(t, err)
	require.Equal(t, Map{{"", BoolValue(true)}, {"a", StringValue("x")}, {"b", NumberValue(1)}}, m)

	_, err = Make(Field{"a", NumberValue(1)}, Field{"b", NumberValue(1)}, Field{"a", NumberValue(2)})
	require.True(t, errs.Is(err, errs.Invalid), err)
	require.ErrorContains(t, err, `"a"`)

	m, err = Make()
	require.NoError(t, err)
	require.Nil(t, m)
}

func TestGet(t *testing.T) {
	m := Map{{"a", NumberValue(1)}, {"c", StringsValue("x", "y")}}
	v, ok := m.Get("c")
	require.True(t, ok)
	require.True(t, v.Equal(StringsValue("x", "y")))
	for _, key := range []string{"", "b", "d"} {
		_, ok = m.Get(key)
		require.False(t, ok, key)
	}
	_, ok = Map(nil).Get("a")
	require.False(t, ok)
}

func TestMergeEqualsAMergeOfPlainMaps(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		base, patch := anyMap().Draw(t, "base"), anyMap().Draw(t, "patch")
		want := map[string]Value{}
		for _, f := range slices.Concat(base, patch) {
			want[f.Key] = f.Value
		}
		before := AppendBinary(nil, base)
		got := Merge(base, patch)
		require.NoError(t, got.Validate())
		require.Len(t, got, len(want))
		for _, f := range got {
			require.True(t, f.Value.Equal(want[f.Key]), f.Key)
		}
		require.Equal(t, before, AppendBinary(nil, base), "base was changed")
	})
}

func TestValidate(t *testing.T) {
	many := make(Map, MaxFields+1)
	for i := range many {
		many[i] = Field{fmt.Sprintf("%05d", i), BoolValue(true)}
	}
	// {"a":"..."} has eight bytes around the text.
	full := Map{{"a", StringValue(strings.Repeat("x", MaxSize-8))}}
	require.Equal(t, MaxSize, full.Size())
	require.NoError(t, full.Validate())
	require.NoError(t, many[:MaxFields].Validate())
	require.NoError(t, Map{{"", StringValue("")}, {"_", StringsValue()}, {"é", NumberValue(math.MaxFloat64)}}.Validate())

	upstream := "Metadata value must be a string, number, boolean or list of strings"
	for name, c := range map[string]struct {
		m    Map
		want string
	}{
		"fields":         {many, "1001 fields, the limit is 1000"},
		"size":           {Map{{"a", StringValue(strings.Repeat("x", MaxSize-7))}}, "40961 bytes as JSON, the limit is 40960"},
		"operator key":   {Map{{"$eq", BoolValue(true)}}, `"$eq"`},
		"key not UTF-8":  {Map{{"a\xff", BoolValue(true)}}, "UTF-8"},
		"text not UTF-8": {Map{{"k", StringValue("\xff")}}, `"k"`},
		"list not UTF-8": {Map{{"k", StringsValue("a", "\xed\xa0\x80")}}, `"k"`},
		"NaN":            {Map{{"k", NumberValue(math.NaN())}}, upstream},
		"infinite":       {Map{{"k", NumberValue(math.Inf(-1))}}, upstream},
		"no kind":        {Map{{"k", Value{}}}, upstream},
		"repeated":       {Map{{"k", BoolValue(true)}, {"k", BoolValue(true)}}, `"k"`},
		"out of order":   {Map{{"b", BoolValue(true)}, {"a", BoolValue(true)}}, `"a"`},
	} {
		err := c.m.Validate()
		require.True(t, errs.Is(err, errs.Invalid), "%s: %v", name, err)
		require.ErrorContains(t, err, c.want, name)
	}
}

func TestQuoteKeyIsShort(t *testing.T) {
	require.Equal(t, `"a\nb"`, QuoteKey("a\nb"))
	require.Less(t, len(QuoteKey(strings.Repeat("é", 1<<20))), 200)
}
