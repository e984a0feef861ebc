package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

// healthAsked is what `croft health` looks at.
type healthAsked struct{ live, ready, verify, strict bool }

func (a *app) healthCommand() *cobra.Command {
	var (
		conn  connection
		asked healthAsked
	)
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a server whether it serves everything, and what is not well in its cluster",
		Long: `Fails with 7 if the server does not serve everything. With an operator's key it then lists what is not well: shards that carry more than
others, are slow, nearly full or lack replicas, and tenants whose data is not where routing leads. What is critical ends with 8, with
--strict any warning does. Without a key, with --ready and with --live it asks about the one process alone.`,
		Example: `  croft health
  croft health --verify --strict -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asked.verify && (asked.live || asked.ready) {
				return usagef("--verify is about the cluster, --live and --ready are about one process")
			}
			c, err := a.connect(conn, -1)
			if err != nil {
				return err
			}
			return a.health(cmd.Context(), c, asked)
		},
	}
	conn.addFlags(cmd)
	f := cmd.Flags()
	f.BoolVar(&asked.live, "live", false, "only ask whether the process is alive")
	f.BoolVar(&asked.ready, "ready", false, "only ask whether the process serves everything")
	f.BoolVar(&asked.verify, "verify", false, "compare routing with where tenants' data is now, and not when it is time")
	f.BoolVar(&asked.strict, "strict", false, "fail for every warning, not only for what is critical")
	return cmd
}

func (a *app) health(ctx context.Context, c *client.Client, asked healthAsked) error {
	ask, state := c.Ready, "ready"
	if asked.live {
		ask, state = c.Healthy, "alive"
	}
	if err := ask(ctx); err != nil {
		return err
	}
	probed := listing{value: map[string]string{"status": state, "url": c.URL()}, rows: [][]string{{state, c.URL()}}}
	if asked.live || asked.ready || a.keyOrigin == "" && !asked.verify {
		return a.print(probed)
	}
	judge := c.ClusterHealth
	if asked.verify {
		judge = c.VerifyRouting
	}
	h, err := judge(ctx)
	if (errs.Is(err, errs.Unauthenticated) || errs.Is(err, errs.PermissionDenied)) && !asked.verify {
		return a.print(probed) // a key for something else: the server serves
	}
	if err != nil {
		return err
	}
	if err := a.print(healthListing(&h)); err != nil {
		return err
	}
	a.remarkOn(&h)
	return judgement(&h, asked.strict)
}

func healthListing(h *client.Health) listing {
	l := listing{value: h, items: itemsOf(h.Warnings)}
	if len(h.Warnings) == 0 {
		l.rows = [][]string{{h.Status}}
		return l
	}
	l.header = []string{"SEVERITY", "TYPE", "SHARDS", "MEASURE", "VALUE", "THRESHOLD", "WHAT", "ADVICE"}
	for i := range h.Warnings {
		w := &h.Warnings[i]
		l.rows = append(l.rows, []string{
			w.Severity, w.Type, dash(numbersText(w.Shards)), w.Measure, figureText(w.Value), figureText(w.Threshold), w.Message, w.Recommendation,
		})
	}
	return l
}

// numbersText is a list of a few numbers: 1 2 3.
func numbersText(all []int) string {
	const shown = 8
	var texts []string
	for _, n := range all[:min(shown, len(all))] {
		texts = append(texts, strconv.Itoa(n))
	}
	if len(all) > shown {
		texts = append(texts, fmt.Sprintf("and %d more", len(all)-shown))
	}
	return strings.Join(texts, " ")
}

// figureText is a number with two digits behind the point where it has any.
func figureText(x float64) string {
	if x == float64(int64(x)) {
		return thousands(int64(x))
	}
	return strconv.FormatFloat(x, 'f', 2, 64)
}

func (a *app) remarkOn(h *client.Health) {
	a.noteSilent(h.Silent)
	r := h.Routing
	if r == nil {
		a.note("routing has not been compared with where data is yet: --verify does it now")
		return
	}
	a.note("routing compared %s ago: %s with data, %s astray", time.Since(r.At).Round(time.Second), counted(r.Tenants, "tenant"), thousands(len(r.Strays)))
	for i := range r.Strays {
		y := &r.Strays[i]
		a.note("  %s: tenant %s (%s), home %d, %s on shard %d: %s", y.Kind, dash(y.Tenant), y.ID, y.Home, counted(y.Vectors, "vector"), y.Shard,
			firstNonEmpty(y.Healed, y.Error, "left as it is"))
	}
	if len(r.Silent) > 0 {
		a.note("not looked at, since they did not answer: shards %s", numbersText(r.Silent))
	}
}

// unwellError is a cluster that is not well.
type unwellError struct{ error }

func (e *unwellError) Unwrap() error { return e.error }

// judgement fails for what is critical, and for every warning if it is to be strict.
func judgement(h *client.Health, strict bool) error {
	if h.Status != "critical" && (h.Status == "healthy" || !strict) {
		return nil
	}
	return &unwellError{errs.New(errs.FailedPrecondition, "the cluster's health is %s", h.Status)}
}
