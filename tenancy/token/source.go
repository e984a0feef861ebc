package token

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
)

// maxDocument bounds what is read of a source, in bytes.
const maxDocument = 1 << 20

// Source is where keys come from.
type Source struct {
	name  string
	local bool // a file of the operator's: it may hold shared secrets, and must be there
	fetch func(ctx context.Context) ([]byte, error)
}

// FromFile reads keys from a file: a JSON web key set, or PEM blocks.
func FromFile(fsys vfs.FS, path string) Source {
	return Source{path, true, func(context.Context) ([]byte, error) {
		info, err := fsys.Stat(path)
		if err != nil {
			return nil, err
		}
		if info.Size > maxDocument {
			return nil, errs.New(errs.TooLarge, "%s has %d bytes, at most %d are read", path, info.Size, maxDocument)
		}
		return vfs.ReadFile(fsys, path)
	}}
}

// FromURL reads a JSON web key set from a URL: https, or http on this machine alone. It follows no redirect.
func FromURL(address string) (Source, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "https" && (u.Scheme != "http" || !isLocal(u.Hostname())) {
		return Source{}, errs.New(errs.Invalid, "%q is not the URL of a key set", address).
			WithHint("it begins with https://, or with http:// and a loopback address")
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.DisableKeepAlives = true // it is asked every few minutes
	transport.MaxResponseHeaderBytes = 64 << 10
	client := &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	return Source{address, false, func(ctx context.Context) ([]byte, error) { return download(ctx, client, address) }}, nil
}

func isLocal(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func download(ctx context.Context, client *http.Client, address string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Accept", "application/jwk-set+json, application/json")
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, errs.New(errs.Unavailable, "%s answered %s", address, resp.Status)
	}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err == nil && len(b) > maxDocument {
		err = errs.New(errs.TooLarge, "%s answered with more than %d bytes", address, maxDocument)
	}
	return b, err
}

// KeysOptions say where keys come from, and how often they are looked at.
type KeysOptions struct {
	Source  Source        // its fetch may be missing: then there is Secret alone
	Secret  []byte        // shared with the issuer, for HS256; nil: none
	Refresh time.Duration // age at which the keys are looked at again; 0: 5 min
	Pause   time.Duration // between two looks, whatever is asked; 0: 10 s
	Timeout time.Duration // of one look, and for which a token waits for it; 0: 3 s
}

func (o *KeysOptions) ensureDefaults() {
	for _, d := range []struct {
		p *time.Duration
		v time.Duration
	}{{&o.Refresh, 5 * time.Minute}, {&o.Pause, 10 * time.Second}, {&o.Timeout, 3 * time.Second}} {
		if *d.p == 0 {
			*d.p = d.v
		}
	}
}
