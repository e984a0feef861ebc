package main

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) tenantsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "tenants",
		Aliases: []string{"tenant"},
		Short:   "List, make, change and delete tenants, and see what each is served under",
		Example: `  croft tenants create acme --tier gold
  croft tenants settings acme`,
	}
	cmd.AddCommand(a.tenantsListCommand(), a.tenantsGetCommand(), a.tenantsCreateCommand(), a.tenantsSetCommand(),
		a.tenantsSettingsCommand(), a.tenantsCacheCommand(), a.tenantsTopCommand(), a.tenantsOverrideCommand(), a.tenantsMoveCommand(), a.tenantsDeleteCommand(), a.tenantsUndeleteCommand())
	return group(cmd)
}

func tenantListing(value any, all ...client.Tenant) listing {
	l := listing{value: value, items: itemsOf(all), header: []string{"TENANT", "SHARD", "PLACED BY", "RING SAYS", "TIER", "OWN LIMITS", "RESIDENCY", "ID"}}
	for _, t := range all {
		l.rows = append(l.rows, []string{
			t.Tenant, strconv.Itoa(t.Shard), t.Placement, strconv.Itoa(t.RingShard), t.Tier, limitsText(t.Limits), residencyText(t.Residency), t.ID,
		})
	}
	return l
}

// residencyText is a residency on one line: zone=eu-1,eu-2 apart-from=banks.
func residencyText(r *client.Residency) string {
	var words []string
	if r != nil && len(r.Zones) > 0 {
		words = append(words, "zone="+strings.Join(r.Zones, ","))
	}
	if r != nil && len(r.ApartFrom) > 0 {
		words = append(words, "apart-from="+strings.Join(r.ApartFrom, ","))
	}
	return dash(strings.Join(words, " "))
}

// residencyFlags say where a tenant's data may be.
type residencyFlags struct{ zones, apart []string }

func (r *residencyFlags) addFlags(cmd *cobra.Command) {
	cmd.Flags().StringSliceVar(&r.zones, "zone", nil, "where its data may be, e.g. eu-1,eu-2 or 'eu-*' (\"\": anywhere)")
	cmd.Flags().StringSliceVar(&r.apart, "apart-from", nil, "groups of tenants of which no two are on one shard (\"\": none)")
}

// residency is what the flags say, nil where none was given.
func (r *residencyFlags) residency(cmd *cobra.Command) *client.Residency {
	var said client.Residency
	if cmd.Flags().Changed("zone") {
		said.Zones = append([]string{}, r.zones...)
	}
	if cmd.Flags().Changed("apart-from") {
		said.ApartFrom = append([]string{}, r.apart...)
	}
	if said.Zones == nil && said.ApartFrom == nil {
		return nil
	}
	return &said
}

// limitsText is limits on one line: burst=7 top_k=5.
func limitsText(limits client.Limits) string {
	var words []string
	for _, name := range slices.Sorted(maps.Keys(limits)) {
		v := limits[name]
		if n, ok := v.(float64); ok {
			v = int64(n) // JSON has no other numbers, and limits are whole
		}
		words = append(words, fmt.Sprintf("%s=%v", name, v))
	}
	return dash(strings.Join(words, " "))
}

// limitFlags are limits on the command line: --limit top_k=5 --limit overage=degrade.
type limitFlags []string

func (f *limitFlags) addFlag(cmd *cobra.Command, usage string) {
	cmd.Flags().StringArrayVar((*[]string)(f), "limit", nil, usage)
}

// limits are what the flags say. The server knows which limits there are.
func (f limitFlags) limits() (client.Limits, error) {
	limits := client.Limits{}
	for _, text := range f {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" || value == "" {
			return nil, usagef("--limit %q is not of the form NAME=VALUE", text).withHint("for example --limit top_k=5, or --limit top_k=inherit")
		}
		if limits[name] = value; value == "inherit" {
			limits[name] = nil
		}
	}
	return limits, nil
}

func (a *app) tenantsListCommand() *cobra.Command {
	var (
		conn connection
		page client.Page
		gone bool
	)
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List tenants, a page at a time",
		Example: `  croft tenants list --limit 10
  croft tenants list --deleted`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			if gone {
				res, err := c.DeletedTenants(cmd.Context())
				if err != nil {
					return err
				}
				return a.print(deletedListing(res, res.Tenants...))
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
	cmd.Flags().BoolVar(&gone, "deleted", false, "those that were deleted and can still come back")
	return cmd
}

func deletedListing(value any, all ...client.Tenant) listing {
	l := listing{value: value, items: itemsOf(all), header: []string{"TENANT", "DELETED", "KEPT UNTIL", "ID"}}
	for _, t := range all {
		l.rows = append(l.rows, []string{t.Tenant, dash(timeText(t.Deleted)), dash(timeText(t.KeptUntil)), t.ID})
	}
	return l
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
		RunE: getVerb(a, &conn, (*client.Client).DescribeTenant, func(t client.Tenant) error { return a.print(tenantListing(t, t)) }),
	}
	conn.addFlags(cmd)
	return cmd
}

func (a *app) tenantsCreateCommand() *cobra.Command {
	var conn connection
	var shard int
	var asked client.NewTenant
	var limits limitFlags
	var residency residencyFlags
	cmd := &cobra.Command{
		Use:   "create TENANT",
		Short: "Make a tenant (an upsert does so by itself), where the placement policy says or on --shard",
		Long: `A tenant that exists is refused, wherever it lives: it may have data there. --shard pins the new one to that shard, which may be a
dedicated one.`,
		Example: `  croft tenants create acme --shard 16 --tier gold --limit rate_per_second=300
  croft tenants create bank-a --zone 'eu-*' --apart-from banks`,
		Args: exactly("TENANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			asked.Tenant = args[0]
			if cmd.Flags().Changed("shard") {
				asked.Shard = &shard
			}
			if asked.Limits, err = limits.limits(); err != nil {
				return err
			}
			asked.Residency = residency.residency(cmd)
			t, err := c.CreateTenant(cmd.Context(), asked)
			if err != nil {
				return err
			}
			return a.print(tenantListing(t, t))
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().IntVar(&shard, "shard", 0, "where it is to live (default: where the placement policy says)")
	cmd.Flags().StringVar(&asked.Tier, "tier", "", "whose limits it is served under (default: standard)")
	limits.addFlag(cmd, "a limit of its own, NAME=VALUE; may be given several times")
	residency.addFlags(cmd)
	return cmd
}
