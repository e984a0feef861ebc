package certs

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/tls"
	"crypto/x509"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
)

func newAuthority(t *testing.T) string {
	dir := filepath.Join(t.TempDir(), "made")
	_, err := Authority(dir, false)
	require.NoError(t, err)
	return dir
}

func TestNodeCertificate(t *testing.T) {
	dir := newAuthority(t)
	pair, err := Node(dir, []string{"db1.internal", "10.0.0.7", "::1"}, false)
	require.NoError(t, err)
	require.Equal(t, filepath.Join(dir, "db1.internal.crt"), pair.CertPath)

	c := pair.Cert
	require.Equal(t, []string{"db1.internal", "10.0.0.7", "::1"}, Hosts(c))
	require.Equal(t, elliptic.P256(), c.PublicKey.(*ecdsa.PublicKey).Curve)
	require.ElementsMatch(t, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}, c.ExtKeyUsage)
	require.False(t, c.IsCA)
	require.True(t, c.NotBefore.Before(time.Now()))
	for _, path := range []string{pair.CertPath, pair.KeyPath, filepath.Join(dir, CAFile), filepath.Join(dir, CAKeyFile)} {
		info, err := os.Stat(path)
		require.NoError(t, err)
		require.Equal(t, os.FileMode(0o600), info.Mode(), path)
	}
	read, err := Read(pair.CertPath)
	require.NoError(t, err)
	require.True(t, read[0].Equal(c))

	ca, err := Read(filepath.Join(dir, CAFile))
	require.NoError(t, err)
	require.NoError(t, c.CheckSignatureFrom(ca[0]))
	require.True(t, ca[0].IsCA)
	require.False(t, c.NotAfter.After(ca[0].NotAfter))
}

func TestRefusals(t *testing.T) {
	dir := newAuthority(t)
	_, err := Node(dir, []string{"node"}, false)
	require.NoError(t, err)
	before, err := os.ReadFile(filepath.Join(dir, "node.key"))
	require.NoError(t, err)
	cases := []struct {
		name string
		make func() (Pair, error)
		want errs.Kind
	}{
		{"authority again", func() (Pair, error) { return Authority(dir, false) }, errs.AlreadyExists},
		{"node again", func() (Pair, error) { return Node(dir, []string{"node"}, false) }, errs.AlreadyExists},
		{"no authority", func() (Pair, error) { return Node(t.TempDir(), []string{"node"}, false) }, errs.NotFound},
		{"no host", func() (Pair, error) { return Node(dir, nil, false) }, errs.Invalid},
		{"a URL", func() (Pair, error) { return Node(dir, []string{"https://db1"}, false) }, errs.Invalid},
		{"a port", func() (Pair, error) { return Node(dir, []string{"db1:5180"}, false) }, errs.Invalid},
		{"a path", func() (Pair, error) { return Node(dir, []string{"../db1"}, false) }, errs.Invalid},
		{"the authority's name", func() (Pair, error) { return Node(dir, []string{"ca"}, true) }, errs.Invalid},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			_, err := c.make()
			require.Equal(t, c.want, errs.KindOf(err), "%v", err)
		})
	}
	after, err := os.ReadFile(filepath.Join(dir, "node.key"))
	require.NoError(t, err)
	require.Equal(t, before, after)
	_, err = Node(dir, []string{"node"}, true)
	require.NoError(t, err)
	after, err = os.ReadFile(filepath.Join(dir, "node.key"))
	require.NoError(t, err)
	require.NotEqual(t, before, after)
}

func files(t *testing.T, dir string) Files {
	pair, err := Node(dir, []string{"localhost"}, true)
	require.NoError(t, err)
	return Files{pair.CertPath, pair.KeyPath, filepath.Join(dir, CAFile)}
}

func open(t *testing.T, f Files, protocol string) *Source {
	s, err := Open(f, protocol, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	return s
}

// handshake returns the faults of both ends.
func handshake(t *testing.T, server, client *tls.Config) (atServer, atClient error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer listener.Close()
	done := make(chan error, 1)
	go func() {
		conn, err := listener.Accept()
		if err != nil {
			done <- err
			return
		}
		defer conn.Close()
		done <- tls.Server(conn, server).Handshake()
	}()
	conn, err := net.Dial("tcp", listener.Addr().String())
	require.NoError(t, err)
	defer conn.Close()
	c := tls.Client(conn, client)
	if atClient = c.Handshake(); atClient == nil {
		_, atClient = c.Read(make([]byte, 1)) // with TLS 1.3 a refusal comes after the handshake
	}
	conn.Close()
	return <-done, atClient
}

func TestMutualTLS(t *testing.T) {
	dir := newAuthority(t)
	ours := open(t, files(t, dir), "croft")
	cases := []struct {
		name           string
		server, client *tls.Config
		fine           bool
	}{
		{"ours", ours.Server(), ours.Client("localhost"), true},
		{"other host", ours.Server(), ours.Client("elsewhere"), false},
		{"no certificate", ours.Server(), &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"croft"}}, false},
		{"other authority", ours.Server(), open(t, files(t, newAuthority(t)), "croft").Client("localhost"), false},
		{"old TLS", ours.Server(), &tls.Config{InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12}, false},
		{"other protocol", ours.Server(), open(t, files(t, dir), "http/1.1").Client("localhost"), false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			atServer, _ := handshake(t, c.server, c.client)
			if c.fine {
				require.NoError(t, atServer)
			} else {
				require.Error(t, atServer)
			}
		})
	}
	t.Run("client checks", func(t *testing.T) {
		stranger := open(t, files(t, newAuthority(t)), "croft").Server()
		stranger.ClientAuth = tls.NoClientCert
		_, atClient := handshake(t, stranger, ours.Client("localhost"))
		require.Error(t, atClient)
		silent := ours.Server()
		silent.NextProtos, silent.VerifyConnection = nil, nil
		_, atClient = handshake(t, silent, ours.Client("localhost"))
		require.ErrorContains(t, atClient, "does not speak croft")
	})
}

func TestReload(t *testing.T) {
	dir := newAuthority(t)
	f := files(t, dir)
	s := open(t, f, "croft")
	serial := func() string { return s.Client("localhost").Certificates[0].Leaf.SerialNumber.String() }
	first := serial()
	require.Equal(t, first, serial())

	require.NoError(t, os.Rename(f.Key, f.Key+".away"))
	require.Equal(t, first, serial(), "a file is missing while they are replaced")
	require.NoError(t, os.WriteFile(f.Key, []byte("half"), 0o600))
	require.Equal(t, first, serial(), "a file is half written")
	files(t, dir)
	second := serial()
	require.NotEqual(t, first, second)

	other := newAuthority(t)
	require.NoError(t, os.Rename(filepath.Join(other, CAFile), f.CA))
	require.Equal(t, second, serial(), "the new authority has not signed it")
}

func TestOpenTellsWhatIsWrong(t *testing.T) {
	good := files(t, newAuthority(t))
	other := files(t, newAuthority(t))
	for name, f := range map[string]Files{
		"no certificate":   {good.Cert + ".none", good.Key, good.CA},
		"another key":      {good.Cert, other.Key, good.CA},
		"another CA":       {good.Cert, good.Key, other.CA},
		"no certs in CA":   {good.Cert, good.Key, good.Key},
		"nothing is given": {},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(f, "croft", slog.New(slog.DiscardHandler))
			require.Equal(t, errs.Invalid, errs.KindOf(err), "%v", err)
		})
	}
}
