package main

import "github.com/spf13/cobra"

func (a *app) serveCommand() *cobra.Command { return &cobra.Command{Use: "serve"} }
func (a *app) benchCommand() *cobra.Command { return &cobra.Command{Use: "bench"} }
