package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) shardsAddCommand() *cobra.Command {
	var conn connection
	var dedicated, watch bool
	var name string
	var zones []string
	cmd := &cobra.Command{
		Use:   "add",
		Short: "Make a shard that takes part of the ring, or a dedicated one",
		Long: `A shared shard gets its replicas first and then part of the ring: new tenants of that part live there at once, those that there are stay
where they are and are moved one by one, while they are used. A dedicated shard is off the ring: it holds the tenants that are put there by
hand, and no others.`,
		Example: `  croft shards add --watch
  croft shards add --dedicated --name acme -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (name != "" || len(zones) > 0) && !dedicated {
				return usagef("--name and --zone are for --dedicated shards").withHint("a shared one can be bound once it is there: croft shards bind")
			}
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			s, err := c.AddShard(cmd.Context(), dedicated, name, zones...)
			if err != nil {
				return err
			}
			if watch && !dedicated {
				return a.followMoves(cmd.Context(), conn, c)
			}
			return a.print(shardsListing(s, s))
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().BoolVar(&dedicated, "dedicated", false, "off the ring, for tenants that are put there")
	cmd.Flags().StringVar(&name, "name", "", "what people call it, for example its tenant's name")
	cmd.Flags().BoolVar(&watch, "watch", false, "follow the moves")
	cmd.Flags().StringSliceVar(&zones, "zone", nil, "where a dedicated one's replicas are to be, e.g. eu-1,eu-2 or 'eu-*' (default: anywhere)")
	return cmd
}

func (a *app) shardsBindCommand() *cobra.Command {
	var conn connection
	var zones []string
	cmd := &cobra.Command{
		Use:   "bind SHARD",
		Short: "Have a shard's replicas in given zones alone, for tenants that may be nowhere else",
		Long: `Replicas elsewhere move by themselves; tenants that are bound to these zones are taken once all have. --zone "" takes it back. It is refused
while a tenant of the shard may not be where it would.`,
		Example: `  croft shards bind 3 --zone eu-1,eu-2
  croft shards bind 3 --zone 'eu-*'`,
		Args: exactly("SHARD"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if !cmd.Flags().Changed("zone") {
				return usagef("--zone is missing").withHint(`--zone "" lets the shard be anywhere`)
			}
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			s, err := c.BindShard(cmd.Context(), args[0], zones)
			if err != nil {
				return err
			}
			return a.print(shardsListing(s, s))
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().StringSliceVar(&zones, "zone", nil, "zones of nodes; one that ends in * stands for all whose names begin so")
	return cmd
}

func (a *app) shardsRemoveCommand() *cobra.Command {
	var conn connection
	var sure consent
	cmd := &cobra.Command{
		Use:   "remove SHARD",
		Short: "Take out a shard off the ring that holds no tenant",
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

func (a *app) shardsDrainCommand() *cobra.Command {
	var conn connection
	var sure consent
	var watch, cancel bool
	cmd := &cobra.Command{
		Use:   "drain SHARD",
		Short: "Take a shard off the ring and move all its tenants to others, while they are used",
		Long:  `New tenants are made elsewhere at once. When it is empty, ` + "`croft shards remove`" + ` takes it out.`,
		Example: `  croft shards drain 3 --dry-run
  croft shards drain 3 --yes --watch`,
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
			do, effect := c.DrainShard, fmt.Sprintf("moves %s with %s off %s shard %d; no request fails", counted(s.Tenants, "tenant"), bytesText(int64(s.Bytes)), s.Kind, s.ID)
			if cancel {
				do, effect = c.KeepShard, fmt.Sprintf("keeps %s shard %d: tenants that have not moved stay", s.Kind, s.ID)
			}
			ok, err := a.agree(sure, effect)
			if err != nil || !ok {
				return err
			}
			if s, err = do(cmd.Context(), args[0]); err != nil {
				return err
			}
			if watch && !cancel {
				return a.followMoves(cmd.Context(), conn, c)
			}
			return a.print(shardsListing(s, s))
		},
	}
	conn.addFlags(cmd)
	sure.addFlags(cmd)
	cmd.Flags().BoolVar(&watch, "watch", false, "follow the moves")
	cmd.Flags().BoolVar(&cancel, "cancel", false, "keep the shard after all")
	return cmd
}

// followMoves follows the run that a change of the ring has begun, or that takes its moves along.
func (a *app) followMoves(ctx context.Context, conn connection, c *client.Client) error {
	r, err := runUnderWay(ctx, c)
	if err == nil && r == nil {
		a.note("nothing is to move")
		return nil
	}
	return a.followRun(ctx, conn, c, r, err)
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
