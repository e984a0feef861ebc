package api

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

func TestPeekText(t *testing.T) {
	for body, want := range map[string]string{
		`{"namespace":"a","vector":[1,2]}`:                                  "a",
		` { "vector" : [1e3 , -2.5] , "topK":1,"namespace" : "ä" } `:        "ä",
		`{"filter":{"namespace":"wrong","x":[{"namespace":"w"}]},"topK":3}`: "",
		`{"vectors":[{"id":"namespace","values":[1]}],"namespace":"b"}`:     "b",
		`{}`:                           "",
		`{"a":true,"namespace":"c"`:    "c",
		`{"a":{"b":1},"namespace":""}`: "",
	} {
		got, sure := peekText([]byte(body), "namespace")
		require.True(t, sure, body)
		require.Equal(t, want, got, body)
	}
	for _, body := range []string{``, `[]`, `{"a`, `{"namespace":1}`, `{"namespace":"a\"b"}`, `{"a\u0062":1,"namespace":"x"}`, `{"a":"\"","namespace":"x"}`, `{"a":[1,`, `{"a"}`} {
		_, sure := peekText([]byte(body), "namespace")
		require.False(t, sure, body)
	}
}

// FuzzPeekText: of what is an object, it is told what a decoder tells, or that it is not sure.
func FuzzPeekText(f *testing.F) {
	f.Add([]byte(`{"namespace":"a","vector":[1,2]}`))
	f.Add([]byte(`{"filter":{"namespace":"wrong","x":[{"y":1}]},"topK":3, "namespace":"b"}`))
	f.Add([]byte(`{"a":-1.5e3,"b":null,"c":[[1],["]"]],"d":"}"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, sure := peekText(body, "namespace")
		var all map[string]json.RawMessage
		err := decode(body, func(r *reader) error { // refuses names that come twice
			v, err := r.dec.ReadValue()
			if err != nil {
				return err
			}
			return json.Unmarshal(v, &all)
		})
		if !sure || err != nil {
			return // what is not valid is refused either way
		}
		var want string
		if raw, ok := all["namespace"]; ok {
			require.NoError(t, json.Unmarshal(raw, &want))
		}
		require.Equal(t, want, got)
	})
}

// hushedNode refuses a namespace before requests are decoded.
type hushedNode struct {
	Node
	knocked []string
	told    []uint64
	refuse  bool
}

func (n *hushedNode) Quiet() bool { return !n.refuse && len(n.told) == 0 }

func (n *hushedNode) Knock(_ context.Context, ns string, request uint64, told *tenancy.Receipt) error {
	n.knocked = append(n.knocked, ns)
	if n.refuse {
		told.Limit = 9
		return errs.New(errs.RateLimited, "again").WithRetryAfter(3 * time.Second)
	}
	for _, told := range n.told {
		if told == request {
			n.knocked = append(n.knocked, "repeat")
		}
	}
	return nil
}

func (n *hushedNode) Told(request uint64, d time.Duration) {
	if d >= time.Second {
		n.told = append(n.told, request)
	}
}

func TestRefusedBeforeItIsDecoded(t *testing.T) {
	n := &hushedNode{Node: openNode(t)}
	c := &client{t, newHandler(t, n)}
	c.index("demo", `"dimension":1`)
	c.do("POST", "/query", `{"namespace":"x","vector":[1],"topK":1}`)
	require.Empty(t, n.knocked, "all is quiet")

	n.refuse = true
	a := c.do("POST", "/query", `{"namespace":"x","vector":[1],"topK":"not a number"}`)
	requireError(t, a, 429, "again")
	require.NotEmpty(t, a.header.Get("Retry-After"))
	require.Equal(t, "9", a.header.Get("RateLimit-Limit"))
	require.Len(t, n.told, 1)
	c.do("GET", "/vectors/list?namespace=y", "")
	c.do("POST", "/query", `{"vector":[1],"topK":1}`)
	c.ok("GET", "/indexes", "")
	require.Equal(t, []string{"x", "y", cluster.DefaultNamespace}, n.knocked)

	c.do("POST", "/query", `{"namespace":"somebody else's","vector":[1],"topK":3}`)
	n.refuse, n.knocked = false, nil
	c.do("POST", "/query", `{"namespace":"x","vector":[1],"topK":"not a number"}`)
	c.do("POST", "/query", `{"namespace":"x","vector":[1],"topK":2}`)
	require.Equal(t, []string{"x", "repeat", "x"}, n.knocked)
}
