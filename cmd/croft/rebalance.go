package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

func (a *app) rebalanceCommand() *cobra.Command {
	var (
		conn                   connection
		sure                   consent
		watch, abort, inWindow bool
	)
	cmd := &cobra.Command{
		Use:   "rebalance",
		Short: "Move tenants from shards that carry more than others, while they are used",
		Long: `Shows the moves first: from shards with over 1.2 times the mean of tenants, vectors, bytes, queries or computing, with the fewest bytes
to copy for what is gained. Tenants that are to follow the ring, since shards were added or are drained, are moved as well.`,
		Example: `  croft rebalance --dry-run
  croft rebalance --yes --watch`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			switch {
			case abort && (watch || inWindow || sure.dryRun):
				return usagef("--abort ends a run, the other flags begin or follow one")
			case abort:
				return a.abortRebalance(cmd.Context(), c)
			}
			return a.rebalance(cmd.Context(), conn, c, sure, inWindow, watch)
		},
	}
	conn.addFlags(cmd)
	sure.addFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&watch, "watch", false, "follow the run that is begun, or under way already")
	f.BoolVar(&abort, "abort", false, "end the run that is under way; what has moved stays moved")
	f.BoolVar(&inWindow, "in-window", false, "begin moves only within the windows of `croft rebalance rules`")
	cmd.AddCommand(a.rebalanceListCommand(), a.rebalanceRulesCommand())
	return cmd
}

func (a *app) abortRebalance(ctx context.Context, c *client.Client) error {
	r, err := c.AbortRebalance(ctx)
	if err != nil {
		return err
	}
	return a.print(runsListing(r, r))
}

// rebalance shows the plan, and carries it out if that is agreed to.
func (a *app) rebalance(ctx context.Context, conn connection, c *client.Client, sure consent, inWindow, watch bool) error {
	if watch && !sure.dryRun {
		if r, err := runUnderWay(ctx, c); err != nil || r != nil {
			return a.followRun(ctx, conn, c, r, err)
		}
	}
	p, err := c.RebalancePlan(ctx)
	if err != nil {
		return err
	}
	a.remarkOnPlan(&p)
	if len(p.Moves) == 0 && p.Homeward == 0 || sure.dryRun {
		return a.print(rebalanceListing(&p))
	}
	if a.format == "table" {
		if err := a.print(rebalanceListing(&p)); err != nil {
			return err
		}
	}
	effect := fmt.Sprintf("moves %s with %s, and %s that are to follow the ring; no request fails", counted(len(p.Moves), "tenant"), bytesText(int64(p.Bytes)), thousands(p.Homeward))
	if ok, err := a.agree(sure, effect); err != nil || !ok {
		return err
	}
	r, err := c.Rebalance(ctx, inWindow)
	if err != nil {
		return err
	}
	if watch {
		return a.followRun(ctx, conn, c, &r, nil)
	}
	a.note("run %d has begun: croft rebalance --watch", r.ID)
	return a.print(runsListing(r, r))
}

func rebalanceListing(p *client.RebalancePlan) listing {
	l := listing{value: p, items: itemsOf(p.Moves)}
	if len(p.Moves) == 0 {
		return l
	}
	l.header = []string{"TENANT", "FROM", "TO", "VECTORS", "SIZE", "WHY"}
	for i := range p.Moves {
		m := &p.Moves[i]
		l.rows = append(l.rows, []string{m.Tenant, strconv.Itoa(m.From), strconv.Itoa(m.To), thousands(m.Vectors), bytesText(int64(m.Bytes)), m.Why})
	}
	return l
}

