package main

import (
	"cmp"
	"maps"
	"slices"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) statsCommand() *cobra.Command {
	var (
		conn connection
		top  int
	)
	cmd := &cobra.Command{
		Use:   "stats INDEX",
		Short: "Count an index's records, by namespace",
		Example: `  croft stats acme-docs
  croft stats acme-docs --top 5`,
		Args: exactly("INDEX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ix, err := a.connectIndex(cmd.Context(), conn, args[0])
			if err != nil {
				return err
			}
			s, err := ix.Stats(cmd.Context())
			if err != nil {
				return err
			}
			l := statsListing(s, top)
			if err := a.print(l); err != nil {
				return err
			}
			if shown := len(l.rows); shown < len(s.Namespaces) {
				a.note("showing the largest %d", shown)
			}
			a.note("%s in %s", counted(s.TotalVectorCount, "record"), counted(len(s.Namespaces), "namespace"))
			return nil
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().IntVar(&top, "top", 20, "namespaces in the table, largest first; 0: all")
	return cmd
}

func statsListing(s client.Stats, top int) listing {
	names := slices.SortedFunc(maps.Keys(s.Namespaces), func(x, y string) int {
		return cmp.Or(cmp.Compare(s.Namespaces[y].VectorCount, s.Namespaces[x].VectorCount), cmp.Compare(x, y))
	})
	if top > 0 && len(names) > top {
		names = names[:top]
	}
	l := listing{value: s, header: []string{"NAMESPACE", "RECORDS"}}
	for _, name := range names {
		l.rows = append(l.rows, []string{namespaceName(name), thousands(s.Namespaces[name].VectorCount)})
	}
	return l
}
