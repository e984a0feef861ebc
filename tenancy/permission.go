package tenancy

// Permission is a right that a route asks for.
type Permission uint8

const (
	// Open needs no key at all.
	Open Permission = iota
	// ReadRecords is to query, fetch, list and count records.
	ReadRecords
	// WriteRecords is to change records and namespaces.
	WriteRecords
	// ReadIndexes is to see indexes and their settings.
	ReadIndexes
	// WriteIndexes is to create, change and delete indexes.
	WriteIndexes
	// ReadCluster is to see nodes, shards and their figures.
	ReadCluster
	// WriteCluster is to let nodes in, drain them and remove them.
	WriteCluster

	permissionCount
)

var permissionNames = [permissionCount]string{
	"open", "read records", "write records", "read indexes", "write indexes", "read cluster", "change nodes",
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

// roles is the one place that says what a role may do. A role that is not in it, for example one written by a later
// version, may do nothing.
var roles = map[Role]map[Permission]bool{
	RoleAdmin: {ReadRecords: true, WriteRecords: true, ReadIndexes: true, WriteIndexes: true, ReadCluster: true, WriteCluster: true},
}

// May reports whether a role has a permission.
func (r Role) May(p Permission) bool { return p == Open || roles[r][p] }
