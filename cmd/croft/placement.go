package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) shardsAddCommand() *cobra.Command {
	var conn connection
	var dedicated bool
	var name string
	cmd := &cobra.Command{
		Use:   "add --dedicated",
		Short: "Make a dedicated shard, for tenants that are put there by hand",
		Long: `A dedicated shard is off the ring: it holds the tenants that ` + "`croft tenants create --shard`" + ` puts on it, and no others. It has one
replica at first, on the node with the fewest; the others follow by themselves.`,
		Example: `  croft shards add --dedicated
  croft shards add --dedicated --name acme -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !dedicated {
				return usagef("a shared shard takes part of the ring, and tenants cannot be moved yet").withHint("--dedicated makes one off the ring")
			}
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			s, err := c.AddShard(cmd.Context(), name)
			if err != nil {
				return err
			}
			return a.print(shardsListing(s, s))
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().BoolVar(&dedicated, "dedicated", false, "off the ring, for tenants that are put there")
	cmd.Flags().StringVar(&name, "name", "", "what people call it, for example its tenant's name")
	return cmd
}

func (a *app) shardsRemoveCommand() *cobra.Command {
	var conn connection
	var sure consent
	cmd := &cobra.Command{
		Use:   "remove SHARD",
		Short: "Take out a dedicated shard that holds no tenant",
		Example: `  croft shards remove 16 --dry-run
  croft shards remove 16 --yes`,
		Args: exactly("SHARD"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			s, err := c.DescribeShard(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			ok, err := a.agree(sure, fmt.Sprintf("takes out %s shard %d, which holds %s", s.Kind, s.ID, counted(s.Tenants, "tenant")))
			if err != nil || !ok {
				return err
			}
			if err := c.RemoveShard(cmd.Context(), args[0]); err != nil {
				return err
			}
			return a.print(done())
		},
	}
	conn.addFlags(cmd)
	sure.addFlags(cmd)
	return cmd
}

func (a *app) shardsPolicyCommand() *cobra.Command {
	var conn connection
	var change client.PlacementChange
	cmd := &cobra.Command{
		Use:   "policy [ring|least-loaded]",
		Short: "Show or change how new tenants are placed, and what a shard is meant to hold",
		Long: `ring: where consistent hashing says. least-loaded: on the shared shard with the fewest vectors, counting those that its tenants are
expected to add; shards that are full are passed over while others have room. Either way tenants that exist stay where they are.`,
		Example: `  croft shards policy
  croft shards policy least-loaded --tenant-growth 5000`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			var p client.Placement
			if len(args) > 0 {
				change.Policy = args[0]
			}
			if change == (client.PlacementChange{}) {
				p, err = c.Placement(cmd.Context())
			} else {
				p, err = c.SetPlacement(cmd.Context(), change)
			}
			if err != nil {
				return err
			}
			return a.print(listing{
				value: p, items: itemsOf([]client.Placement{p}), header: []string{"POLICY", "TENANTS A SHARD", "VECTORS A SHARD", "GROWTH A TENANT"},
				rows: [][]string{{p.Policy, thousands(p.ShardTenants), thousands(p.ShardVectors), thousands(p.Growth)}},
			})
		},
	}
	conn.addFlags(cmd)
	f := cmd.Flags()
	f.IntVar(&change.ShardTenants, "shard-tenants", 0, "tenants that a shard is meant to hold")
	f.IntVar(&change.ShardVectors, "shard-vectors", 0, "vectors that a shard is meant to hold")
	f.IntVar(&change.Growth, "tenant-growth", 0, "vectors that a tenant is expected to add to those it has")
	return cmd
}
