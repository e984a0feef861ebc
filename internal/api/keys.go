package api

import (
	"time"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// keyShown is an API key without its secret, which is told once, when it is made.
type keyShown struct {
	ID        string    `json:"id"`
	Name      string    `json:"name"`
	Role      string    `json:"role"`
	Tenant    string    `json:"tenant,omitzero"` // empty: it is over all
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at,omitzero"`
	LastUsed  time.Time `json:"last_used_at,omitzero"` // of a list; absent: no use is known
	Key       string    `json:"key,omitzero"`
}

func showKey(k *tenancy.Key) keyShown {
	return keyShown{ID: k.ID, Name: k.Name, Role: string(k.Role), Tenant: k.Tenant, CreatedAt: k.CreatedAt, ExpiresAt: k.Expires}
}

// keyRequest is the body that asks for a key.
type keyRequest struct{ tenant, role, name, expires string }

var keyFields = []field[keyRequest]{
	textField("tenant", func(k *keyRequest) *string { return &k.tenant }),
	textField("role", func(k *keyRequest) *string { return &k.role }),
	textField("name", func(k *keyRequest) *string { return &k.name }),
	textField("expires", func(k *keyRequest) *string { return &k.expires }),
}

// longestKeyLife bounds how far away a key's end may be; one without an end has none.
const longestKeyLife = 10 * 365 * 24 * time.Hour

// end reads when a key ends: a time, or how long from now. Zero: never.
func (k *keyRequest) end(now time.Time) (time.Time, error) {
	if k.expires == "" {
		return time.Time{}, nil
	}
	at, err := time.Parse(time.RFC3339, k.expires)
	if err != nil {
		life, err := time.ParseDuration(k.expires)
		if err != nil {
			return time.Time{}, invalid("expires", "%q is neither a duration such as 720h nor a time such as 2027-01-31T00:00:00Z", clip(k.expires))
		}
		at = now.Add(life)
	}
	if !at.After(now) || at.Sub(now) > longestKeyLife {
		return time.Time{}, invalid("expires", "%s is not between now and ten years from now", at.UTC().Format(time.RFC3339))
	}
	return at.UTC(), nil
}

// createKey makes a key. A tenant's principal makes those of its tenant, whether it names it or not.
func createKey(c *call) (reply, error) {
	var req keyRequest
	if err := decodeObject(c.body, &req, keyFields); err != nil {
		return nil, err
	}
	if own, all := c.sight(); !all && req.tenant == "" {
		req.tenant = own
	}
	c.namespace = req.tenant
	role := tenancy.Role(req.role)
	if role == "" {
		return nil, invalid("role", "is missing")
	}
	if err := tenancy.CheckBinding(role, req.tenant); err != nil {
		return nil, err
	}
	if !c.principal.MayGrant(role, req.tenant) {
		return nil, c.mayNotGrant(role, req.tenant)
	}
	end, err := req.end(c.start)
	if err != nil {
		return nil, err
	}
	text, k := tenancy.NewKey(req.name, role, c.start.UTC())
	k.Tenant, k.Expires = req.tenant, end
	if err := c.h.node.AddKey(c.ctx, k); err != nil {
		return nil, err
	}
	shown := showKey(&k)
	shown.Key = text
	c.object = k.ID
	return document{shown}, nil
}

func (c *call) mayNotGrant(role tenancy.Role, tenant string) error {
	switch {
	case tenant == "":
		return c.deny(tenancy.System, "", errs.New(errs.PermissionDenied, "this key may not make or revoke keys of the role %s that are over all tenants", role))
	case !c.principal.Reaches(tenant):
		return c.deny(tenancy.Foreign, tenant, errMayNotGrant(role, tenant))
	}
	return c.deny(tenancy.Unpermitted, "", errMayNotGrant(role, tenant))
}

func errMayNotGrant(role tenancy.Role, tenant string) error {
	return errs.New(errs.PermissionDenied, "this key may not make or revoke keys of the role %s of tenant %q", role, clip(tenant))
}

// revokeKey forgets a key. One out of reach is not there, for all that is told.
func revokeKey(c *call) (reply, error) {
	id := c.args[0]
	c.sight()
	var k tenancy.Key
	err := c.find(func() error {
		var ok bool
		k, ok = c.h.node.Key(id)
		if ok && c.principal.Reaches(k.Tenant) {
			return nil
		}
		err := errs.New(errs.NotFound, "there is no API key %q", clip(id)).WithHint("`croft keys list` shows those that are there")
		if ok {
			return c.deny(c.outOfReach(k.Tenant), k.Tenant, err)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	c.namespace = k.Tenant
	if !c.principal.MayGrant(k.Role, k.Tenant) {
		return nil, c.mayNotGrant(k.Role, k.Tenant)
	}
	return empty{}, c.h.node.RevokeKey(c.ctx, id)
}

type keyPage struct {
	Keys       []keyShown `json:"keys"`
	Pagination *nextPage  `json:"pagination,omitzero"`
	Total      int        `json:"total_count"`
}

func (k keyShown) owners() []string { return []string{k.Tenant} }
func (p keyPage) owners() []string {
	return namesOf(p.Keys, func(k *keyShown) string { return k.Tenant })
}

// listKeys lists the keys that the principal reaches: of one tenant with ?tenant.
func listKeys(c *call) (reply, error) {
	limit, err := c.params.integer("limit", defaultListed, 1, maxListed)
	if err != nil {
		return nil, err
	}
	own, all := c.sight()
	tenant := c.params.text("tenant")
	if tenant != "" {
		if err := c.reach(tenant); err != nil {
			return nil, err
		}
		own, all = tenant, false
	}
	at := c.listing("", tenant)
	after, err := c.h.tokens.open(at, c.params.text("paginationToken"))
	if err != nil {
		return nil, err
	}
	found, more, total := c.h.node.Keys(cluster.KeyQuery{Tenant: own, All: all, After: after, Limit: limit})
	page := keyPage{Keys: make([]keyShown, len(found)), Total: total}
	ids := make([]string, len(found))
	for i := range found {
		ids[i] = found[i].ID
	}
	used := c.h.node.KeysUsed(c.ctx, ids)
	for i := range found {
		page.Keys[i] = showKey(&found[i])
		page.Keys[i].LastUsed = used[found[i].ID]
	}
	if more {
		page.Pagination = &nextPage{c.h.tokens.seal(at, found[len(found)-1].ID)}
	}
	return document{page}, nil
}
