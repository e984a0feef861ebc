package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/croftdb/croft/internal/errs"
)

// app is what verbs may touch of the world, and the flags that all of them share.
type app struct {
	stdin     io.Reader
	stdout    io.Writer
	stderr    io.Writer
	lookupEnv func(string) (string, bool)

	format     string
	json       bool
	quiet      bool
	noProgress bool
	noInput    bool

	keyOrigin string // where the API key came from, for when it is refused
}

func newApp(stdin io.Reader, stdout, stderr io.Writer, lookupEnv func(string) (string, bool)) *app {
	return &app{stdin: stdin, stdout: stdout, stderr: stderr, lookupEnv: lookupEnv}
}

func (a *app) getenv(name string) string {
	v, _ := a.lookupEnv(name)
	return v
}

// run executes one command line and returns its exit code.
func (a *app) run(ctx context.Context, args []string) int {
	root := a.rootCommand()
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err != nil {
		report(a.stderr, err)
		if a.keyOrigin != "" && errs.Is(err, errs.Unauthenticated) {
			fmt.Fprintf(a.stderr, "  the key came from %s\n", a.keyOrigin)
		}
	}
	return exitCode(err)
}

func (a *app) rootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:   "croft",
		Short: "croft stores vectors and finds the nearest ones",
		Example: `  croft demo                          a server with sample data, gone when you stop it
  croft serve --data ./data           the real thing`,
		Version:       buildInfo().Version,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetIn(a.stdin)
	root.SetOut(a.stdout)
	root.SetErr(a.stderr)
	root.SetHelpTemplate(helpTemplate)
	root.SetFlagErrorFunc(flagError)
	flags := root.PersistentFlags()
	flags.StringVarP(&a.format, "output", "o", "table", "form of the data: "+strings.Join(formats, ", "))
	flags.BoolVarP(&a.json, "json", "j", false, "short for -o json")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "no progress and no remarks on stderr, only errors")
	flags.BoolVar(&a.noProgress, "no-progress", false, "no progress bars")
	flags.BoolVar(&a.noInput, "no-input", false, "never ask, fail instead")
	root.PersistentPreRunE = func(*cobra.Command, []string) error { return a.checkFormat() }
	root.AddCommand(a.serveCommand(), a.demoCommand(), a.healthCommand(), a.versionCommand(),
		a.indexCommand(), a.upsertCommand(), a.queryCommand(), a.searchCommand(), a.fetchCommand(), a.updateCommand(), a.deleteCommand(),
		a.certsCommand(), a.listCommand(), a.statsCommand(), a.namespacesCommand(), a.importCommand(),
		a.nodesCommand(), a.recoverCommand(), a.shardsCommand(), a.rebalanceCommand(), a.capacityCommand(), a.tenantsCommand(), a.migrationsCommand(), a.tiersCommand(), a.keysCommand(), a.usageCommand(), a.auditCommand(), a.benchCommand())
	addCompletion(root)
	return group(root)
}

// addCompletion has cobra make the command, and gives it and those of its shells the examples that every verb has.
func addCompletion(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	cmd, _, err := root.Find([]string{"completion"})
	if err != nil {
		return // cobra makes none where there are no other commands
	}
	cmd.Short, cmd.Long = "Print the completion script of a shell", ""
	cmd.Example = `  croft completion bash > /etc/bash_completion.d/croft
  croft completion zsh > "${fpath[1]}/_croft"`
	for _, shell := range cmd.Commands() {
		call := "  " + shell.CommandPath()
		shell.Example = call + "\n" + call + " --no-descriptions"
	}
}

