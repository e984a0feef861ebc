package api

import (
	"time"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/cluster/balance"
)

// healthShown is what there is to say about the cluster, and the figures it follows from.
type healthShown struct {
	Status   string                 `json:"status"` // healthy, warning or critical
	Checked  time.Time              `json:"checked_at"`
	Warnings []balance.Warning      `json:"warnings"`
	Routing  *cluster.RoutingReport `json:"routing"` // null: nobody has looked since the metadata plane's leader was elected
	Shards   []shardShown           `json:"shards"`
	Silent   []string               `json:"silent_nodes"`
}

func clusterHealth(c *call) (reply, error) { return c.health(false) }

// verifyRouting compares routing with where tenants' data is before it answers.
func verifyRouting(c *call) (reply, error) { return c.health(true) }

func (c *call) health(verify bool) (reply, error) {
	h, err := c.h.node.Health(c.ctx, verify)
	if err != nil {
		return nil, err
	}
	return document{healthShown{
		Status: h.Status, Checked: h.Checked, Warnings: listOf(h.Warnings), Routing: h.Routing, Shards: showShards(h.Shards), Silent: listOf(h.Silent),
	}}, nil
}
