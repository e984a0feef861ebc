package systest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// conn speaks to one index of a server, or to its control plane. It never repeats a call: what happened to each must
// be known.
type conn struct {
	url       string
	requestID string // "": the server's choice
	headers   map[string]string
	http      *http.Client
}

// dial makes a conn with connections of its own: those to a server that was killed must not be met again.
func dial(s *server) conn {
	return conn{url: s.url, http: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}, Timeout: time.Minute}}
}

func (c conn) index(name string) conn {
	c.url += "/i/" + name
	return c
}

// as gives the conn's calls an id, which the server repeats in its answers.
func (c conn) as(requestID string) conn {
	c.requestID = requestID
	return c
}

// reading gives the conn's reads a level of consistency.
func (c conn) reading(level string) conn { return c.with("X-Croft-Consistency", level) }

// once gives the conn's writes an idempotency key.
func (c conn) once(key string) conn { return c.with("Idempotency-Key", key) }

func (c conn) with(header, value string) conn {
	c.headers = maps.Clone(c.headers)
	if c.headers == nil {
		c.headers = map[string]string{}
	}
	c.headers[header] = value
	return c
}

// refused is an answer other than 200 to 299.
type refused struct {
	status int
	body   string
}

func (r *refused) Error() string { return fmt.Sprintf("answer %d: %s", r.status, r.body) }

// unknown reports whether the call may have been carried out all the same.
func (r *refused) unknown() bool {
	return r.status >= 500 && r.status != http.StatusInsufficientStorage
}

func (c conn) call(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, c.url+path, body)
	if err != nil {
		return err
	}
	req.Header.Set("Api-Key", adminKey)
	for name, value := range c.headers {
		req.Header.Set(name, value)
	}
	if c.requestID != "" {
		req.Header.Set("X-Request-Id", c.requestID)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	answer, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return err
	case resp.StatusCode < 200 || resp.StatusCode > 299:
		return &refused{resp.StatusCode, string(answer)}
	case out == nil:
		return nil
	}
	return json.Unmarshal(answer, out)
}

func (c conn) createIndex(ctx context.Context, name, metric string, dim int) error {
	return c.call(ctx, http.MethodPost, "/indexes", map[string]any{
		"name": name, "dimension": dim, "metric": metric,
		"spec": map[string]any{"serverless": map[string]any{"cloud": "aws", "region": "us-east-1"}},
	}, nil)
}

// list returns all ids of a namespace.
func (c conn) list(ctx context.Context, ns string) ([]string, error) {
	var ids []string
	token := ""
	for {
		var page struct {
			Vectors    []struct{ ID string }
			Pagination struct{ Next string }
		}
		q := url.Values{"namespace": {ns}, "limit": {"100"}}
		if token != "" {
			q.Set("paginationToken", token)
		}
		if err := c.call(ctx, http.MethodGet, "/vectors/list?"+q.Encode(), nil, &page); err != nil {
			return nil, err
		}
		for _, v := range page.Vectors {
			ids = append(ids, v.ID)
		}
		if token = page.Pagination.Next; token == "" {
			return ids, nil
		}
	}
}

// fetchMost is how many ids go in one address: its length is bounded to 16 KiB.
const fetchMost = 500

func (c conn) fetch(ctx context.Context, ns string, ids []string, into state) error {
	q := "/vectors/fetch?namespace=" + url.QueryEscape(ns) + "&ids=" + strings.Join(ids, "&ids=")
	var out struct{ Vectors map[string]record }
	if err := c.call(ctx, http.MethodGet, q, nil, &out); err != nil {
		return err
	}
	for id, r := range out.Vectors {
		into[id] = r
	}
	return nil
}
