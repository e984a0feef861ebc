package cluster

import (
	"math"
	"slices"
	"time"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// runState is how a run stands. Numbers are on disk: append only.
type runState uint8

const (
	runRunning runState = iota + 1
	runDone
	runAborted
)

var runStates = [...]string{"unknown", "running", "done", "aborted"}

func (r runState) String() string {
	if int(r) < len(runStates) {
		return runStates[r]
	}
	return runStates[0]
}

// run is one time that tenants are moved, to spread what shards carry or to follow the ring. Which of its moves are done follows
// from where the tenants live; they are forgotten when it is over.
type run struct {
	id       uint64
	state    runState
	by       string    // who asked for it
	windowed bool      // moves begin within the windows of the rules only
	moves    []runMove // beside those of all tenants that are to follow the ring
	homeward int       // how many these were when it began
	bytes    uint64    // that they copy, by estimate
	seconds  float64   // that they take, by estimate
	before   float64   // what the hottest shard had, in means
	began    int64     // when, in nanoseconds since 1970
	runEnd
}

// runMove takes a tenant from one shard to another; when it lives elsewhere by then, it is left alone.
type runMove struct {
	tenant   engine.TenantID
	from, to uint16
}

// runEnd is how a run ended.
type runEnd struct {
	ended  int64   // 0: it has not
	total  int     // moves that were planned
	moved  int     // of these, tenants that live at their target
	failed int     // that could not be moved
	after  float64 // what the hottest shard had then, in means; 0: unknown
	fault  string  // of the last move that failed
}

const (
	maxRuns     = 100  // that are remembered
	maxRunMoves = 1000 // of one run
	maxWindows  = 16
)

// BalanceRules say when and how tenants are moved to spread what shards carry. Zero numbers mean the defaults of withDefaults.
type BalanceRules struct {
	Auto     bool          // runs begin by themselves when a shard is hot
	Windows  []Window      // of automatic runs and of those that are to keep to them; none: at any time
	Parallel int           // moves that are under way at once
	Cooldown time.Duration // for which a tenant that was moved stays where it is; whole seconds
}

// Window is a part of each day, or of some, in UTC.
type Window struct {
	Days     uint8  // bit 0: Sunday; 0: all days
	From, To uint16 // minutes since midnight; From above To goes past midnight, and counts for the day when it begins
}

const (
	defaultParallel = 4
	maxParallel     = 64
	defaultCooldown = time.Hour
	maxCooldown     = 30 * 24 * time.Hour
	dayMinutes      = 24 * 60
)

func (r BalanceRules) withDefaults() BalanceRules {
	setDefault(&r.Parallel, defaultParallel)
	setDefault(&r.Cooldown, defaultCooldown)
	return r
}

func (r *BalanceRules) validate() error {
	if len(r.Windows) > maxWindows {
		return errs.New(errs.Invalid, "%d windows, at most %d are taken", len(r.Windows), maxWindows)
	}
	if r.Parallel < 0 || r.Parallel > maxParallel || r.Cooldown < 0 || r.Cooldown > maxCooldown {
		return errs.New(errs.Invalid, "%d moves at once and %s of rest: at most %d and %s", r.Parallel, r.Cooldown, maxParallel, maxCooldown)
	}
	for _, w := range r.Windows {
		if w.Days > 1<<7-1 || w.From >= dayMinutes || w.To > dayMinutes || w.From == w.To {
			return errs.New(errs.Invalid, "a window from minute %d to %d of a day of %d", w.From, w.To, dayMinutes)
		}
	}
	return nil
}

// open reports whether moves may begin at a time.
func (r *BalanceRules) open(at time.Time) bool {
	at = at.UTC()
	minute, today := uint16(at.Hour()*60+at.Minute()), at.Weekday()
	return len(r.Windows) == 0 || slices.ContainsFunc(r.Windows, func(w Window) bool {
		if w.From < w.To {
			return w.on(today) && minute >= w.From && minute < w.To
		}
		return w.on(today) && minute >= w.From || w.on((today+6)%7) && minute < w.To
	})
}

func (w *Window) on(day time.Weekday) bool { return w.Days == 0 || w.Days>>day&1 != 0 }

// running is the run that is under way; nil: there is none.
func (s *state) running() *run {
	if n := len(s.runs); n > 0 && s.runs[n-1].state == runRunning {
		return s.runs[n-1]
	}
	return nil
}

// The methods below execute commands on a copy that is not yet published.

func (s *state) executeRun(op metaOp, c *runCommand) error {
	switch op {
	case metaStartRun:
		return s.startRun(c.run)
	case metaEndRun:
		return s.endRun(&c.run)
	default: // metaSetBalance
		if err := c.balance.validate(); err != nil {
			return err
		}
		s.balance = c.balance
		return nil
	}
}

func (s *state) startRun(r run) error {
	if now := s.running(); now != nil {
		return errs.New(errs.AlreadyExists, "run %d is under way", now.id).WithHint("wait for its end, or end it: croft rebalance --abort")
	}
	if len(r.moves) > maxRunMoves {
		return errs.New(errs.Invalid, "%d moves, a run has at most %d", len(r.moves), maxRunMoves)
	}
	s.nextRun++
	r.id, r.state, r.runEnd = s.nextRun, runRunning, runEnd{total: len(r.moves) + r.homeward}
	s.runs = append(slices.Clone(s.runs), &r)
	s.runs = s.runs[max(0, len(s.runs)-maxRuns):]
	return nil
}

// endRun closes the books of a run. One that is over already changes nothing.
func (s *state) endRun(c *run) error {
	now := s.running()
	if now == nil || now.id != c.id {
		return errs.New(errs.FailedPrecondition, "run %d is not under way", c.id)
	}
	next := *now
	next.state, next.moves, next.runEnd = c.state, nil, c.runEnd
	if next.total = now.total; c.state != runDone {
		next.state = runAborted
	}
	s.runs = slices.Clone(s.runs)
	s.runs[len(s.runs)-1] = &next
	return nil
}

// checkRuns reports runs that are out of order.
func checkRuns(s *state) error {
	for i, r := range s.runs {
		if r.id > s.nextRun || i > 0 && s.runs[i-1].id >= r.id || r.state == runRunning && i < len(s.runs)-1 {
			return errs.New(errs.Corrupt, "run %d is out of order, the last one was %d", r.id, s.nextRun)
		}
	}
	return s.balance.validate()
}

// runCommand is the part of a metaCommand that is about runs.
type runCommand struct {
	run     run          // metaStartRun; metaEndRun: its id, state and end
	balance BalanceRules // metaSetBalance
}

func appendRunCommand(b []byte, op metaOp, c *runCommand) []byte {
	if op == metaSetBalance {
		return appendBalanceRules(b, &c.balance)
	}
	return appendRun(b, &c.run)
}

func readRunCommand(r *codec.Reader, op metaOp) (c runCommand) {
	if op == metaSetBalance {
		c.balance = readBalanceRules(r)
	} else {
		c.run = readRun(r)
	}
	return c
}

func appendRun(b []byte, r *run) []byte {
	b = append(codec.AppendUvarint(b, r.id), byte(r.state), boolByte(r.windowed))
	b = codec.AppendUvarint(codec.AppendString(b, r.by), uint64(len(r.moves)))
	for i := range r.moves {
		m := &r.moves[i]
		b = codec.AppendUvarint(codec.AppendUvarint(append(b, m.tenant[:]...), uint64(m.from)), uint64(m.to))
	}
	b = codec.AppendUvarint(codec.AppendUvarint(b, uint64(r.homeward)), r.bytes)
	for _, v := range []float64{r.seconds, r.before, r.after} {
		b = codec.AppendFloat64(b, v)
	}
	b = codec.AppendUint64(codec.AppendUint64(b, uint64(r.began)), uint64(r.ended))
	for _, v := range []int{r.total, r.moved, r.failed} {
		b = codec.AppendUvarint(b, uint64(v))
	}
	return codec.AppendString(b, r.fault)
}

func readRun(r *codec.Reader) run {
	n := run{id: r.Uvarint(), state: runState(r.Byte()), windowed: r.Byte() != 0, by: readMoveText(r)}
	for range r.Count(18) {
		var m runMove
		copy(m.tenant[:], r.Raw(len(m.tenant)))
		m.from, m.to = uint16(r.Uvarint()), uint16(r.Uvarint())
		n.moves = append(n.moves, m)
	}
	n.homeward, n.bytes = readInt(r), r.Uvarint()
	for _, p := range []*float64{&n.seconds, &n.before, &n.after} {
		if *p = r.Float64(); math.IsNaN(*p) {
			fail(r, "a figure that is none")
		}
	}
	n.began, n.ended = int64(r.Uint64()), int64(r.Uint64())
	n.total, n.moved, n.failed = readInt(r), readInt(r), readInt(r)
	n.fault = readMoveText(r)
	return n
}

func appendBalanceRules(b []byte, r *BalanceRules) []byte {
	b = append(b, boolByte(r.Auto))
	b = codec.AppendUvarint(codec.AppendUvarint(b, uint64(r.Parallel)), uint64(r.Cooldown/time.Second))
	b = codec.AppendUvarint(b, uint64(len(r.Windows)))
	for _, w := range r.Windows {
		b = codec.AppendUvarint(codec.AppendUvarint(append(b, w.Days), uint64(w.From)), uint64(w.To))
	}
	return b
}

func readBalanceRules(r *codec.Reader) BalanceRules {
	b := BalanceRules{Auto: r.Byte() != 0, Parallel: readInt(r), Cooldown: time.Duration(readInt(r)) * time.Second}
	for range r.Count(3) {
		b.Windows = append(b.Windows, Window{r.Byte(), uint16(r.Uvarint()), uint16(r.Uvarint())})
	}
	return b
}

// appendBalance encodes what version 7 of the snapshot added about the ring and runs.
func appendBalance(b []byte, s *state) []byte {
	b = appendUint16s(b, s.draining)
	b = appendBalanceRules(b, &s.balance)
	b = codec.AppendUvarint(codec.AppendUvarint(b, s.nextRun), uint64(len(s.runs)))
	for _, r := range s.runs {
		b = appendRun(b, r)
	}
	return b
}

func readBalance(r *codec.Reader, s *state) {
	s.draining = readUint16s(r)
	s.balance = readBalanceRules(r)
	s.nextRun = r.Uvarint()
	for range r.Count(50) {
		one := readRun(r)
		s.runs = append(s.runs, &one)
	}
}
