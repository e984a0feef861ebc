package movemodel

// lossOrMore tells what is wrong with a copy: a record that it has and should not breaks MI-5, a request that it does not know of MI-12,
// and all else MI-4.
func lossOrMore(want, have content) string {
	for k, r := range have.records {
		if r.value != 0 && want.records[k].value == 0 {
			return "MI-5"
		}
	}
	if want.records == have.records && want.once != have.once {
		return "MI-12"
	}
	return "MI-4"
}

// goesBack checks a step for what must only grow.
func goesBack(s, t *state) string {
	if t.epoch < s.epoch {
		return "MI-2: the tenant's epoch goes back"
	}
	for x := range t.shards {
		if t.shards[x].epoch < s.shards[x].epoch {
			return "MI-2: a shard's epoch of the tenant goes back"
		}
	}
	if t.now.id == s.now.id && s.flips[s.now.id-1] > 0 && (t.phase < flipped || t.phase >= aborting) {
		return "MI-6: a move goes back after its flip"
	}
	return ""
}

// check returns what is broken in s, "" if nothing is.
func (m *model) check(s *state) string {
	for _, n := range s.flips {
		if n > 1 {
			return "MI-6: a move flips the home twice"
		}
	}
	if s.shards[0].standing == home && s.shards[1].standing == home {
		return "MI-1: the tenant is at home in two shards"
	}
	truth := s.truth(s.done, m.Requests)
	for x := range s.shards {
		h := &s.shards[x]
		switch {
		case h.standing == home && int(s.home) != x:
			return "MI-9: a shard takes itself for the home after the tenant has left"
		case h.standing == home && h.epoch != s.epoch:
			return "MI-2: the home has another epoch than the tenant"
		case (h.standing == home || h.standing == fenced && int(s.home) == x) && h.content != truth:
			return lossOrMore(truth, h.content) + ": the home does not have what was acknowledged"
		}
	}
	return m.checkPhase(s)
}

// checkPhase checks what a phase promises of the shards.
func (m *model) checkPhase(s *state) string {
	from, to := s.source(), s.target()
	gone := func(h *shard) bool { return h.standing == left && h.records == content{}.records && h.once == 0 }
	switch s.phase {
	case copying, tailing:
		if from.standing == fenced {
			return "MI-7: writes are held while the tenant is copied"
		}
	case settled:
		if to.standing != home {
			return "MI-6: the tenant is not at home where it has moved"
		}
	case collected:
		if to.standing != home || !gone(from) {
			return "MI-9: the source has something of the tenant after it was collected"
		}
	case aborted:
		if from.standing == fenced {
			return "MI-7: writes are held after the move was aborted"
		}
		if from.standing != home || !gone(to) {
			return "MI-9: the target has something of the tenant after the move was aborted"
		}
	}
	return ""
}
