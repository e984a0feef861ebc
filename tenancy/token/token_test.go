package token

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
	"github.com/croftdb/croft/tenancy"
)

// issuer signs tokens in every way.
type issuer struct {
	rsa    *rsa.PrivateKey
	ec     *ecdsa.PrivateKey
	ed     ed25519.PrivateKey
	secret []byte
}

var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// rsaKeys take long to make.
var rsaKeys = sync.OnceValue(func() (keys [2]*rsa.PrivateKey) {
	for i := range keys {
		var err error
		if keys[i], err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			panic(err)
		}
	}
	return keys
})

func newIssuer(t testing.TB) *issuer {
	t.Helper()
	i := &issuer{secret: []byte("0123456789abcdef0123456789abcdef")}
	var err error
	i.rsa = rsaKeys()[0]
	i.ec, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	_, i.ed, err = ed25519.GenerateKey(rand.Reader)
	require.NoError(t, err)
	return i
}

func text64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jwks publishes the public keys; suffix tells generations of ids apart.
func (i *issuer) jwks(suffix string) string {
	point, err := i.ec.PublicKey.Bytes()
	if err != nil {
		panic(err)
	}
	b, err := json.Marshal(map[string]any{"keys": []map[string]string{
		{"kty": "RSA", "kid": "rsa" + suffix, "use": "sig", "alg": "RS256", "n": text64(i.rsa.N.Bytes()), "e": "AQAB"},
		{"kty": "EC", "kid": "ec" + suffix, "crv": "P-256", "x": text64(point[1:33]), "y": text64(point[33:])},
		{"kty": "OKP", "kid": "ed" + suffix, "crv": "Ed25519", "x": text64(i.ed.Public().(ed25519.PublicKey))},
		{"kty": "RSA", "kid": "enc", "use": "enc", "n": "AQAB", "e": "AQAB"},
		{"kty": "EC", "kid": "other curve", "crv": "P-521", "x": "AA", "y": "AA"},
	}})
	if err != nil {
		panic(err)
	}
	return string(b)
}

func claims(change ...map[string]any) jwt.MapClaims {
	c := jwt.MapClaims{"iss": "https://issuer", "aud": "croft", "sub": "ann", "exp": now.Add(time.Hour).Unix(), "tenant": "acme", "role": "writer"}
	for _, m := range change {
		for k, v := range m {
			if v == nil {
				delete(c, k)
			} else {
				c[k] = v
			}
		}
	}
	return c
}

func sign(t testing.TB, m jwt.SigningMethod, key any, kid string, c jwt.Claims) string {
	t.Helper()
	tok := jwt.NewWithClaims(m, c)
	if kid != "" {
		tok.Header["kid"] = kid
	}
	s, err := tok.SignedString(key)
	require.NoError(t, err)
	return s
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// fixed is a source that never changes.
func fixed(text string, secrets bool) Source {
	return Source{"test", secrets, func(context.Context) ([]byte, error) { return []byte(text), nil }}
}

func newVerifier(t testing.TB, k KeysOptions, o Options) *Verifier {
	t.Helper()
	keys, err := OpenKeys(k, quiet(), now)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, keys.Close()) })
	o.Issuer, o.Audience = "https://issuer", "croft"
	v, err := New(keys, o)
	require.NoError(t, err)
	return v
}

func TestEveryAlgorithm(t *testing.T) {
	i := newIssuer(t)
	v := newVerifier(t, KeysOptions{Source: fixed(i.jwks(""), false), Secret: i.secret}, Options{})
	want := tenancy.Principal{Subject: "ann", Role: tenancy.RoleWriter, Tenant: "acme"}
	for _, c := range []struct {
		m   jwt.SigningMethod
		key any
		kid string
	}{
		{jwt.SigningMethodRS256, i.rsa, "rsa"}, {jwt.SigningMethodRS256, i.rsa, ""}, {jwt.SigningMethodES256, i.ec, "ec"},
		{jwt.SigningMethodEdDSA, i.ed, "ed"}, {jwt.SigningMethodHS256, i.secret, ""}, {jwt.SigningMethodHS256, i.secret, "any"},
	} {
		p, err := v.Verify(sign(t, c.m, c.key, c.kid, claims()), now)
		require.NoError(t, err, "%s %q", c.m.Alg(), c.kid)
		require.Equal(t, want, p)
	}
}

