package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func (a *app) tenantsDeleteCommand() *cobra.Command {
	var conn connection
	var sure consent
	cmd := &cobra.Command{
		Use:   "delete TENANT",
		Short: "Delete a tenant with its records in all indexes; it is kept for 24 h",
		Long: `The name is free at once, and nothing of the tenant is found any more. ` + "`croft tenants undelete`" + ` brings it back for 24 h. To drop one
index's part of it, which is final: ` + "`croft namespaces delete`" + `.`,
		Example: `  croft tenants delete acme --dry-run
  croft tenants delete acme --yes`,
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
			ok, err := a.confirm(sure, fmt.Sprintf("tenant %s with its records in all indexes; it is kept for 24 h", t.Tenant))
			if err != nil || !ok {
				return err
			}
			if t, err = c.DeleteTenant(cmd.Context(), args[0]); err != nil {
				return err
			}
			return a.print(deletedListing(t, t))
		},
	}
	conn.addFlags(cmd)
	sure.addFlags(cmd)
	return cmd
}

func (a *app) tenantsUndeleteCommand() *cobra.Command {
	var conn connection
	var id, as string
	cmd := &cobra.Command{
		Use:   "undelete TENANT",
		Short: "Bring back a tenant that was deleted less than 24 h ago",
		Example: `  croft tenants undelete acme
  croft tenants undelete acme --as acme-old`,
		Args: exactly("TENANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			t, err := c.UndeleteTenant(cmd.Context(), args[0], id, as)
			if err != nil {
				return err
			}
			return a.print(tenantListing(t, t))
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().StringVar(&id, "id", "", "which one, if several had the name (default: the one deleted last)")
	cmd.Flags().StringVar(&as, "as", "", "under another name, since its own may be taken by now")
	return cmd
}
