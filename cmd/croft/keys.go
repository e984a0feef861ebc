package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/croftdb/croft/internal/client"
)

func (a *app) keysCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "keys",
		Aliases: []string{"key"},
		Short:   "Make, list and revoke API keys",
		Example: `  croft keys create --tenant acme --role writer --name ci
  croft keys list --tenant acme`,
	}
	cmd.AddCommand(a.keysCreateCommand(), a.keysListCommand(), a.keysRevokeCommand())
	return group(cmd)
}

func keyListing(value any, all ...client.Key) listing {
	l := listing{value: value, items: itemsOf(all), header: []string{"ID", "NAME", "ROLE", "TENANT", "CREATED", "EXPIRES", "LAST USED"}}
	for _, k := range all {
		expires := "never"
		if !k.ExpiresAt.IsZero() {
			expires = k.ExpiresAt.Format(time.RFC3339)
		}
		used := "-"
		if !k.LastUsed.IsZero() {
			used = k.LastUsed.Format(time.RFC3339)
		}
		l.rows = append(l.rows, []string{k.ID, dash(k.Name), k.Role, dash(k.Tenant), k.CreatedAt.Format(time.RFC3339), expires, used})
	}
	return l
}

func (a *app) keysCreateCommand() *cobra.Command {
	var conn connection
	var k client.NewKey
	cmd := &cobra.Command{
		Use:   "create --role ROLE",
		Short: "Make an API key and print it, once: only its hash is stored",
		Long: `Roles: reader and writer of one tenant (--tenant) or of all, tenant-admin of one, operator and admin of all. Nobody makes keys that reach
further than the own one.`,
		Example: `  croft keys create --tenant acme --role writer --expires 720h
  croft keys create --role operator --name ops -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if k.Role == "" {
				return usagef("croft keys create needs --role").withHint("one of reader, writer, tenant-admin, operator, admin")
			}
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			made, err := c.CreateKey(cmd.Context(), k)
			if err != nil {
				return err
			}
			l := keyListing(made, made)
			l.header, l.rows[0] = append(l.header, "KEY"), append(l.rows[0], made.Key)
			if err := a.print(l); err != nil {
				return err
			}
			a.note("this is the only time that the key is shown")
			return nil
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().StringVar(&k.Tenant, "tenant", "", "whose namespace alone it reaches (default: all; a tenant's own key makes those of its tenant)")
	cmd.Flags().StringVar(&k.Role, "role", "", "reader, writer, tenant-admin, operator or admin (required)")
	cmd.Flags().StringVar(&k.Name, "name", "", "what people call it")
	cmd.Flags().StringVar(&k.Expires, "expires", "", "when it ends: 720h, or 2027-01-31T00:00:00Z (default: never)")
	return cmd
}

func (a *app) keysListCommand() *cobra.Command {
	var conn connection
	var page client.Page
	var tenant string
	cmd := &cobra.Command{
		Use:     "list",
		Aliases: []string{"ls"},
		Short:   "List API keys without their secrets, a page at a time",
		Example: `  croft keys list
  croft keys list --tenant acme -o json`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			res, err := c.Keys(cmd.Context(), tenant, page)
			if err != nil {
				return err
			}
			return a.printPage(keyListing(res, res.Keys...), res.Pagination)
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().StringVar(&tenant, "tenant", "", "those of this tenant alone")
	cmd.Flags().IntVar(&page.Limit, "limit", 100, "keys of a page, 1 to 100")
	cmd.Flags().StringVar(&page.Token, "page", "", "token of the page, as the page before told it")
	return cmd
}

func (a *app) keysRevokeCommand() *cobra.Command {
	var conn connection
	var sure consent
	cmd := &cobra.Command{
		Use:     "revoke ID...",
		Aliases: []string{"delete"},
		Short:   "Revoke API keys: every node refuses them within a second",
		Example: `  croft keys revoke 3kTMd8cLzQ0p --dry-run
  croft keys revoke 3kTMd8cLzQ0p --yes`,
		RunE: func(cmd *cobra.Command, ids []string) error {
			if len(ids) == 0 {
				return usagef("croft keys revoke needs the id of a key").withHint("`croft keys list` shows them")
			}
			c, err := a.connect(conn, 0)
			if err != nil {
				return err
			}
			ok, err := a.agree(sure, "revokes "+counted(len(ids), "key")+": "+strings.Join(ids, ", "))
			if err != nil || !ok {
				return err
			}
			for _, id := range ids {
				if err := c.RevokeKey(cmd.Context(), id); err != nil {
					return err
				}
			}
			return a.print(done())
		},
	}
	conn.addFlags(cmd)
	sure.addFlags(cmd)
	return cmd
}