// TestForgeries: what an attacker can make without a key of the issuer's is refused, whatever its header says.
func TestForgeries(t *testing.T) {
	i, other := newIssuer(t), newIssuer(t)
	other.rsa = rsaKeys()[1]
	der, err := x509.MarshalPKIXPublicKey(&i.rsa.PublicKey)
	require.NoError(t, err)
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	v := newVerifier(t, KeysOptions{Source: fixed(i.jwks(""), false)}, Options{})
	good := sign(t, jwt.SigningMethodRS256, i.rsa, "rsa", claims())
	head, rest, _ := strings.Cut(good, ".")
	body, signature, _ := strings.Cut(rest, ".")
	raw := func(header string) string { return text64([]byte(header)) + "." + body + "." }
	crit := jwt.NewWithClaims(jwt.SigningMethodRS256, claims())
	crit.Header["crit"] = []string{"b64"}
	critical, err := crit.SignedString(i.rsa)
	require.NoError(t, err)
	forged, err := json.Marshal(claims(map[string]any{"tenant": "other"}))
	require.NoError(t, err)
	cases := map[string]string{
		"alg none":                    sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", claims()),
		"alg none, kid":               sign(t, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "rsa", claims()),
		"alg NONE":                    raw(`{"alg":"NONE","typ":"JWT"}`),
		"alg empty":                   raw(`{"alg":""}`),
		"no alg":                      raw(`{}`),
		"no signature":                head + "." + body + ".",
		"public key as secret, PEM":   sign(t, jwt.SigningMethodHS256, public, "rsa", claims()),
		"public key as secret, DER":   sign(t, jwt.SigningMethodHS256, der, "", claims()),
		"modulus as secret":           sign(t, jwt.SigningMethodHS256, i.rsa.N.Bytes(), "rsa", claims()),
		"ed25519 key as secret":       sign(t, jwt.SigningMethodHS256, []byte(i.ed.Public().(ed25519.PublicKey)), "ed", claims()),
		"empty secret":                sign(t, jwt.SigningMethodHS256, []byte{}, "", claims()),
		"another's RSA":               sign(t, jwt.SigningMethodRS256, other.rsa, "rsa", claims()),
		"another's EC":                sign(t, jwt.SigningMethodES256, other.ec, "ec", claims()),
		"another's Ed25519":           sign(t, jwt.SigningMethodEdDSA, other.ed, "ed", claims()),
		"RS512":                       sign(t, jwt.SigningMethodRS512, i.rsa, "rsa", claims()),
		"PS256":                       sign(t, jwt.SigningMethodPS256, i.rsa, "rsa", claims()),
		"HS512":                       sign(t, jwt.SigningMethodHS512, i.secret, "", claims()),
		"kid of another kind":         sign(t, jwt.SigningMethodRS256, i.rsa, "ec", claims()),
		"kid unknown":                 sign(t, jwt.SigningMethodRS256, i.rsa, "../../etc/passwd", claims()),
		"claims changed":              head + "." + text64(forged) + "." + signature,
		"header changed":              text64([]byte(`{"alg":"RS256","kid":"rsa","x":1}`)) + "." + body + "." + signature,
		"signature of another body":   sign(t, jwt.SigningMethodRS256, i.rsa, "rsa", claims(map[string]any{"sub": "bob"}))[:len(head)+1] + body + "." + text64(make([]byte, 256)),
		"critical extension":          critical,
		"two dots and nothing":        "ey..",
		"padding after the signature": good + "=",
		"too long":                    good + strings.Repeat("A", maxToken),
	}
	for name, text := range cases {
		t.Run(name, func(t *testing.T) {
			p, err := v.Verify(text, now)
			require.Equal(t, errs.Unauthenticated, errs.KindOf(err), "%v", err)
			require.Equal(t, tenancy.Principal{}, p)
		})
	}
	p, err := v.Verify(good, now)
	require.NoError(t, err)
	require.Equal(t, "acme", p.Tenant)
}

