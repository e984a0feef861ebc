package main

import (
	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) updateCommand() *cobra.Command {
	var (
		conn                  connection
		req                   client.UpdateRequest
		values, set, byFilter string
	)
	cmd := &cobra.Command{
		Use:   "update INDEX",
		Short: "Change values or metadata of a record, or metadata of many",
		Example: `  croft update acme-docs -n tenant-0001 --id doc-1 --set '{"lang":"fr"}'
  croft update acme-docs -n tenant-0001 --filter '{"lang":"fr"}' --set '{"checked":true}' --dry-run`,
		Args: exactly("INDEX"),
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			if (req.ID == "") == (byFilter == "") {
				return usagef("an update needs either --id or --filter")
			}
			if values != "" {
				if req.Values, err = a.vectorArgument("--values", values); err != nil {
					return err
				}
			}
			if req.SetMetadata, err = a.objectArgument("--set", set); err != nil {
				return err
			}
			if req.Filter, err = a.objectArgument("--filter", byFilter); err != nil {
				return err
			}
			ix, err := a.connectIndex(cmd.Context(), conn, args[0])
			if err != nil {
				return err
			}
			res, err := ix.Update(cmd.Context(), req)
			if err != nil || byFilter == "" {
				return err
			}
			return a.print(listing{value: res, header: []string{"MATCHED"}, rows: [][]string{{thousands(res.MatchedRecords)}}})
		},
	}
	conn.addFlags(cmd)
	addNamespaceFlag(cmd, &req.Namespace)
	f := cmd.Flags()
	f.StringVar(&req.ID, "id", "", "the record")
	f.StringVar(&byFilter, "filter", "", "the records whose metadata match: JSON object, path or -")
	f.StringVar(&values, "values", "", "new values: JSON array, path or -")
	f.StringVar(&set, "set", "", "metadata to merge in: JSON object, path or -")
	f.BoolVar(&req.DryRun, "dry-run", false, "with --filter: only count")
	return cmd
}
