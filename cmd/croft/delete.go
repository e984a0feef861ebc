package main

import (
	"context"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"
	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) deleteCommand() *cobra.Command {
	var (
		conn     connection
		sure     consent
		req      client.DeleteRequest
		byFilter string
	)
	cmd := &cobra.Command{
		Use:   "delete INDEX",
		Short: "Delete records by id, by filter, or all of a namespace",
		Example: `  croft delete acme-docs -n tenant-0001 --id doc-1 --id doc-2 --yes
  croft delete acme-docs -n tenant-0001 --filter '{"lang":"de"}' --dry-run`,
		Args: exactly("INDEX"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if req.Filter, err = a.objectArgument("--filter", byFilter); err != nil {
				return err
			}
			if chosen(len(req.IDs) > 0, req.Filter != nil, req.DeleteAll) != 1 {
				return usagef("a delete needs exactly one of --id, --filter and --all")
			}
			return a.deleteRecords(cmd.Context(), conn, sure, args[0], req)
		},
	}
	conn.addFlags(cmd)
	sure.addFlags(cmd)
	addNamespaceFlag(cmd, &req.Namespace)
	f := cmd.Flags()
	f.StringArrayVar(&req.IDs, "id", nil, "a record, repeatable")
	f.StringVar(&byFilter, "filter", "", "the records whose metadata match: JSON object, path or -")
	f.BoolVar(&req.DeleteAll, "all", false, "all records of the namespace")
	return cmd
}

func chosen(options ...bool) (n int) {
	for _, o := range options {
		if o {
			n++
		}
	}
	return n
}

func (a *app) deleteRecords(ctx context.Context, conn connection, sure consent, index string, req client.DeleteRequest) error {
	ix, err := a.connectIndex(ctx, conn, index)
	if err != nil {
		return err
	}
	n, err := countDeleted(ctx, ix, req)
	if err != nil {
		return err
	}
	scope := fmt.Sprintf("%s of %s in index %s; namespace and index are kept", counted(n, "record"), namespaceText(req.Namespace), index)
	ok, err := a.confirm(sure, scope)
	if err != nil || !ok {
		return err
	}
	if err := ix.Delete(ctx, req); err != nil {
		return err
	}
	return a.print(done())
}

func namespaceText(name string) string {
	if name == "" {
		return "the default namespace"
	}
	return "namespace " + name
}

// countDeleted asks the server how many records a delete would reach.
func countDeleted(ctx context.Context, ix *client.Index, req client.DeleteRequest) (uint64, error) {
	switch {
	case req.DeleteAll:
		ns, err := ix.DescribeNamespace(ctx, namespaceName(req.Namespace))
		return ns.RecordCount, err
	case req.Filter != nil:
		// Counting by filter is what an update that is only rehearsed does; what it would set is of no matter.
		res, err := ix.Update(ctx, client.UpdateRequest{Namespace: req.Namespace, Filter: req.Filter,
			SetMetadata: jsontext.Value(`{"counted":true}`), DryRun: true})
		return uint64(res.MatchedRecords), err
	}
	res, err := ix.Fetch(ctx, req.Namespace, req.IDs)
	return uint64(len(res.Vectors)), err
}

// namespaceName is the name by which paths call a namespace.
func namespaceName(name string) string { return firstNonEmpty(name, "__default__") }