func TestClaims(t *testing.T) {
	i := newIssuer(t)
	v := newVerifier(t, KeysOptions{Secret: i.secret}, Options{})
	over := newVerifier(t, KeysOptions{Secret: i.secret}, Options{Operators: true, TenantClaim: "app.tenant", RoleClaim: "https://croft.example/roles", Leeway: time.Second})
	at := func(d time.Duration) any { return now.Add(d).Unix() }
	for _, c := range []struct {
		name   string
		v      *Verifier
		change map[string]any
		want   string // of the refusal; else the principal as role@tenant
	}{
		{"as it is", v, nil, "writer@acme"},
		{"reader", v, map[string]any{"role": "reader"}, "reader@acme"},
		{"several roles", v, map[string]any{"role": []string{"offline", "reader", "tenant-admin"}}, "tenant-admin@acme"},
		{"expired within the leeway", v, map[string]any{"exp": at(-29 * time.Second)}, "writer@acme"},
		{"expired", v, map[string]any{"exp": at(-31 * time.Second)}, "expired"},
		{"no expiry", v, map[string]any{"exp": nil}, "lacks an expiry"},
		{"expiry no time", v, map[string]any{"exp": "never"}, "time"},
		{"not yet", v, map[string]any{"nbf": at(31 * time.Second)}, "not valid yet"},
		{"issued in the future", v, map[string]any{"iat": at(31 * time.Second)}, "future"},
		{"another issuer", v, map[string]any{"iss": "https://issuer.evil"}, "another issuer"},
		{"no issuer", v, map[string]any{"iss": nil}, "lacks"},
		{"another audience", v, map[string]any{"aud": "croft2"}, "another audience"},
		{"one of several audiences", v, map[string]any{"aud": []string{"x", "croft"}}, "writer@acme"},
		{"no audience", v, map[string]any{"aud": nil}, "lacks"},
		{"no tenant", v, map[string]any{"tenant": nil}, "no tenant"},
		{"empty tenant", v, map[string]any{"tenant": ""}, "no tenant"},
		{"tenant null", v, map[string]any{"tenant": (*int)(nil)}, "no tenant"},
		{"list of tenants", v, map[string]any{"tenant": []string{"acme"}}, "no tenant"},
		{"tenant with NUL", v, map[string]any{"tenant": "acme\x00"}, "no tenant"},
		{"long tenant", v, map[string]any{"tenant": strings.Repeat("a", 513)}, "no tenant"},
		{"no role", v, map[string]any{"role": nil}, "no role"},
		{"unknown role", v, map[string]any{"role": "root"}, "no role"},
		{"admin", v, map[string]any{"role": "admin"}, "no role"},
		{"admin without tenant", v, map[string]any{"role": "admin", "tenant": nil}, "no role"},
		{"admin among others", v, map[string]any{"role": []string{"admin", "reader"}}, "reader@acme"},
		{"claims elsewhere", over, map[string]any{"app": map[string]any{"tenant": "b"}, "https://croft.example/roles": []string{"writer"}}, "writer@b"},
		{"operator", over, map[string]any{"https://croft.example/roles": "operator"}, "operator@"},
		{"operator of a tenant", over, map[string]any{"https://croft.example/roles": "operator", "app": map[string]any{"tenant": "b"}}, "over all"},
		{"operator, tenant no text", over, map[string]any{"https://croft.example/roles": "operator", "app": map[string]any{"tenant": 7}}, "no tenant"},
		{"writer without tenant", over, map[string]any{"https://croft.example/roles": "writer"}, "no tenant"},
		{"path into a text", over, map[string]any{"https://croft.example/roles": "writer", "app": "tenant"}, "no tenant"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, err := c.v.Verify(sign(t, jwt.SigningMethodHS256, i.secret, "", claims(c.change)), now)
			if err != nil {
				require.Equal(t, errs.Unauthenticated, errs.KindOf(err))
				require.ErrorContains(t, err, c.want)
				require.Equal(t, tenancy.Principal{}, p)
				return
			}
			require.Equal(t, c.want, string(p.Role)+"@"+p.Tenant)
			require.NoError(t, tenancy.CheckBinding(p.Role, p.Tenant))
		})
	}
}

func TestSubjects(t *testing.T) {
	i := newIssuer(t)
	v := newVerifier(t, KeysOptions{Secret: i.secret}, Options{})
	for sub, want := range map[any]string{nil: "unnamed", 7: "unnamed", "": "unnamed", strings.Repeat("ü", 100): strings.Repeat("ü", 64)} {
		p, err := v.Verify(sign(t, jwt.SigningMethodHS256, i.secret, "", claims(map[string]any{"sub": sub})), now)
		require.NoError(t, err)
		require.Equal(t, "token:"+want, p.String())
	}
}