// helpTemplate puts the examples first: they are what most readers came for.
const helpTemplate = `{{.Short}}

{{if .HasExample}}{{.Example}}

{{end}}{{with .Long}}{{. | trimTrailingWhitespaces}}

{{end}}{{if or .Runnable .HasSubCommands}}Usage:{{if .Runnable}}
  {{.UseLine}}{{end}}{{if .HasAvailableSubCommands}}
  {{.CommandPath}} [command]

Commands:{{range .Commands}}{{if (or .IsAvailableCommand (eq .Name "help"))}}
  {{rpad .Name .NamePadding }} {{.Short}}{{end}}{{end}}{{end}}{{if .HasAvailableLocalFlags}}

Flags:
{{.LocalFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}{{if .HasAvailableInheritedFlags}}

Global flags:
{{.InheritedFlags.FlagUsages | trimTrailingWhitespaces}}{{end}}
{{end}}`

// group makes a command that only holds others show its help, and refuse what it does not hold.
func group(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.SuggestionsMinimumDistance = 2
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		err := usagef("%q has no command %q", cmd.CommandPath(), args[0])
		if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
			return err.withHint("did you mean `%s %s`?", cmd.CommandPath(), near[0])
		}
		return err.withHint("`%s --help` lists them", cmd.CommandPath())
	}
	return cmd
}

// exactly demands the named arguments, no more.
func exactly(names ...string) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		switch {
		case len(args) < len(names):
			return usagef("%s needs %s", cmd.CommandPath(), strings.Join(names[len(args):], " ")).
				withHint("usage: %s", cmd.UseLine())
		case len(args) > len(names):
			return usagef("%s does not take the argument %q", cmd.CommandPath(), args[len(names)]).
				withHint("usage: %s", cmd.UseLine())
		}
		return nil
	}
}

func flagError(cmd *cobra.Command, err error) error {
	usage := usagef("%s: %w", cmd.CommandPath(), err)
	var unknown *pflag.NotExistError
	if errors.As(err, &unknown) {
		if near := nearest(unknown.GetSpecifiedName(), flagNames(cmd.Flags())); near != "" {
			return usage.withHint("did you mean --%s?", near)
		}
	}
	return usage.withHint("`%s --help` lists the flags", cmd.CommandPath())
}

func flagNames(flags *pflag.FlagSet) (names []string) {
	flags.VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	return names
}

// note says something that is not data.
func (a *app) note(format string, args ...any) {
	if !a.quiet {
		fmt.Fprintf(a.stderr, format+"\n", args...)
	}
}

// isTerminal reports whether a stream is one that a person looks at.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// consent is the answer to "really?" that destructive verbs need.
type consent struct {
	yes    bool
	dryRun bool
}

func (c *consent) addFlags(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&c.yes, "yes", false, "do it without asking")
	cmd.Flags().BoolVar(&c.dryRun, "dry-run", false, "only say what would be done")
}

// confirm asks for consent to delete something.
func (a *app) confirm(c consent, scope string) (bool, error) {
	switch {
	case c.dryRun:
		a.note("would delete %s", scope)
		return false, nil
	case c.yes:
		a.note("deleting %s", scope)
		return true, nil
	}
	return a.ask("this deletes " + scope)
}

// agree asks for consent to something else that cannot be undone at once; effect begins with a verb.
func (a *app) agree(c consent, effect string) (bool, error) {
	switch {
	case c.dryRun:
		a.note("not done: this %s", effect)
		return false, nil
	case c.yes:
		return true, nil
	}
	return a.ask("this " + effect)
}

// ask tells a person what would be done and reports whether to go on. Where there is nobody to ask, it fails.
func (a *app) ask(effect string) (bool, error) {
	if a.noInput || !isTerminal(a.stdin) {
		return false, usagef("%s, and was not confirmed", effect).withHint("add --yes, or --dry-run to only look")
	}
	fmt.Fprintf(a.stderr, "%s. Go on? [y/N] ", strings.ToUpper(effect[:1])+effect[1:])
	line, err := bufio.NewReader(a.stdin).ReadString('\n')
	if err != nil && line == "" {
		return false, fmt.Errorf("read answer: %w", err)
	}
	return strings.EqualFold(strings.TrimSpace(line), "y"), nil
}
