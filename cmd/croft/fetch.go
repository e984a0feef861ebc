package main

import (
	"maps"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
	"github.com/croftdb/croft/internal/errs"
)

func (a *app) fetchCommand() *cobra.Command {
	var (
		conn      connection
		namespace string
	)
	cmd := &cobra.Command{
		Use:   "fetch INDEX ID...",
		Short: "Print records by id",
		Example: `  croft fetch acme-docs doc-1 doc-2 -n tenant-0001
  croft fetch acme-docs doc-1 -n tenant-0001 -o json`,
		Args: atLeast("INDEX", "ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ix, err := a.connectIndex(cmd.Context(), conn, args[0])
			if err != nil {
				return err
			}
			res, err := ix.Fetch(cmd.Context(), namespace, args[1:])
			if err != nil {
				return err
			}
			if err := a.print(fetchListing(res)); err != nil {
				return err
			}
			return missing(res, args[1:])
		},
	}
	conn.addFlags(cmd)
	addNamespaceFlag(cmd, &namespace)
	return cmd
}

// atLeast demands the named arguments and takes more of the last.
func atLeast(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		return exactly(names...)(cmd, args[:min(len(args), len(names))])
	}
}

func fetchListing(res client.FetchResponse) listing {
	l := listing{value: res, header: []string{"ID", "DIMENSION", "METADATA"}}
	for _, id := range slices.Sorted(maps.Keys(res.Vectors)) {
		v := res.Vectors[id]
		l.items = append(l.items, v)
		l.rows = append(l.rows, []string{id, strconv.Itoa(len(v.Values)), compact(v.Metadata)})
	}
	return l
}

// missing is an error when none of the ids has a record.
func missing(res client.FetchResponse, ids []string) error {
	if len(res.Vectors) > 0 {
		return nil
	}
	return errs.New(errs.NotFound, "no record has the id %s", ids[0]).
		WithHint("ids are those of one namespace, see -n; `croft namespaces list` shows which there are")
}