// server publishes keys, and counts how often it is asked.
type server struct {
	*httptest.Server
	asked  atomic.Int32
	answer atomic.Pointer[string] // nil: 500
}

func newServer(t testing.TB) *server {
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.asked.Add(1)
		if text := s.answer.Load(); text != nil {
			fmt.Fprint(w, *text)
			return
		}
		http.Error(w, "down", http.StatusInternalServerError)
	}))
	t.Cleanup(s.Close)
	return s
}

func (s *server) publish(text string) { s.answer.Store(&text) }

func (s *server) source(t testing.TB) Source {
	src, err := FromURL(s.URL)
	require.NoError(t, err)
	return src
}

func TestKeysFromURL(t *testing.T) {
	i := newIssuer(t)
	s := newServer(t)
	v := newVerifier(t, KeysOptions{Source: s.source(t)}, Options{})
	first := sign(t, jwt.SigningMethodES256, i.ec, "ec", claims(map[string]any{"exp": now.Add(100 * time.Hour).Unix()}))

	// Down from the beginning: nobody can tell. It is not asked again within the pause.
	_, err := v.Verify(first, now)
	require.Equal(t, errs.Unavailable, errs.KindOf(err), "%v", err)
	require.EqualValues(t, 1, s.asked.Load())

	s.publish(i.jwks(""))
	at := now.Add(11 * time.Second)
	_, err = v.Verify(first, at)
	require.NoError(t, err)
	require.EqualValues(t, 2, s.asked.Load())

	// Known keys ask nobody; unknown ones once in a pause, however many there are.
	forged := sign(t, jwt.SigningMethodES256, i.ec, "next", claims())
	for range 100 {
		_, err = v.Verify(first, at.Add(time.Second))
		require.NoError(t, err)
		_, err = v.Verify(forged, at.Add(2*time.Second))
		require.Equal(t, errs.Unauthenticated, errs.KindOf(err))
	}
	require.EqualValues(t, 2, s.asked.Load())

	// A key that is new is there with the first token that names it.
	next := newIssuer(t)
	s.publish(next.jwks("-next"))
	renewed := sign(t, jwt.SigningMethodES256, next.ec, "ec-next", claims(map[string]any{"exp": now.Add(100 * time.Hour).Unix()}))
	at = at.Add(11 * time.Second)
	_, err = v.Verify(renewed, at)
	require.NoError(t, err)
	_, err = v.Verify(first, at)
	require.Equal(t, errs.Unauthenticated, errs.KindOf(err), "a key that was withdrawn is gone")
	require.EqualValues(t, 3, s.asked.Load())

	// Down again, or nonsense: the last keys stay, for as long as it takes.
	s.answer.Store(nil)
	for range 3 {
		at = at.Add(24 * time.Hour)
		_, err = v.Verify(renewed, at)
		require.NoError(t, err)
		require.NoError(t, v.keys.settle())
		s.publish(`{"keys":[]}`)
	}
	require.EqualValues(t, 6, s.asked.Load())
}

// settle waits for the look under way.
func (k *Keys) settle() error {
	k.looks.Wait()
	return nil
}

func TestURLs(t *testing.T) {
	for address, ok := range map[string]bool{
		"https://issuer.example/.well-known/jwks.json": true, "http://127.0.0.1:8080/jwks": true, "http://localhost/x": true, "http://[::1]:1/x": true,
		"http://issuer.example/jwks": false, "file:///etc/passwd": false, "": false, "https://": false, "issuer": false, "http://169.254.169.254/latest": false,
	} {
		_, err := FromURL(address)
		require.Equal(t, ok, err == nil, address)
	}
}

// TestSourceIsBounded: a source that sends elsewhere, does not end or hangs yields nothing.
func TestSourceIsBounded(t *testing.T) {
	i := newIssuer(t)
	stop := make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/keys", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, i.jwks("")) })
	mux.HandleFunc("/elsewhere", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/keys", http.StatusFound) })
	mux.HandleFunc("/endless", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, strings.Repeat(" ", 2*maxDocument)+i.jwks(""))
	})
	mux.HandleFunc("/silent", func(http.ResponseWriter, *http.Request) { <-stop })
	s := httptest.NewServer(mux)
	defer s.Close()
	defer close(stop)
	token := sign(t, jwt.SigningMethodRS256, i.rsa, "rsa", claims())
	for path, ok := range map[string]bool{"/keys": true, "/elsewhere": false, "/endless": false, "/silent": false, "/nothing": false} {
		src, err := FromURL(s.URL + path)
		require.NoError(t, err)
		v := newVerifier(t, KeysOptions{Source: src, Timeout: 200 * time.Millisecond}, Options{})
		_, err = v.Verify(token, now)
		require.Equal(t, ok, err == nil, "%s: %v", path, err)
	}
}

