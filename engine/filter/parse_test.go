package filter

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/croftdb/croft/internal/errs"
)

func TestCanonicalForm(t *testing.T) {
	for in, want := range map[string]string{
		`{}`:                                    `{}`,
		`{"a":1}`:                               `{"a":{"$eq":1}}`,
		` {"a" : {"$in":["y","x",2,true,"x"]}}`: `{"a":{"$in":["x","y",2,true]}}`,
		`{"a":{"$nin":[]}}`:                     `{"a":{"$nin":[]}}`,
		`{"a":{"$gt":1,"$lte":9}}`:              `{"a":{"$gt":1,"$lte":9}}`,
		`{"$and":[{"a":{"$gt":1}},{"a":{"$gte":2,"$lt":9}},{"a":{"$lte":9}}]}`: `{"a":{"$gte":2,"$lt":9}}`,
		`{"a":1,"b":{"$ne":"x"}}`:                     `{"$and":[{"a":{"$eq":1}},{"b":{"$ne":"x"}}]}`,
		`{"$and":[{"$and":[{"a":1,"b":2}]},{"c":3}]}`: `{"$and":[{"a":{"$eq":1}},{"b":{"$eq":2}},{"c":{"$eq":3}}]}`,
		`{"$or":[{"$or":[{"a":1},{"b":2}]},{"c":3}]}`: `{"$or":[{"a":{"$eq":1}},{"b":{"$eq":2}},{"c":{"$eq":3}}]}`,
		`{"$or":[{"$and":[{"$or":[{"a":false}]}]}]}`:  `{"a":{"$eq":false}}`,
		`{"a":{"$exists":false}}`:                     `{"a":{"$exists":false}}`,
		`{"\u00e9\"":"\n"}`:                           `{"é\"":{"$eq":"\n"}}`,
	} {
		e := mustParse(t, in)
		require.Equal(t, want, e.String(), in)
		require.Equal(t, e, mustParse(t, want), in)
		require.Equal(t, want == "{}", e.IsEmpty())
	}
}

func TestRefused(t *testing.T) {
	for in, want := range map[string][]string{
		`[]`:                       {"must be an object", "a list"},
		`null`:                     {"must be an object", "null"},
		`"a"`:                      {"must be an object"},
		`{"a":["x"]}`:              {`field "a"`, "a list cannot be compared with", `{"a":{"$in":`},
		`{"a":null}`:               {`field "a"`, "null", `{"a":{"$eq":`},
		`{"a":{}}`:                 {`field "a"`, "no operator"},
		`{"a":{"b":1}}`:            {`field "a"`, `"b"`, "not an operator"},
		`{"a":{"$foo":1}}`:         {`field "a"`, `"$foo"`, "$eq, $ne"},
		`{"a":{"$not":{"$eq":1}}}`: {`field "a"`, `"$not"`},
		`{"a":{"$EQ":1}}`:          {`field "a"`, `"$EQ"`},
		`{"a":{"$eq":["x"]}}`:      {`field "a"`, `"$eq"`, "a list", `{"a":{"$eq":"drama"}}`},
		`{"a":{"$ne":null}}`:       {`field "a"`, `"$ne"`, "null"},
		`{"a":{"$eq":{"b":1}}}`:    {`field "a"`, `"$eq"`, "an object"},
		`{"a":{"$gt":"1"}}`:        {`field "a"`, `"$gt"`, "wants a number, got a string", `{"a":{"$gt":2020}}`},
		`{"a":{"$lte":true}}`:      {`field "a"`, `"$lte"`, "got a boolean"},
		`{"a":{"$gt":1e400}}`:      {`field "a"`, `"$gt"`, "range of a float64"},
		`{"a":-1e400}`:             {`field "a"`, "range of a float64"},
		`{"a":{"$in":"x"}}`:        {`field "a"`, `"$in"`, "a string", `{"a":{"$in":["drama","comedy"]}}`},
		`{"a":{"$in":{"b":1}}}`:    {`field "a"`, `"$in"`, "an object"},
		`{"a":{"$nin":[["x"]]}}`:   {`field "a"`, `"$nin"`, "a list"},
		`{"a":{"$in":[null]}}`:     {`field "a"`, `"$in"`, "null"},
		`{"a":{"$exists":1}}`:      {`field "a"`, `"$exists"`, "wants a boolean, got a number"},
		`{"a":{"$exists":"true"}}`: {`field "a"`, `"$exists"`},
		`{"a":{"$and":[{"b":1}]}}`: {`field "a"`, "$and", "around fields"},
		`{"$eq":1}`:                {`"$eq"`, "inside a field"},
		`{"$not":[{"a":1}]}`:       {`"$not"`},
		`{"$":1}`:                  {`"$"`},
		`{"$and":[]}`:              {"$and", "empty list", `{"$and":[{`},
		`{"$or":[]}`:               {"$or", "empty list"},
		`{"$or":{"a":1}}`:          {"$or", "an object"},
		`{"$and":[{}]}`:            {"$and", "an empty filter"},
		`{"$and":[1]}`:             {"$and", "a number in the list"},
		`{"$or":[{"a":1},[{}]]}`:   {"$or", "a list in the list"},
		`{"a":1,"a":2}`:            {"valid JSON", "duplicate"},
		`{"a":{"$gt":1,"$gt":2}}`:  {"valid JSON", "duplicate"},
		`{"a":1}{"b":2}`:           {"more after its end"},
		`{"a":1} x`:                {"valid JSON"},
		`{"a":1`:                   {"valid JSON", "EOF"},
		``:                         {"valid JSON"},
		`{"a":NaN}`:                {"valid JSON"},
		"{\"a\":\"\xff\"}":         {"valid JSON", "UTF-8"},
	} {
		e, err := Parse([]byte(in))
		require.Nil(t, e, in)
		require.True(t, errs.Is(err, errs.Invalid), "%s: %v", in, err)
		for _, w := range want {
			require.ErrorContains(t, err, w, in)
		}
	}
}

