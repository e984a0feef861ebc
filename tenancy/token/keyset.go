package token

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"math/big"

	"github.com/go-json-experiment/json"

	"github.com/croftdb/croft/internal/errs"
)

// Algorithms, by the names that tokens have for them.
const (
	HS256 = "HS256"
	RS256 = "RS256"
	ES256 = "ES256"
	EdDSA = "EdDSA"
)

// Bounds of a set of keys.
const (
	maxKeys    = 100
	minSecret  = 32   // bytes of a shared secret: as many as HS256 has of strength
	minModulus = 2048 // bits of an RSA key
	maxModulus = 8192 // bits; checking with more costs more than a request may
)

// key is one that tokens may be signed with. Its type settles the algorithm.
type key struct {
	id  string // empty: a token may name any and be of this one
	alg string
	use any // *rsa.PublicKey, *ecdsa.PublicKey, ed25519.PublicKey or []byte
}

// parseKeys reads a JSON web key set, one JSON web key, or PEM blocks of public keys and certificates. Keys that are for
// something else are passed over; a set without any other is Invalid. Shared secrets are taken if secrets allows it: what
// is published holds none.
func parseKeys(text []byte, secrets bool) ([]key, error) {
	text = bytes.TrimSpace(text)
	var keys []key
	var err error
	if bytes.HasPrefix(text, []byte("{")) {
		keys, err = parseJSON(text, secrets)
	} else {
		keys, err = parsePEM(text)
	}
	switch {
	case err != nil:
		return nil, err
	case len(keys) == 0:
		return nil, errs.New(errs.Invalid, "there is no key for %s, %s or %s", RS256, ES256, EdDSA)
	case len(keys) > maxKeys:
		return nil, errs.New(errs.Invalid, "there are %d keys, at most %d are taken", len(keys), maxKeys)
	}
	return keys, nil
}

// jwk is a JSON web key (RFC 7517, 7518, 8037), as far as it matters here.
type jwk struct {
	Type  string `json:"kty"`
	Curve string `json:"crv"`
	Alg   string `json:"alg"`
	Use   string `json:"use"`
	ID    string `json:"kid"`
	N     octets `json:"n"`
	E     octets `json:"e"`
	X     octets `json:"x"`
	Y     octets `json:"y"`
	K     octets `json:"k"`
	D     octets `json:"d"`
}

// octets are bytes in base64url without padding.
type octets []byte

// UnmarshalText reads them.
func (o *octets) UnmarshalText(text []byte) (err error) {
	*o, err = base64.RawURLEncoding.DecodeString(string(text))
	return err
}

func parseJSON(text []byte, secrets bool) ([]key, error) {
	var set struct {
		Keys []jwk `json:"keys"`
	}
	err := json.Unmarshal(text, &set)
	if err == nil && set.Keys == nil { // a single one
		set.Keys = make([]jwk, 1)
		err = json.Unmarshal(text, &set.Keys[0])
	}
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "read a JSON web key set")
	}
	var keys []key
	for i := range set.Keys {
		k, ok, err := set.Keys[i].key(secrets)
		if err != nil {
			return nil, errs.Wrap(errs.Invalid, err, "key %d (%q)", i, set.Keys[i].ID)
		}
		if ok {
			keys = append(keys, k)
		}
	}
	return keys, nil
}

// key reads one key; ok is false if it is for something else.
func (j *jwk) key(secrets bool) (k key, ok bool, err error) {
	if j.Use != "" && j.Use != "sig" {
		return key{}, false, nil
	}
	k.id = j.ID
	switch {
	case j.Type == "oct" && !secrets:
		return key{}, false, errs.New(errs.Invalid, "a shared secret lies in a published set")
	case len(j.D) > 0:
		return key{}, false, errs.New(errs.Invalid, "a private key lies here, where the public one is enough")
	case j.Type == "oct":
		k.alg = HS256
		k.use, err = checkSecret(j.K)
	case j.Type == "RSA":
		k.alg = RS256
		k.use, err = checkRSA(&rsa.PublicKey{N: new(big.Int).SetBytes(j.N), E: exponent(j.E)})
	case j.Type == "EC" && j.Curve == "P-256":
		k.alg = ES256
		k.use, err = pointOf(j.X, j.Y)
	case j.Type == "OKP" && j.Curve == "Ed25519":
		k.alg = EdDSA
		k.use, err = checkEd25519(ed25519.PublicKey(j.X))
	default:
		return key{}, false, nil
	}
	return k, err == nil && (j.Alg == "" || j.Alg == k.alg), err
}

