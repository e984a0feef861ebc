package cluster

import (
	"bytes"
	"cmp"
	"maps"
	"math"
	"slices"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/tenancy"
)

// metaOp is the kind of a command to the metadata plane. Numbers are on disk: append only.
type metaOp uint8

const (
	metaInit           metaOp = iota + 1 // names the cluster and lays out its shards, once
	metaCreateTenants                    // makes the tenants whose names are free
	metaCreateIndex                      // makes an index, gives it an id and a port
	metaConfigureIndex                   // changes the index of patch
	metaDeleteIndex                      // replaces an index by a tombstone
	metaPin                              // says where a tenant lives against the ring
	metaAddKey                           // stores the hash of an API key
	metaRegister                         // notes a node's addresses
	metaJoin                             // lets a node in
	metaSetMember                        // moves a node on in its life
	metaPlace                            // says which nodes are to carry a shard
	metaAddToken                         // stores the hash of a join token
	metaReplication                      // says how many replicas are wanted
	metaAddShard                         // makes a dedicated shard
	metaRemoveShard                      // takes out a dedicated shard that holds nothing
	metaSetRules                         // says how new tenants are placed
	metaRecover                          // gives up nodes after the loss of a majority
	metaSetTier                          // makes or changes a tier
	metaDeleteTier                       // deletes a tier that no tenant has
	metaSetTenant                        // changes a tenant's tier and limits
	metaOverride                         // multiplies a tenant's limits for a while
	metaDeleteTenant                     // frees a tenant's name; its data is kept for a while
	metaUndeleteTenant                   // brings a deleted tenant back
	metaPurgeTenant                      // makes a deletion final, and then forgets the tenant
	metaSetStrict                        // says whether a write makes the namespace that it names
	metaRevokeKey                        // forgets an API key
	metaSetPrices                        // says what use costs
	metaPlanMoves                        // plans migrations
	metaStepMove                         // brings a migration to its next phase
	metaJoinRing                         // gives a shard part of the ring
	metaDrainShard                       // takes a shard off the ring, its tenants are to leave it
	metaStartRun                         // begins to move tenants
	metaEndRun                           // ends that
	metaSetBalance                       // says when tenants are moved by themselves
	metaHeal                             // lets a tenant live where its data is
	metaBindShard                        // says in which zones a shard's replicas are to be
)

// metaCommandVersion is the first byte of every command. Those of earlier versions are still in logs.
const metaCommandVersion = 7

// metaCommand is one entry of the metadata plane's log. Whoever proposes it has put in time and chance.
type metaCommand struct {
	op        metaOp
	clusterID string         // metaInit
	shards    []uint16       // metaInit
	ring      ringTable      // metaInit
	tenants   []*tenant      // metaCreateTenants: names, ids, pins, tiers and limits
	index     Index          // metaCreateIndex, without id and port
	indexID   engine.IndexID // metaConfigureIndex, metaDeleteIndex
	patch     IndexPatch     // metaConfigureIndex
	tenantID  engine.TenantID
	pin       int32          // metaPin: a shard or noPin
	key       tenancy.Key    // metaAddKey; metaRevokeKey: its id
	prices    tenancy.Prices // metaSetPrices
	memberCommand
	shardCommand
	tenantCommand
	moveCommand
	ringCommand
	runCommand
	healCommand
}

