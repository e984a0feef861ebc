package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) tiersCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tiers",
		Aliases: []string{"tier"},
		Short:   "List, make, change and delete tiers: limits that many tenants share",
		Example: `  croft tiers list
  croft tiers set gold --limit rate_per_second=800`,
	}
	cmd.AddCommand(a.tiersListCommand(), a.tiersGetCommand(), a.tiersSetCommand(), a.tiersDeleteCommand())
	return group(cmd)
}

func (a *app) tiersListCommand() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List tiers with the limits that they set and the number of their tenants",
		Example: `  croft tiers list
  croft tiers list -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			res, err := c.Tiers(cmd.Context())
			if err != nil {
				return err
			}
			l := listing{value: res, items: itemsOf(res.Tiers), header: []string{"TIER", "TENANTS", "AS SHIPPED", "LIMITS"}}
			for _, t := range res.Tiers {
				l.rows = append(l.rows, []string{t.Tier, thousands(t.Tenants), yesNo(!t.Changed), limitsText(t.Limits)})
			}
			return a.print(l)
		},
	}
	conn.addFlags(cmd)
	return cmd
}

func (a *app) printTier(t client.Tier) error {
	l := settingsListing(t.Settings)
	l.value = t
	return a.print(l)
}

func (a *app) tiersGetCommand() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:     "get TIER",
		Aliases: []string{"describe"},
		Short:   "Show all limits of a tenant of a tier, and which of them the tier sets",
		Example: `  croft tiers get gold
  croft tiers get gold -o json`,
		Args: exactly("TIER"),
		RunE: getVerb(a, &conn, (*client.Client).DescribeTier, a.printTier),
	}
	conn.addFlags(cmd)
	return cmd
}

func (a *app) tiersSetCommand() *cobra.Command {
	var conn connection
	var create bool
	var flags limitFlags
	cmd := &cobra.Command{
		Use:   "set TIER",
		Short: "Change a tier's limits, for its tenants at once, or make a tier",
		Example: `  croft tiers set gold --limit rate_per_second=800 --limit burst=inherit
  croft tiers set bronze --create --limit requests_per_hour=5000 --limit overage=degrade`,
		Args: exactly("TIER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			limits, err := flags.limits()
			if err != nil {
				return err
			}
			var t client.Tier
			switch {
			case create:
				t, err = c.CreateTier(cmd.Context(), args[0], limits)
			case len(limits) == 0:
				return usagef("nothing to change").withHint("give --limit; `croft tiers get TIER` shows all limits")
			default:
				t, err = c.SetTier(cmd.Context(), args[0], limits)
			}
			if err != nil {
				return err
			}
			return a.printTier(t)
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().BoolVar(&create, "create", false, "make it; else it must be there")
	flags.addFlag(cmd, "NAME=VALUE, or NAME=inherit for the store's own; may be given several times")
	return cmd
}

func (a *app) tiersDeleteCommand() *cobra.Command {
	var conn connection
	var sure consent
	cmd := &cobra.Command{
		Use:   "delete TIER",
		Short: "Delete a tier that no tenant has",
		Example: `  croft tiers delete bronze --dry-run
  croft tiers delete bronze --yes`,
		Args: exactly("TIER"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			t, err := c.DescribeTier(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			ok, err := a.confirm(sure, fmt.Sprintf("tier %s, which has %s", t.Tier, counted(t.Tenants, "tenant")))
			if err != nil || !ok {
				return err
			}
			if err := c.DeleteTier(cmd.Context(), args[0]); err != nil {
				return err
			}
			return a.print(done())
		},
	}
	conn.addFlags(cmd)
	sure.addFlags(cmd)
	return cmd
}
