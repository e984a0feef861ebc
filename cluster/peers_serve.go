package cluster

import (
	"bufio"
	"context"
	"net"
	"runtime/debug"
	"time"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/tracing"
)

const (
	// bodyPatience bounds the arrival of a body whose head is there.
	bodyPatience = 30 * time.Second
	// keptBody is the largest buffer that a connection keeps for the next call.
	keptBody = 256 << 10 // bytes
)

// callServer answers the calls of one connection, one after the other. One goroutine reads, another works: so it is seen
// when the caller goes away, and ctx of the handler ends.
type callServer struct {
	peers    *tcpPeers
	conn     net.Conn
	from     string
	stranger bool // of no cluster: may only join
	ctx      context.Context
	cancel   context.CancelFunc
	requests chan callRequest
	free     chan []byte // the buffer for the next request
	buf, out []byte      // the worker's: heads with short bodies, and what handlers append to
}

type callRequest struct {
	frame frame
	body  []byte
}

func newCallServer(p *tcpPeers, conn net.Conn, h *hello) *callServer {
	s := &callServer{
		peers: p, conn: conn, from: h.from, stranger: h.cluster == "",
		requests: make(chan callRequest), free: make(chan []byte, 1),
	}
	s.free <- nil
	s.ctx, s.cancel = context.WithCancel(p.ctx)
	return s
}

// run returns when the connection has ended and its last handler has returned.
func (s *callServer) run() {
	worker := make(chan struct{})
	go func() {
		defer close(worker)
		s.work()
	}()
	if err := s.read(); err != nil {
		s.peers.opts.logger.Debug("a peer's calls ended", "node", s.from, "err", err)
	}
	s.cancel()
	s.conn.Close()
	close(s.requests)
	<-worker
}

// read hands requests to the worker. While that is busy it waits for the next head, that is, for the end of the connection.
func (s *callServer) read() error {
	buffered := bufio.NewReaderSize(s.conn, readBuffer)
	r := frameReader{r: buffered}
	for {
		f, err := r.next()
		if err != nil {
			return err
		}
		if f.kind != frameRequest {
			return errUnasked
		}
		var buf []byte
		select {
		case buf = <-s.free:
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
		if buffered.Buffered() >= f.size {
			buf, err = r.body(&f, buf)
		} else {
			buf, err = s.awaitBody(&r, &f, buf)
		}
		if err != nil {
			return err
		}
		select {
		case s.requests <- callRequest{f, buf}:
		case <-s.ctx.Done():
			return s.ctx.Err()
		}
	}
}

func (s *callServer) awaitBody(r *frameReader, f *frame, buf []byte) ([]byte, error) {
	if err := s.conn.SetReadDeadline(time.Now().Add(bodyPatience)); err != nil {
		return nil, err
	}
	buf, err := r.body(f, buf)
	if err != nil {
		return nil, err
	}
	return buf, s.conn.SetReadDeadline(time.Time{})
}

// work answers requests until there are no more, or an answer cannot be sent.
func (s *callServer) work() {
	for q := range s.requests {
		if err := s.reply(&q); err != nil {
			s.cancel()
			s.conn.Close() // the reader ends, too
			return
		}
		s.free <- kept(q.body)
	}
}

// reply answers one request. An error is one of the link.
func (s *callServer) reply(q *callRequest) error {
	f := frame{kind: frameAnswer, method: q.frame.method, id: q.frame.id}
	body, err := s.handle(q)
	if err == nil && len(body) > maxFrame {
		err = errs.New(errs.TooLarge, "an answer of %d bytes, the limit is %d", len(body), maxFrame)
	}
	if err != nil {
		if s.ctx.Err() != nil {
			return s.ctx.Err() // it failed because somebody left: the caller shall not take that for an answer
		}
		f.kind = frameError
		body = appendError(nil, err)
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(writePatience)); err != nil {
		return err
	}
	s.buf = appendFrame(s.buf[:0], &f, nil, body)
	if _, err := writeFrame(s.ctx, s.conn, &s.buf, body); err != nil {
		return err
	}
	if len(body) > cap(s.out) && len(body) <= keptBody { // never body itself: a handler may have kept it
		s.out = make([]byte, 0, len(body)+len(body)/4)
	}
	return nil
}

// handle runs the handler. A panic is its caller's fault alone: it must not take the node down.
func (s *callServer) handle(q *callRequest) (body []byte, err error) {
	ctx := s.ctx
	if q.frame.patience > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, q.frame.patience)
		defer cancel()
	}
	ctx = tracing.Read(ctx, q.body[:q.frame.beside])
	defer func() {
		if p := recover(); p != nil {
			s.peers.opts.logger.ErrorContext(ctx, "a call panicked", "method", q.frame.method.String(), "tenant", tracing.Tenant(ctx), "panic", p, "stack", string(debug.Stack()))
			err = errs.New(errs.Internal, "node %s failed on method %d", s.peers.opts.node, q.frame.method)
		}
	}()
	if s.stranger && q.frame.method != methodJoin {
		return nil, errs.New(errs.PermissionDenied, "who has not joined the cluster may ask for nothing else")
	}
	h := s.peers.handlers[q.frame.method]
	if h == nil {
		return nil, errNoMethod(q.frame.method)
	}
	ctx, span := s.peers.opts.tracer.Serve(ctx, "serve")
	if span.On() {
		span.Text(spanMethod, q.frame.method.String())
		span.Text(spanNode, s.peers.opts.node)
		span.Text(spanPeer, s.from)
	}
	body, err = h(ctx, s.from, q.body[q.frame.beside:], s.out)
	span.End(err)
	return body, err
}

// kept is b for the next time, unless it is large.
func kept(b []byte) []byte {
	if cap(b) > keptBody {
		return nil
	}
	return b[:0]
}
