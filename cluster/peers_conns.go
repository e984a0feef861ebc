package cluster

import (
	"net"
	"sync"
)

// connSet are connections that end together.
type connSet struct {
	mu     sync.Mutex
	max    int // 0: any number
	closed bool
	conns  map[*setConn]struct{}
}

// setConn is a connection of a connSet, which it leaves when it is closed.
type setConn struct {
	net.Conn
	set *connSet
}

// add makes conn one of the set. It is false, and conn is closed, when the set is full or closed.
func (s *connSet) add(conn net.Conn) (*setConn, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.max > 0 && len(s.conns) >= s.max {
		conn.Close()
		return nil, false
	}
	if s.conns == nil {
		s.conns = map[*setConn]struct{}{}
	}
	c := &setConn{conn, s}
	s.conns[c] = struct{}{}
	return c, true
}

func (s *connSet) closeAll() {
	s.mu.Lock()
	s.closed = true
	conns := s.conns
	s.conns = nil
	s.mu.Unlock()
	for c := range conns {
		c.Conn.Close()
	}
}

// Close implements net.Conn.
func (c *setConn) Close() error {
	c.set.mu.Lock()
	delete(c.set.conns, c)
	c.set.mu.Unlock()
	return c.Conn.Close()
}
