package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) indexCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "index",
		Short: "Create, list, describe, configure and delete indexes",
		Example: `  croft index create docs --dimension 768 --metric cosine
  croft index list`,
	}
	cmd.AddCommand(a.indexCreateCommand(), a.indexListCommand(), a.indexDescribeCommand(),
		a.indexConfigureCommand(), a.indexDeleteCommand())
	return group(cmd)
}

func (a *app) indexCreateCommand() *cobra.Command {
	var (
		conn      connection
		req       client.CreateIndexRequest
		protected bool
	)
	cmd := &cobra.Command{
		Use:   "create NAME",
		Short: "Create an index",
		Example: `  croft index create docs --dimension 768
  croft index create docs --dimension 128 --metric euclidean --quantization 8 --target-recall 0.95`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			req.Name = args[0]
			if req.VectorType != "sparse" && req.Dimension == 0 {
				return usagef("an index of dense vectors needs --dimension")
			}
			if protected {
				req.DeletionProtection = "enabled"
			}
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			m, err := c.CreateIndex(cmd.Context(), req)
			if err != nil {
				return err
			}
			return a.print(indexListing(m, m))
		},
	}
	conn.addFlags(cmd)
	addIndexFlags(cmd, &req)
	cmd.Flags().BoolVar(&protected, "deletion-protection", false, "refuse to delete it until this is lifted")
	cmd.Flags().StringToStringVar(&req.Tags, "tag", nil, "KEY=VALUE, repeatable")
	return cmd
}

func addIndexFlags(cmd *cobra.Command, req *client.CreateIndexRequest) {
	cmd.Flags().IntVarP(&req.Dimension, "dimension", "d", 0, "values per vector, 1 to 20000")
	cmd.Flags().StringVarP(&req.Metric, "metric", "m", "", "cosine, dotproduct or euclidean (default cosine)")
	cmd.Flags().StringVar(&req.VectorType, "vector-type", "dense", "dense or sparse")
	addGraphFlags(cmd, &req.Graph)
}

func addGraphFlags(cmd *cobra.Command, g *client.GraphSettings) {
	f := cmd.Flags()
	f.StringVar(&g.Quantization, "quantization", "", "bits of the codes that graphs are walked on: auto, none, 1, 2, 4 or 8 (default auto)")
	f.IntVar(&g.M, "m", 0, "links of a graph's node, 2 to 256 (default 16)")
	f.IntVar(&g.EfConstruction, "ef-construction", 0, "effort of building a graph, 1 to 10000 (default 200)")
	addRecallFlag(cmd, &g.TargetRecall, "default 0.99")
}

func addRecallFlag(cmd *cobra.Command, recall *float64, otherwise string) {
	cmd.Flags().Float64Var(recall, "target-recall", 0, "share of the true nearest that searches are to find, 0.5 to 0.999 ("+otherwise+")")
}

func (a *app) indexListCommand() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List all indexes",
		Example: `  croft index list
  croft index list -o jsonl`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			all, err := c.ListIndexes(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(indexListing(map[string]any{"indexes": all}, all...))
		},
	}
	conn.addFlags(cmd)
	return cmd
}

func (a *app) indexDescribeCommand() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:     "describe NAME",
		Aliases: []string{"get"},
		Short:   "Describe an index",
		Example: `  croft index describe acme-docs
  croft index describe acme-docs -o json`,
		Args: exactly("NAME"),
		RunE: getVerb(a, &conn, (*client.Client).DescribeIndex, func(m client.IndexModel) error { return a.print(indexListing(m, m)) }),
	}
	conn.addFlags(cmd)
	return cmd
}

func (a *app) indexConfigureCommand() *cobra.Command {
	var (
		conn connection
		req  client.ConfigureIndexRequest
	)
	cmd := &cobra.Command{
		Use:   "configure NAME",
		Short: "Change an index",
		Example: `  croft index configure acme-docs --target-recall 0.95
  croft index configure acme-docs --deletion-protection enabled --tag team=search`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if req.Graph.TargetRecall == 0 && req.DeletionProtection == "" && len(req.Tags) == 0 {
				return usagef("nothing to change: give --target-recall, --deletion-protection or --tag")
			}
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			m, err := c.ConfigureIndex(cmd.Context(), args[0], req)
			if err != nil {
				return err
			}
			return a.print(indexListing(m, m))
		},
	}
	conn.addFlags(cmd)
	addRecallFlag(cmd, &req.Graph.TargetRecall, "default: as it is")
	cmd.Flags().StringVar(&req.DeletionProtection, "deletion-protection", "", "enabled or disabled (default: as it is)")
	cmd.Flags().StringToStringVar(&req.Tags, "tag", nil, "KEY=VALUE, repeatable; KEY= removes one")
	return cmd
}

func indexListing(value any, models ...client.IndexModel) listing {
	l := listing{value: value, items: itemsOf(models), header: []string{"NAME", "DIMENSION", "METRIC", "TYPE", "CODES", "RECALL", "STATE", "HOST"}}
	for _, m := range models {
		dimension, codes, recall := "-", "-", "-"
		if m.Dimension > 0 {
			dimension = strconv.Itoa(m.Dimension)
		}
		if m.Graph != (client.GraphSettings{}) {
			codes, recall = m.Graph.Quantization, strconv.FormatFloat(m.Graph.TargetRecall, 'g', -1, 64)
		}
		l.rows = append(l.rows, []string{m.Name, dimension, m.Metric, m.VectorType, codes, recall, m.Status.State, m.Host})
	}
	return l
}

func (a *app) indexDeleteCommand() *cobra.Command {
	var (
		conn connection
		sure consent
	)
	cmd := &cobra.Command{
		Use:   "delete NAME",
		Short: "Delete an index with all its records",
		Example: `  croft index delete docs --dry-run
  croft index delete docs --yes`,
		Args: exactly("NAME"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.deleteIndex(cmd.Context(), conn, sure, args[0])
		},
	}
	conn.addFlags(cmd)
	sure.addFlags(cmd)
	return cmd
}

func (a *app) deleteIndex(ctx context.Context, conn connection, sure consent, name string) error {
	c, err := a.connect(conn, 0)
	if err != nil {
		return err
	}
	ix, err := c.Index(ctx, name)
	if err != nil {
		return err
	}
	stats, err := ix.Stats(ctx)
	if err != nil {
		return err
	}
	scope := fmt.Sprintf("index %s with %s in %s", name,
		counted(stats.TotalVectorCount, "record"), counted(len(stats.Namespaces), "namespace"))
	ok, err := a.confirm(sure, scope)
	if err != nil || !ok {
		return err
	}
	if err := c.DeleteIndex(ctx, name); err != nil {
		return err
	}
	return a.print(done())
}
