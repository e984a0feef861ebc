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

func (a *app) nodesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "nodes",
		Short: "List the nodes of a cluster, let new ones in, drain and remove them",
		Example: `  croft nodes list
  croft nodes add`,
	}
	cmd.AddCommand(a.nodesListCommand(), a.nodesAddCommand(), a.nodesDrainCommand(), a.nodesRemoveCommand())
	return group(cmd)
}

func (a *app) nodesListCommand() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List all nodes",
		Example: `  croft nodes list
  croft nodes list -o jsonl`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, err := a.cluster(cmd.Context(), conn)
			if err != nil {
				return err
			}
			for _, r := range info.Recoveries {
				a.note("recovered on %s with what node %s had: %s given up", r.At.Format(time.RFC3339), r.Node, strings.Join(r.Lost, ", "))
			}
			return a.print(nodesListing(map[string]any{"nodes": info.Nodes}, info.Nodes...))
		},
	}
	conn.addFlags(cmd)
	return cmd
}

func (a *app) cluster(ctx context.Context, conn connection) (client.Cluster, error) {
	c, err := a.connect(conn, 0)
	if err != nil {
		return client.Cluster{}, err
	}
	return c.Cluster(ctx)
}

func nodesListing(value any, nodes ...client.Node) listing {
	l := listing{value: value, items: itemsOf(nodes), header: []string{"NODE", "STATE", "ALIVE", "URL", "PEERS", "ZONE", "METADATA", "REPLICAS", "LEADS"}}
	for _, n := range nodes {
		l.rows = append(l.rows, []string{
			n.ID, n.State, yesNo(n.Alive), dash(n.URL), dash(n.Address), dash(n.Zone), metaRole(n), strconv.Itoa(n.Replicas), strconv.Itoa(n.Leaders),
		})
	}
	return l
}

// metaRole is a node's part in the metadata plane.
func metaRole(n client.Node) string {
	switch {
	case n.MetaLeader:
		return "leader"
	case n.MetaVoter:
		return "voter"
	}
	return "-"
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func dash(s string) string { return firstNonEmpty(s, "-") }

func (a *app) nodesAddCommand() *cobra.Command {
	var conn connection
	var ttl, tokenFile string
	cmd := &cobra.Command{
		Use:   "add",
		Short: "Make a token that lets new nodes in, and say how to start one",
		Example: `  croft nodes add
  croft nodes add --ttl 24h --token-file ./join-token`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			ticket, err := c.AddNode(cmd.Context(), ttl)
			if err != nil {
				return err
			}
			if tokenFile != "" {
				if err := writeFileAtomically(tokenFile, []byte(ticket.Token+"\n"), 0o600); err != nil {
					return err
				}
			}
			a.note("start the new node with the following command, before %s:", ticket.Expires)
			return a.print(listing{value: ticket, rows: [][]string{{ticket.Command}}})
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().StringVar(&ttl, "ttl", "", "how long the token lets nodes in, 1m to 168h (default 1h)")
	cmd.Flags().StringVar(&tokenFile, "token-file", "", "write the token to this file too, for CROFT_JOIN_TOKEN_FILE of the new node")
	return cmd
}

func (a *app) nodesDrainCommand() *cobra.Command {
	var conn connection
	var sure consent
	cmd := &cobra.Command{
		Use:   "drain NODE",
		Short: "Move all replicas off a node; it serves meanwhile",
		Example: `  croft nodes drain 3fa9 --dry-run
  croft nodes drain 3fa9 --yes`,
		Args: exactly("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, n, err := a.findNode(cmd.Context(), conn, args[0])
			if err != nil {
				return err
			}
			scope := fmt.Sprintf("moves %s off node %s; no request fails", counted(n.Replicas, "replica"), n.ID)
			ok, err := a.agree(sure, scope)
			if err != nil || !ok {
				return err
			}
			n, err = c.DrainNode(cmd.Context(), n.ID)
			if err != nil {
				return err
			}
			return a.print(nodesListing(n, n))
		},
	}
	conn.addFlags(cmd)
	sure.addFlags(cmd)
	return cmd
}

func (a *app) nodesRemoveCommand() *cobra.Command {
	var conn connection
	var sure consent
	var force bool
	cmd := &cobra.Command{
		Use:   "remove NODE",
		Short: "Take a node out of the cluster for good",
		Long: `Drain the node first. One that is dead and still holds replicas goes with --force: they are made anew on other nodes from
those that are left. The node's identity is refused from then on; its data directory may be deleted.`,
		Example: `  croft nodes remove 3fa9 --dry-run
  croft nodes remove 3fa9 --yes`,
		Args: exactly("NODE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, n, err := a.findNode(cmd.Context(), conn, args[0])
			if err != nil {
				return err
			}
			ok, err := a.agree(sure, fmt.Sprintf("takes node %s out for good, with %s on it", n.ID, counted(n.Replicas, "replica")))
			if err != nil || !ok {
				return err
			}
			if err := c.RemoveNode(cmd.Context(), n.ID, force); err != nil {
				return err
			}
			return a.print(done())
		},
	}
	conn.addFlags(cmd)
	sure.addFlags(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "also when it holds replicas, which are then lost with it")
	return cmd
}

// findNode finds a node by the beginning of its id, if that is only one's, by its address or by its URL.
func (a *app) findNode(ctx context.Context, conn connection, name string) (*client.Client, client.Node, error) {
	c, err := a.connect(conn, 0)
	if err != nil {
		return nil, client.Node{}, err
	}
	info, err := c.Cluster(ctx)
	if err != nil {
		return nil, client.Node{}, err
	}
	n, err := pickNode(info.Nodes, name)
	return c, n, err
}

func pickNode(nodes []client.Node, name string) (client.Node, error) {
	var found []client.Node
	for _, n := range nodes {
		if n.ID == name || n.Address == name || n.URL == name {
			return n, nil
		}
		if strings.HasPrefix(n.ID, name) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return client.Node{}, errs.New(errs.NotFound, "there is no node %q", name).WithHint("`croft nodes list` shows them")
	case 1:
		return found[0], nil
	}
	return client.Node{}, usagef("%d nodes begin with %q", len(found), name).withHint("give more of the id")
}
