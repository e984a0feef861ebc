package main

import (
	"context"
	"encoding/hex"
	"fmt"

	"github.com/croftdb/croft/internal/codec"
	"github.com/croftdb/croft/internal/errs"
)

// digest reads all records on all nodes' disks, after the nodes have been stopped, and returns what stands for them. It fails
// when a replica differs from the others.
func (c *demoCluster) digest(ctx context.Context) (string, error) {
	var first []string
	for _, n := range c.nodes {
		var all []string
		for shard := range c.opts.shards {
			d, err := digestShard(ctx, n.data, shard)
			if err != nil {
				return "", fmt.Errorf("%s: %w", n.name(), err)
			}
			all = append(all, d.Digest)
		}
		if first == nil {
			first = all
		}
		for shard := range all {
			if all[shard] != first[shard] {
				return "", errs.New(errs.Corrupt, "shard %d has digest %s on %s and %s on %s", shard, all[shard], n.name(), first[shard], c.nodes[0].name())
			}
		}
	}
	h := codec.NewHasher(0)
	for _, d := range first {
		h.WriteString(d)
	}
	return hex.EncodeToString(codec.AppendUint64(nil, h.Sum64())), nil
}
