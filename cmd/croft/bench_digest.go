package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"

	"github.com/croftdb/croft/engine"
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
			d, err := digestShard(ctx, filepath.Join(n.data, "shards", strconv.Itoa(shard)))
			if err != nil {
				return "", fmt.Errorf("%s: %w", n.name(), err)
			}
			all = append(all, d)
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

// digestShard reads the newest replica in a shard's directory.
func digestShard(ctx context.Context, dir string) (_ string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	newest := 0
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			newest = max(newest, n)
		}
	}
	e, err := engine.Open(engine.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	s, err := e.OpenShard(filepath.Join(dir, strconv.Itoa(newest)))
	if err != nil {
		return "", err
	}
	d, _, err := s.Digest(ctx)
	return d.String(), err
}