func (a *app) remarkOnPlan(p *client.RebalancePlan) {
	for i := range p.Before {
		s := &p.Before[i]
		line := fmt.Sprintf("shard %d: %s tenants, %s vectors, %s; hottest %.2f times the mean", s.Shard, figureText(s.Load["tenants"]),
			figureText(s.Load["vectors"]), bytesText(int64(s.Load["bytes"])), s.Hottest)
		if i < len(p.After) && p.After[i].Hottest != s.Hottest {
			line += fmt.Sprintf(", then %.2f", p.After[i].Hottest)
		}
		a.note("%s", line)
	}
	for _, n := range p.Notes {
		a.note("%s", n)
	}
	switch {
	case len(p.Moves) == 0 && p.Homeward == 0:
		a.note("nothing to move")
	default:
		a.note("%s, %s, about %s; %s to follow the ring beside them", counted(len(p.Moves), "move"), bytesText(int64(p.Bytes)),
			(time.Duration(p.Seconds) * time.Second).Round(time.Second), thousands(p.Homeward))
	}
}

// runUnderWay finds the run that goes on, nil if there is none.
func runUnderWay(ctx context.Context, c *client.Client) (*client.Run, error) {
	all, err := c.Rebalancing(ctx)
	if err != nil || len(all.Runs) == 0 || !all.Runs[0].Running() {
		return nil, err
	}
	return &all.Runs[0], nil
}

// followRun tells how a run gets on until it is over, by any node that answers.
func (a *app) followRun(ctx context.Context, conn connection, c *client.Client, r *client.Run, err error) error {
	if err != nil {
		return err
	}
	w, err := a.newWatcher(ctx, conn, c)
	if err != nil {
		return err
	}
	told, heard := "", time.Now()
	for r.Running() {
		if line := runText(r); line != told {
			a.note("%s", line)
			told = line
		}
		if err := pauseFor(ctx, watchEvery); err != nil {
			return err
		}
		next, err := w.run(ctx, r.ID)
		switch {
		case err == nil:
			r, heard = next, time.Now()
		case ctx.Err() != nil:
			return ctx.Err()
		case !passing(err) || time.Since(heard) > watchPatience:
			return err
		}
	}
	if err := a.print(runsListing(r, *r)); err != nil {
		return err
	}
	if r.Failed > 0 {
		return errs.New(errs.FailedPrecondition, "%d of %d moves failed: %s", r.Failed, r.Planned, r.Error)
	}
	return nil
}

// run asks one node after the other for a run until one answers.
func (w *watcher) run(ctx context.Context, id uint64) (r *client.Run, err error) {
	for range w.nodes {
		var all client.Runs
		all, err = w.nodes[w.at].Rebalancing(ctx)
		if i := slices.IndexFunc(all.Runs, func(r client.Run) bool { return r.ID == id }); err == nil && i >= 0 {
			return &all.Runs[i], nil
		}
		if err == nil {
			err = errs.New(errs.NotFound, "run %d is forgotten", id)
		}
		if ctx.Err() != nil || !passing(err) {
			return nil, err
		}
		w.at = (w.at + 1) % len(w.nodes)
	}
	return nil, err
}

func runText(r *client.Run) string {
	text := fmt.Sprintf("run %d: %d of %d moved, %d under way", r.ID, r.Moved, r.Planned, r.Under)
	if r.Homeward > 0 {
		text += fmt.Sprintf(", %d still to follow the ring", r.Homeward)
	}
	if r.Waiting {
		text += ", waits for its window"
	}
	return text
}

func runsListing(value any, runs ...client.Run) listing {
	l := listing{value: value, items: itemsOf(runs), header: []string{"RUN", "STATE", "BY", "STARTED", "ENDED", "MOVES", "MOVED", "FAILED", "SIZE", "HOTTEST", "THEN", "ERROR"}}
	for i := range runs {
		r := &runs[i]
		ended, after := "-", "-"
		if r.Ended != nil {
			ended = r.Ended.Format(time.RFC3339)
		}
		if r.After > 0 {
			after = fmt.Sprintf("%.2f", r.After)
		}
		l.rows = append(l.rows, []string{
			strconv.FormatUint(r.ID, 10), r.State, r.By, r.Began.Format(time.RFC3339), ended, thousands(r.Planned), thousands(r.Moved), thousands(r.Failed),
			bytesText(int64(r.Bytes)), fmt.Sprintf("%.2f", r.Before), after, dash(r.Error),
		})
	}
	return l
}

