package main

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/cluster"
	"github.com/croftdb/croft/internal/errs"
)

// recoverFlags are what says how far a recovery may go.
type recoverFlags struct {
	giveUp bool
	force  bool
}

func (f *recoverFlags) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.giveUp, "give-up-shards", false, "let shards of which no survivor has a replica begin anew, empty")
	cmd.Flags().BoolVar(&f.force, "force", false, "also when something answers at the address of a node that counts as lost")
}

func (a *app) recoverCommand() *cobra.Command {
	var (
		dir    string
		flags  recoverFlags
		lost   bool
		shards []int
		sure   consent
	)
	cmd := &cobra.Command{
		Use:   "recover --data DIR",
		Short: "Go on after most nodes were lost for ever, or a node's files",
		Long: `Works on the data directory of a stopped node. With this node as the only survivor, the command alone is enough. With
several, inspect each of them, make one plan of all, and apply it on each: else what another survivor has may be lost.

What was acknowledged and never reached a survivor is lost. All nodes that are not in the plan are refused from then on; bring
them back as new nodes, with empty directories. docs/recovery.md goes through it step by step.

With --lost-replicas no node counts as lost, but files of this one: it starts without them and gets them from the others.`,
		Example: `  croft recover --data ./data --dry-run
  croft recover --data ./data --lost-replicas`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			switch {
			case dir == "":
				return usagef("recover needs --data, the directory of a stopped node")
			case lost:
				return a.giveUpReplicas(dir, shards, sure)
			case len(shards) > 0:
				return usagef("--shard goes with --lost-replicas")
			}
			return a.recoverAlone(dir, flags, sure)
		},
	}
	cmd.Flags().StringVar(&dir, "data", "", "data directory of a stopped node")
	cmd.Flags().BoolVar(&lost, "lost-replicas", false, "give up replicas of this node whose files are gone or damaged; the others fill them again")
	cmd.Flags().IntSliceVar(&shards, "shard", nil, "with --lost-replicas: give up this shard's replica too, repeatable")
	flags.addFlags(cmd)
	sure.addFlags(cmd)
	cmd.AddCommand(a.recoverInspectCommand(), a.recoverPlanCommand(), a.recoverApplyCommand())
	return cmd
}

func (a *app) recoverInspectCommand() *cobra.Command {
	var dir string
	cmd := &cobra.Command{
		Use:   "inspect --data DIR",
		Short: "Show what a stopped node has of each group",
		Example: `  croft recover inspect --data ./data
  croft recover inspect --data ./data --json > node1.json`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			in, err := cluster.Inspect(dir, quiet())
			if err != nil {
				return err
			}
			return a.print(inspectionListing(in))
		},
	}
	cmd.Flags().StringVar(&dir, "data", "", "data directory of a stopped node")
	return cmd
}

func (a *app) recoverPlanCommand() *cobra.Command {
	var flags recoverFlags
	cmd := &cobra.Command{
		Use:   "plan INSPECTION...",
		Short: "Decide how the cluster goes on, from what all survivors have",
		Example: `  croft recover plan node1.json node2.json
  croft recover plan node1.json node2.json --json > plan.json`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			survivors := make([]*cluster.Inspection, len(args))
			for i, path := range args {
				survivors[i] = new(cluster.Inspection)
				if err := readJSON(path, survivors[i]); err != nil {
					return err
				}
			}
			p, err := a.planRecovery(survivors, flags)
			if err != nil {
				return err
			}
			return a.print(planListing(p))
		},
	}
	flags.addFlags(cmd)
	return cmd
}

func (a *app) recoverApplyCommand() *cobra.Command {
	var dir, path string
	var sure consent
	cmd := &cobra.Command{
		Use:   "apply --data DIR --plan FILE",
		Short: "Carry out a stopped node's part of a plan",
		Example: `  croft recover apply --data ./data --plan plan.json --dry-run
  croft recover apply --data ./data --plan plan.json --yes`,
		Args: exactly(),
		RunE: func(*cobra.Command, []string) error {
			p := new(cluster.RecoveryPlan)
			if err := readJSON(path, p); err != nil {
				return err
			}
			return a.applyRecovery(dir, p, sure)
		},
	}
	cmd.Flags().StringVar(&dir, "data", "", "data directory of a stopped node")
	cmd.Flags().StringVar(&path, "plan", "", "what `croft recover plan --json` printed")
	sure.addFlags(cmd)
	return cmd
}

// quiet is a log for what is told in another way.
func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func readJSON(path string, to any) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(b, to); err != nil {
		return errs.Wrap(errs.Invalid, err, "read %s", path)
	}
	return nil
}

// recoverAlone goes on with one node, or with a recovery that was begun.
func (a *app) recoverAlone(dir string, flags recoverFlags, sure consent) error {
	p, err := cluster.PendingRecovery(dir)
	if err != nil {
		return err
	}
	if p != nil {
		a.note("A recovery of %s was begun here and not finished: it goes on.", p.At.Format(time.RFC3339))
		return a.applyRecovery(dir, p, sure)
	}
	in, err := cluster.Inspect(dir, quiet())
	if err != nil {
		return err
	}
	if p, err = a.planRecovery([]*cluster.Inspection{in}, flags); err != nil {
		return err
	}
	return a.applyRecovery(dir, p, sure)
}

func (a *app) planRecovery(survivors []*cluster.Inspection, flags recoverFlags) (*cluster.RecoveryPlan, error) {
	p, err := cluster.PlanRecovery(survivors, cluster.PlanOptions{GiveUpShards: flags.giveUp})
	if err != nil || flags.force {
		return p, err
	}
	if alive := answering(p.Lost); len(alive) > 0 {
		return nil, errs.New(errs.FailedPrecondition, "node %s would count as lost, but something answers at %s", alive[0].ID, alive[0].Address).
			WithHint("stop that node and make the plan with it; --force if the address is another's now")
	}
	return p, nil
}

