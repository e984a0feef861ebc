package main

import (
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) namespacesCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "namespaces",
		Aliases: []string{"ns", "namespace"},
		Short:   "List, describe, create and delete namespaces",
		Example: `  croft namespaces list acme-docs
  croft namespaces describe acme-docs tenant-0001`,
	}
	cmd.AddCommand(a.namespacesListCommand(), a.namespacesDescribeCommand(), a.namespacesCreateCommand(), a.namespacesDeleteCommand())
	return group(cmd)
}

func namespaceListing(value any, all ...client.Namespace) listing {
	l := listing{value: value, items: itemsOf(all), header: []string{"NAMESPACE", "RECORDS"}}
	for _, ns := range all {
		l.rows = append(l.rows, []string{ns.Name, thousands(ns.RecordCount)})
	}
	return l
}

func (a *app) namespacesListCommand() *cobra.Command {
	var (
		conn connection
		page client.Page
	)
	cmd := &cobra.Command{
		Use:     "list INDEX",
		Aliases: []string{"ls"},
		Short:   "List an index's namespaces, a page at a time",
		Example: `  croft namespaces list acme-docs --limit 10
  croft namespaces list acme-docs --prefix tenant-00`,
		Args: exactly("INDEX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ix, err := a.connectIndex(cmd.Context(), conn, args[0])
			if err != nil {
				return err
			}
			res, err := ix.Namespaces(cmd.Context(), page)
			if err != nil {
				return err
			}
			return a.printPage(namespaceListing(res, res.Namespaces...), res.Pagination)
		},
	}
	conn.addFlags(cmd)
	addPageFlags(cmd, &page)
	return cmd
}

func (a *app) namespacesDescribeCommand() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:     "describe INDEX NAMESPACE",
		Aliases: []string{"get"},
		Short:   "Describe a namespace",
		Example: `  croft namespaces describe acme-docs tenant-0001
  croft namespaces describe acme-docs tenant-0001 -o json`,
		Args: exactly("INDEX", "NAMESPACE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ix, err := a.connectIndex(cmd.Context(), conn, args[0])
			if err != nil {
				return err
			}
			ns, err := ix.DescribeNamespace(cmd.Context(), args[1])
			if err != nil {
				return err
			}
			l := namespaceListing(ns, ns)
			if s := ns.Search; s != nil {
				recall := "-"
				if s.SampledRecall > 0 {
					recall = strconv.FormatFloat(s.SampledRecall, 'f', 4, 64)
				}
				l.header = append(l.header, "INDEXED", "EF", "SAMPLED RECALL")
				l.rows[0] = append(l.rows[0], thousands(s.Indexed), strconv.Itoa(s.Ef), recall)
			}
			return a.print(l)
		},
	}
	conn.addFlags(cmd)
	return cmd
}

func (a *app) namespacesCreateCommand() *cobra.Command {
	var conn connection
	cmd := &cobra.Command{
		Use:   "create INDEX NAMESPACE",
		Short: "Create an empty namespace (an upsert does so by itself)",
		Example: `  croft namespaces create acme-docs newcomer
  croft namespaces create acme-docs newcomer -o json`,
		Args: exactly("INDEX", "NAMESPACE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ix, err := a.connectIndex(cmd.Context(), conn, args[0])
			if err != nil {
				return err
			}
			ns, err := ix.CreateNamespace(cmd.Context(), args[1])
			if err != nil {
				return err
			}
			return a.print(namespaceListing(ns, ns))
		},
	}
	conn.addFlags(cmd)
	return cmd
}

func (a *app) namespacesDeleteCommand() *cobra.Command {
	var (
		conn connection
		sure consent
	)
	cmd := &cobra.Command{
		Use:   "delete INDEX NAMESPACE",
		Short: "Delete a namespace with all its records",
		Example: `  croft namespaces delete acme-docs tenant-0001 --dry-run
  croft namespaces delete acme-docs tenant-0001 --yes`,
		Args: exactly("INDEX", "NAMESPACE"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ix, err := a.connectIndex(cmd.Context(), conn, args[0])
			if err != nil {
				return err
			}
			ns, err := ix.DescribeNamespace(cmd.Context(), args[1])
			if err != nil {
				return err
			}
			scope := fmt.Sprintf("namespace %s with %s in index %s; the index is kept", ns.Name, counted(ns.RecordCount, "record"), args[0])
			ok, err := a.confirm(sure, scope)
			if err != nil || !ok {
				return err
			}
			if err := ix.DeleteNamespace(cmd.Context(), args[1]); err != nil {
				return err
			}
			return a.print(done())
		},
	}
	conn.addFlags(cmd)
	sure.addFlags(cmd)
	return cmd
}
