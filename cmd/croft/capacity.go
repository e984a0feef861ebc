package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) capacityCommand() *cobra.Command {
	var conn connection
	var tenants, vectors int
	cmd := &cobra.Command{
		Use:   "capacity",
		Short: "Say how many shards are needed, what they cost, and which can be merged",
		Long: `Reckons with what a shard is meant to hold (` + "`croft shards policy`" + `) at 70 to 80 % use, and with the operator's prices of a shard
and a node for a month (` + "`croft usage prices shard_month=70 node_month=120`" + `). --tenants and --vectors ask about another size.`,
		Example: `  croft capacity
  croft capacity --tenants 5000 --vectors 40000000 -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			r, err := c.Capacity(cmd.Context(), tenants, vectors)
			if err != nil {
				return err
			}
			if err := a.print(capacityListing(&r)); err != nil {
				return err
			}
			a.remarkOnCapacity(&r)
			return nil
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().IntVar(&tenants, "tenants", 0, "tenants that are expected (default: those that there are)")
	cmd.Flags().IntVar(&vectors, "vectors", 0, "vectors that are expected (default: those that there are)")
	return cmd
}

func capacityListing(r *client.Capacity) listing {
	cost := func(x float64) string { return strings.TrimSpace(figureText(x) + " " + r.Cost.Currency) }
	return listing{
		value: r, items: itemsOf(r.Advice), header: []string{"WHAT", "IS"},
		rows: [][]string{
			{"tenants", thousands(r.Tenants)},
			{"vectors", thousands(r.Vectors)},
			{"shared shards", thousands(r.Shared)},
			{"dedicated shards", thousands(r.Dedicated)},
			{"shared shards used", fmt.Sprintf("%.1f %%", 100*r.Utilisation)},
			{"shards needed at 70 %", thousands(r.Needed.Shards)},
			{"shards needed at 80 %", thousands(r.Needed.AtLeast)},
			{"what decides", r.Needed.Scarce},
			{"a month costs", cost(r.Cost.Month)},
			{"of which a shard", cost(r.Cost.Shard)},
			{"of which a tenant", cost(r.Cost.Tenant)},
			{"of which a million vectors", cost(r.Cost.Million)},
			{"wasted a month", cost(r.Cost.Wasted)},
			{"in the ten largest tenants", fmt.Sprintf("%.1f %% of the vectors", 100*r.TopShare)},
			{"queries over many tenants", fmt.Sprintf("%.1f %%", 100*r.CrossShare)},
		},
	}
}

func (a *app) remarkOnCapacity(r *client.Capacity) {
	for _, m := range r.Merges {
		a.note("not needed: shard %d with %s, %s, %s", m.Shard, counted(m.Tenants, "tenant"), counted(m.Vectors, "vector"), bytesText(int64(m.Bytes)))
	}
	for i := range r.Advice {
		a.note("%s: %s", r.Advice[i].Type, r.Advice[i].Message)
		if r.Advice[i].Command != "" {
			a.note("  %s", r.Advice[i].Command)
		}
	}
	if len(r.Advice) == 0 {
		a.note("nothing to change")
	}
}
