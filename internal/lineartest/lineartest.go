// Package lineartest owns the judgement of histories: what clients did to records and what they were answered, checked for an
// order in which a single copy of each record would have answered the same (linearizability, Herlihy & Wing 1990).
//
// It promises that a write without an answer may have taken effect at any time after it was sent, or never; and that a
// check that did not end in its time is told apart from one that passed. Tests of the cluster call it, in one process and with
// many. It never talks to a server.
package lineartest

import (
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/anishathalye/porcupine"
)

// History is what clients did, in the order of a clock. It may be used concurrently; a client does one thing at a time.
type History struct {
	now func() int64

	mu  sync.Mutex
	ops []porcupine.Operation
}

// New makes a history with a clock that never goes back; nil stands for the machine's.
func New(now func() int64) *History {
	if now == nil {
		begin := time.Now()
		now = func() int64 { return int64(time.Since(begin)) }
	}
	return &History{now: now}
}

// Absent is the value of a record that is not there.
const Absent = ""

// Outcome is how a write ended.
type Outcome int

// Outcomes of a write.
const (
	Unknown Outcome = iota // no answer, or one that says so
	Done
	Refused // it has surely had no effect
)

// operation is one call on one record.
type operation struct {
	key   string
	write bool
	value string // written; Absent deletes
}

// Write begins the write of a value to a record, or with Absent its deletion. The function that it returns ends it.
func (h *History) Write(client int, key, value string) (end func(Outcome)) {
	call := h.now()
	return func(o Outcome) {
		ends := h.now()
		if o == Refused {
			return
		}
		if o == Unknown {
			ends = math.MaxInt64 // it may come after everything else, where nobody sees it
		}
		h.add(porcupine.Operation{ClientId: client, Input: operation{key, true, value}, Call: call, Output: "", Return: ends})
	}
}

// Read begins the read of a record. The function that it returns ends it with what was read; one without an answer is
// not to be ended.
func (h *History) Read(client int, key string) (end func(value string)) {
	call := h.now()
	return func(value string) {
		h.add(porcupine.Operation{ClientId: client, Input: operation{key: key}, Call: call, Output: value, Return: h.now()})
	}
}

func (h *History) add(op porcupine.Operation) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops = append(h.ops, op)
}

// Len is the number of operations recorded.
func (h *History) Len() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.ops)
}

// model is a register per record.
var model = porcupine.Model{
	Partition: byKey,
	Init:      func() any { return Absent },
	Step: func(state, input, output any) (bool, any) {
		op := input.(operation)
		if op.write {
			return true, op.value
		}
		return state == output, state
	},
	DescribeOperation: func(input, output any) string {
		op := input.(operation)
		if op.write {
			return fmt.Sprintf("%s := %q", op.key, op.value)
		}
		return fmt.Sprintf("%s = %q", op.key, output)
	},
}

func byKey(history []porcupine.Operation) [][]porcupine.Operation {
	byKey := map[string][]porcupine.Operation{}
	var keys []string
	for _, op := range history {
		key := op.Input.(operation).key
		if byKey[key] == nil {
			keys = append(keys, key)
		}
		byKey[key] = append(byKey[key], op)
	}
	slices.Sort(keys)
	parts := make([][]porcupine.Operation, len(keys))
	for i, key := range keys {
		parts[i] = byKey[key]
	}
	return parts
}

// Check returns nil if the history is linearizable, and else an error that names the first record that is not, with what
// was done to it. A check that does not end within the timeout is an error as well. picture, if not "", is a file to which a
// page that shows the fault is written.
func (h *History) Check(timeout time.Duration, picture string) error {
	h.mu.Lock()
	ops := slices.Clone(h.ops)
	h.mu.Unlock()
	for _, part := range byKey(ops) {
		result, info := porcupine.CheckOperationsVerbose(model, part, timeout)
		if result == porcupine.Ok {
			continue
		}
		where := ""
		if picture != "" {
			where = h.draw(picture, info)
		}
		what := "is not linearizable"
		if result == porcupine.Unknown {
			what = fmt.Sprintf("was not judged in %v", timeout)
		}
		return fmt.Errorf("record %q %s%s:\n%s", part[0].Input.(operation).key, what, where, describe(part))
	}
	return nil
}

func (h *History) draw(path string, info porcupine.LinearizationInfo) string {
	f, err := os.Create(path)
	if err == nil {
		err = porcupine.Visualize(model, info, f)
		f.Close()
	}
	if err != nil {
		return fmt.Sprintf(" (not drawn: %v)", err)
	}
	return " (drawn in " + path + ")"
}

// describe lists the last operations on a record by the time of their call.
func describe(part []porcupine.Operation) string {
	const most = 200
	part = slices.Clone(part)
	slices.SortFunc(part, func(a, b porcupine.Operation) int { return int(min(max(a.Call-b.Call, -1), 1)) })
	var b strings.Builder
	for _, op := range part[max(0, len(part)-most):] {
		ends := "no answer"
		if op.Return != math.MaxInt64 {
			ends = fmt.Sprint(time.Duration(op.Return))
		}
		fmt.Fprintf(&b, "%v to %s client %d: %s\n", time.Duration(op.Call), ends, op.ClientId, model.DescribeOperation(op.Input, op.Output))
	}
	return b.String()
}
