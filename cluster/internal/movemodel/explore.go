package movemodel

import (
	"fmt"
	"slices"
)

// Result is what an exploration came to.
type Result struct {
	States, Steps int
	Depth         int // steps to the farthest state, by the shortest way
	Moved         int // states in which the newest move is done
	Aborted       int
	Broken        string   // the first broken promise by the number of steps, "" if all hold in all states
	Trace         []string // how it came about
}

// visit is how a state was reached first.
type visit struct {
	from  int32
	step  step
	depth int32
}

// exploration is a search in breadth.
type exploration struct {
	*model
	ids     map[state]int32
	visits  []visit
	helpful [][2]int32 // from, to
	ends    []int32    // states in which the newest move has ended
	Result
}

// Explore goes to all states of the protocol in a setting, or to the first in which a promise is broken.
func Explore(s Setting) (Result, error) {
	if len(s.Requests) > maxRequests || s.Moves > maxMoves || s.Attempts > maxAttempts {
		return Result{}, fmt.Errorf("setting %+v: at most %d requests, %d moves, %d attempts", s, maxRequests, maxMoves, maxAttempts)
	}
	e := &exploration{model: &model{Setting: s}, ids: map[state]int32{}}
	e.search()
	if e.Broken == "" {
		e.checkEnds()
	}
	e.States = len(e.visits)
	return e.Result, nil
}

func (e *exploration) search() {
	first := begin()
	frontier := []state{first}
	e.add(first, visit{from: -1})
	for len(frontier) > 0 {
		var next []state
		for i := range frontier {
			id := e.ids[frontier[i]]
			for _, edge := range e.steps(&frontier[i]) {
				e.Steps++
				to, isNew := e.add(edge.to, visit{id, edge.step, e.visits[id].depth + 1})
				if edge.helpful {
					e.helpful = append(e.helpful, [2]int32{id, to})
				}
				if edge.broken == "" && isNew {
					edge.broken = e.check(&edge.to)
					next = append(next, edge.to)
				}
				if edge.broken != "" {
					e.Broken = edge.broken
					e.Trace = append(e.trace(id), e.describe(edge.step))
					return
				}
			}
		}
		frontier = next
	}
}

// add gives the state its number.
func (e *exploration) add(s state, v visit) (id int32, isNew bool) {
	if id, ok := e.ids[s]; ok {
		return id, false
	}
	id = int32(len(e.visits))
	e.ids[s] = id
	e.visits = append(e.visits, v)
	e.Depth = max(e.Depth, int(v.depth))
	switch s.phase {
	case settled, collected:
		e.Moved++
	case aborted:
		e.Aborted++
	}
	if s.phase == collected || s.phase == aborted {
		e.ends = append(e.ends, id)
	}
	return id, true
}

// checkEnds sees to it that an end is reached from every state by what the world does by itself.
func (e *exploration) checkEnds() {
	into := make([][]int32, len(e.visits))
	for _, h := range e.helpful {
		into[h[1]] = append(into[h[1]], h[0])
	}
	can := make([]bool, len(e.visits))
	todo := slices.Clone(e.ends)
	for _, id := range todo {
		can[id] = true
	}
	for len(todo) > 0 {
		id := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, from := range into[id] {
			if !can[from] {
				can[from] = true
				todo = append(todo, from)
			}
		}
	}
	if stuck := slices.Index(can, false); stuck >= 0 {
		e.Broken = "MI-7: from here the move cannot end by itself"
		e.Trace = e.trace(int32(stuck))
	}
}

// trace tells the steps to a state.
func (e *exploration) trace(id int32) []string {
	var steps []string
	for ; e.visits[id].from >= 0; id = e.visits[id].from {
		steps = append(steps, e.describe(e.visits[id].step))
	}
	slices.Reverse(steps)
	return steps
}

// describe tells a step in words. The first move goes from shard A to shard B.
func (m *model) describe(st step) string {
	switch st.action {
	case write:
		r, verb := m.Requests[st.a], "put"
		if r.Delete {
			verb = "delete"
		}
		return fmt.Sprintf("shard %c: request %d, %s %c", 'A'+st.b, st.a+1, verb, 'a'+rune(r.Key))
	case ask:
		return fmt.Sprintf("shard %c: asks the metadata plane whether the tenant is at home, before it reads", 'A'+st.a)
	case answer:
		return fmt.Sprintf("shard %c: reads", 'A'+st.a)
	case cutOff:
		return fmt.Sprintf("shard %c: the leader is cut off", 'A'+st.a)
	case leaseEnds:
		return fmt.Sprintf("shard %c: the old leader's lease ends", 'A'+st.a)
	case advance:
		return "metadata: " + phaseNames[st.a]
	case again:
		return "metadata: a new attempt"
	case abort:
		return "metadata: abort"
	case lift:
		return "source: lifts the fence by itself"
	case plan:
		return "metadata: another move is planned"
	case tell:
		return "driver: " + [...]string{"tells the target of the source's digest", "proposes the flip"}[st.a]
	default:
		o, whom := order(st.a), "target"
		switch {
		case o == doFlip:
			whom = "metadata"
		case toSource>>o&1 == 1:
			whom = "source"
		}
		return fmt.Sprintf("%s: %s, ordered by attempt %d of move %d", whom, orderNames[o], st.b, st.c)
	}
}