func appendMetaCommand(b []byte, c *metaCommand) []byte {
	b = append(b, metaCommandVersion, byte(c.op))
	switch c.op {
	case metaInit:
		b = codec.AppendString(b, c.clusterID)
		b = appendUint16s(b, c.shards)
		b = appendUint16s(b, c.ring)
		b = appendRules(b, c.rules)
	case metaCreateTenants:
		b = codec.AppendUvarint(b, uint64(len(c.tenants)))
		for _, t := range c.tenants {
			b = appendNewTenant(b, t)
		}
	case metaCreateIndex:
		b = appendIndex(b, &c.index)
	case metaConfigureIndex:
		b = codec.AppendUvarint(b, uint64(c.indexID))
		b = appendPatch(b, &c.patch)
	case metaDeleteIndex:
		b = codec.AppendUvarint(b, uint64(c.indexID))
	case metaPin:
		b = append(b, c.tenantID[:]...)
		b = codec.AppendUvarint(b, uint64(c.pin+1))
	case metaAddKey:
		b = appendKey(b, c.key)
	case metaRevokeKey:
		b = codec.AppendString(b, c.key.ID)
	case metaSetPrices:
		b = appendPrices(b, &c.prices)
	case metaAddShard, metaRemoveShard, metaSetRules, metaBindShard:
		b = appendShardCommand(b, c.op, &c.shardCommand)
	case metaSetTier, metaDeleteTier, metaSetTenant, metaOverride, metaDeleteTenant, metaUndeleteTenant, metaPurgeTenant, metaSetStrict:
		if c.op.ofTenant() {
			b = append(b, c.tenantID[:]...)
		}
		b = appendTenantCommand(b, c.op, &c.tenantCommand)
	case metaPlanMoves, metaStepMove:
		b = appendMoveCommand(b, c.op, &c.moveCommand)
	case metaJoinRing, metaDrainShard:
		b = appendRingCommand(b, &c.ringCommand)
	case metaStartRun, metaEndRun, metaSetBalance:
		b = appendRunCommand(b, c.op, &c.runCommand)
	case metaHeal:
		b = appendHealCommand(b, &c.healCommand)
	default:
		b = appendMemberCommand(b, c.op, &c.memberCommand)
	}
	return b
}

func decodeMetaCommand(b []byte) (*metaCommand, error) {
	r := codec.NewReader(b)
	version := r.Byte()
	if version < 1 || version > metaCommandVersion {
		return nil, errs.New(errs.FailedPrecondition, "metadata command has version %d, this version knows 1 to %d", version, metaCommandVersion)
	}
	c := &metaCommand{op: metaOp(r.Byte())}
	switch c.op {
	case metaInit:
		c.clusterID, c.shards, c.ring = r.String(), readUint16s(r), readUint16s(r)
		if version >= 4 {
			c.rules = readRules(r)
		}
	case metaCreateTenants:
		for range r.Count(17) {
			c.tenants = append(c.tenants, readNewTenant(r, int(version)))
		}
	case metaCreateIndex:
		c.index = readIndex(r, int(version))
	case metaConfigureIndex:
		c.indexID, c.patch = engine.IndexID(r.Uvarint()), readPatch(r)
	case metaDeleteIndex:
		c.indexID = engine.IndexID(r.Uvarint())
	case metaPin:
		copy(c.tenantID[:], r.Raw(len(c.tenantID)))
		c.pin = readPin(r)
	case metaAddKey:
		c.key = readKey(r, int(version))
	case metaRevokeKey:
		c.key.ID = r.String()
	case metaSetPrices:
		c.prices = readPrices(r)
	case metaRegister, metaJoin, metaSetMember, metaPlace, metaAddToken, metaReplication, metaRecover:
		c.memberCommand = readMemberCommand(r, c.op, int(version))
	case metaAddShard, metaRemoveShard, metaSetRules, metaBindShard:
		c.shardCommand = readShardCommand(r, c.op, int(version))
	case metaSetTier, metaDeleteTier, metaSetTenant, metaOverride, metaDeleteTenant, metaUndeleteTenant, metaPurgeTenant, metaSetStrict:
		if c.op.ofTenant() {
			copy(c.tenantID[:], r.Raw(len(c.tenantID)))
		}
		c.tenantCommand = readTenantCommand(r, c.op, int(version))
	case metaPlanMoves, metaStepMove:
		c.moveCommand = readMoveCommand(r, c.op)
	case metaJoinRing, metaDrainShard:
		c.ringCommand = readRingCommand(r)
	case metaStartRun, metaEndRun, metaSetBalance:
		c.runCommand = readRunCommand(r, c.op)
	case metaHeal:
		c.healCommand = readHealCommand(r)
	default:
		return nil, errs.New(errs.FailedPrecondition, "metadata command %d is unknown to this version", c.op)
	}
	return c, r.Done()
}

func appendPatch(b []byte, p *IndexPatch) []byte {
	var flags byte
	if p.DeletionProtection != nil {
		flags |= 1 | boolByte(*p.DeletionProtection)<<1
	}
	flags |= boolByte(p.Spec != nil)<<2 | boolByte(p.TargetRecall != 0)<<3
	b = append(b, flags)
	b = appendTags(b, p.Tags)
	b = codec.AppendBytes(b, p.Spec)
	if p.TargetRecall != 0 {
		b = codec.AppendUint32(b, math.Float32bits(p.TargetRecall))
	}
	return b
}

