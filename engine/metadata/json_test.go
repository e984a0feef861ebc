package metadata

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/errs"
)

func TestJSONReads(t *testing.T) {
	for in, want := range map[string]Map{
		`{}`:                         nil,
		`{"a":"","":"\u00e9"}`:       {{"", StringValue("é")}, {"a", StringValue("")}},
		`{"n":42,"m":-0.5e1}`:        {{"m", NumberValue(-5)}, {"n", NumberValue(42)}},
		`{"t":true,"f":false}`:       {{"f", BoolValue(false)}, {"t", BoolValue(true)}},
		`{"l":["b","a","b"],"e":[]}`: {{"e", StringsValue([]string{}...)}, {"l", StringsValue("b", "a", "b")}},
		`{"n":9007199254740993}`:     {{"n", NumberValue(9007199254740992)}},
		`{"n":1e-400}`:               {{"n", NumberValue(0)}},
		`{"Key":1,"key":2}`:          {{"Key", NumberValue(1)}, {"key", NumberValue(2)}},
	} {
		var got Map
		require.NoError(t, json.Unmarshal([]byte(in), &got), in)
		require.True(t, want.Equal(got), "%s gives %v", in, got)
	}
}

func TestJSONRefuses(t *testing.T) {
	upstream := "Metadata value must be a string, number, boolean or list of strings"
	for in, want := range map[string]string{
		`null`:                         "must be an object",
		`[]`:                           "must be an object",
		`"a"`:                          "must be an object",
		`{"k":null}`:                   upstream + ", got null",
		`{"k":{"a":1}}`:                upstream + ", got an object",
		`{"k":[1]}`:                    upstream,
		`{"k":["a",1]}`:                upstream,
		`{"k":["a",null]}`:             upstream,
		`{"k":["a",["b"]]}`:            upstream,
		`{"k":[{}]}`:                   upstream,
		`{"k":1e400}`:                  upstream,
		`{"$k":1}`:                     `"$k"`,
		`{"k":1,"k":2}`:                "duplicate",
		`{"k":1,"\u006b":2}`:           "duplicate",
		"{\"k\":\"\xff\"}":             "UTF-8",
		`{"k":"\ud800"}`:               "surrogate",
		`{"k":01}`:                     "invalid",
		`{"k":NaN}`:                    "invalid",
		`{"k":1`:                       "EOF",
		`{"k":["a"`:                    "EOF",
		`{"k":1}x`:                     "invalid",
		strings.Repeat(`{"k":`, 50000): upstream,
	} {
		var got Map
		err := json.Unmarshal([]byte(in), &got)
		require.ErrorContains(t, err, want, in)
		if want == upstream {
			require.True(t, errs.Is(err, errs.Invalid))
			require.ErrorContains(t, err, `"k"`)
		}
	}
}

func TestJSONRefusesRepeatedKeysWhateverTheDecoder(t *testing.T) {
	var m Map
	err := json.Unmarshal([]byte(`{"k":1,"k":2}`), &m, jsontext.AllowDuplicateNames(true))
	require.ErrorContains(t, err, "more than once")
}

func TestJSONLimits(t *testing.T) {
	var m Map
	require.ErrorContains(t, json.Unmarshal([]byte(`{"a":"`+strings.Repeat("x", MaxSize)+`"}`), &m), "40960")
	wide := "{"
	for i := range MaxFields + 1 {
		wide += `"` + strings.Repeat("k", i) + `":1,`
	}
	require.ErrorContains(t, json.Unmarshal([]byte(wide[:len(wide)-1]+"}"), &m), "1000 fields")
}

// TestJSONKeepsReadErrors: a body cut off by its size limit must not look like bad metadata.
func TestJSONKeepsReadErrors(t *testing.T) {
	broken := errors.New("body too large")
	for _, in := range []string{``, `{`, `{"k"`, `{"k":`, `{"k":["a",`, `{"k":1`} {
		var m Map
		r := io.MultiReader(strings.NewReader(in), iotestErr{broken})
		err := m.UnmarshalJSONFrom(jsontext.NewDecoder(r))
		require.ErrorIs(t, err, broken, in)
		require.False(t, errs.Is(err, errs.Invalid), in)
	}
}

