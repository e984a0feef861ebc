package api

import (
	"log/slog"
	"sync"
	"time"
)

// slowLog tells of slow requests, at most one a second; the next line says how many were left out.
type slowLog struct {
	threshold time.Duration
	logger    *slog.Logger

	mu      sync.Mutex
	last    time.Time
	omitted int
}

func (s *slowLog) note(c *call, status int) {
	took := time.Since(c.start)
	if s.threshold < 0 || took < s.threshold {
		return
	}
	omitted, ok := s.admit(c.start.Add(took))
	if !ok {
		return
	}
	s.logger.WarnContext(c.r.Context(), "slow request", "op", c.op, "code", status, "duration", took, "request", c.id,
		"index", c.ix.Name, "tenant", clip(c.namespace), "actor", c.principal.String(), "omitted", omitted)
}

// admit reports whether a line may be written now, and how many were not since the last.
func (s *slowLog) admit(now time.Time) (omitted int, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if now.Sub(s.last) < time.Second {
		s.omitted++
		return 0, false
	}
	omitted, s.omitted, s.last = s.omitted, 0, now
	return omitted, true
}