func readPatch(r *codec.Reader) IndexPatch {
	var p IndexPatch
	flags := r.Byte()
	if flags&1 != 0 {
		on := flags&2 != 0
		p.DeletionProtection = &on
	}
	p.Tags = readTags(r)
	if spec := r.Bytes(); flags&4 != 0 {
		p.Spec = bytes.Clone(spec)
	}
	if flags&8 != 0 {
		p.TargetRecall = math.Float32frombits(r.Uint32())
	}
	return p
}

// metaResult is the answer of the metadata state machine, the same on every replica.
type metaResult struct {
	at    uint64 // index of the entry
	index Index  // of commands about one
	shard uint16 // of metaAddShard: the new one
	move  uint64 // of metaHeal: the last number of a migration
	err   error  // a refusal; the state is as before
}

// executeMeta applies the entry data with the given index to s and returns the next state. It depends on nothing else
// and never panics, whatever data is: a command that is unknown or damaged is refused.
func executeMeta(s *state, index uint64, data []byte) (*state, metaResult) {
	next := *s
	next.index, next.superseded = index, make(chan struct{})
	c, err := decodeMetaCommand(data)
	if err != nil {
		return &next, metaResult{at: index, err: err}
	}
	changed := next
	res := changed.execute(c)
	res.at = index
	if res.err != nil {
		return &next, res
	}
	return &changed, res
}

func (s *state) execute(c *metaCommand) metaResult {
	switch c.op {
	case metaInit:
		return metaResult{err: s.init(c)}
	case metaCreateTenants:
		return metaResult{err: s.createTenants(c.tenants)}
	case metaCreateIndex:
		return s.createIndex(c.index)
	case metaConfigureIndex:
		return s.configureIndex(c.indexID, c.patch)
	case metaDeleteIndex:
		return s.deleteIndex(c.indexID)
	case metaPin:
		return metaResult{err: s.pin(c.tenantID, c.pin)}
	case metaAddKey:
		return metaResult{err: s.addKey(c.key)}
	case metaRevokeKey:
		return metaResult{err: s.revokeKey(c.key.ID)}
	case metaSetPrices:
		return metaResult{err: s.setPrices(c.prices)}
	case metaAddShard:
		id := s.nextShard
		return metaResult{shard: id, err: s.addShard(&c.shardCommand)}
	case metaRemoveShard:
		return metaResult{err: s.removeShard(c.shard)}
	case metaSetRules:
		return metaResult{err: s.setRules(c.rules)}
	case metaBindShard:
		return metaResult{err: s.bindShard(&c.shardCommand)}
	case metaSetTier, metaDeleteTier, metaSetTenant, metaOverride, metaDeleteTenant, metaUndeleteTenant, metaPurgeTenant, metaSetStrict:
		return metaResult{err: s.executeTenant(c.op, c.tenantID, &c.tenantCommand)}
	case metaPlanMoves, metaStepMove:
		return metaResult{err: s.executeMove(c.op, &c.moveCommand)}
	case metaJoinRing, metaDrainShard:
		return metaResult{err: s.executeRing(c.op, &c.ringCommand)}
	case metaStartRun, metaEndRun, metaSetBalance:
		return metaResult{err: s.executeRun(c.op, &c.runCommand)}
	case metaHeal:
		err := s.heal(&c.healCommand)
		return metaResult{move: s.nextMove, err: err}
	}
	return metaResult{err: s.executeMember(c.op, &c.memberCommand)}
}

func (s *state) init(c *metaCommand) error {
	if s.clusterID != "" {
		return errs.New(errs.AlreadyExists, "the cluster is %s already", s.clusterID)
	}
	if err := checkRing(c.shards, c.ring); err != nil {
		return err
	}
	if slices.Max(c.shards) >= maxShardIDs {
		return errs.New(errs.Invalid, "shard %d, ids are below %d", slices.Max(c.shards), maxShardIDs)
	}
	if err := s.setRules(c.rules); err != nil {
		return err
	}
	s.clusterID, s.shards, s.ring, s.epoch = c.clusterID, c.shards, c.ring, 1
	s.nextShard = afterShards(c.shards)
	s.countResidents()
	return nil
}

