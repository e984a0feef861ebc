package main

import (
	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) listCommand() *cobra.Command {
	var (
		conn      connection
		namespace string
		page      client.Page
	)
	cmd := &cobra.Command{
		Use:   "list INDEX",
		Short: "List ids of a namespace, a page at a time",
		Example: `  croft list acme-docs -n tenant-0001 --prefix doc-1
  croft list acme-docs -n tenant-0001 --limit 20 -o jsonl`,
		Args: exactly("INDEX"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ix, err := a.connectIndex(cmd.Context(), conn, args[0])
			if err != nil {
				return err
			}
			res, err := ix.List(cmd.Context(), namespace, page)
			if err != nil {
				return err
			}
			l := listing{value: res, items: itemsOf(res.Vectors), header: []string{"ID"}}
			for _, v := range res.Vectors {
				l.rows = append(l.rows, []string{v.ID})
			}
			return a.printPage(l, res.Pagination)
		},
	}
	conn.addFlags(cmd)
	addNamespaceFlag(cmd, &namespace)
	addPageFlags(cmd, &page)
	return cmd
}

func addPageFlags(cmd *cobra.Command, page *client.Page) {
	cmd.Flags().StringVar(&page.Prefix, "prefix", "", "only names that begin so")
	cmd.Flags().IntVar(&page.Limit, "limit", 100, "entries of a page, 1 to 100")
	cmd.Flags().StringVar(&page.Token, "page", "", "token of the page, as the page before told it")
}

func (a *app) printPage(l listing, p *client.Pagination) error {
	if err := a.print(l); err != nil {
		return err
	}
	if token := p.NextToken(); token != "" {
		a.note("there are more: --page %s", token)
	}
	return nil
}
