package api

import (
	"net/http"
	"strings"
)

// page is an answer of somebody else's http.Handler, kept until it is whole: what that handler holds while it writes
// must not wait for a client that does not read.
type page struct {
	header http.Header
	code   int
	body   []byte
}

func (p *page) Header() http.Header         { return p.header }
func (p *page) WriteHeader(code int)        { p.code = code }
func (p *page) Write(b []byte) (int, error) { p.body = append(p.body, b...); return len(b), nil }

// appendJSON makes it a reply; finish sends it as it is, of whatever type.
func (p *page) appendJSON(b []byte) ([]byte, error) { return append(b, p.body...), nil }

func metrics(c *call) (reply, error) {
	p := &page{header: c.w.Header(), code: http.StatusOK}
	c.h.figures.page(&c.principal).ServeHTTP(p, c.r)
	return p, nil
}

// live tells that the process answers, nothing more.
func live(*call) (reply, error) {
	return document{map[string]string{"status": "ok"}}, nil
}

type readiness struct {
	Status string       `json:"status"`
	Checks []checkShown `json:"checks,omitempty"`
}

type checkShown struct {
	Name  string `json:"name"`
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
}

func (r readiness) appendJSON(b []byte) ([]byte, error) { return document{r}.appendJSON(b) }

func (r readiness) status() int {
	if r.Status == "ready" {
		return http.StatusOK
	}
	return http.StatusServiceUnavailable
}

// ready lists the checks that fail; with ?verbose, the others too. ?noleader passes over elections, for those who ask
// whether a process may stay and not whether it can serve.
func ready(c *call) (reply, error) {
	_, verbose := c.params["verbose"]
	_, noLeader := c.params["noleader"]
	r := readiness{Status: "ready"}
	for _, check := range c.h.node.Ready() {
		if noLeader && strings.HasSuffix(check.Name, " leader") {
			continue
		}
		shown := checkShown{Name: check.Name, OK: check.Err == nil}
		if check.Err != nil {
			r.Status, shown.Error = "not ready", check.Err.Error()
			c.w.Header().Set("Retry-After", "1")
		}
		if verbose || check.Err != nil {
			r.Checks = append(r.Checks, shown)
		}
	}
	return r, nil
}
