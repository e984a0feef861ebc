package main

import "github.com/spf13/cobra"

func (a *app) healthCommand() *cobra.Command {
	var (
		conn connection
		live bool
	)
	cmd := &cobra.Command{
		Use:   "health",
		Short: "Ask a server whether it serves everything",
		Example: `  croft health
  croft health --live --url http://127.0.0.1:5080`,
		Args: exactly(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect(conn, -1)
			if err != nil {
				return err
			}
			ask, state := c.Ready, "ready"
			if live {
				ask, state = c.Healthy, "alive"
			}
			if err := ask(cmd.Context()); err != nil {
				return err
			}
			return a.print(listing{
				value: map[string]string{"status": state, "url": c.URL()},
				rows:  [][]string{{state, c.URL()}},
			})
		},
	}
	conn.addFlags(cmd)
	cmd.Flags().BoolVar(&live, "live", false, "only ask whether it is alive")
	return cmd
}
