package cluster

import (
	"context"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// noNews are messages that raft writes again and again while all is told already.
var noNews = map[string]bool{
	// Whenever a group without a leader begins an election; a single voter does so at every start.
	"heartbeat timeout reached, starting election": true,
	// For each group, follower and attempt, while a node is silent: see links.
	"failed to heartbeat to":         true,
	"failed to appendEntries to":     true,
	"failed to contact":              true,
	"failed to make requestVote RPC": true,
}

// raftLogger returns an hclog.Logger that passes warnings and errors on to logger. Below that level raft writes
// several lines per group and election, too many with one group per shard.
func raftLogger(logger *slog.Logger, group string) hclog.Logger {
	l := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Warn})
	l.RegisterSink(slogSink{logger.With("group", group)})
	return l
}

// slogSink is the slog side of an hclog.InterceptLogger.
type slogSink struct{ logger *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s slogSink) Accept(_ string, level hclog.Level, msg string, args ...any) {
	if level < hclog.Warn {
		return
	}
	to := slog.LevelWarn
	switch {
	case noNews[msg]:
		to = slog.LevelDebug
	case level >= hclog.Error:
		to = slog.LevelError
	}
	s.logger.Log(context.Background(), to, msg, args...)
}
