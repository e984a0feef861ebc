package tenancy

import "github.com/croftdb/croft/internal/errs"

// Principal is who a request is from.
type Principal struct {
	KeyID    string // public id of a stored key
	Subject  string // whom a token was made out to
	Role     Role
	Tenant   string // whose namespaces alone it reaches; empty: all
	TenantID ID     // of that tenant; zero: all, or a token, which names a tenant and knows no id
}

// Reaches reports whether what belongs to a tenant is in the principal's reach. It says nothing about what may be done
// there, which is the role's.
func (p *Principal) Reaches(tenant string) bool { return p.Tenant == "" || p.Tenant == tenant }

// String names the principal in logs and in the audit log: by a public id, never by a secret.
func (p Principal) String() string {
	switch {
	case p.Subject != "":
		return "token:" + p.Subject
	case p.KeyID != "":
		return "key:" + p.KeyID
	case p.Role != "":
		return "admin key"
	}
	return "nobody"
}

// CheckBinding tells whether credentials of a role may be a tenant's, or of no tenant. What is left out of a credential
// must never widen it: the keeper of a tenant needs one, and who runs the whole store has none.
func CheckBinding(role Role, tenant string) error {
	switch {
	case !role.Known():
		return errs.New(errs.Invalid, "there is no role %q; the roles are %s", role, roleList())
	case tenant == "" && role == RoleTenantAdmin:
		return errs.New(errs.Invalid, "the role %s needs a tenant", role)
	case tenant != "" && (role == RoleAdmin || role == RoleOperator):
		return errs.New(errs.Invalid, "the role %s is over all tenants, it cannot be that of tenant %q", role, tenant)
	}
	return nil
}

// MayGrant reports whether the principal may make and revoke credentials of a role for a tenant (empty: all). Nobody makes
// a credential that reaches further than his own: only an admin makes those that are over all tenants.
func (p *Principal) MayGrant(role Role, tenant string) bool {
	switch {
	case !p.Role.May(ManageKeys) || !p.Reaches(tenant):
		return false
	case p.Role == RoleAdmin:
		return true
	}
	return tenant != "" && role != RoleAdmin && role != RoleOperator
}
