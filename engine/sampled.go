package engine

import "sync/atomic"

// sampled is how many of the true nearest a sample of searches has found: searches that were made, made once more in the
// background beside an exact scan.
type sampled struct{ found, wanted atomic.Uint64 }

func (s *sampled) add(found, wanted int) {
	s.found.Add(uint64(found))
	s.wanted.Add(uint64(wanted))
}

// recall is the share found, 0 before anything was sampled.
func (s *sampled) recall() float64 {
	wanted := s.wanted.Load()
	if wanted == 0 {
		return 0
	}
	return float64(s.found.Load()) / float64(wanted)
}
