package api

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"sync"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
)

type portKey struct{}

// withPort notes that a connection came in on the per-index port of an offset.
func withPort(ctx context.Context, offset int) context.Context {
	return context.WithValue(ctx, portKey{}, offset)
}

// cutIndexPrefix splits /i/<index>/rest; index is empty if the path has no such prefix.
func cutIndexPrefix(path string) (index, rest string) {
	after, ok := strings.CutPrefix(path, "/i/")
	if !ok {
		return "", path
	}
	name, rest, _ := strings.Cut(after, "/")
	index, err := url.PathUnescape(name)
	if err != nil || index == "" {
		return "", path
	}
	return index, "/" + rest
}

// resolve finds the index that a request means: the one of its own port, else the one that Host names, else the one
// in its path, else the only one there is. A path that contradicts the port or Host is refused, not outvoted.
//
// One that is not found may have been made through another node a moment ago, and is looked up in newer metadata.
func (c *call) resolve(inPath string) error {
	return c.find(func() error { return c.lookUp(inPath) })
}

// find looks for something in this node's metadata, and once more in newer metadata where that may help. At level strong
// it looks in no older than the request, at level any in any that is not from before this node was started.
func (c *call) find(look func() error) error {
	level := c.reading.Consistency
	if level != cluster.Strong {
		if err := look(); !errs.Is(err, errs.NotFound) {
			return err
		}
	}
	newer := c.h.node.Refresh
	if level == cluster.Any {
		newer = c.h.node.CatchUp
	}
	ctx, cancel := context.WithTimeout(c.r.Context(), c.h.opts.Limits.Light.Deadline)
	defer cancel()
	if err := newer(ctx); err != nil {
		return err
	}
	return look()
}

// lookUp finds the index in this node's metadata.
func (c *call) lookUp(inPath string) error {
	ix, way, err := c.h.byConnection(c.r)
	switch {
	case err != nil:
		return err
	case inPath == "" && way == "":
		c.ix, err = c.h.onlyIndex()
		return err
	case inPath == "":
		c.ix = ix
		return nil
	}
	named, ok := c.h.node.Index(inPath)
	if !ok {
		return errNoSuchIndex(inPath)
	}
	if way != "" && named.ID != ix.ID {
		return errs.New(errs.Invalid, "the path names index %q, the %s index %q", named.Name, way, ix.Name)
	}
	c.ix = named
	return nil
}

// byConnection finds the index by port or Host; way is empty if neither names one.
func (h *Handler) byConnection(r *http.Request) (ix cluster.Index, way string, err error) {
	if offset, ok := r.Context().Value(portKey{}).(int); ok && offset > 0 {
		ix, ok := h.node.IndexByPort(offset)
		if !ok {
			return ix, "", errs.New(errs.NotFound, "this port's index is gone").WithHint("GET /indexes shows each index's host")
		}
		return ix, "port", nil
	}
	label, certain := h.advert.label(r.Host)
	if label == "" {
		return ix, "", nil
	}
	ix, ok := h.node.Index(label)
	switch {
	case ok:
		return ix, "Host", nil
	case certain:
		return ix, "", errNoSuchIndex(label)
	}
	return ix, "", nil
}

func (h *Handler) onlyIndex() (cluster.Index, error) {
	all := h.node.Indexes()
	switch len(all) {
	case 1:
		return all[0], nil
	case 0:
		return cluster.Index{}, errs.New(errs.NotFound, "there is no index yet").
			WithHint("create one with POST /indexes or: croft index create NAME --dimension N")
	}
	return cluster.Index{}, errs.New(errs.Invalid, "the request does not tell which of %d indexes it means", len(all)).
		WithHint("dial the index's own host (GET /indexes shows it), or put /i/<index> before the path, or name the index in the first label of Host")
}

// advertiser knows how clients reach an index.
type advertiser struct {
	base          string // as advertised, without trailing slash; empty: what the client dialled
	templated     bool   // base holds {index}
	before, after string // around it
	hostSuffix    string // of Host, when templated; lower case, without port
	ownHost       string // that base names, when not templated: it stands for all indexes

	mu    sync.RWMutex
	ports map[int]netip.AddrPort // open per-index ports, by offset
}

func newAdvertiser(base string) *advertiser {
	a := &advertiser{base: strings.TrimSuffix(base, "/"), ports: map[int]netip.AddrPort{}}
	if a.before, a.after, a.templated = strings.Cut(a.base, "{index}"); a.templated {
		host, _, _ := strings.Cut(a.after, "/")
		a.hostSuffix = strings.ToLower(withoutPort(host))
	} else if u, err := url.Parse(a.base); err == nil {
		a.ownHost = strings.ToLower(withoutPort(u.Host))
	}
	return a
}

// label returns the first label of Host. certain tells that Host is of the advertised form, so that the label must
// name an index: falling back to the only index there is would hide a typing error. The server's own name is none: an
// index that happens to be called like its first label must not take the others' requests.
func (a *advertiser) label(host string) (label string, certain bool) {
	host = strings.ToLower(withoutPort(host))
	if host == "localhost" || host == a.ownHost || net.ParseIP(strings.Trim(host, "[]")) != nil {
		return "", false
	}
	label, rest, _ := strings.Cut(host, ".")
	return label, a.templated && a.hostSuffix != "" && "."+rest == a.hostSuffix
}

// withoutPort cuts the port off host:port, [v6]:port included.
func withoutPort(host string) string {
	if i := strings.LastIndexByte(host, ':'); i > strings.LastIndexByte(host, ']') {
		return host[:i]
	}
	return host
}

// setPort notes that the port of an offset is open.
func (a *advertiser) setPort(offset int, at netip.AddrPort) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ports[offset] = at
}

func (a *advertiser) clearPort(offset int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.ports, offset)
}

// host is the "host" of an index: what a client can dial, scheme included, since clients take a bare host for https.
func (a *advertiser) host(ix *cluster.Index, r *http.Request) string {
	if a.templated {
		return a.before + ix.Name + a.after
	}
	if a.base != "" {
		return a.base + "/i/" + ix.Name
	}
	a.mu.RLock()
	at, open := a.ports[ix.Port]
	a.mu.RUnlock()
	switch {
	case open && at.Addr().IsUnspecified(): // which of our addresses is best known to who dialled one
		return "http://" + withoutPort(r.Host) + ":" + strconv.Itoa(int(at.Port()))
	case open:
		return "http://" + at.String()
	case r.TLS != nil:
		return "https://" + r.Host + "/i/" + ix.Name
	}
	return "http://" + r.Host + "/i/" + ix.Name
}
