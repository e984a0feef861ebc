package main

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) shardsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "shards",
		Short: "List shards with their replicas and figures, add, drain and remove them, say how tenants are placed",
		Example: `  croft shards list
  croft shards add --dedicated`,
	}
	cmd.AddCommand(a.shardsListCommand(), a.shardsGetCommand(), a.shardsAddCommand(), a.shardsBindCommand(), a.shardsDrainCommand(), a.shardsRemoveCommand(), a.shardsPolicyCommand(), a.shardsDigestCommand())
	return group(cmd)
}

func (a *app) shardsListCommand() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List all shards",
		Example: `  croft shards list
  croft shards list -o csv`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			info, err := a.cluster(cmd.Context(), conn)
			if err != nil {
				return err
			}
			if err := a.print(shardsListing(map[string]any{"shards": info.Shards, "silent_nodes": info.Silent}, info.Shards...)); err != nil {
				return err
			}
			a.noteSilent(info.Silent)
			return nil
		},
	}
	conn.addFlags(cmd)
	return cmd
}

// noteSilent names the nodes that are missing in the figures.
func (a *app) noteSilent(nodes []string) {
	if len(nodes) > 0 {
		a.note("no answer from %s: the figures lack what is known there alone", strings.Join(nodes, ", "))
	}
}

func shardsListing(value any, shards ...client.Shard) listing {
	l := listing{value: value, items: itemsOf(shards),
		header: []string{"SHARD", "KIND", "NAME", "TENANTS", "VECTORS", "SIZE", "USED", "QPS", "P50", "P95", "P99", "LEADER", "REPLICAS", "LAG"}}
	for _, s := range shards {
		l.rows = append(l.rows, []string{
			strconv.Itoa(s.ID), kindText(&s), dash(s.Name), thousands(s.Tenants), thousands(s.Vectors), bytesText(int64(s.Bytes)),
			fmt.Sprintf("%.1f %%", 100*s.Utilisation),
			fmt.Sprintf("%.1f", s.QueriesPerSecond), latencyText(s.Latency, 50), latencyText(s.Latency, 95), latencyText(s.Latency, 99),
			dash(s.Leader), replicasText(s.Replicas), thousands(greatestLag(s.Replicas)),
		})
	}
	return l
}

// kindText is a shard's kind, and that it is being emptied.
func kindText(s *client.Shard) string {
	if s.Draining {
		return s.Kind + ", draining"
	}
	return s.Kind
}

// latencyText is the 50th, 95th or 99th percentile.
func latencyText(l *client.Latency, percentile int) string {
	if l == nil {
		return "-"
	}
	ms := map[int]float64{50: l.P50, 95: l.P95, 99: l.P99}[percentile]
	return fmt.Sprintf("%.1f ms", ms)
}

// replicasText counts replicas that have a say, and names what the others are: "2 of 3: 1 learner".
func replicasText(replicas []client.Replica) string {
	voters := 0
	var others []string
	for _, r := range replicas {
		if r.Role == "leader" || r.Role == "voter" {
			voters++
			continue
		}
		others = append(others, r.Role)
	}
	if len(others) == 0 {
		return strconv.Itoa(voters)
	}
	return fmt.Sprintf("%d of %d: %s", voters, len(replicas), strings.Join(others, ", "))
}

func greatestLag(replicas []client.Replica) (lag uint64) {
	for _, r := range replicas {
		lag = max(lag, r.Lag)
	}
	return lag
}

func (a *app) shardsGetCommand() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:     "get SHARD",
		Aliases: []string{"describe"},
		Short:   "Show a shard's replicas and figures",
		Example: `  croft shards get 3
  croft shards get 3 -o json`,
		Args: exactly("SHARD"),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			s, err := c.DescribeShard(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			l := listing{value: s, items: itemsOf(s.Replicas), header: []string{"NODE", "ROLE", "APPLIED", "LAG"}}
			for _, r := range s.Replicas {
				l.rows = append(l.rows, []string{r.Node, r.Role, thousands(r.Applied), thousands(r.Lag)})
			}
			if err := a.print(l); err != nil {
				return err
			}
			a.note("shard %d, %s: %s, %s, %s, %.1f %% used", s.ID, strings.TrimSpace(s.Kind+" "+s.Name), counted(s.Tenants, "tenant"),
				counted(s.Vectors, "vector"), bytesText(int64(s.Bytes)), 100*s.Utilisation)
			a.note("%.1f queries/s in the last minute, P50 %s, P95 %s, P99 %s", s.QueriesPerSecond, latencyText(s.Latency, 50),
				latencyText(s.Latency, 95), latencyText(s.Latency, 99))
			if len(s.Zones) > 0 {
				a.note("bound to zone %s", strings.Join(s.Zones, ", "))
			}
			a.noteSilent(s.Silent)
			return nil
		},
	}
	conn.addFlags(cmd)
	return cmd
}
