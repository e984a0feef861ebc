// Package certs owns the certificates by which the nodes of a cluster know each other: it makes a private authority and
// what that signs (Authority, Node), and turns files into TLS configurations for both ends of a link (Source).
//
// It promises that both ends show a certificate of the same authority, that nothing older than TLS 1.3 is spoken, that keys
// are readable by their owner alone and never overwritten by accident, and that new files are taken up by the next
// handshake without a restart. cmd/croft makes certificates with it, cluster speaks by it. It never binds a certificate to a
// node's id: every certificate of the authority may speak for every node, so the authority must be the cluster's own.
package certs

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"time"

	"github.com/croftdb/croft/internal/errs"
)

// Names of the files of an authority and of the certificate that nodes need of it.
const (
	CAFile    = "ca.crt"
	CAKeyFile = "ca.key"
)

const (
	caLife   = 10 * 365 * 24 * time.Hour
	nodeLife = 2 * 365 * 24 * time.Hour
	// leeway lets a certificate be used at once by machines whose clocks are behind.
	leeway = time.Hour
)

// Pair is a certificate with its key, and where they are.
type Pair struct {
	CertPath, KeyPath string
	Cert              *x509.Certificate
}

// Authority makes a new authority in dir. AlreadyExists: there is one, and force is not set.
func Authority(dir string, force bool) (Pair, error) {
	t := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "croft cluster authority", Organization: []string{"croft"}},
		NotAfter:              time.Now().Add(caLife),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		IsCA:                  true,
		BasicConstraintsValid: true,
		MaxPathLenZero:        true, // it signs nodes, not further authorities
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return Pair{}, errs.Wrap(errs.FailedPrecondition, err, "make the directory of the certificates")
	}
	return issue(t, nil, nil, filepath.Join(dir, CAFile), filepath.Join(dir, CAKeyFile), force)
}

// Node makes a certificate for a node that others reach under the names and IP addresses in hosts, signed by the authority
// in dir. The files are named after the first host.
func Node(dir string, hosts []string, force bool) (Pair, error) {
	if len(hosts) == 0 {
		return Pair{}, errs.New(errs.Invalid, "a node's certificate needs a name or an address")
	}
	ca, key, err := loadAuthority(dir)
	if err != nil {
		return Pair{}, err
	}
	t := &x509.Certificate{
		Subject:     pkix.Name{CommonName: hosts[0], Organization: []string{"croft"}},
		NotAfter:    earlier(time.Now().Add(nodeLife), ca.NotAfter),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	if hosts[0]+".crt" == CAFile {
		return Pair{}, errs.New(errs.Invalid, "a node cannot be called %q: its files would have the names of the authority's", hosts[0])
	}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			t.IPAddresses = append(t.IPAddresses, ip)
		} else if isHostName(h) {
			t.DNSNames = append(t.DNSNames, h)
		} else {
			return Pair{}, errs.New(errs.Invalid, "%q is neither a host name nor an IP address", h).
				WithHint("leave out the scheme and the port")
		}
	}
	base := filepath.Join(dir, fileName(hosts[0]))
	return issue(t, ca, key, base+".crt", base+".key", force)
}

// loadAuthority reads the authority in dir.
func loadAuthority(dir string) (*x509.Certificate, crypto.Signer, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(dir, CAFile), filepath.Join(dir, CAKeyFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil, errs.New(errs.NotFound, "there is no authority in %s: %w", dir, err).
			WithHint("make one with `croft certs init --dir %s`", dir)
	}
	if err != nil {
		return nil, nil, errs.Wrap(errs.Invalid, err, "read the authority in %s", dir)
	}
	key, ok := pair.PrivateKey.(crypto.Signer)
	if !ok || !pair.Leaf.IsCA {
		return nil, nil, errs.New(errs.Invalid, "the certificate in %s is not of an authority", dir)
	}
	return pair.Leaf, key, nil
}

// issue makes a key and a certificate for it, signed by parent, or by itself if there is none.
func issue(t, parent *x509.Certificate, signer crypto.Signer, certPath, keyPath string, force bool) (Pair, error) {
	if !force {
		if err := absent(certPath, keyPath); err != nil {
			return Pair{}, err
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return Pair{}, err
	}
	if t.SerialNumber, err = rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127)); err != nil {
		return Pair{}, err
	}
	t.NotBefore = time.Now().Add(-leeway)
	if parent == nil {
		parent, signer = t, key
	}
	der, err := x509.CreateCertificate(rand.Reader, t, parent, key.Public(), signer)
	if err != nil {
		return Pair{}, err
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return Pair{}, err
	}
	// The key first: a certificate without its key would look finished.
	if err := write(keyPath, "PRIVATE KEY", keyDER); err != nil {
		return Pair{}, err
	}
	if err := write(certPath, "CERTIFICATE", der); err != nil {
		return Pair{}, err
	}
	cert, err := x509.ParseCertificate(der)
	return Pair{certPath, keyPath, cert}, err
}

func absent(paths ...string) error {
	for _, p := range paths {
		if _, err := os.Lstat(p); err == nil {
			return errs.New(errs.AlreadyExists, "%s is there already", p).
				WithHint("--force replaces it; what it was used for must then get the new one")
		} else if !errors.Is(err, fs.ErrNotExist) {
			return errs.Wrap(errs.FailedPrecondition, err, "look for %s", p)
		}
	}
	return nil
}

// write puts a file in place whole: a node may be reading the one before.
func write(path, kind string, der []byte) error {
	var b bytes.Buffer
	if err := pem.Encode(&b, &pem.Block{Type: kind, Bytes: der}); err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*") // mode 0600
	if err != nil {
		return errs.Wrap(errs.FailedPrecondition, err, "write %s", path)
	}
	_, err = f.Write(b.Bytes())
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errs.Wrap(errs.FailedPrecondition, errors.Join(err, os.Remove(f.Name())), "write %s", path)
	}
	return nil
}

// Read returns the certificates in a file.
func Read(path string) ([]*x509.Certificate, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, errs.Wrap(errs.NotFound, err, "read the certificate")
	}
	return parse(path, b)
}

func parse(path string, b []byte) (certs []*x509.Certificate, err error) {
	for block, rest := pem.Decode(b); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, errs.Wrap(errs.Invalid, err, "read the certificate in %s", path)
		}
		certs = append(certs, c)
	}
	if len(certs) == 0 {
		return nil, errs.New(errs.Invalid, "there is no certificate in %s", path)
	}
	return certs, nil
}

// Hosts are the names and addresses that a certificate is for.
func Hosts(c *x509.Certificate) []string {
	hosts := append([]string(nil), c.DNSNames...)
	for _, ip := range c.IPAddresses {
		hosts = append(hosts, ip.String())
	}
	return hosts
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// isHostName reports whether s could be the name of a machine: letters, digits and hyphens between dots.
func isHostName(s string) bool {
	if s == "" || len(s) > 253 || s[0] == '.' || s[0] == '-' {
		return false
	}
	for _, r := range s {
		letter := r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9'
		if !letter && r != '-' && r != '.' && r != '_' {
			return false
		}
	}
	return true
}

// fileName makes a file's name of a host: colons of IPv6 addresses are no good everywhere.
func fileName(host string) string {
	b := []byte(host)
	for i, c := range b {
		if c == ':' {
			b[i] = '-'
		}
	}
	return string(b)
}
