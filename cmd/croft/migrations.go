package main

import (
	"context"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) migrationsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "migrations",
		Aliases: []string{"migration"},
		Short:   "List, watch, cancel and take back moves of tenants between shards",
		Example: `  croft migrations list --running
  croft migrations rollback 7 --watch`,
	}
	cmd.AddCommand(a.migrationsListCommand(), a.migrationsGetCommand(), a.migrationsCancelCommand(), a.migrationsRollbackCommand())
	return group(cmd)
}

func migrationListing(value any, all ...client.Migration) listing {
	l := listing{value: value, items: itemsOf(all),
		header: []string{"ID", "TENANT", "FROM", "TO", "PHASE", "ATTEMPT", "COPIED", "OF", "RATE", "ETA", "LAG", "FAILED", "STARTED", "KEPT UNTIL", "ERROR"}}
	for _, m := range all {
		l.rows = append(l.rows, []string{
			migrationName(m), m.Tenant, strconv.Itoa(m.From), strconv.Itoa(m.To), m.Phase, thousands(m.Attempt), bytesText(int64(m.Copied)),
			bytesText(int64(m.Total)), rateText(m.Rate), secondsText(m.ETA), thousands(m.Lag), thousands(m.Failed), dash(timeText(m.Started)),
			dash(timeText(m.KeptUntil)), dash(m.Error),
		})
	}
	return l
}

// migrationName is the id, which a dry run has not.
func migrationName(m client.Migration) string {
	if m.ID == 0 {
		return "-"
	}
	return strconv.FormatUint(m.ID, 10)
}

// rateText is bytes per second for people.
func rateText(perSecond float64) string {
	if perSecond <= 0 {
		return "-"
	}
	return bytesText(int64(perSecond)) + "/s"
}

func secondsText(s float64) string {
	if s <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f s", s)
}

func (a *app) migrationsListCommand() *cobra.Command {
	var conn connection
	var f client.MigrationFilter
	var page client.Page
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List migrations, the newest first, with how far they are",
		Example: `  croft migrations list --running
  croft migrations list --tenant acme -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			res, err := c.Migrations(cmd.Context(), f, page)
			if err != nil {
				return err
			}
			return a.printPage(migrationListing(res, res.Migrations...), res.Pagination)
		},
	}
	conn.addFlags(cmd)
	s := cmd.Flags()
	s.StringVar(&f.Tenant, "tenant", "", "only those of this tenant")
	s.StringVar(&f.Phase, "phase", "", "only those in this phase, for example settled")
	s.BoolVar(&f.Running, "running", false, "only those that are on their way")
	s.IntVar(&page.Limit, "limit", 100, "entries of a page, 1 to 100")
	s.StringVar(&page.Token, "page", "", "token of the page, as the page before told it")
	return cmd
}

func (a *app) migrationsGetCommand() *cobra.Command {
	var conn connection
	var watch bool
	cmd := &cobra.Command{
		Use:     "get ID",
		Aliases: []string{"describe"},
		Short:   "Show how far a migration is, from any node",
		Example: `  croft migrations get 7
  croft migrations get 7 --watch`,
		Args: exactly("ID"),
		RunE: a.migrationVerb(&conn, &watch, (*client.Client).Migration),
	}
	conn.addFlags(cmd)
	addWatchFlag(cmd, &watch)
	return cmd
}

func (a *app) migrationsCancelCommand() *cobra.Command {
	var conn connection
	var watch bool
	cmd := &cobra.Command{
		Use:   "cancel ID",
		Short: "Give a move up while the tenant still lives where it did; nothing is lost",
		Example: `  croft migrations cancel 7
  croft migrations cancel 7 --watch`,
		Args: exactly("ID"),
		RunE: a.migrationVerb(&conn, &watch, (*client.Client).CancelMigration),
	}
	conn.addFlags(cmd)
	addWatchFlag(cmd, &watch)
	return cmd
}

func (a *app) migrationsRollbackCommand() *cobra.Command {
	var conn connection
	var watch bool
	cmd := &cobra.Command{
		Use:   "rollback ID",
		Short: "Move a tenant back to where it came from, with what was written since",
		Long: `A move back is a migration like any other, and loses nothing. It can be asked for while the old home keeps its copy: KEPT UNTIL of
` + "`croft migrations list`" + `.`,
		Example: `  croft migrations rollback 7
  croft migrations rollback 7 --watch`,
		Args: exactly("ID"),
		RunE: a.migrationVerb(&conn, &watch, (*client.Client).RollbackMigration),
	}
	conn.addFlags(cmd)
	addWatchFlag(cmd, &watch)
	return cmd
}

// migrationVerb asks for something about the migration that the argument names, and shows or follows it.
func (a *app) migrationVerb(conn *connection, watch *bool, do func(*client.Client, context.Context, uint64) (client.Migration, error)) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		id, err := strconv.ParseUint(args[0], 10, 64)
		if err != nil {
			return usagef("%q is not the number of a migration", args[0]).withHint("`croft migrations list` shows them")
		}
		c, err := a.connect(*conn, 0)
		if err != nil {
			return err
		}
		m, err := do(c, cmd.Context(), id)
		if err != nil {
			return err
		}
		return a.showMigration(cmd.Context(), *conn, c, m, *watch)
	}
}

// showMigration prints a migration, with watch not before the tenant is where it is to be. It fails if a move that was watched was
// given up.
func (a *app) showMigration(ctx context.Context, conn connection, c *client.Client, m client.Migration, watch bool) error {
	if !watch || m.ID == 0 {
		return a.print(migrationListing(m, m))
	}
	asked := m.Phase
	m, err := a.watchMigration(ctx, conn, c, m)
	if err != nil {
		return err
	}
	return firstError(a.print(migrationListing(m, m)), outcomeOf(m, asked))
}

func (a *app) tenantsMoveCommand() *cobra.Command {
	var conn connection
	var watch bool
	asked := client.NewMigration{To: -1}
	cmd := &cobra.Command{
		Use:   "move TENANT --to SHARD",
		Short: "Move a tenant to another shard while it is used",
		Long: `No request fails and nothing is lost: records, graph, usage and quotas are copied while the tenant is read and written, writes wait some
milliseconds at the end, and the old home keeps its copy for a while (` + "`croft migrations rollback`" + `). The command returns at once;
--watch follows the move from any node, also when the one that was asked dies.`,
		Example: `  croft tenants move acme --to 3 --watch
  croft tenants move acme --to 3 --dry-run -o json`,
		Args: exactly("TENANT"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if asked.To < 0 {
				return usagef("%s needs --to", cmd.CommandPath()).withHint("`croft shards list` shows the shards")
			}
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			asked.Tenant = args[0]
			m, err := c.MoveTenant(cmd.Context(), asked)
			if err != nil {
				return err
			}
			if asked.DryRun {
				a.note("not done: this copies %s from shard %d to shard %d", bytesText(int64(m.Total)), m.From, m.To)
			}
			return a.showMigration(cmd.Context(), conn, c, m, watch)
		},
	}
	conn.addFlags(cmd)
	addWatchFlag(cmd, &watch)
	f := cmd.Flags()
	f.IntVar(&asked.To, "to", -1, "the shard that it is to live on")
	f.StringVar(&asked.Reason, "reason", "", "why, for those who look later")
	f.BoolVar(&asked.DryRun, "dry-run", false, "only look whether it could be done, and how much there is to copy")
	return cmd
}

func addWatchFlag(cmd *cobra.Command, watch *bool) {
	cmd.Flags().BoolVar(watch, "watch", false, "follow it until the tenant is where it is to be")
}
