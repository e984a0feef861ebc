package tenancy

import (
	"slices"
	"strings"
)

// Role is what a principal may do. Its text is stored: never rename.
type Role string

// Roles. admin and operator are over all tenants, tenant-admin is a tenant's, writer and reader are either.
const (
	RoleAdmin       Role = "admin"        // everything
	RoleOperator    Role = "operator"     // runs the store and its tenants, and reads no records
	RoleTenantAdmin Role = "tenant-admin" // runs one tenant: records, keys, usage
	RoleWriter      Role = "writer"       // reads and changes records
	RoleReader      Role = "reader"       // reads records
)

// Permission is a right that a route asks for.
type Permission uint8

const (
	// Open needs no key at all.
	Open Permission = iota
	// ReadRecords is to query, fetch and list records.
	ReadRecords
	// WriteRecords is to change records and namespaces.
	WriteRecords
	// ReadNamespaces is to see which namespaces there are, and how much is in them.
	ReadNamespaces
	// ReadIndexes is to see indexes and their settings.
	ReadIndexes
	// WriteIndexes is to create, change and delete indexes.
	WriteIndexes
	// ReadCluster is to see nodes, shards and their figures, and tenants' names in metrics.
	ReadCluster
	// WriteCluster is to let nodes in, drain them and remove them.
	WriteCluster
	// ReadTenants is to see a tenant's home, settings and usage.
	ReadTenants
	// RunTenants is what a tenant's own keeper may do to it: empty its cache.
	RunTenants
	// WriteTenants is to create, change and remove tenants and tiers.
	WriteTenants
	// ManageKeys is to list, make and revoke API keys, within Principal.MayGrant.
	ManageKeys
	// ReadAudit is to read the audit log.
	ReadAudit
	// Profile is to look into the running process.
	Profile
	// SearchTenants is to search the records of many tenants at once.
	SearchTenants

	permissionCount
)

var permissionNames = [permissionCount]string{
	"open", "read records", "write records", "read namespaces", "read indexes", "write indexes", "read cluster", "change nodes and shards",
	"read tenants", "run tenants", "write tenants", "manage keys", "read the audit log", "profile the process", "search across tenants",
}

func (p Permission) String() string {
	if int(p) < len(permissionNames) {
		return permissionNames[p]
	}
	return "unknown permission"
}

// Permissions lists every permission, so that tables can be tested for completeness.
func Permissions() []Permission {
	ps := make([]Permission, permissionCount)
	for i := range ps {
		ps[i] = Permission(i)
	}
	return ps
}

// rights is a set of permissions, bit p for permission p.
type rights uint32

func rightsOf(ps ...Permission) (r rights) {
	for _, p := range ps {
		r |= 1 << p
	}
	return r
}

// roleTable is the one place that says what a role may do. A role that is not in it, for example one written by a later
// version, may do nothing.
var roleTable = []struct {
	role   Role
	rights rights
}{
	{RoleAdmin, 1<<permissionCount - 1},
	{RoleOperator, rightsOf(ReadNamespaces, ReadIndexes, WriteIndexes, ReadCluster, WriteCluster, ReadTenants, RunTenants, WriteTenants, ManageKeys, ReadAudit, Profile)},
	{RoleTenantAdmin, rightsOf(ReadRecords, WriteRecords, ReadNamespaces, ReadIndexes, ReadTenants, RunTenants, ManageKeys, ReadAudit)},
	{RoleWriter, rightsOf(ReadRecords, WriteRecords, ReadNamespaces, ReadIndexes)},
	{RoleReader, rightsOf(ReadRecords, ReadNamespaces, ReadIndexes)},
}

// Roles lists all roles, the mightiest first.
func Roles() []Role {
	all := make([]Role, len(roleTable))
	for i := range roleTable {
		all[i] = roleTable[i].role
	}
	return all
}

func (r Role) rights() rights {
	for i := range roleTable {
		if roleTable[i].role == r {
			return roleTable[i].rights
		}
	}
	return 0
}

// May reports whether a role has a permission.
func (r Role) May(p Permission) bool { return p == Open || r.rights()&(1<<p) != 0 }

// Known reports whether this version knows the role.
func (r Role) Known() bool { return slices.Contains(Roles(), r) }

func roleList() string {
	names := make([]string, len(roleTable))
	for i, r := range Roles() {
		names[i] = string(r)
	}
	return strings.Join(names, ", ")
}