func TestKeysFromFile(t *testing.T) {
	i := newIssuer(t)
	disk := vfs.NewMem()
	write := func(text string) {
		f, err := disk.Create("/keys")
		require.NoError(t, err)
		_, err = f.Write([]byte(text))
		require.NoError(t, err)
		require.NoError(t, f.Close())
	}
	var blocks []byte
	for _, k := range []crypto.PublicKey{&i.rsa.PublicKey, &i.ec.PublicKey, i.ed.Public()} {
		der, err := x509.MarshalPKIXPublicKey(k)
		require.NoError(t, err)
		blocks = append(blocks, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...)
	}
	write(string(blocks))
	v := newVerifier(t, KeysOptions{Source: FromFile(disk, "/keys")}, Options{})
	for _, text := range []string{
		sign(t, jwt.SigningMethodRS256, i.rsa, "x", claims()), sign(t, jwt.SigningMethodES256, i.ec, "", claims()), sign(t, jwt.SigningMethodEdDSA, i.ed, "", claims()),
	} {
		_, err := v.Verify(text, now)
		require.NoError(t, err)
	}
	shared := sign(t, jwt.SigningMethodHS256, i.secret, "s", claims())
	_, err := v.Verify(shared, now)
	require.Error(t, err)

	write(`{"kty":"oct","kid":"s","k":"` + text64(i.secret) + `"}`)
	_, err = v.Verify(shared, now.Add(time.Minute))
	require.NoError(t, err, "a file that has changed is read again")
	_, err = OpenKeys(KeysOptions{Source: FromFile(disk, "/none")}, quiet(), now)
	require.ErrorContains(t, err, "/none", "one that is not there is told at once")
}

