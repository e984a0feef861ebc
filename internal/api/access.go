package api

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// Whether a request may have what it asks for is decided here, by its route's row alone: first whether the principal's role
// has the permission, then whether what the request touches is in the principal's reach. Neither looks at what there is, so
// that a refusal is the same for what exists and what does not.

// authorize finds out who asks, and whether they may, as far as route and path tell.
func (c *call) authorize() error {
	if c.route.perm == tenancy.Open {
		c.recognise()
		return c.checkScope()
	}
	if err := c.authenticate(); err != nil {
		return c.distrust(err)
	}
	if !c.principal.Role.May(c.route.perm) {
		return c.deny(c.outOfRole(), c.asked(), errs.New(errs.PermissionDenied, "this key may not %s", c.route.perm))
	}
	return c.checkScope()
}

func (c *call) authenticate() (err error) {
	if c.vetted {
		return nil
	}
	text := apiKey(c.r.Header)
	c.principal, err = c.h.opts.Auth.Authenticate(text, c.start)
	if err != nil && c.h.seek(c.r.Context(), text, c.start) {
		c.principal, err = c.h.opts.Auth.Authenticate(text, c.start)
	}
	return err
}

// Bounds of the search for keys that were made through another node a moment ago.
const (
	seekPause   = 50 * time.Millisecond // between two: made-up keys must not keep the metadata plane busy
	seekTimeout = time.Second
	maxSeekers  = 64 // requests that wait for it
)

// seeker looks for newer metadata on behalf of keys that are not known. Requests that come while one look is on its way share
// the next.
type seeker struct {
	places chan struct{}
	pause  time.Duration // between two looks
	mu     sync.Mutex    // held over a look
	begun  time.Time     // of the last one that succeeded
}

// seek looks for newer metadata if a text is of a key's form and not known here, and reports whether it is worth another look.
func (h *Handler) seek(ctx context.Context, text string, now time.Time) bool {
	id, err := tenancy.ParseKey(text)
	if err != nil {
		return false
	}
	if _, known := h.node.Key(id); known {
		return false
	}
	s := &h.seeker
	select {
	case s.places <- struct{}{}:
		defer func() { <-s.places }()
	default:
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun.After(now) {
		return true // somebody has looked since this request came
	}
	ctx, cancel := context.WithTimeout(ctx, seekTimeout)
	defer cancel()
	select {
	case <-time.After(time.Until(s.begun.Add(s.pause))):
	case <-ctx.Done():
		return false
	}
	begun := time.Now()
	if h.node.Refresh(ctx) != nil {
		return false
	}
	s.begun = begun
	return true
}

// recognise notes who asks where anybody may: a page may have more for some. A wrong key there is as good as none.
func (c *call) recognise() {
	if apiKey(c.r.Header) != "" && c.authenticate() != nil {
		c.principal = tenancy.Principal{}
	}
}

// checkScope refuses what is out of the principal's reach, as far as the path tells. Where only the handler knows what is
// meant, it asks inNamespace or sight; run answers nothing of a handler that has not.
func (c *call) checkScope() error {
	switch c.route.scope {
	case noTenant, sharedByAll:
		c.scoped = true
		return nil
	case allTenants:
		if c.principal.Tenant != "" {
			return c.deny(tenancy.System, "", errForOneTenant())
		}
		c.scoped = true
		return nil
	case oneTenant:
		c.namespace = c.args[0]
		return c.reach(c.args[0])
	case oneNamespace, inSight:
		return nil
	}
	return errs.New(errs.Internal, "%s %s does not say what it touches", c.r.Method, c.route.pattern)
}

// reach refuses a tenant that is not the principal's, in the same words whether there is one of that name or not.
func (c *call) reach(tenant string) error {
	if !c.principal.Reaches(tenant) {
		return c.deny(tenancy.Foreign, tenant, errs.New(errs.PermissionDenied, "this key does not reach the namespace %q", clip(tenant)).
			WithHint("a tenant's key reaches the namespace of its own name, in every index"))
	}
	c.scoped = true
	c.serveUnder(tenant)
	return nil
}

func errForOneTenant() error {
	return errs.New(errs.PermissionDenied, "this key is for one tenant, this is about all of them")
}

// sight is what a list may show: all, or what belongs to one tenant.
func (c *call) sight() (own string, all bool) {
	c.scoped = true
	return c.principal.Tenant, c.principal.Tenant == ""
}

// creating is the context of a write that makes the tenant if there is none: only who reaches all tenants does.
func (c *call) creating() context.Context {
	if c.principal.Tenant == "" {
		return c.ctx
	}
	return cluster.OnlyKnownTenants(c.ctx)
}

// apiKey is the key that a request carries: Api-Key, else Authorization: Bearer.
func apiKey(h http.Header) string {
	if k := h.Get("Api-Key"); k != "" {
		return k
	}
	scheme, rest, _ := strings.Cut(h.Get("Authorization"), " ")
	if strings.EqualFold(scheme, "bearer") {
		return strings.TrimSpace(rest)
	}
	return ""
}
