package main

import (
	"fmt"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) tenantsSetCommand() *cobra.Command {
	var conn connection
	var change client.TenantChange
	var limits limitFlags
	var residency residencyFlags
	cmd := &cobra.Command{
		Use:   "set TENANT",
		Short: "Give a tenant another tier, limits of its own, or say where its data may be; in force at once",
		Example: `  croft tenants set acme --tier gold --limit rate_per_second=300 --limit top_k=inherit
  croft tenants set acme --zone eu-1,eu-2 --apart-from banks`,
		Args: exactly("TENANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			if change.Limits, err = limits.limits(); err != nil {
				return err
			}
			change.Residency = residency.residency(cmd)
			if change.Tier == "" && len(change.Limits) == 0 && change.Residency == nil {
				return usagef("nothing to change").withHint("give --tier, --limit, --zone or --apart-from; `croft tenants settings TENANT` shows all limits")
			}
			t, err := c.SetTenant(cmd.Context(), args[0], change)
			if err != nil {
				return err
			}
			return a.print(tenantListing(t, t))
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().StringVar(&change.Tier, "tier", "", "whose limits it is served under")
	limits.addFlag(cmd, "a limit of its own, NAME=VALUE, or NAME=inherit; may be given several times")
	residency.addFlags(cmd)
	return cmd
}

func (a *app) tenantsSettingsCommand() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:   "settings TENANT",
		Short: "Show all limits of a tenant as they are in force, and where each comes from",
		Example: `  croft tenants settings acme
  croft tenants settings acme -o json`,
		Args: exactly("TENANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			s, err := c.TenantSettings(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			if o := s.Override; o != nil {
				a.note("override: %v times until %s; %s", o.Factor, timeText(o.Until), dash(o.Reason))
			}
			l := settingsListing(s.Settings)
			l.value = s
			return a.print(l)
		},
	}
	conn.addFlags(cmd)
	return cmd
}

func settingsListing(settings map[string]client.Setting) listing {
	l := listing{value: settings, header: []string{"LIMIT", "VALUE", "UNIT", "FROM"}}
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		s := settings[name]
		l.rows = append(l.rows, []string{name, settingText(s.Value), s.Unit, s.From})
	}
	return l
}

// settingText is a value without the exponent that large numbers of JSON have in Go.
func settingText(v any) string {
	if f, ok := v.(float64); ok {
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprint(v)
}

func (a *app) tenantsOverrideCommand() *cobra.Command {
	var conn connection
	var factor float64
	var duration, reason string
	var end bool
	cmd := &cobra.Command{
		Use:   "override TENANT",
		Short: "Multiply a tenant's quotas for a while, on all nodes within a second; it ends by itself",
		Example: `  croft tenants override acme --factor 10 --for 30m --reason "launch day"
  croft tenants override acme --end`,
		Args: exactly("TENANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			var t client.Tenant
			switch {
			case end:
				t, err = c.EndOverride(cmd.Context(), args[0])
			case factor == 0 || duration == "":
				return usagef("an override needs --factor and --for").withHint("--end takes one back")
			default:
				t, err = c.OverrideTenant(cmd.Context(), args[0], factor, duration, reason)
			}
			if err != nil {
				return err
			}
			if o := t.Override; o != nil {
				a.note("%v times until %s", o.Factor, timeText(o.Until))
			}
			return a.print(tenantListing(t, t))
		},
	}
	conn.addFlags(cmd)
	f := cmd.Flags()
	f.Float64Var(&factor, "factor", 0, "what rates, quotas and concurrency are multiplied by, at most 1000; below 1 it slows a tenant down")
	f.StringVar(&duration, "for", "", "how long, for example 30m, at most 720h")
	f.StringVar(&reason, "reason", "", "why, for the audit log")
	f.BoolVar(&end, "end", false, "take back what is in force")
	return cmd
}
