package api

import (
	"fmt"
	"strconv"

	"github.com/croftdb/croft/cluster"
)

// wrote tells a client under which log index its write was committed.
func (c *call) wrote(w cluster.Written) {
	if w.Repeated {
		c.w.Header().Set("X-Croft-Repeated", "true")
	}
	if w.LSN == 0 {
		return // nothing had to be written
	}
	lsn := strconv.FormatUint(w.LSN, 10)
	c.w.Header().Set("X-Pinecone-Lsn-Committed", lsn)
	c.w.Header().Set("X-Pinecone-Request-Lsn", lsn)
}

// read tells a client up to which log index the replica that answered has its writes: what was acknowledged up to there,
// through whatever node, was in sight of the read.
func (c *call) read() {
	if c.reading.Applied == 0 {
		return // a missing namespace has no shard
	}
	c.w.Header().Set("X-Pinecone-Max-Indexed-Lsn", strconv.FormatUint(c.reading.Applied, 10))
}

// readConsistency takes in how fresh a read's answer must be.
func (c *call) readConsistency() (err error) {
	c.reading.Consistency, err = cluster.ParseConsistency(c.r.Header.Get("X-Croft-Consistency"))
	if err != nil {
		return fmt.Errorf("header X-Croft-Consistency: %w", err)
	}
	return nil
}

// tellStaleness says how old an answer of any replica may be.
func (c *call) tellStaleness() {
	s := &c.reading.Staleness
	if c.reading.Consistency != cluster.Any || s.Applied == 0 {
		return
	}
	age := "unknown"
	if s.Age >= 0 {
		age = strconv.FormatFloat(s.Age.Seconds(), 'f', 3, 64)
	}
	c.w.Header().Set("X-Croft-Staleness", fmt.Sprintf("applied=%d, behind=%d, age=%s", s.Applied, s.Behind, age))
}
