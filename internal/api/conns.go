package api

import (
	"net"
	"net/netip"
	"sync"
)

// connCaps bounds the connections open at once, over all listeners and per client address. One over a cap is closed
// as soon as it is accepted: refusing costs less than serving, and the backlog stays free for others.
type connCaps struct {
	total, perIP int
	metrics      *requestMetrics

	mu   sync.Mutex
	open int
	byIP map[netip.Addr]int
}

func newConnCaps(total, perIP int, m *requestMetrics) *connCaps {
	return &connCaps{total: total, perIP: perIP, metrics: m, byIP: map[netip.Addr]int{}}
}

// wrap returns l with the caps; its connections know the offset of the port that they came in on.
func (c *connCaps) wrap(l net.Listener, offset int) net.Listener {
	return &cappedListener{Listener: l, caps: c, offset: offset}
}

func (c *connCaps) take(ip netip.Addr) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.open >= c.total:
		c.metrics.refused.WithLabelValues("total").Inc()
		return false
	case c.byIP[ip] >= c.perIP:
		c.metrics.refused.WithLabelValues("address").Inc()
		return false
	}
	c.open++
	c.byIP[ip]++
	c.metrics.conns.Set(float64(c.open))
	return true
}

func (c *connCaps) give(ip netip.Addr) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open--
	if c.byIP[ip]--; c.byIP[ip] == 0 {
		delete(c.byIP, ip)
	}
	c.metrics.conns.Set(float64(c.open))
}

type cappedListener struct {
	net.Listener
	caps   *connCaps
	offset int
}

// Accept returns the next connection within the caps.
func (l *cappedListener) Accept() (net.Conn, error) {
	for {
		raw, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		ip := addrOf(raw)
		if l.caps.take(ip) {
			return &conn{Conn: raw, caps: l.caps, ip: ip, offset: l.offset}, nil
		}
		raw.Close()
	}
}

func addrOf(c net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(c.RemoteAddr().String())
	if err != nil {
		return netip.Addr{} // not TCP; all such count as one
	}
	return ap.Addr().Unmap()
}

// conn gives its place back once, however often it is closed.
type conn struct {
	net.Conn
	caps   *connCaps
	ip     netip.Addr
	offset int
	once   sync.Once
}

func (c *conn) Close() error {
	c.once.Do(func() { c.caps.give(c.ip) })
	return c.Conn.Close()
}