// createTenants passes over names that exist: whoever proposed them wants to have a tenant of that name. It is refused where one
// may not live where it would; one that was to be pinned to a shard that has gone meanwhile, or is going, goes where the ring says.
func (s *state) createTenants(ts []*tenant) error {
	if s.clusterID == "" {
		return errs.New(errs.FailedPrecondition, "the cluster has no shards yet")
	}
	for _, t := range ts {
		own := t.ownLimits()
		if err := cmp.Or(s.checkTier(t.tierName()), own.Check(), t.residency.check()); err != nil {
			return err
		}
	}
	s.residents = slices.Clone(s.residents)
	for _, t := range ts {
		_, taken := s.tenant(t.name)
		_, reused := s.tenantByID(t.id)
		if taken || reused {
			continue
		}
		if t.pin != noPin && (!s.hasShard(uint16(t.pin)) || s.isDraining(uint16(t.pin))) {
			t.pin = noPin // t was decoded from this command, and nobody else has seen it
		}
		if err := s.mayLive(t, s.home(t)); err != nil {
			return err
		}
		s.putTenant(t)
		if t.residency != nil {
			s.regroup(t)
		}
		s.residents[s.home(t)]++
	}
	return nil
}

func (s *state) createIndex(ix Index) metaResult {
	if _, ok := s.findIndex(ix.Name); ok {
		return metaResult{err: errs.New(errs.AlreadyExists, "index %q already exists", ix.Name)}
	}
	ix.ID, ix.Port = s.nextIndex, s.freePort()
	s.nextIndex++
	s.putIndex(ix)
	return metaResult{index: ix}
}

func (s *state) configureIndex(id engine.IndexID, p IndexPatch) metaResult {
	ix, ok := s.indexByID(id)
	if !ok {
		return metaResult{err: errIndexGone(id)}
	}
	if p.DeletionProtection != nil {
		ix.DeletionProtection = *p.DeletionProtection
	}
	if p.Spec != nil {
		ix.Spec = p.Spec
	}
	if p.TargetRecall != 0 {
		ix.TargetRecall = p.TargetRecall
	}
	ix.Tags = mergeTags(ix.Tags, p.Tags)
	s.putIndex(ix)
	return metaResult{index: ix}
}

// mergeTags returns tags with patch laid over; an empty value removes a tag.
func mergeTags(tags, patch map[string]string) map[string]string {
	if len(patch) == 0 {
		return tags
	}
	merged := make(map[string]string, len(tags)+len(patch))
	maps.Copy(merged, tags)
	maps.Copy(merged, patch)
	maps.DeleteFunc(merged, func(_, v string) bool { return v == "" })
	if len(merged) == 0 {
		return nil // as a snapshot would have it
	}
	return merged
}

func (s *state) deleteIndex(id engine.IndexID) metaResult {
	ix, ok := s.indexByID(id)
	if !ok {
		return metaResult{err: errIndexGone(id)}
	}
	if ix.DeletionProtection {
		return metaResult{err: errProtected(ix.Name)}
	}
	s.dropIndex(id)
	return metaResult{index: ix}
}

func (s *state) pin(id engine.TenantID, shard int32) error {
	t, ok := s.tenantByID(id)
	if !ok {
		return errNoTenantID(id)
	}
	if shard != noPin && !s.hasShard(uint16(shard)) {
		return errs.New(errs.NotFound, "there is no shard %d", shard)
	}
	if t.moving != 0 {
		return errs.New(errs.FailedPrecondition, "tenant %s is being moved, by migration %d", id, t.moving)
	}
	moved := *t
	moved.pin, moved.homeward = shard, false
	if home := s.home(&moved); home != s.home(t) {
		if err := s.mayLive(t, home); err != nil {
			return err
		}
	}
	s.rehome(t, &moved)
	return nil
}

func errIndexGone(id engine.IndexID) error {
	return errs.New(errs.NotFound, "index %d does not exist", id)
}

func errProtected(name string) error {
	return errs.New(errs.PermissionDenied, "Deletion protection is enabled for this index").
		WithHint("configure index %q with deletion_protection disabled first", name)
}
