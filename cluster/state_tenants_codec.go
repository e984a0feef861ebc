package cluster

import (
	"time"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// tenantCommand is the part of a metaCommand that is about tiers and tenants.
type tenantCommand struct {
	tier      string           // metaSetTier, metaDeleteTier; metaSetTenant: the new one, empty: as it is
	create    bool             // metaSetTier: it must not be there, else it must
	limits    tenancy.Change   // metaSetTier, metaSetTenant
	residency ResidencyChange  // metaSetTenant
	override  tenancy.Override // metaOverride; without factor: none
	at        time.Time        // metaDeleteTenant: the proposer's clock
	as        string           // metaUndeleteTenant: under which name, empty: its own
	done      bool             // metaPurgeTenant: the data has gone
	strict    bool             // metaSetStrict
}

func appendTenantCommand(b []byte, op metaOp, c *tenantCommand) []byte {
	switch op {
	case metaSetTier:
		b = append(codec.AppendString(b, c.tier), boolByte(c.create))
		return appendChange(b, &c.limits)
	case metaDeleteTier:
		return codec.AppendString(b, c.tier)
	case metaSetTenant:
		return appendResidencyChange(appendChange(codec.AppendString(b, c.tier), &c.limits), &c.residency)
	case metaOverride:
		return appendOverride(b, &c.override)
	case metaDeleteTenant:
		return appendTime(b, c.at)
	case metaUndeleteTenant:
		return codec.AppendString(b, c.as)
	case metaPurgeTenant:
		return append(b, boolByte(c.done))
	default: // metaSetStrict
		return append(b, boolByte(c.strict))
	}
}

func readTenantCommand(r *codec.Reader, op metaOp, version int) (c tenantCommand) {
	switch op {
	case metaSetTier:
		c.tier, c.create, c.limits = r.String(), r.Byte() != 0, readChange(r)
	case metaDeleteTier:
		c.tier = r.String()
	case metaSetTenant:
		if c.tier, c.limits = r.String(), readChange(r); version >= 7 {
			c.residency = readResidencyChange(r)
		}
	case metaOverride:
		c.override = readOverride(r)
	case metaDeleteTenant:
		c.at = readTime(r)
	case metaUndeleteTenant:
		c.as = r.String()
	case metaPurgeTenant:
		c.done = r.Byte() != 0
	default: // metaSetStrict
		c.strict = r.Byte() != 0
	}
	return c
}

// ofTenant reports whether a command names a tenant in front of the rest.
func (op metaOp) ofTenant() bool { return op >= metaSetTenant && op <= metaPurgeTenant }

func appendLimits(b []byte, ls *tenancy.Limits) []byte {
	n := 0
	for range ls.All() {
		n++
	}
	b = codec.AppendUvarint(b, uint64(n))
	for l, v := range ls.All() {
		b = codec.AppendUvarint(append(b, byte(l)), uint64(v))
	}
	return b
}

func readLimits(r *codec.Reader) (ls tenancy.Limits) {
	for range r.Count(2) {
		l, v := readLimit(r), r.Uvarint()
		if r.Err() == nil {
			ls.Set(l, int64(min(v, tenancy.Unlimited)))
		}
	}
	return ls
}

func readLimit(r *codec.Reader) tenancy.Limit {
	l := tenancy.Limit(r.Byte())
	if !l.Valid() {
		r.Fail(errs.New(errs.FailedPrecondition, "limit %d is unknown to this version", l))
	}
	return l
}

func appendChange(b []byte, c *tenancy.Change) []byte {
	b = codec.AppendUvarint(appendLimits(b, &c.Set), uint64(len(c.Inherit)))
	for _, l := range c.Inherit {
		b = append(b, byte(l))
	}
	return b
}

func readChange(r *codec.Reader) (c tenancy.Change) {
	c.Set = readLimits(r)
	for range r.Count(1) {
		c.Inherit = append(c.Inherit, readLimit(r))
	}
	return c
}

func appendOverride(b []byte, o *tenancy.Override) []byte {
	b = appendTime(codec.AppendFloat64(b, o.Factor), o.Until)
	return codec.AppendString(codec.AppendString(b, o.Reason), o.By)
}

func readOverride(r *codec.Reader) tenancy.Override {
	o := tenancy.Override{Factor: r.Float64(), Until: readTime(r), Reason: r.String(), By: r.String()}
	if o.Factor == 0 {
		return tenancy.Override{}
	}
	return o
}

// appendNewTenant encodes a tenant as a command makes it.
func appendNewTenant(b []byte, t *tenant) []byte {
	b = codec.AppendUvarint(appendTenant(b, t), uint64(t.pin+1))
	own, r := t.ownLimits(), t.resides()
	return appendResidency(appendLimits(codec.AppendString(b, t.tier), &own), &r)
}

func readNewTenant(r *codec.Reader, version int) *tenant {
	t := readTenant(r)
	if version >= 4 {
		t.pin = readPin(r)
	}
	if version >= 6 {
		t.setTier(r.String())
		if own := readLimits(r); !own.IsEmpty() {
			t.terms = &terms{own: own}
		}
	}
	if version >= 7 {
		if res := readResidency(r); !res.IsZero() {
			t.residency = res
		}
	}
	return t
}

const (
	keptTerms    = 1 << iota // of a tenant in a snapshot: it has terms
	keptDeleted              // it is deleted
	keptPurged               // and its data is being dropped
	keptMoved                // it has moved
	keptHomeward             // it is to move to where the ring says
	keptBound                // it may not be everywhere
)

// appendKeptTenant encodes a tenant as a snapshot has it.
func appendKeptTenant(b []byte, t *tenant) []byte {
	b = codec.AppendUvarint(appendTenant(b, t), uint64(t.pin+1))
	b = codec.AppendString(b, t.tier)
	b = append(b, bits(t.terms != nil, t.life != tenantLive, t.life == tenantPurged, t.epoch != 0, t.homeward, t.residency != nil))
	if t.life != tenantLive {
		b = codec.AppendUint64(b, uint64(t.deletedAt))
	}
	if t.terms != nil {
		b = appendOverride(appendLimits(b, &t.terms.own), &t.terms.override)
		b = codec.AppendUvarint(b, t.terms.changed)
	}
	if t.epoch != 0 {
		b = codec.AppendUvarint(b, t.epoch)
	}
	if t.residency != nil {
		b = appendResidency(b, t.residency)
	}
	return b
}

func readKeptTenant(r *codec.Reader, version int) *tenant {
	t := readTenant(r)
	t.pin = readPin(r)
	if version < 6 {
		return t
	}
	t.setTier(r.String())
	flags := r.Byte()
	if flags&keptDeleted != 0 {
		t.life, t.deletedAt = tenantDeleted, int64(r.Uint64())
		if flags&keptPurged != 0 {
			t.life = tenantPurged
		}
	}
	if flags&keptTerms != 0 {
		t.terms = &terms{own: readLimits(r), override: readOverride(r), changed: r.Uvarint()}
	}
	t.homeward = flags&keptHomeward != 0 && t.pin != noPin
	if flags&keptMoved != 0 {
		t.epoch = r.Uvarint()
	}
	if flags&keptBound != 0 {
		t.residency = readResidency(r)
	}
	return t
}

// appendTiers encodes what version 6 of the snapshot added: the tiers that are not as they were shipped, and whether unknown
// namespaces are refused.
func appendTiers(b []byte, s *state) []byte {
	n := 0
	for i := range s.tiers {
		n += int(boolByte(s.tiers[i].changed != 0))
	}
	b = codec.AppendUvarint(b, uint64(n))
	for i := range s.tiers {
		if t := &s.tiers[i]; t.changed != 0 {
			b = append(codec.AppendString(b, t.Name), boolByte(t.gone))
			b = codec.AppendUvarint(appendLimits(b, &t.Limits), t.changed)
		}
	}
	return append(b, boolByte(s.strict))
}

func readTiers(r *codec.Reader, s *state) {
	for range r.Count(4) {
		name, gone := r.String(), r.Byte() != 0
		limits, changed := readLimits(r), r.Uvarint()
		s.putTier(newTier(tenancy.Tier{Name: name, Limits: limits}, changed, gone))
	}
	s.strict = r.Byte() != 0
}
