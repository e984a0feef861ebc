package audit

import (
	"errors"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/croftdb/croft/internal/vfs"
)

// Options bound a Trail.
type Options struct {
	MaxBytes int64         // on disk, a quarter of them for refusals; 0: 256 MiB
	MaxAge   time.Duration // files whose events are all older are removed; 0: 400 days, negative: never
}

// EnsureDefaults fills in what is not set.
func (o *Options) EnsureDefaults() {
	if o.MaxBytes == 0 {
		o.MaxBytes = 256 << 20
	}
	if o.MaxAge == 0 {
		o.MaxAge = 400 * 24 * time.Hour
	}
}

// Trail is a node's audit log: a chain of what was done, and one of what was refused, apart, so that a flood of refusals takes no
// room of the acts.
type Trail struct {
	node    string
	acts    *Log
	refused *Log
	logger  *slog.Logger

	mu     sync.Mutex
	seen   map[refusal]*repeats
	timer  *time.Timer // to write them; nil while there are none
	closed bool
	writes sync.WaitGroup
}

// refusal is what makes refusals the same.
type refusal struct{ actor, tenant, from, action, result string }

// repeats are refusals of one kind.
type repeats struct {
	event Event     // the first that is not written yet, with the number of all such
	since time.Time // the last one was written
}

const (
	writePause  = time.Second // before refusals are written, and between two times
	repeatPause = time.Minute // between two events of the same kind
	maxKinds    = 256         // of refusals told apart within repeatPause
)

// Open returns the audit log of a node in a directory.
func Open(fsys vfs.FS, dir, node string, o Options, logger *slog.Logger) (*Trail, error) {
	o.EnsureDefaults()
	t := &Trail{node: node, logger: logger, seen: map[refusal]*repeats{}}
	var err error
	if t.acts, err = OpenLog(LogOptions{fsys, filepath.Join(dir, "acts"), o.MaxBytes / 4 * 3, o.MaxAge, logger}); err != nil {
		return nil, err
	}
	t.refused, err = OpenLog(LogOptions{fsys, filepath.Join(dir, "refused"), o.MaxBytes / 4, o.MaxAge, logger})
	return t, err
}

// Begin writes down what somebody is about to do, and returns the number to Record its end with. Until that is there the act is shown
// with the result Begun, so that a crash in the middle of it leaves its mark. It is on disk when Begin returns nil; with an error it
// may be yet, and the number is good all the same.
func (t *Trail) Begin(e Event) (number uint64, err error) {
	e.Refused, e.Result = false, Begun
	begun := []Event{e}
	err = t.acts.Append(begun...)
	return begun[0].Seq, err
}

// Record writes down what somebody has done, or with void that nothing came of it, which leaves no trace in answers. begun is what Begin
// returned, 0 without it. It is on disk when Record returns nil.
func (t *Trail) Record(e Event, begun uint64, void bool) error {
	e.Refused, e.ends, e.void = false, begun, void
	return t.acts.Append(e)
}

// Refuse notes that somebody was refused. It waits for no disk: refusals are written within a second or so, those of one kind
// once in a minute.
func (t *Trail) Refuse(e Event) {
	e.Refused, e.Count = true, 1
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return
	}
	kind := refusal{e.Actor, e.Tenant, e.From, e.Action, e.Result}
	if _, known := t.seen[kind]; !known && len(t.seen) >= maxKinds {
		kind = refusal{}
		e = Event{At: e.At, Actor: "many", Action: "many", Result: e.Result, Refused: true, Count: 1}
	}
	r := t.seen[kind]
	switch {
	case r == nil:
		t.seen[kind] = &repeats{event: e}
	case r.event.Count == 0:
		r.event = e
	default:
		r.event.Count++
		r.event.Last = e.At
	}
	if t.timer == nil {
		t.timer = time.AfterFunc(writePause, t.tick)
	}
}

// tick writes the refusals that are due, and comes again as long as there are any to remember.
func (t *Trail) tick() {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return
	}
	t.writes.Add(1)
	defer t.writes.Done()
	due := t.dueLocked(time.Now(), false)
	t.mu.Unlock()
	t.write(due)
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.timer = nil; len(t.seen) > 0 && !t.closed {
		t.timer = time.AfterFunc(writePause, t.tick)
	}
}

// dueLocked takes out what is to be written now, oldest first, and forgets kinds that have become rare.
func (t *Trail) dueLocked(now time.Time, all bool) (due []Event) {
	for kind, r := range t.seen {
		switch {
		case !all && !r.since.IsZero() && now.Sub(r.since) < repeatPause:
		case r.event.Count == 0:
			delete(t.seen, kind)
		default:
			due = append(due, r.event)
			r.event.Count, r.since = 0, now
		}
	}
	slices.SortFunc(due, func(a, b Event) int { return a.At.Compare(b.At) })
	return due
}

func (t *Trail) write(due []Event) {
	if len(due) == 0 {
		return
	}
	if err := t.refused.Append(due...); err != nil {
		t.logger.Error("refusals could not be written down", "events", len(due), "err", err)
	}
}

// Find returns the events of this node that are looked for, in the order of answers.
func (t *Trail) Find(q *Query) ([]Event, error) {
	var found []Event
	for _, l := range []*Log{t.acts, t.refused} {
		if q.Refused != nil && *q.Refused != (l == t.refused) {
			continue
		}
		more, err := l.Find(t.node, q)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	return Merge(q.Limit, found), nil
}

// Merge puts events of several sources into the order of answers.
func Merge(limit int, sources ...[]Event) []Event {
	all := slices.Concat(sources...)
	slices.SortFunc(all, func(a, b Event) int { return a.Compare(&b) })
	return all[:min(len(all), limit)]
}

// Verify checks both chains.
func (t *Trail) Verify() ([]Report, error) {
	acts, err := t.acts.Verify()
	if err != nil {
		return nil, err
	}
	refused, err := t.refused.Verify()
	if err != nil {
		return nil, err
	}
	acts.Node, acts.Chain, refused.Node, refused.Chain = t.node, "acts", t.node, "refusals"
	return []Report{acts, refused}, nil
}

// Close writes what is left.
func (t *Trail) Close() error {
	t.mu.Lock()
	if t.timer != nil {
		t.timer.Stop()
	}
	wasClosed := t.closed
	t.closed = true
	due := t.dueLocked(time.Now(), true)
	t.mu.Unlock()
	if wasClosed {
		return nil
	}
	t.writes.Wait()
	t.write(due)
	return errors.Join(t.acts.Close(), t.refused.Close())
}
