package main

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

const (
	watchEvery    = 250 * time.Millisecond
	watchPatience = time.Minute     // how long no node may answer
	watchAttempt  = 5 * time.Second // how long one may take
)

// watcher asks any of a cluster's nodes.
type watcher struct {
	nodes []*client.Client
	at    int // who is asked first
}

// newWatcher knows of the node that is asked and, through it, of the others.
func (a *app) newWatcher(ctx context.Context, conn connection, c *client.Client) (*watcher, error) {
	urls := []string{c.URL()}
	if info, err := c.Cluster(ctx); err == nil { // else that node alone
		for _, n := range info.Nodes {
			if n.URL != "" && !n.Self {
				urls = append(urls, n.URL)
			}
		}
	}
	key := a.key(conn.apiKey, c.URL())
	w := &watcher{}
	for _, u := range urls {
		node, err := client.New(client.Options{URL: u, APIKey: key, UserAgent: "croft/" + buildInfo().Version, Retries: -1, Timeout: watchAttempt})
		if err != nil {
			return nil, err
		}
		w.nodes = append(w.nodes, node)
	}
	return w, nil
}

// migration asks one node after the other until one answers.
func (w *watcher) migration(ctx context.Context, id uint64) (m client.Migration, err error) {
	for range w.nodes {
		m, err = w.nodes[w.at].Migration(ctx, id)
		if err == nil || ctx.Err() != nil || !passing(err) {
			return m, err
		}
		w.at = (w.at + 1) % len(w.nodes)
	}
	return m, err
}

// passing reports whether a question may be answered by another node, or later.
func passing(err error) bool {
	switch errs.KindOf(err) {
	case errs.Unavailable, errs.OutcomeUnknown, errs.DeadlineExceeded, errs.RateLimited:
		return true
	}
	return false
}

// watchMigration follows a migration until it has come to something.
func (a *app) watchMigration(ctx context.Context, conn connection, c *client.Client, m client.Migration) (client.Migration, error) {
	w, err := a.newWatcher(ctx, conn, c)
	if err != nil {
		return m, err
	}
	line := a.newMigrationLine()
	defer func() { // the cluster goes on, whoever stops looking
		if line.done(); m.Running && ctx.Err() != nil {
			a.note("the move goes on: `croft migrations get %d --watch` follows it, `croft migrations cancel %d` gives it up", m.ID, m.ID)
		}
	}()
	heard := time.Now()
	for {
		line.show(m)
		if !m.Running {
			return m, nil
		}
		if err := pauseFor(ctx, watchEvery); err != nil {
			return m, err
		}
		next, err := w.migration(ctx, m.ID)
		switch {
		case err == nil:
			m, heard = next, time.Now()
		case ctx.Err() != nil:
			return m, ctx.Err()
		case !passing(err) || time.Since(heard) > watchPatience:
			return m, err
		}
	}
}

// outcomeOf is an error if a migration that was to move its tenant has not. asked is its phase when it was asked for: who watches one
// that is being given up got what he wants.
func outcomeOf(m client.Migration, asked string) error {
	if m.Phase != client.MigrationAborted || asked == "aborting" || asked == client.MigrationAborted {
		return nil
	}
	return errs.New(errs.FailedPrecondition, "migration %d was given up, tenant %q stays on shard %d: %s", m.ID, m.Tenant, m.From, m.Error)
}

// migrationLine tells how a migration gets on: on one line of a terminal, else whenever the phase changes and now and then.
type migrationLine struct {
	a     *app
	live  bool
	phase string
	told  time.Time
	width int
}

func (a *app) newMigrationLine() *migrationLine {
	return &migrationLine{a: a, live: !a.quiet && !a.noProgress && isTerminal(a.stderr) && a.getenv("TERM") != "dumb"}
}

func (l *migrationLine) show(m client.Migration) {
	text := migrationText(m)
	switch {
	case l.live:
		fmt.Fprint(l.a.stderr, "\r"+text+strings.Repeat(" ", max(0, l.width-len(text))))
		l.width = len(text)
	case m.Phase != l.phase || time.Since(l.told) >= progressEvery:
		l.a.note("%s", text)
		l.phase, l.told = m.Phase, time.Now()
	}
}

func (l *migrationLine) done() {
	if l.live {
		fmt.Fprintln(l.a.stderr)
	}
}

// migrationText is a migration on one line.
func migrationText(m client.Migration) string {
	text := fmt.Sprintf("migration %d: %s", m.ID, m.Phase)
	if m.Attempt > 1 {
		text += fmt.Sprintf(", attempt %d", m.Attempt)
	}
	if m.Total > 0 {
		text += fmt.Sprintf(", %.0f %% of %s, %s, eta %s", 100*float64(min(m.Copied, m.Total))/float64(m.Total), bytesText(int64(m.Total)),
			rateText(m.Rate), secondsText(m.ETA))
	}
	return text + fmt.Sprintf(", lag %s, %s failed", thousands(m.Lag), counted(m.Failed, "request"))
}