func list(n int, item func(i int) string) string {
	items := make([]string, n)
	for i := range items {
		items[i] = item(i)
	}
	return "[" + strings.Join(items, ",") + "]"
}

func TestLimits(t *testing.T) {
	nested := func(n int, inner string) string {
		return strings.Repeat(`{"$or":[`, n) + inner + strings.Repeat(`]}`, n)
	}
	alternating := func(n int) string { // each level keeps two kids
		s := `{"x":1}`
		for i := range n {
			s = fmt.Sprintf(`{"%s":[{"k%d":1},%s]}`, []string{"$and", "$or"}[i%2], i, s)
		}
		return s
	}
	in := func(op string, n int) string {
		return fmt.Sprintf(`{"a":{"%s":%s}}`, op, list(n, func(i int) string { return fmt.Sprint(i) }))
	}
	conditions := func(n int) string {
		return `{"$or":` + list(n, func(i int) string { return fmt.Sprintf(`{"k%d":1}`, i) }) + `}`
	}
	for _, ok := range []string{nested(MaxDepth, `{"a":1}`), alternating(MaxDepth), in("$in", MaxValues), in("$nin", MaxValues), conditions(MaxConditions)} {
		e := mustParse(t, ok)
		require.Equal(t, e, mustParse(t, e.String()))
	}
	for _, c := range [][2]string{
		{nested(MaxDepth+1, `{"a":1}`), "more than 16 deep"},
		{alternating(MaxDepth + 1), "more than 16 deep"},
		{nested(MaxDepth, `{"a":1,"b":2}`), ""},
		{strings.Repeat(`{"$or":[{"a":1},{"b":2,"$or":[`, 9) + `{"c":1},{"d":1}` + strings.Repeat(`]}]}`, 9), "more than 16 deep"},
		{nested(100_000, `{"a":1}`), "more than 16 deep"},
		{strings.Repeat(`{"a":`, 100_000), "not an operator"},
		{in("$in", MaxValues+1), "10000"},
		{in("$nin", MaxValues+1), "10000"},
		{conditions(MaxConditions + 1), "1000 conditions"},
	} {
		_, err := Parse([]byte(c[0]))
		if c[1] == "" {
			require.NoError(t, err)
			continue
		}
		require.True(t, errs.Is(err, errs.Invalid))
		require.ErrorContains(t, err, c[1])
		require.Less(t, len(err.Error()), 500)
	}
}

func TestUnmarshalInsideABody(t *testing.T) {
	var body struct {
		Filter *Expr `json:"filter"`
		K      int   `json:"topK"`
	}
	require.NoError(t, json.Unmarshal([]byte(`{"filter":{"a":{"$gt":1}},"topK":3}`), &body))
	require.Equal(t, `{"a":{"$gt":1}}`, body.Filter.String())
	require.Equal(t, 3, body.K)
	b, err := json.Marshal(body)
	require.NoError(t, err)
	require.Equal(t, `{"filter":{"a":{"$gt":1}},"topK":3}`, string(b))

	require.NoError(t, json.Unmarshal([]byte(`{"filter":{}}`), &body))
	require.True(t, body.Filter.IsEmpty())
	require.True(t, errs.Is(json.Unmarshal([]byte(`{"filter":{"a":[]}}`), &body), errs.Invalid))
}

// TestKeepsReadErrors: a body cut off by its size limit must not look like a bad filter.
func TestKeepsReadErrors(t *testing.T) {
	broken := errors.New("body too large")
	whole := `{"$and":[{"a":{"$in":["x",1]}},{"b":{"$gt":1,"$exists":true}},{"c":1}]}`
	for n := range len(whole) {
		var e Expr
		r := io.MultiReader(strings.NewReader(whole[:n]), iotest.ErrReader(broken))
		err := e.UnmarshalJSONFrom(jsontext.NewDecoder(r))
		require.ErrorIs(t, err, broken, whole[:n])
		require.False(t, errs.Is(err, errs.Invalid))
	}
}

func TestCanonicalFormIsStable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		e := drawFilter(t)
		require.Equal(t, e, mustParse(t, e.String()))
	})
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"a":1}`, `{"a":{"$gt":-0,"$lte":1e21},"b":{"$in":["x",true,1e-7]}}`,
		`{"$or":[{"$and":[{"a":{"$ne":"x"}},{"b":{"$nin":[]}}]},{"c":{"$exists":false}}]}`,
		`{"a":{"$gte":2,"$lt":1}}`, `{"a":["x"]}`, `{"$and":[{}]}`,
	} {
		f.Add([]byte(s), []byte(`{"a":1,"b":["x"],"c":"x"}`))
	}
	f.Fuzz(func(t *testing.T, text, record []byte) {
		e, err := Parse(text)
		if err != nil {
			if !errs.Is(err, errs.Invalid) || e != nil {
				t.Fatalf("%q: %v of kind %v", text, err, errs.KindOf(err))
			}
			return
		}
		again, err := Parse([]byte(e.String()))
		if err != nil || again.String() != e.String() {
			t.Fatalf("%q prints as %s, which parses to %s, %v", text, e, again, err)
		}
		m, err := parseMap(record)
		if err != nil {
			return
		}
		x := NewIndex()
		x.Add(7, m)
		want := e.Match(m)
		set, exact := x.Eval(e)
		if again.Match(m) != want || exact && set.Contains(7) != want || want && !set.Contains(7) {
			t.Fatalf("%s over %s: Match %v, parsed again %v, Eval %v exact %v", e, record, want, again.Match(m), set, exact)
		}
	})
}
