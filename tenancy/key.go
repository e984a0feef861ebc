package tenancy

import "time"

// Role is what a principal may do.
type Role string

// RoleAdmin may do everything.
const RoleAdmin Role = "admin"

// Key is an API key as it is stored: a public id and a hash of the secret, never the secret.
type Key struct {
	ID        string // public part, found in the key's text
	Hash      [32]byte
	Name      string
	Role      Role
	CreatedAt time.Time
}

// KeySource finds stored keys; the metadata plane is one.
type KeySource interface {
	Key(id string) (Key, bool)
}

// Principal is who a request is from.
type Principal struct {
	KeyID string
	Role  Role
}
