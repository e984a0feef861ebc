package api

import (
	"strconv"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
)

// placementShown are the rules by which new tenants are placed.
type placementShown struct {
	Policy       string `json:"policy"`
	ShardTenants int    `json:"shard_tenants"`
	ShardVectors int    `json:"shard_vectors"`
	Growth       int    `json:"tenant_growth"`
}

func showPlacement(r cluster.Rules) placementShown {
	return placementShown{r.Policy.String(), r.ShardTenants, r.ShardVectors, r.Growth}
}

func getPlacement(c *call) (reply, error) { return document{showPlacement(c.h.node.Rules())}, nil }

// maxCapacity bounds what a shard is meant to hold.
const maxCapacity = 1 << 30

var placementFields = []field[placementShown]{
	textField("policy", func(p *placementShown) *string { return &p.Policy }),
	intField("shard_tenants", 1, maxCapacity, func(p *placementShown) *int { return &p.ShardTenants }),
	intField("shard_vectors", 1, maxCapacity, func(p *placementShown) *int { return &p.ShardVectors }),
	intField("tenant_growth", 1, maxCapacity, func(p *placementShown) *int { return &p.Growth }),
}

// setPlacement changes the rules; what the body leaves out stays.
func setPlacement(c *call) (reply, error) {
	p := showPlacement(c.h.node.Rules())
	if err := decodeObject(c.body, &p, placementFields); err != nil {
		return nil, err
	}
	policy, err := cluster.ParsePolicy(p.Policy)
	if err != nil {
		return nil, errs.Wrap(errs.Invalid, err, "policy")
	}
	rules := cluster.Rules{Policy: policy, ShardTenants: p.ShardTenants, ShardVectors: p.ShardVectors, Growth: p.Growth}
	if err := c.h.node.SetRules(c.ctx, rules); err != nil {
		return nil, err
	}
	return getPlacement(c)
}

// newShard is the body that asks for a shard.
type newShard struct {
	kind, name string
	zones      *[]string // nil: anywhere
}

var newShardFields = []field[newShard]{
	textField("kind", func(s *newShard) *string { return &s.kind }),
	textField("name", func(s *newShard) *string { return &s.name }),
	placesField("zones", func(s *newShard) **[]string { return &s.zones }),
}

// addShard makes a shard, off the ring or with part of it.
func addShard(c *call) (reply, error) {
	var asked newShard
	if err := decodeObject(c.body, &asked, newShardFields); err != nil {
		return nil, err
	}
	var id int
	var err error
	if asked.zones == nil {
		asked.zones = new([]string)
	}
	switch {
	case asked.kind == cluster.KindDedicated:
		id, err = c.h.node.AddShard(c.ctx, asked.name, *asked.zones...)
	case asked.kind == cluster.KindShared && asked.name == "" && len(*asked.zones) == 0:
		id, err = c.h.node.AddSharedShard(c.ctx, c.principal.String())
	case asked.kind == cluster.KindShared:
		return nil, invalid("name", "and zones are for dedicated shards; a shared one can be bound once it is there")
	case asked.kind == "":
		return nil, invalid("kind", "is missing: say shared or dedicated")
	default:
		return nil, invalid("kind", "%q is neither shared nor dedicated", clip(asked.kind))
	}
	if err != nil {
		return nil, err
	}
	c.args = []string{strconv.Itoa(id)}
	return describeShard(c)
}

// shardID reads the shard that the path names.
func (c *call) shardID() (int, error) {
	id, err := strconv.Atoi(c.args[0])
	if err != nil || strconv.Itoa(id) != c.args[0] {
		return 0, errNoShard(c.args[0])
	}
	return id, nil
}

// removeShard takes out a shard that holds no tenant.
func removeShard(c *call) (reply, error) {
	id, err := c.shardID()
	if err != nil {
		return nil, err
	}
	return empty{}, c.h.node.RemoveShard(c.ctx, id)
}

// drainShard has all tenants of a shard moved to where the ring says, without this one.
func drainShard(c *call) (reply, error) {
	id, err := c.shardID()
	if err != nil {
		return nil, err
	}
	if err := c.h.node.DrainShard(c.ctx, id, c.principal.String()); err != nil {
		return nil, err
	}
	return describeShard(c)
}

// keepShard takes back that a shard is drained.
func keepShard(c *call) (reply, error) {
	id, err := c.shardID()
	if err != nil {
		return nil, err
	}
	if err := c.h.node.KeepShard(c.ctx, id); err != nil {
		return nil, err
	}
	return describeShard(c)
}
