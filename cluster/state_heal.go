package cluster

import (
	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// healCommand is the part of a metaCommand that puts a tenant right whose data is not where routing leads.
type healCommand struct {
	tenant engine.TenantID
	epoch  uint64 // of the tenant when that was seen
	flip   bool   // it is to live on a shard; else only the number of a migration is drawn, which orders to shards name
	to     uint16
}

// heal lets a tenant live where its data is, or draws a number. It is refused if the tenant is moving, or has since.
func (s *state) heal(c *healCommand) error {
	t, err := s.liveTenant(c.tenant)
	switch {
	case err != nil:
		return err
	case t.moving != 0 || t.epoch != c.epoch:
		return errs.New(errs.FailedPrecondition, "tenant %s is being moved, or has moved since", c.tenant)
	case !c.flip:
		s.nextMove++
		return nil
	case !s.hasShard(c.to):
		return errNoShard(int(c.to))
	}
	if err := s.mayLive(t, c.to); err != nil {
		return err
	}
	healed := *t
	healed.epoch++
	healed.pin, healed.homeward = int32(c.to), false
	if s.ring[t.slot] == c.to {
		healed.pin = noPin
	}
	s.rehome(t, &healed)
	return nil
}

func appendHealCommand(b []byte, c *healCommand) []byte {
	b = codec.AppendUvarint(append(b, c.tenant[:]...), c.epoch)
	return codec.AppendUvarint(append(b, boolByte(c.flip)), uint64(c.to))
}

func readHealCommand(r *codec.Reader) (c healCommand) {
	copy(c.tenant[:], r.Raw(len(c.tenant)))
	c.epoch, c.flip, c.to = r.Uvarint(), r.Byte() != 0, uint16(r.Uvarint())
	return c
}
