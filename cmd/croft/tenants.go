package main

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) tenantsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tenants",
		Aliases: []string{"tenant"},
		Short:   "List tenants with the shards they live on, and make new ones on a shard of your choice",
		Example: `  croft tenants list --prefix acme
  croft tenants create acme --shard 16`,
	}
	cmd.AddCommand(a.tenantsListCommand(), a.tenantsGetCommand(), a.tenantsCreateCommand())
	return group(cmd)
}

func tenantListing(value any, all ...client.Tenant) listing {
	l := listing{value: value, items: itemsOf(all), header: []string{"TENANT", "SHARD", "PLACED BY", "RING SAYS", "ID"}}
	for _, t := range all {
		l.rows = append(l.rows, []string{t.Tenant, strconv.Itoa(t.Shard), t.Placement, strconv.Itoa(t.RingShard), t.ID})
	}
	return l
}

func (a *app) tenantsListCommand() *cobra.Command {
	var (
		conn connection
		page client.Page
	)
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List tenants, a page at a time",
		Example: `  croft tenants list --limit 10
  croft tenants list --prefix tenant-00 -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			res, err := c.Tenants(cmd.Context(), page)
			if err != nil {
				return err
			}
			return a.printPage(tenantListing(res, res.Tenants...), res.Pagination)
		},
	}
	conn.addFlags(cmd)
	addPageFlags(cmd, &page)
	return cmd
}

func (a *app) tenantsGetCommand() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:     "get TENANT",
		Aliases: []string{"describe"},
		Short:   "Show where a tenant lives, and why",
		Example: `  croft tenants get tenant-0001
  croft tenants get tenant-0001 -o json`,
		Args: exactly("TENANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			t, err := c.DescribeTenant(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.print(tenantListing(t, t))
		},
	}
	conn.addFlags(cmd)
	return cmd
}

func (a *app) tenantsCreateCommand() *cobra.Command {
	var conn connection
	var shard int
	cmd := &cobra.Command{
		Use:   "create TENANT",
		Short: "Make a tenant (an upsert does so by itself), where the placement policy says or on --shard",
		Long: `A tenant that exists is refused, wherever it lives: it may have data there. --shard pins the new one to that shard, which may be a
dedicated one.`,
		Example: `  croft tenants create newcomer
  croft tenants create acme --shard 16`,
		Args: exactly("TENANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			var on *int
			if cmd.Flags().Changed("shard") {
				on = &shard
			}
			t, err := c.CreateTenant(cmd.Context(), args[0], on)
			if err != nil {
				return err
			}
			return a.print(tenantListing(t, t))
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().IntVar(&shard, "shard", 0, "where it is to live (default: where the placement policy says)")
	return cmd
}
