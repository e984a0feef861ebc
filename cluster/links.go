package cluster

import (
	"errors"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// links counts what passes between this node and each of the others, and tells when one falls silent and when it is back.
// raft would tell of each heartbeat that failed, of each group.
type links struct {
	known  func(node string) bool // others are counted together, so that nobody makes up names
	after  time.Duration          // of silence, when a node that does not answer is told of
	logger *slog.Logger
	nodes  sync.Map // node id → *linkCounts
}

// unknownPeer is what nodes are counted as that are no members: those that ask to be let in.
const unknownPeer = "unknown"

// linkCounts is what passed between two nodes since this one started.
type linkCounts struct {
	sent, received     atomic.Uint64 // bytes
	calls, failedCalls atomic.Uint64 // to the node; failed: it was not reached, or has not answered
	raft, failedRaft   atomic.Uint64 // entries and heartbeats sent to it
	answered           atomic.Int64  // when raft was last answered, in nanoseconds since 1970
	silent             atomic.Bool   // it was said that it does not answer
}

func newLinks(known func(node string) bool, after time.Duration, logger *slog.Logger) *links {
	return &links{known: known, after: after, logger: logger}
}

// of returns what is counted of a node.
func (l *links) of(node string) *linkCounts {
	if l == nil {
		return new(linkCounts)
	}
	if v, ok := l.nodes.Load(node); ok {
		return v.(*linkCounts)
	}
	if !l.known(node) {
		node = unknownPeer
	}
	fresh := new(linkCounts)
	fresh.answered.Store(time.Now().UnixNano())
	v, _ := l.nodes.LoadOrStore(node, fresh)
	return v.(*linkCounts)
}

// called notes a call to a node.
func (k *linkCounts) called(failed bool) {
	k.calls.Add(1)
	if failed {
		k.failedCalls.Add(1)
	}
}

// raftSent notes that raft has sent something to a node. One group's failure is no news while others are answered.
func (l *links) raftSent(node string, err error) {
	if l == nil || errors.Is(err, errQuiet) {
		return // nothing was sent
	}
	k := l.of(node)
	k.raft.Add(1)
	now := time.Now()
	before := time.Unix(0, k.answered.Load())
	if err == nil {
		k.answered.Store(now.UnixNano())
		if k.silent.Load() && k.silent.CompareAndSwap(true, false) {
			l.logger.Warn("node answers again", "node", node, "after", now.Sub(before).Round(time.Millisecond))
		}
		return
	}
	k.failedRaft.Add(1)
	if now.Sub(before) > l.after && k.silent.CompareAndSwap(false, true) {
		l.logger.Error("node does not answer", "node", node, "for", now.Sub(before).Round(time.Millisecond), "err", err)
	}
}

// count counts what passes through a connection to a node.
func (l *links) count(conn net.Conn, node string) net.Conn {
	if l == nil {
		return conn
	}
	return countedConn{conn, l.of(node)}
}

// countedConn counts what passes through a connection.
type countedConn struct {
	net.Conn
	link *linkCounts
}

// Read implements net.Conn.
func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.link.received.Add(uint64(n))
	return n, err
}

// Write implements net.Conn.
func (c countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.link.sent.Add(uint64(n))
	return n, err
}
