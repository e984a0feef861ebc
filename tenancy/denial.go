package tenancy

// Denial is a request that asked for what it may not have, and was refused: one line of the report of isolation.
type Denial struct {
	Why   Figure // Foreign to UnknownKeys
	By    ID     // whose credential it came with; zero: no tenant's, or By is not known and Name is
	Name  string // that tenant's; empty: none's
	Asked string // whose it asked for, as far as that was known
}

// Denials are why a request may be refused, in the order in which reports have them.
func Denials() []Figure { return []Figure{Foreign, System, Unpermitted, ExpiredKeys, UnknownKeys} }

// Denied is how many requests of a tenant were refused for what they asked for.
func (u *Usage) Denied() (n uint64) {
	for _, f := range Denials() {
		n += u.Counts[f]
	}
	return n
}

// Distrust says of a credential that was not taken whose it is, or was made out to look like. It is in the chain of errors that are
// Unauthenticated; who sent the credential is not told.
type Distrust struct {
	Tenant  ID   // zero: no tenant's, as far as is known
	Expired bool // it was good once
}

func (d *Distrust) Error() string {
	if d.Expired {
		return "the credential has expired"
	}
	return "the credential is not known"
}
