package api

import "github.com/croftdb/croft/cluster"

// maxPlaces bounds the zones or groups of a body; cluster allows fewer, and says how many.
const maxPlaces = 1000

// placesField is a member that is a list of zones or groups. An empty one takes back what there was.
func placesField[T any](name string, at func(*T) **[]string) field[T] {
	return field[T]{name, func(t *T, r *reader) error {
		names, err := r.texts(maxPlaces)
		*at(t) = &names
		return err
	}}
}

var residencyFields = []field[cluster.ResidencyChange]{
	placesField("zones", func(c *cluster.ResidencyChange) **[]string { return &c.Zones }),
	placesField("apart_from", func(c *cluster.ResidencyChange) **[]string { return &c.Apart }),
}

// residencyField is a member that says where a tenant's data may be; what it leaves out stays.
func residencyField[T any](name string, at func(*T) *cluster.ResidencyChange) field[T] {
	return field[T]{name, func(t *T, r *reader) error { return object(r, at(t), residencyFields) }}
}

// binding is the body that says in which zones a shard's replicas are to be.
type binding struct{ zones *[]string }

var bindingFields = []field[binding]{
	placesField("zones", func(b *binding) **[]string { return &b.zones }),
}

// bindShard has a shard's replicas on nodes of some zones.
func bindShard(c *call) (reply, error) {
	id, err := c.shardID()
	if err != nil {
		return nil, err
	}
	var b binding
	if err := decodeObject(c.body, &b, bindingFields); err != nil {
		return nil, err
	}
	if b.zones == nil {
		return nil, invalid("zones", "is missing: name some, or give an empty list for anywhere")
	}
	if err := c.h.node.BindShard(c.ctx, id, *b.zones); err != nil {
		return nil, err
	}
	return describeShard(c)
}
