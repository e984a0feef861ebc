package certs

import (
	"crypto/tls"
	"crypto/x509"
	"io/fs"
	"log/slog"
	"os"
	"sync"

	"github.com/croftdb/croft/internal/errs"
)

// Files are the paths of a node's certificate, its key, and the certificate of the cluster's authority, all PEM. The last may
// hold several authorities, which is how one is replaced by the next without a pause.
type Files struct {
	Cert, Key, CA string
}

// Source makes TLS configurations from files. Before each handshake it looks whether the files have changed, which costs
// three stat calls; files that cannot be used leave those before in force.
type Source struct {
	files    Files
	protocol string // ALPN
	logger   *slog.Logger

	mu   sync.Mutex
	seen [3]fs.FileInfo // of what was read last, usable or not
	now  *material
}

type material struct {
	cert tls.Certificate
	cas  *x509.CertPool
}

// Open reads the files. protocol is what both ends must name in ALPN. Invalid: they cannot be used.
func Open(f Files, protocol string, logger *slog.Logger) (*Source, error) {
	s := &Source{files: f, protocol: protocol, logger: logger}
	seen, err := s.look()
	if err != nil {
		return nil, errs.New(errs.Invalid, "read the certificates: %w", err).
			WithHint("`croft certs` makes certificates for a cluster")
	}
	s.seen = seen
	s.now, err = f.load()
	return s, err
}

// Server is the configuration of the end that listens. It is made for one handshake.
func (s *Source) Server() *tls.Config {
	m := s.current()
	c := s.config(m)
	c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, m.cas
	c.SessionTicketsDisabled = true // a resumed session would not look at the authorities again
	return c
}

// Client is the configuration of the end that dials host, for which the other end's certificate must be. It is made for one
// handshake.
func (s *Source) Client(host string) *tls.Config {
	m := s.current()
	c := s.config(m)
	c.RootCAs, c.ServerName = m.cas, host
	return c
}

func (s *Source) config(m *material) *tls.Config {
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{m.cert},
		NextProtos:   []string{s.protocol},
		VerifyConnection: func(state tls.ConnectionState) error {
			if state.NegotiatedProtocol != s.protocol {
				return errs.New(errs.FailedPrecondition, "the other side does not speak %s", s.protocol)
			}
			return nil
		},
	}
}

// current takes up files that have changed.
func (s *Source) current() *material {
	s.mu.Lock()
	defer s.mu.Unlock()
	seen, err := s.look()
	if err != nil || s.unchanged(seen) {
		return s.now // files may be missing for a moment while they are replaced
	}
	s.seen = seen
	m, err := s.files.load()
	if err != nil {
		s.logger.Warn("new certificates cannot be used, the ones before stay in force", "err", err)
		return s.now
	}
	s.logger.Info("took up new certificates", "cert", s.files.Cert)
	s.now = m
	return m
}

func (s *Source) look() (seen [3]fs.FileInfo, err error) {
	for i, path := range []string{s.files.Cert, s.files.Key, s.files.CA} {
		if seen[i], err = os.Stat(path); err != nil {
			return seen, err
		}
	}
	return seen, nil
}

func (s *Source) unchanged(seen [3]fs.FileInfo) bool {
	for i, now := range seen {
		was := s.seen[i]
		if !os.SameFile(was, now) || was.Size() != now.Size() || !was.ModTime().Equal(now.ModTime()) {
			return false
		}
	}
	return true
}

func (f Files) load() (*material, error) {
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "read the certificate in %s with the key in %s", f.Cert, f.Key)
	}
	b, err := os.ReadFile(f.CA)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "read the authority")
	}
	cas, err := parse(f.CA, b)
	if err != nil {
		return nil, err
	}
	m := &material{cert: cert, cas: x509.NewCertPool()}
	for _, c := range cas {
		m.cas.AddCert(c)
	}
	// A certificate of another authority would be refused by all others: better told here than by each handshake.
	_, err = cert.Leaf.Verify(x509.VerifyOptions{Roots: m.cas, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "check the certificate in %s against the authority in %s", f.Cert, f.CA)
	}
	return m, nil
}
