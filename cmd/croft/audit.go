package main

import (
	"log/slog"
	"net/url"
	"path/filepath"
	"strconv"
	"time"

	"github.com/go-json-experiment/json"
	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
	"github.com/croftdb/croft/internal/vfs"
	"github.com/croftdb/croft/tenancy/audit"
)

func (a *app) auditCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "Who did what to the store, and who was refused",
		Example: `  croft audit list --since 24h
  croft audit verify`,
	}
	cmd.AddCommand(a.auditListCommand(), a.auditVerifyCommand())
	return group(cmd)
}

func (a *app) auditListCommand() *cobra.Command {
	var conn connection
	texts := map[string]*string{}
	limit := 100
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List events of all nodes, the newest first",
		Example: `  croft audit list --refused true --since 1h
  croft audit list --tenant acme --action create_key -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			query := url.Values{"limit": {strconv.Itoa(limit)}}
			for name, value := range texts {
				if *value != "" {
					query.Set(name, *value)
				}
			}
			res, err := c.Audit(cmd.Context(), query)
			if err != nil {
				return err
			}
			a.noteSilent(res.Silent)
			return a.printPage(auditListing(res, res.Events), res.Pagination)
		},
	}
	conn.addFlags(cmd)
	text := func(param, flag, usage string) {
		texts[param] = cmd.Flags().String(flag, "", usage)
	}
	text("tenant", "tenant", "events of this tenant alone")
	text("actor", "actor", "by whom: key:ID, token:SUBJECT, admin key; a * at the end stands for anything")
	text("action", "action", "what, as in create_key")
	text("result", "result", "ok, or the kind of error")
	text("refused", "refused", "true: refusals alone; false: acts alone")
	text("since", "since", "not before: a time, or how long ago, as in 24h")
	text("until", "until", "before: likewise")
	text("paginationToken", "page", "token of the page, as the page before told it")
	cmd.Flags().IntVar(&limit, "limit", limit, "events of a page, 1 to 1000")
	return cmd
}

func auditListing(value any, events []client.AuditEvent) listing {
	l := listing{value: value, items: itemsOf(events), header: []string{"AT", "WHO", "TENANT", "WHAT", "TARGET", "FROM", "RESULT", "TIMES"}}
	for _, e := range events {
		l.rows = append(l.rows, []string{
			e.At.Format(time.RFC3339), e.Actor, dash(e.Tenant), e.Action, dash(e.Target), dash(e.From), e.Result, thousands(e.Count),
		})
	}
	return l
}

func (a *app) auditVerifyCommand() *cobra.Command {
	var conn connection
	var data string
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check that no event was changed, taken out or put in between",
		Long: `Every event is bound to the one before by a hash. What was changed later breaks the chain; that the newest events were cut off shows only in the
head, the hash of the last one, when it is compared with one that was kept elsewhere.`,
		Example: `  croft audit verify
  croft audit verify --data ./data        a stopped node's`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			check, err := a.auditCheck(cmd, conn, data)
			if err != nil {
				return err
			}
			a.noteSilent(check.Silent)
			if err := a.print(checkListing(check)); err != nil {
				return err
			}
			if !check.Whole {
				return errs.New(errs.Corrupt, "the audit log was changed after it was written")
			}
			return nil
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().StringVar(&data, "data", "", "data directory of a stopped node, instead of a server")
	return cmd
}

func (a *app) auditCheck(cmd *cobra.Command, conn connection, data string) (check client.AuditCheck, err error) {
	if data == "" {
		c, err := a.connect(conn, 0)
		if err != nil {
			return check, err
		}
		return c.VerifyAudit(cmd.Context())
	}
	trail, err := audit.Open(vfs.OS(), filepath.Join(data, "audit"), data, audit.Options{}, slog.New(slog.DiscardHandler))
	if err != nil {
		return check, err
	}
	reports, err := trail.Verify()
	if err = firstError(err, trail.Close()); err != nil {
		return check, err
	}
	check.Whole = true
	for _, r := range reports {
		check.Whole = check.Whole && len(r.Breaks) == 0
	}
	b, err := json.Marshal(reports) // the shapes are the same
	if err != nil {
		return check, err
	}
	return check, json.Unmarshal(b, &check.Chains)
}

func checkListing(check client.AuditCheck) listing {
	l := listing{value: check, items: itemsOf(check.Chains), header: []string{"NODE", "CHAIN", "EVENTS", "FIRST", "LAST", "MENDED", "BROKEN", "HEAD"}}
	for _, r := range check.Chains {
		l.rows = append(l.rows, []string{
			r.Node, r.Chain, thousands(r.Events), thousands(r.First), thousands(r.Last), strconv.Itoa(r.Mended), strconv.Itoa(len(r.Breaks)), r.Head,
		})
		for _, b := range r.Breaks {
			l.rows = append(l.rows, []string{"", "", "", "", "", "", b.File, b.What})
		}
	}
	return l
}