type iotestErr struct{ err error }

func (e iotestErr) Read([]byte) (int, error) { return 0, e.err }

// TestJSONWritesAsEncodingJSON compares the text with what the standard library prints for a plain map, and Size
// with its length.
func TestJSONWritesAsEncodingJSON(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m := anyMap().Draw(t, "map")
		plain := map[string]any{}
		for _, f := range m {
			plain[f.Key] = plainValue(f.Value)
		}
		got, err := json.Marshal(m)
		require.NoError(t, err)
		require.Equal(t, m.Size(), len(got), "%s", got)
		require.Equal(t, standardJSON(t, plain), string(got))

		var back Map
		require.NoError(t, json.Unmarshal(got, &back))
		require.True(t, m.Equal(back), "%s", got)
	})
}

func plainValue(v Value) any {
	switch v.Kind {
	case String:
		return v.Str
	case Number:
		return v.Num
	case Bool:
		return v.Boolean
	}
	return append([]string{}, v.List...)
}

// standardJSON undoes the two characters that encoding/json escapes without need.
func standardJSON(t require.TestingT, v any) string {
	var b bytes.Buffer
	enc := stdjson.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	require.NoError(t, enc.Encode(v))
	return strings.NewReplacer(`\\`, `\\`, `\u2028`, "\u2028", `\u2029`, "\u2029").Replace(strings.TrimSuffix(b.String(), "\n"))
}

func TestNumbers(t *testing.T) {
	for f, want := range map[float64]string{
		42: "42", -1: "-1", 0: "0", math.Copysign(0, -1): "0", 0.1: "0.1", 1e20: "100000000000000000000", 1e21: "1e+21",
		1e-6: "0.000001", 1e-7: "1e-7", 1e-9: "1e-9", 1e-10: "1e-10", 123456789.125: "123456789.125",
		math.MaxFloat64: "1.7976931348623157e+308", math.SmallestNonzeroFloat64: "5e-324", math.Nextafter(1e-6, 0): "9.999999999999997e-7",
	} {
		b, err := json.Marshal(NumberValue(f))
		require.NoError(t, err)
		if f != 0 {
			require.Equal(t, want, string(b))
		}
		require.Equal(t, len(b), numberLen(f), "%v", f)
	}
	b, err := json.Marshal(Map{{"n", NumberValue(math.Copysign(0, -1))}})
	require.NoError(t, err)
	require.Equal(t, `{"n":-0}`, string(b))
}

func TestMarshalRefusesWhatIsNoJSON(t *testing.T) {
	for _, v := range []Value{{}, NumberValue(math.NaN()), StringValue("\xff"), StringsValue("\xff")} {
		_, err := json.Marshal(Map{{"k", v}})
		require.Error(t, err, "%v", v)
	}
}

func TestSizeAllocatesNothing(t *testing.T) {
	m := benchMap()
	require.Zero(t, testing.AllocsPerRun(100, func() { m.Size() }))
}

func FuzzJSON(f *testing.F) {
	for _, s := range []string{`{"a":1,"b":["x"],"c":"\u0000\u2028é"}`, `{"a":-0,"b":1e-7}`, `{"a":{"b":null}}`, `{"a":[1]}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var m Map
		if json.Unmarshal(b, &m) != nil {
			return
		}
		out, err := json.Marshal(m)
		if err != nil || len(out) != m.Size() {
			t.Fatalf("%q prints as %q, Size %d, error %v", b, out, m.Size(), err)
		}
		back, err := Decode(AppendBinary(nil, m))
		if err != nil || !back.Equal(m) {
			t.Fatalf("%q does not survive the binary form: %v, %v", b, back, err)
		}
	})
}

func BenchmarkUnmarshal(b *testing.B) {
	text, err := json.Marshal(benchMap())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		var m Map
		if err := m.UnmarshalJSONFrom(jsontext.NewDecoder(bytes.NewBuffer(text))); err != nil {
			b.Fatal(err)
		}
	}
}
