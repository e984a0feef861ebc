// Package client is a thin client of croft's HTTP API, in the classic shape of Pinecone's.
//
// A Client speaks to the control plane: it creates, lists, describes and deletes indexes. An Index, got from
// Client.Index, speaks to one index's data plane:
//
//	c, err := client.New(client.Options{URL: "http://127.0.0.1:5080", APIKey: key})
//	docs, err := c.Index(ctx, "acme-docs")
//	res, err := docs.Query(ctx, client.QueryRequest{ID: "doc-1", TopK: 3, IncludeMetadata: true})
//
// It promises that a call which may be sent twice without harm is repeated, a bounded number of times and with
// jitter, when the server says "later" (429, 503, Retry-After) or cannot be reached; and that every failure is an
// *errs.Error by errors.As, with the server's words, hint and request id. The command line and bench call it. It
// never keeps state on disk and never logs.
package client

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"
)

// apiVersion is the newest version of the API whose control plane has the classic shape.
const apiVersion = "2026-04"

// Options of a Client.
type Options struct {
	URL       string // of the control plane, e.g. http://127.0.0.1:5080; a path prefix is kept
	APIKey    string // sent as Api-Key; empty: none
	UserAgent string // empty: croft-client
	// Consistency of reads: leader, strong or any; empty: the server's default, leader.
	Consistency string
	Retries     int               // repeats of one call after its first attempt; 0: 3, negative: none
	Timeout     time.Duration     // of one attempt; 0: one minute, negative: none
	Transport   http.RoundTripper // nil: one of our own, which keeps connections alive
}

// EnsureDefaults fills what is not set.
func (o *Options) EnsureDefaults() {
	if o.UserAgent == "" {
		o.UserAgent = "croft-client"
	}
	if o.Retries == 0 {
		o.Retries = 3
	}
	if o.Timeout == 0 {
		o.Timeout = time.Minute
	}
	if o.Transport == nil {
		o.Transport = newTransport()
	}
}

// newTransport is Go's default with enough idle connections for concurrent imports to one host.
func newTransport() http.RoundTripper {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.MaxIdleConnsPerHost = 64
	t.ResponseHeaderTimeout = 0 // the attempt's own timeout rules
	return t
}

// Client speaks to one server. It may be used from any number of goroutines.
type Client struct {
	opts  Options
	root  *address
	http  *http.Client
	sleep func(ctx context.Context, d time.Duration) error // replaced by tests
}

// New makes a client without contacting the server.
func New(opts Options) (*Client, error) {
	opts.EnsureDefaults()
	root, err := parseBase(opts.URL)
	if err != nil {
		return nil, err
	}
	return &Client{opts: opts, root: newAddress(root, nil), http: &http.Client{Transport: opts.Transport}, sleep: sleep}, nil
}

// URL is the address of the control plane.
func (c *Client) URL() string { return c.root.current().String() }

// Close drops idle connections. The client stays usable.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// address is where calls go, with another address for when the first cannot be dialled.
type address struct {
	now   atomic.Pointer[url.URL]
	other *url.URL // nil: none
}

func newAddress(u, other *url.URL) *address {
	a := &address{other: other}
	a.now.Store(u)
	return a
}

func (a *address) current() *url.URL { return a.now.Load() }

// fallBack moves to the other address and reports whether that is a change.
func (a *address) fallBack() bool {
	if a.other == nil || a.now.Load().String() == a.other.String() {
		return false
	}
	a.now.Store(a.other)
	return true
}

// parseBase reads the address of a server. Without a scheme it is https, as Pinecone's clients read it.
func parseBase(s string) (*url.URL, error) {
	if !strings.Contains(s, "://") {
		s = "https://" + s
	}
	u, err := url.Parse(strings.TrimRight(s, "/"))
	if err != nil {
		return nil, fmt.Errorf("parse server address: %w", err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, fmt.Errorf("server address %q is not of the form http://host:port", s)
	}
	return u, nil
}

// Bounds of the pause before a repeat. Pauses double from the first; each is drawn from the upper half of its
// bound, so that clients which failed together do not come back together.
const (
	firstPause    = 100 * time.Millisecond
	longestPause  = 3 * time.Second
	longestAdvice = 30 * time.Second // a longer Retry-After is the caller's to wait for
)

func backoff(attempt int) time.Duration {
	d := min(firstPause<<min(attempt, 10), longestPause)
	return d/2 + rand.N(d/2)
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