func (a *app) rebalanceListCommand() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List the runs that are remembered, the newest first",
		Example: `  croft rebalance list
  croft rebalance list -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			all, err := c.Rebalancing(cmd.Context())
			if err != nil {
				return err
			}
			return a.print(runsListing(all, all.Runs...))
		},
	}
	conn.addFlags(cmd)
	return cmd
}

func (a *app) rebalanceRulesCommand() *cobra.Command {
	var (
		conn      connection
		change    client.RebalanceRules
		automatic string
		windows   []string
	)
	cmd := &cobra.Command{
		Use:   "rules",
		Short: "Show or change when tenants are moved by themselves, and how many at once",
		Long: `A window is FROM-TO in UTC, with days in front where it is not for all: 22:00-06:00, sat,sun/00:00-24:00. --window replaces all that there are,
--window none takes them away.`,
		Example: `  croft rebalance rules
  croft rebalance rules --automatic on --window 22:00-06:00 --window sat,sun/00:00-24:00`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var err error
			if change.Automatic, err = onOff("automatic", automatic); err != nil {
				return err
			}
			if change.Windows, err = parseWindows(windows); err != nil {
				return err
			}
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			if change == (client.RebalanceRules{}) {
				all, err := c.Rebalancing(cmd.Context())
				if err != nil {
					return err
				}
				return a.print(rulesListing(&all.Rules))
			}
			r, err := c.SetRebalanceRules(cmd.Context(), change)
			if err != nil {
				return err
			}
			return a.print(rulesListing(&r))
		},
	}
	conn.addFlags(cmd)
	f := cmd.Flags()
	f.StringVar(&automatic, "automatic", "", "on: a run begins when a shard is hot; off")
	f.IntVar(&change.Parallel, "parallel", 0, "moves at once")
	f.StringVar(&change.Cooldown, "cooldown", "", "how long a tenant that was moved stays, for example 1h")
	f.StringArrayVar(&windows, "window", nil, "when automatic runs move tenants; may be repeated")
	return cmd
}

// onOff reads a switch; nil: it was not given.
func onOff(flag, text string) (*bool, error) {
	on := text == "on"
	switch text {
	case "":
		return nil, nil
	case "on", "off":
		return &on, nil
	}
	return nil, usagef("--%s is on or off, not %q", flag, text)
}

// parseWindows reads windows; nil: none were given.
func parseWindows(texts []string) (*[]client.Window, error) {
	if len(texts) == 0 {
		return nil, nil
	}
	all := []client.Window{}
	for _, text := range texts {
		if text == "none" {
			continue
		}
		days, hours, found := strings.Cut(text, "/")
		if !found {
			days, hours = "", text
		}
		from, to, ok := strings.Cut(hours, "-")
		if !ok {
			return nil, usagef("--window %q is not of the form 22:00-06:00 or sat,sun/00:00-24:00", text)
		}
		w := client.Window{From: from, To: to}
		if days != "" {
			w.Days = strings.Split(days, ",")
		}
		all = append(all, w)
	}
	return &all, nil
}

func rulesListing(r *client.RebalanceRules) listing {
	windows := []string{}
	if r.Windows != nil {
		for _, w := range *r.Windows {
			windows = append(windows, strings.TrimPrefix(strings.Join(w.Days, ",")+"/"+w.From+"-"+w.To, "/"))
		}
	}
	automatic := r.Automatic != nil && *r.Automatic
	return listing{
		value: r, header: []string{"AUTOMATIC", "AT ONCE", "COOLDOWN", "WINDOWS (UTC)"},
		rows: [][]string{{yesNo(automatic), strconv.Itoa(r.Parallel), r.Cooldown, dash(strings.Join(windows, " "))}},
	}
}