func TestKeysRefused(t *testing.T) {
	i := newIssuer(t)
	small, err := json.Marshal(map[string]string{"kty": "RSA", "n": text64(i.rsa.N.Bytes()[:128]), "e": "AQAB"})
	require.NoError(t, err)
	der := x509.MarshalPKCS1PrivateKey(i.rsa)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	require.NoError(t, err)
	der384, err := x509.MarshalPKIXPublicKey(&p384.PublicKey)
	require.NoError(t, err)
	for name, text := range map[string]string{
		"empty": "", "no set": "{}", "empty set": `{"keys":[]}`, "no JSON": "{", "twice": `{"keys":[],"keys":[]}`,
		"small RSA":            string(small),
		"even exponent":        `{"kty":"RSA","n":"` + text64(i.rsa.N.Bytes()) + `","e":"AQAA"}`,
		"huge exponent":        `{"kty":"RSA","n":"` + text64(i.rsa.N.Bytes()) + `","e":"AQABAQABAQAB"}`,
		"huge RSA":             `{"kty":"RSA","n":"` + strings.Repeat("q", 4096) + `","e":"AQAB"}`,
		"off the curve":        `{"kty":"EC","crv":"P-256","x":"` + strings.Repeat("A", 43) + `","y":"` + strings.Repeat("A", 43) + `"}`,
		"short point":          `{"kty":"EC","crv":"P-256","x":"AA","y":"AA"}`,
		"short Ed25519":        `{"kty":"OKP","crv":"Ed25519","x":"AA"}`,
		"short secret":         `{"kty":"oct","k":"` + text64(i.secret[:31]) + `"}`,
		"private":              `{"keys":[{"kty":"OKP","crv":"Ed25519","x":"` + text64(i.ed.Public().(ed25519.PublicKey)) + `","d":"AA"}]}`,
		"private, PEM":         string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: der})),
		"P-384, PEM":           string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der384})),
		"PEM and more":         "-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\nxx",
		"not base64":           `{"kty":"OKP","crv":"Ed25519","x":"*"}`,
		"too many":             `{"keys":[` + strings.Repeat(`{"kty":"OKP","crv":"Ed25519","x":"`+text64(i.ed.Public().(ed25519.PublicKey))+`"},`, maxKeys) + `{"kty":"OKP","crv":"Ed25519","x":"` + text64(i.ed.Public().(ed25519.PublicKey)) + `"}]}`,
		"for something else":   `{"keys":[{"kty":"RSA","use":"enc","n":"AQAB","e":"AQAB"}]}`,
		"of another algorithm": `{"keys":[{"kty":"OKP","crv":"Ed25519","alg":"ES256","x":"` + text64(i.ed.Public().(ed25519.PublicKey)) + `"}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := parseKeys([]byte(text), true)
			require.Equal(t, errs.Invalid, errs.KindOf(err), "%v", err)
		})
	}
	_, err = parseKeys([]byte(`{"kty":"oct","k":"`+text64(i.secret)+`"}`), false)
	require.ErrorContains(t, err, "published")
}

func TestSettings(t *testing.T) {
	_, err := OpenKeys(KeysOptions{}, quiet(), now)
	require.Equal(t, errs.Invalid, errs.KindOf(err))
	_, err = OpenKeys(KeysOptions{Secret: []byte("short")}, quiet(), now)
	require.Equal(t, errs.Invalid, errs.KindOf(err))
	_, err = New(nil, Options{Leeway: time.Hour})
	require.Equal(t, errs.Invalid, errs.KindOf(err))
	for _, part := range []string{"issuer", "audience", "leeway"} {
		require.ErrorContains(t, err, part)
	}
}

func TestCloseEndsALook(t *testing.T) {
	i := newIssuer(t)
	var looks atomic.Int32
	hangs := Source{"test", false, func(ctx context.Context) ([]byte, error) {
		if looks.Add(1) == 1 {
			return []byte(i.jwks("")), nil
		}
		<-ctx.Done()
		return nil, ctx.Err()
	}}
	keys, err := OpenKeys(KeysOptions{Source: hangs, Timeout: time.Hour}, quiet(), now)
	require.NoError(t, err)
	require.NotNil(t, keys.refresh(now.Add(time.Minute)))
	require.NoError(t, keys.Close())
	require.Nil(t, keys.refresh(now.Add(time.Hour)), "closed")
}

func FuzzParseKeys(f *testing.F) {
	i := newIssuer(f)
	f.Add([]byte(i.jwks("")))
	f.Add([]byte(`{"kty":"oct","k":"AAAA"}`))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nAA==\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parseKeys(text, true)
		if err != nil {
			return
		}
		require.NotEmpty(t, keys)
		for _, k := range keys {
			switch k.use.(type) {
			case *rsa.PublicKey:
				require.Equal(t, RS256, k.alg)
			case *ecdsa.PublicKey:
				require.Equal(t, ES256, k.alg)
			case ed25519.PublicKey:
				require.Equal(t, EdDSA, k.alg)
			case []byte:
				require.Equal(t, HS256, k.alg)
			default:
				t.Fatalf("%T", k.use)
			}
		}
	})
}

// FuzzVerify: no text but those that were signed is taken.
func FuzzVerify(f *testing.F) {
	i := newIssuer(f)
	v := newVerifier(f, KeysOptions{Source: fixed(i.jwks(""), false), Secret: i.secret}, Options{})
	good := sign(f, jwt.SigningMethodEdDSA, i.ed, "ed", claims())
	f.Add(good)
	f.Add(sign(f, jwt.SigningMethodNone, jwt.UnsafeAllowNoneSignatureType, "", claims()))
	f.Fuzz(func(t *testing.T, text string) {
		p, err := v.Verify(text, now)
		if text == good {
			require.NoError(t, err)
			return
		}
		require.Error(t, err)
		require.Equal(t, tenancy.Principal{}, p)
		var e *errs.Error
		require.True(t, errors.As(err, &e))
	})
}

func BenchmarkVerify(b *testing.B) {
	i := newIssuer(b)
	v := newVerifier(b, KeysOptions{Source: fixed(i.jwks(""), false), Secret: i.secret}, Options{})
	for _, c := range []struct {
		m   jwt.SigningMethod
		key any
	}{{jwt.SigningMethodHS256, i.secret}, {jwt.SigningMethodRS256, i.rsa}, {jwt.SigningMethodES256, i.ec}, {jwt.SigningMethodEdDSA, i.ed}} {
		text := sign(b, c.m, c.key, "", claims())
		b.Run(c.m.Alg(), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(text, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