// answering are the nodes at whose addresses somebody listens.
func answering(lost []cluster.InspectedNode) (alive []cluster.InspectedNode) {
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, n := range lost {
		if n.Address == "" {
			continue
		}
		wg.Go(func() {
			conn, err := net.DialTimeout("tcp", n.Address, time.Second)
			if err != nil {
				return
			}
			_ = conn.Close()
			mu.Lock()
			defer mu.Unlock()
			alive = append(alive, n)
		})
	}
	wg.Wait()
	return alive
}

func (a *app) applyRecovery(dir string, p *cluster.RecoveryPlan, sure consent) error {
	a.explainPlan(p)
	if err := a.print(planListing(p)); err != nil {
		return err
	}
	ok, err := a.agree(sure, fmt.Sprintf("gives up %s for good, and with them what only they had", counted(len(p.Lost), "node")))
	if err != nil || !ok {
		return err
	}
	if err := cluster.ApplyRecovery(dir, p, newLogger(a.stderr, "warn", "text")); err != nil {
		return err
	}
	a.note("Done. Start this node with `croft serve --data %s`.", dir)
	if len(p.Survivors) > 1 {
		a.note("Apply the plan on the other survivors too, before they are started.")
	}
	if p.Removes() {
		a.note("Then let new nodes in with `croft nodes add`: replicas are made on them.")
	} else {
		for _, n := range p.Lost {
			a.note("Then remove the lost node: croft nodes remove --force %s", n.ID)
		}
	}
	return nil
}

// explainPlan says in words what a plan gives up.
func (a *app) explainPlan(p *cluster.RecoveryPlan) {
	for _, n := range p.Lost {
		a.note("Lost for good: node %s (%s). It is refused if it comes back.", n.ID, dash(n.Address))
	}
	if len(p.Lost) > 0 && len(p.Survivors) == 1 {
		a.note("If the disk of one of them can still be read, stop here: inspect that node too, and plan with both.")
	}
	kept := 0
	for i := range p.Groups {
		g := &p.Groups[i]
		switch g.Fate {
		case cluster.FateKept:
			kept++
			if !g.Voter {
				a.note("%s: the replica on node %s had no vote. It was still being filled, and much may be missing.", title(g.Name()), g.Keep)
			}
		case cluster.FateEmptied:
			a.note("%s: no survivor has a replica. ALL of its data are lost; it begins anew, empty, on node %s.", title(g.Name()), g.Keep)
		case cluster.FateLost:
			a.note("%s: no survivor has a replica. It stays unavailable.", title(g.Name()))
		}
	}
	if kept > 0 {
		a.note(keptText)
	}
}

const keptText = `Kept: all that the survivor has of the groups below, up to the entry and the time that are shown.
Lost: what the lost nodes acknowledged after that without the survivor. Nobody left knows whether there was any.
Writes that the survivor has and that nobody was told of count as written from now on.
`

func title(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

func planListing(p *cluster.RecoveryPlan) listing {
	l := listing{value: p, items: itemsOf(p.Groups), header: []string{"GROUP", "FATE", "KEPT ON", "ENTRY", "TERM", "WRITTEN", "VOTERS BEFORE"}}
	for i := range p.Groups {
		g := &p.Groups[i]
		l.rows = append(l.rows, []string{
			g.Name(), g.Fate, dash(g.Keep), strconv.FormatUint(g.Last, 10), strconv.FormatUint(g.LastTerm, 10), dash(timeText(g.LastAt)),
			dash(strings.Join(g.Voters, ",")),
		})
	}
	return l
}

func inspectionListing(in *cluster.Inspection) listing {
	l := listing{value: in, items: itemsOf(in.Groups), header: []string{"GROUP", "REPLICA", "ENTRY", "TERM", "ON DISK", "WRITTEN", "VOTERS", "FAULT"}}
	for i := range in.Groups {
		r := &in.Groups[i]
		voters := strings.ReplaceAll(strings.Join(r.Voters, ","), in.NodeID, in.NodeID+"*")
		l.rows = append(l.rows, []string{
			r.Name(), r.State, strconv.FormatUint(r.Last, 10), strconv.FormatUint(r.LastTerm, 10), strconv.FormatUint(r.Marker, 10),
			dash(timeText(r.LastAt)), dash(voters), dash(r.Fault),
		})
	}
	return l
}

func timeText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339)
}

// giveUpReplicas lets a node start without the files that it has lost.
func (a *app) giveUpReplicas(dir string, shards []int, sure consent) error {
	lost, err := cluster.LostReplicas(dir, shards, quiet())
	if err != nil {
		return err
	}
	if len(lost) == 0 {
		a.note("No replica of this node is lost: start it.")
		return a.print(done())
	}
	names := make([]string, len(lost))
	for i := range lost {
		names[i] = lost[i].Name()
		a.note("%s: %s. %s", title(names[i]), lost[i].State, dash(lost[i].Fault))
	}
	ok, err := a.agree(sure, fmt.Sprintf("gives up this node's replicas of %s, which the other nodes must have; what is left of the files is kept in %s/aside", strings.Join(names, ", "), dir))
	if err != nil || !ok {
		return err
	}
	if _, err := cluster.GiveUpReplicas(dir, shards, newLogger(a.stderr, "warn", "text")); err != nil {
		return err
	}
	a.note("Done. Start this node with `croft serve --data %s`: it gets these replicas anew when most of each group is there.", dir)
	return a.print(done())
}
