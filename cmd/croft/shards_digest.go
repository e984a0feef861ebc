package main

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/engine"
	"github.com/croftdb/croft/internal/errs"
)

func (a *app) shardsDigestCommand() *cobra.Command {
	var data string
	cmd := &cobra.Command{
		Use:   "digest --data DIR",
		Short: "Read all records on a stopped node's disk, and sum up each replica",
		Long: `DIGEST stands for the records, STATE for all, usage and quotas included, which a leader writes until it is stopped. Replicas that
have applied the same entry of their shard's log have both alike. Damaged records are named, and end the command with an error.`,
		Example: `  croft shards digest --data ./data
  croft shards digest --data ./data --json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if data == "" {
				return usagef("shards digest needs --data, the directory of a stopped node")
			}
			all, err := digestShards(cmd.Context(), data)
			if err != nil {
				return err
			}
			l := listing{value: map[string]any{"shards": all}, items: itemsOf(all), header: []string{"SHARD", "ENTRY", "DIGEST", "STATE"}}
			for _, d := range all {
				l.rows = append(l.rows, []string{strconv.Itoa(d.Shard), strconv.FormatUint(d.Entry, 10), d.Digest, d.State})
			}
			return a.print(l)
		},
	}
	cmd.Flags().StringVar(&data, "data", "", "data directory of a stopped node")
	return cmd
}

// replicaDigest stands for what a replica holds.
type replicaDigest struct {
	Shard  int    `json:"shard"`
	Entry  uint64 `json:"entry"`  // of the shard's log, the last one applied
	Digest string `json:"digest"` // of the records
	State  string `json:"state"`  // of the records and what is kept beside them
}

// digestShards reads the replicas in a data directory that no process uses, in order of their shards.
func digestShards(ctx context.Context, data string) (all []replicaDigest, err error) {
	if _, err := os.Stat(filepath.Join(data, "node.json")); err != nil {
		return nil, errs.Wrap(errs.NotFound, err, "%s is not the data directory of a node", data)
	}
	dir, err := openDataDir(data)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, dir.Close()) }()
	shards, err := numbersIn(filepath.Join(data, "shards"))
	if err != nil {
		return nil, err
	}
	for _, shard := range shards {
		d, err := digestShard(ctx, data, shard)
		if err != nil {
			return nil, err
		}
		all = append(all, d)
	}
	return all, nil
}

// digestShard reads the newest replica of a shard in a data directory.
func digestShard(ctx context.Context, data string, shard int) (d replicaDigest, err error) {
	dir := filepath.Join(data, "shards", strconv.Itoa(shard))
	incarnations, err := numbersIn(dir)
	if err != nil {
		return d, err
	}
	if len(incarnations) == 0 {
		return d, errs.New(errs.NotFound, "there is no replica in %s", dir)
	}
	e, err := engine.Open(engine.Options{Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return d, err
	}
	defer func() { err = errors.Join(err, e.Close()) }()
	s, err := e.OpenShard(filepath.Join(dir, strconv.Itoa(slices.Max(incarnations))))
	if err != nil {
		return d, err
	}
	records, err := s.DigestRecords(ctx)
	if err != nil {
		return d, err
	}
	all, entry, err := s.Digest(ctx)
	return replicaDigest{shard, entry, records.String(), all.String()}, err
}

// numbersIn returns the numbers that files of a directory are named by, in order.
func numbersIn(dir string) (all []int, err error) {
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil {
			all = append(all, n)
		}
	}
	slices.Sort(all)
	return all, err
}
