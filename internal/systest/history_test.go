package systest

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// sparse, record: as the API has them.
type sparse struct {
	Indices []uint32  `json:"indices"`
	Values  []float32 `json:"values"`
}

type record struct {
	ID       string         `json:"id"`
	Values   []float32      `json:"values"`
	Sparse   *sparse        `json:"sparseValues,omitempty"`
	Metadata map[string]any `json:"metadata,omitempty"`
}

// state is what a namespace holds. Records in it are never changed, only replaced.
type state map[string]record

// op is one write of a client.
type op struct {
	upsert []record
	update *record        // replaces values, merges metadata
	delete []string       // ids
	tag    string         // with set: update all with this tag; else delete them
	set    map[string]any // metadata
	all    bool           // delete all
}

// apply does to s what the server does to a namespace.
func (o op) apply(s state) {
	for _, r := range o.upsert {
		s[r.ID] = r
	}
	if u := o.update; u != nil {
		r := s[u.ID]
		s[u.ID] = record{ID: u.ID, Values: u.Values, Sparse: r.Sparse, Metadata: merged(r.Metadata, u.Metadata)}
	}
	for _, id := range o.delete {
		delete(s, id)
	}
	if o.all {
		clear(s)
	}
	if o.tag != "" {
		o.applyTagged(s)
	}
}

func (o op) applyTagged(s state) {
	for id, r := range s {
		switch {
		case r.Metadata["tag"] != o.tag:
		case o.set == nil:
			delete(s, id)
		default:
			r.Metadata = merged(r.Metadata, o.set)
			s[id] = r
		}
	}
}

func merged(a, b map[string]any) map[string]any {
	m := maps.Clone(a)
	maps.Copy(m, b)
	return m
}

// request is the op as a call of the API.
func (o op) request(ns string) (path string, body map[string]any) {
	body = map[string]any{"namespace": ns}
	switch {
	case o.upsert != nil:
		body["vectors"] = o.upsert
		return "/vectors/upsert", body
	case o.update != nil:
		body["id"], body["values"], body["setMetadata"] = o.update.ID, o.update.Values, o.update.Metadata
		return "/vectors/update", body
	case o.set != nil:
		body["filter"], body["setMetadata"] = map[string]any{"tag": o.tag}, o.set
		return "/vectors/update", body
	case o.tag != "":
		body["filter"] = map[string]any{"tag": o.tag}
	case o.all:
		body["deleteAll"] = true
	default:
		body["ids"] = o.delete
	}
	return "/vectors/delete", body
}

// history is what one client did to a namespace that is its alone, one op after the other, and so what may be there.
type history struct {
	mu      sync.Mutex
	settled state // after the ops that were acknowledged
	acked   int   // how many
	ops     []op  // all that were begun: at most one more than acked
}

func newHistory() *history { return &history{settled: state{}} }

func (h *history) begin(o op) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, o)
}

// acknowledge settles the op that was begun last.
func (h *history) acknowledge() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops[h.acked].apply(h.settled)
	h.acked++
}

// mark is a moment of a history.
type mark struct {
	settled state
	acked   int
}

func (h *history) mark() mark {
	h.mu.Lock()
	defer h.mu.Unlock()
	return mark{maps.Clone(h.settled), h.acked}
}

// since returns the ops that were begun up to now and not acknowledged at the mark.
func (h *history) since(m mark) []op {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.ops[m.acked:])
}

// resolve takes what was seen after a crash for settled: an op of unknown outcome that is there must stay, one that
// is not must not come back.
func (h *history) resolve(seen state) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.settled, h.acked, h.ops = maps.Clone(seen), 0, nil
}

// explain returns how many of the ops, applied one after the other and each as a whole, lead from one state to the
// one that was seen. The error tells what is wrong when no number does.
func explain(from state, ops []op, seen state) (int, error) {
	s := maps.Clone(from)
	for n := 0; ; n++ {
		if difference(s, seen) == "" {
			return n, nil
		}
		if n == len(ops) {
			break
		}
		ops[n].apply(s)
	}
	return 0, fmt.Errorf("no outcome of the %d unacknowledged ops explains what is there.\nagainst what is acknowledged: %s\nagainst all: %s",
		len(ops), difference(from, seen), difference(s, seen))
}

// difference says what is lost, changed and unknown in seen; "" for nothing.
func difference(want, seen state) string {
	var lost, changed, strange []string
	example := ""
	for id, r := range want {
		got, ok := seen[id]
		switch {
		case !ok:
			lost = append(lost, id)
		case !reflect.DeepEqual(r, got):
			changed = append(changed, id)
			example = fmt.Sprintf("; %s is %.500s, want %.500s", id, fmt.Sprint(got), fmt.Sprint(r))
		}
	}
	for id := range seen {
		if _, ok := want[id]; !ok {
			strange = append(strange, id)
		}
	}
	if len(lost)+len(changed)+len(strange) == 0 {
		return ""
	}
	return fmt.Sprintf("%d lost %s, %d changed %s, %d unknown %s%s",
		len(lost), few(lost), len(changed), few(changed), len(strange), few(strange), example)
}

func few(ids []string) string {
	slices.Sort(ids)
	return "[" + strings.Join(ids[:min(len(ids), 5)], " ") + "]"
}

// TestExplain sees that the judge of all these tests is neither blind nor unjust.
func TestExplain(t *testing.T) {
	rec := func(id string, v float32) record {
		return record{ID: id, Values: []float32{v}, Metadata: map[string]any{"w": float64(v), "tag": "t"}}
	}
	from := state{"a": rec("a", 1), "b": rec("b", 2)}
	ops := []op{
		{upsert: []record{rec("b", 3), rec("c", 4)}},
		{update: &record{ID: "a", Values: []float32{9}, Metadata: map[string]any{"w": 9.0}}},
		{delete: []string{"a", "nobody"}},
		{tag: "t", set: map[string]any{"seen": true}},
		{tag: "t"},
	}
	states := []state{maps.Clone(from)}
	for _, o := range ops {
		s := maps.Clone(states[len(states)-1])
		o.apply(s)
		states = append(states, s)
	}
	require.Equal(t, record{ID: "a", Values: []float32{9}, Metadata: map[string]any{"w": 9.0, "tag": "t"}}, states[2]["a"])
	require.Empty(t, states[5])
	for n, s := range states {
		got, err := explain(from, ops, s)
		require.NoError(t, err)
		require.Equal(t, n, got)
	}
	for name, seen := range map[string]state{
		"lost":          {"a": rec("a", 1)},
		"half a batch":  {"a": rec("a", 1), "b": rec("b", 3)},
		"changed":       {"a": rec("a", 1), "b": rec("b", 7)},
		"unknown":       {"a": rec("a", 1), "b": rec("b", 2), "z": rec("z", 1)},
		"out of order":  {"b": rec("b", 2)},
		"metadata gone": {"a": {ID: "a", Values: []float32{1}}, "b": rec("b", 2)},
	} {
		_, err := explain(from, ops, seen)
		require.Error(t, err, name)
	}
	_, err := explain(from, nil, states[1])
	require.Error(t, err, "an op that was never begun")
}
