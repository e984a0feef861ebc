package cluster

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// simLog is what happened in a simulation, in the bubble's time.
type simLog struct {
	began  time.Time
	broken chan struct{} // closed with the first violation

	mu         sync.Mutex
	events     []string
	operations []string // of clients, unless they went well
	violations []string
	counts     map[string]int
}

func newSimLog() *simLog {
	return &simLog{broken: make(chan struct{}), counts: map[string]int{}}
}

func (l *simLog) stamp(format string, args ...any) string {
	return fmt.Sprintf("%12v ", time.Since(l.began).Round(time.Millisecond)) + fmt.Sprintf(format, args...)
}

// note keeps an event.
func (l *simLog) note(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, l.stamp(format, args...))
}

// operation keeps how an operation of a client went wrong.
func (l *simLog) operation(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.operations = append(l.operations, l.stamp(format, args...))
}

// violate keeps a promise that was not. The kind says which.
func (l *simLog) violate(kind, format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.stamp("violation (%s): %s", kind, fmt.Sprintf(format, args...))
	l.events, l.violations = append(l.events, v), append(l.violations, v)
	if len(l.violations) == 1 {
		close(l.broken)
	}
}

func (l *simLog) isBroken() bool {
	select {
	case <-l.broken:
		return true
	default:
		return false
	}
}

func (l *simLog) count(what string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.counts[what]++
}

// String is the whole log, with the operations that went wrong if they are asked for.
func (l *simLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	lines := slices.Clone(l.events)
	if os.Getenv("CROFT_SIM_OPERATIONS") != "" {
		lines = append(append(lines, "operations without success:"), l.operations...)
	}
	return strings.Join(lines, "\n")
}

// simCounts are sums over simulations.
type simCounts map[string]int

func (c simCounts) add(o map[string]int) {
	for k, n := range o {
		c[k] += n
	}
}

func (c simCounts) String() string {
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(c)) {
		fmt.Fprintf(&b, "\n  %-60s %d", k, c[k])
	}
	return b.String()
}

// logger counts what a host's node tells, and shows it where CROFT_TEST_LOG is set.
func (l *simLog) logger(h *host) *slog.Logger {
	var w io.Writer = io.Discard
	if os.Getenv("CROFT_TEST_LOG") != "" {
		w = os.Stderr
	}
	return slog.New(&countingHandler{slog.NewTextHandler(w, nil), l}).With("host", h.index)
}

type countingHandler struct {
	slog.Handler
	log *simLog
}

// counted are the messages of nodes that say how much happened to them.
var counted = map[string]bool{
	"replica continues from a checkpoint": true, "restarting raft": true, "placing shard": true,
	"fetching a checkpoint failed, it goes on with the next offer":         true,
	"falling silent until the disk answers, so that other nodes take over": true,
}

func (h *countingHandler) Handle(ctx context.Context, r slog.Record) error {
	if counted[r.Message] {
		h.log.count("node: " + r.Message)
	}
	return h.Handler.Handle(ctx, r)
}

func (h *countingHandler) Enabled(ctx context.Context, level slog.Level) bool {
	return level >= slog.LevelInfo
}

func (h *countingHandler) WithAttrs(a []slog.Attr) slog.Handler {
	return &countingHandler{h.Handler.WithAttrs(a), h.log}
}

func (h *countingHandler) WithGroup(name string) slog.Handler {
	return &countingHandler{h.Handler.WithGroup(name), h.log}
}