func checkSecret(b []byte) ([]byte, error) {
	if len(b) < minSecret {
		return nil, errs.New(errs.Invalid, "a shared secret has %d bytes, at least %d are needed", len(b), minSecret)
	}
	return b, nil
}

func checkRSA(k *rsa.PublicKey) (*rsa.PublicKey, error) {
	if bits := k.N.BitLen(); bits < minModulus || bits > maxModulus {
		return nil, errs.New(errs.Invalid, "an RSA key has %d bits, %d to %d are taken", bits, minModulus, maxModulus)
	}
	if k.E < 3 || k.E%2 == 0 {
		return nil, errs.New(errs.Invalid, "an RSA key has the exponent %d", k.E)
	}
	return k, nil
}

// exponent reads an RSA exponent; 0, which is none, if it does not fit.
func exponent(b []byte) int {
	if e := new(big.Int).SetBytes(b); e.BitLen() <= 31 {
		return int(e.Int64())
	}
	return 0
}

func checkEd25519(k ed25519.PublicKey) (ed25519.PublicKey, error) {
	if len(k) != ed25519.PublicKeySize {
		return nil, errs.New(errs.Invalid, "an Ed25519 key has %d bytes, must have %d", len(k), ed25519.PublicKeySize)
	}
	return k, nil
}

// pointOf makes a key on P-256; a point off the curve is refused.
func pointOf(x, y []byte) (*ecdsa.PublicKey, error) {
	const size = 32
	if len(x) != size || len(y) != size {
		return nil, errs.New(errs.Invalid, "a P-256 key has coordinates of %d and %d bytes, must have %d", len(x), len(y), size)
	}
	point := append(append([]byte{4}, x...), y...)
	k, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "a P-256 key")
	}
	return k, nil
}

func parsePEM(text []byte) (keys []key, err error) {
	for n := 1; ; n++ {
		var block *pem.Block
		if block, text = pem.Decode(text); block == nil {
			if len(bytes.TrimSpace(text)) > 0 {
				return nil, errs.New(errs.Invalid, "this is neither a JSON web key set nor PEM")
			}
			return keys, nil
		}
		public, err := publicKey(block)
		if err != nil {
			return nil, errs.Wrap(errs.Invalid, err, "PEM block %d", n)
		}
		k, err := pemKey(public)
		if err != nil {
			return nil, errs.Wrap(errs.Invalid, err, "PEM block %d", n)
		}
		keys = append(keys, k)
	}
}

func publicKey(block *pem.Block) (any, error) {
	switch block.Type {
	case "PUBLIC KEY":
		return x509.ParsePKIXPublicKey(block.Bytes)
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		return cert.PublicKey, nil
	}
	return nil, errs.New(errs.Invalid, "it is of type %q; PUBLIC KEY or CERTIFICATE is needed", block.Type)
}

func pemKey(public any) (k key, err error) {
	switch p := public.(type) {
	case *rsa.PublicKey:
		k.alg = RS256
		k.use, err = checkRSA(p)
	case *ecdsa.PublicKey:
		if k.alg, k.use = ES256, p; p.Curve != elliptic.P256() {
			err = errs.New(errs.Invalid, "a key on the curve %s, only P-256 is taken", p.Curve.Params().Name)
		}
	case ed25519.PublicKey:
		k.alg, k.use = EdDSA, p
	default:
		err = errs.New(errs.Invalid, "a key of type %T is not taken", public)
	}
	return k, err
}
