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
		Short: "List shards with their replicas and figures",
		Example: `  croft shards list
  croft shards get 3`,
	}
	cmd.AddCommand(a.shardsListCommand(), a.shardsGetCommand())
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
			return a.print(shardsListing(info.Shards))
		},
	}
	conn.addFlags(cmd)
	return cmd
}

func shardsListing(shards []client.Shard) listing {
	l := listing{value: map[string]any{"shards": shards}, items: itemsOf(shards),
		header: []string{"SHARD", "KIND", "TENANTS", "VECTORS", "SIZE", "USED", "QPS", "P99", "LEADER", "REPLICAS", "LAG"}}
	for _, s := range shards {
		l.rows = append(l.rows, []string{
			strconv.Itoa(s.ID), s.Kind, thousands(s.Tenants), thousands(s.Vectors), bytesText(int64(s.Bytes)),
			fmt.Sprintf("%.1f %%", 100*s.Utilisation),
			fmt.Sprintf("%.1f", s.QueriesPerSecond), latencyText(s.Latency), dash(s.Leader), replicasText(s.Replicas), thousands(greatestLag(s.Replicas)),
		})
	}
	return l
}

func latencyText(l *client.Latency) string {
	if l == nil {
		return "-"
	}
	return fmt.Sprintf("%.1f ms", l.P99)
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
		Short:   "Show a shard's replicas",
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
			a.note("shard %d, %s: %s, %s, %s, %.1f %% used", s.ID, s.Kind, counted(s.Tenants, "tenant"), counted(s.Vectors, "vector"),
				bytesText(int64(s.Bytes)), 100*s.Utilisation)
			return nil
		},
	}
	conn.addFlags(cmd)
	return cmd
}
