package cluster

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/hashicorp/raft"
	"golang.org/x/sync/errgroup"
)

const (
	// trimsAtOnce bounds the groups of a node that flush for a marker at the same time.
	trimsAtOnce = 2
	// trimRetry is the pause after a marker that could not be set.
	trimRetry = 5 * time.Second
)

// trimmer bounds the logs of a node in bytes, where raft would count entries: when a group has written more than
// retain bytes since its newest marker, it sets another one and lets raft delete all but about the last retain
// bytes. A log on disk thus stays between one and two times retain, and a segment more.
type trimmer struct {
	retain uint64
	groups func() []*group
	woken  chan struct{}
	logger *slog.Logger
}

func newTrimmer(retain int64, groups func() []*group, logger *slog.Logger) *trimmer {
	return &trimmer{retain: uint64(retain), groups: groups, woken: make(chan struct{}, 1), logger: logger}
}

// wake says that a log has grown. It never blocks.
func (t *trimmer) wake() {
	select {
	case t.woken <- struct{}{}:
	default:
	}
}

func (t *trimmer) run(ctx context.Context) {
	for {
		var retry <-chan time.Time
		if err := t.trimDue(ctx); err != nil && ctx.Err() == nil {
			t.logger.Warn("trimming a log failed", "err", err)
			retry = time.After(trimRetry)
		}
		select {
		case <-t.woken:
		case <-retry:
		case <-ctx.Done():
			return
		}
	}
}

// trimDue trims the groups that are due.
func (t *trimmer) trimDue(ctx context.Context) error {
	var g errgroup.Group
	g.SetLimit(trimsAtOnce)
	for _, group := range t.groups() {
		if ctx.Err() == nil && group.log.BytesAfter(group.marked.Load()) > t.retain {
			g.Go(func() error { return group.trim(t.retain) })
		}
	}
	return g.Wait()
}

// trim sets a marker and deletes all but about the last retain bytes before it.
func (g *group) trim(retain uint64) error {
	last, err := g.log.LastIndex()
	if err != nil {
		return err
	}
	trailing := last - min(last, g.log.Until(g.log.IndexBehind(retain)))
	err = g.reload(func(rc *raft.ReloadableConfig) { rc.TrailingLogs = trailing })
	if err != nil {
		return err
	}
	if err := g.raft().Snapshot().Error(); err != nil && !errors.Is(err, raft.ErrNothingNewToSnapshot) {
		return err
	}
	return g.readMarker()
}
