package api

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
)

// IndexPorts is how many indexes get a port of their own: P+1 to P+40.
const IndexPorts = 40

// ServerOptions bound the connections of a Server.
type ServerOptions struct {
	Listen         string        // host:port of the client port; ":0" takes any
	IndexPorts     int           // per-index ports after it; 0: 40 on a loopback address, else none; negative: none
	MaxConns       int           // open at once, over all ports; 0: 10,000
	MaxConnsPerIP  int           // of them from one address; 0: 1,000
	HeaderTimeout  time.Duration // 0: 5 s
	WriteTimeout   time.Duration // from the header's end to the answer's; 0: 75 s, more than the longest deadline of a route
	IdleTimeout    time.Duration // between requests; 0: 120 s
	MaxHeaderBytes int           // 0: 16 KiB; it bounds the ids in a fetch's address, too
}

func (o *ServerOptions) ensureDefaults() {
	setDefault(&o.MaxConns, 10_000)
	setDefault(&o.MaxConnsPerIP, 1_000)
	setDefault(&o.HeaderTimeout, 5*time.Second)
	setDefault(&o.WriteTimeout, 75*time.Second)
	setDefault(&o.IdleTimeout, 2*time.Minute)
	setDefault(&o.MaxHeaderBytes, 16<<10)
}

// NewHTTPServer returns a server for h with every timeout and limit set, speaking HTTP/1.1 and HTTP/2 without TLS.
// Body rates are h's own (Limits.BodyRate). Listeners should be capped by a Server.
func NewHTTPServer(h *Handler, opts ServerOptions) *http.Server {
	opts.ensureDefaults()
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: opts.HeaderTimeout,
		WriteTimeout:      opts.WriteTimeout,
		IdleTimeout:       opts.IdleTimeout,
		MaxHeaderBytes:    opts.MaxHeaderBytes,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: 100, PingTimeout: 15 * time.Second, SendPingTimeout: 30 * time.Second},
		ConnContext:       portOfConn,
		ErrorLog:          slog.NewLogLogger(h.opts.Logger.Handler(), slog.LevelDebug),

		DisableGeneralOptionsHandler: true, // it would answer OPTIONS * without request id
	}
}

// portOfConn notes which per-index port a connection came in on.
func portOfConn(ctx context.Context, c net.Conn) context.Context {
	if own, ok := c.(*conn); ok && own.offset > 0 {
		return withPort(ctx, own.offset)
	}
	return ctx
}

// Server serves a Handler on the client port and on one port per index, which it opens and closes as indexes come and
// go. It owns one goroutine per listener; Close and Shutdown end them.
type Server struct {
	h       *Handler
	http    *http.Server
	opts    ServerOptions
	caps    *connCaps
	main    net.Listener
	addr    netip.AddrPort
	stop    func()
	serving sync.WaitGroup

	mu     sync.Mutex
	open   map[int]net.Listener // per-index ports by offset
	closed bool
}

// Listen opens the client port and the ports of all indexes; Serve answers on them. A per-index port that is taken by
// another program is left out with a warning: its index is then reached by path, as its host says.
func Listen(h *Handler, opts ServerOptions) (*Server, error) {
	opts.ensureDefaults()
	l, err := net.Listen("tcp", opts.Listen)
	if err != nil {
		return nil, errs.Wrap(errs.Unavailable, err, "open the client port")
	}
	addr := l.Addr().(*net.TCPAddr).AddrPort()
	if opts.IndexPorts == 0 && addr.Addr().IsLoopback() {
		opts.IndexPorts = IndexPorts
	}
	s := &Server{
		h: h, http: NewHTTPServer(h, opts), opts: opts, addr: addr,
		caps: newConnCaps(opts.MaxConns, opts.MaxConnsPerIP, h.metrics), open: map[int]net.Listener{},
	}
	s.main = s.caps.wrap(l, 0)
	if opts.IndexPorts > 0 {
		s.stop = h.node.WatchIndexes(s.follow)
	}
	return s, nil
}

// Addr is the address of the client port.
func (s *Server) Addr() net.Addr { return s.main.Addr() }

// Serve answers on the client port until Shutdown or Close, which make it return nil.
func (s *Server) Serve() error {
	if err := s.http.Serve(s.main); !errors.Is(err, http.ErrServerClosed) {
		return errs.Wrap(errs.Internal, err, "serve the client port")
	}
	return nil
}

// Shutdown takes no new connections, waits for requests under way until ctx ends, then cuts what is left.
func (s *Server) Shutdown(ctx context.Context) error {
	s.stopFollowing()
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	return s.finish(err)
}

// Close cuts everything at once.
func (s *Server) Close() error {
	s.stopFollowing()
	return s.finish(s.http.Close())
}

func (s *Server) stopFollowing() {
	s.mu.Lock()
	stop := s.stop
	s.stop, s.closed = nil, true
	s.mu.Unlock()
	if stop != nil {
		stop()
	}
}

// finish closes listeners that the HTTP server has not been told of yet, and waits for the others.
func (s *Server) finish(err error) error {
	s.main.Close()
	s.mu.Lock()
	for offset, l := range s.open {
		l.Close()
		s.h.advert.clearPort(offset)
	}
	clear(s.open)
	s.mu.Unlock()
	s.serving.Wait()
	return err
}

// follow opens the ports of indexes that are there and closes those of indexes that are gone. Ports that could not
// be opened are tried again at each change.
func (s *Server) follow(all []cluster.Index) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return
	}
	wanted := map[int]bool{}
	for _, ix := range all {
		if ix.Port >= 1 && ix.Port <= s.opts.IndexPorts {
			wanted[ix.Port] = true
		}
	}
	for offset, l := range s.open {
		if !wanted[offset] {
			l.Close()
			delete(s.open, offset)
			s.h.advert.clearPort(offset)
		}
	}
	for offset := range wanted {
		if s.open[offset] == nil {
			s.openLocked(offset)
		}
	}
}

func (s *Server) openLocked(offset int) {
	addr := netip.AddrPortFrom(s.addr.Addr(), s.addr.Port()+uint16(offset))
	raw, err := net.Listen("tcp", addr.String())
	if err != nil {
		s.h.opts.Logger.Warn("an index's own port is not free, it is served by path alone", "addr", addr, "err", err)
		return
	}
	l := s.caps.wrap(raw, offset)
	s.open[offset] = l
	s.h.advert.setPort(offset, addr)
	s.serving.Add(1)
	go func() {
		defer s.serving.Done()
		_ = s.http.Serve(l) // returns when the port is closed, with its index or with the server
	}()
}
