package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"

	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/suggest"
)

// Exit codes. With --detailed-exitcode plan and drift tell a difference from success.
const (
	exitOK      = 0
	exitError   = 1
	exitDiffers = 2
)

// streams are where a run reads and writes. Results go to out; logs, diagnostics and prompts to err.
type streams struct {
	in      io.Reader
	out     io.Writer
	err     io.Writer
	environ []string
}

// env gives the value of an environment variable, and whether it is set and not empty.
func (s streams) env(name string) (string, bool) {
	for _, e := range slices.Backward(s.environ) {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			return v, v != ""
		}
	}
	return "", false
}

// isTerminal tells whether a stream is a terminal.
func isTerminal(stream any) bool {
	f, ok := fileOf(stream)
	return ok && term.IsTerminal(int(f.Fd()))
}

// app is one run of the program: the global flags and what they give.
type app struct {
	streams
	log       *logrus.Logger
	logLevel  string
	logFormat string
	noColor   bool
	root      string
}

// exitCode is an error that has been reported already, or is none at all, and only sets the exit code.
type exitCode int

func (e exitCode) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// usageError is a mistake on the command line.
type usageError struct {
	err error
	cmd *cobra.Command
}

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// run is the program: arguments in, exit code out.
func run(ctx context.Context, args []string, s streams) int {
	out := newOutput(s.out)
	s.out, s.err = out, &notices{w: s.err, out: out}
	a := &app{streams: s}
	root := a.command()
	if len(args) > 0 && strings.HasPrefix(args[0], cobra.ShellCompRequestCmd) {
		plainUsages(root)
	}
	root.SetArgs(args)
	root.SetIn(s.in)
	root.SetOut(s.out)
	root.SetErr(s.err)
	err := root.ExecuteContext(ctx)
	if failed := out.flush(); failed != nil {
		if reported := new(exitCode); err == nil || errors.As(err, reported) || errors.Is(err, failed) {
			err = unwritten(failed)
		} else {
			err = fmt.Errorf("%w; and %w", err, unwritten(failed))
		}
	}
	var code exitCode
	var usage usageError
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &code):
		return int(code)
	case errors.As(err, &usage):
		fmt.Fprintf(s.err, "Error: %s\n\nUsage: %s\nSee \"%s --help\".\n", plainLines(usage.err), usage.cmd.UseLine(),
			usage.cmd.CommandPath())
	case errors.Is(err, context.Canceled):
		fmt.Fprintf(s.err, "Error: interrupted: %s\n", plainLines(err))
	default:
		fmt.Fprintf(s.err, "Error: %s\n", plainLines(err))
	}
	return exitError
}

func (a *app) command() *cobra.Command {
	var showVersion bool
	root := &cobra.Command{
		Use:   "overlayd [OPTION...] COMMAND [ARGUMENT...]",
		Short: "Writable views of shared, read-only directories, one per client",
		Long: `overlayd gives every client of this host its own writable view of shared,
read-only base directories. You declare lower directories and overlays in HCL;
"overlayd plan" shows how the host differs, "overlayd apply" makes it so. Each
overlay is a systemd mount unit, mounted at boot without any help of overlayd.`,
		SilenceErrors:         true,
		DisableFlagsInUseLine: true,
		SilenceUsage:          true,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return unknownCommand(cmd, args[0])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if showVersion {
				return a.writeVersion()
			}
			return usageError{errors.New("a command is needed"), cmd}
		},
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return a.setUp(cmd) },
	}
	root.Flags().BoolVar(&showVersion, "version", false, "show the version, as overlayd version does")
	a.registerGlobal(root.PersistentFlags())
	root.SetFlagErrorFunc(wrongOption)
	group(root, "The host and its spec",
		a.validateCommand(), a.fmtCommand(), a.planCommand(), a.applyCommand(), a.destroyCommand(), a.driftCommand(),
		a.statusCommand(), a.agentCommand())
	group(root, "Clients and what they wrote",
		a.listCommand(), a.inspectCommand(), a.diffCommand(), a.duCommand(), a.resetCommand(), a.commitCommand(),
		a.pruneCommand())
	// Cobra's own commands for help and completion have no usage errors.
	root.CompletionOptions.DisableDefaultCmd = true
	help := helpCommand()
	root.SetHelpCommand(help)
	group(root, "Other commands",
		a.importCommand(), a.doctorCommand(), a.graphCommand(), a.versionCommand(), a.completionCommand(), help)
	root.SetHelpFunc(showHelp)
	a.completeFlags(root)
	return root
}

// registerGlobal registers the flags of all commands.
func (a *app) registerGlobal(flags *pflag.FlagSet) {
	flags.BoolP("help", "h", false, "show this help") // before cobra does, for each command
	flags.StringVar(&a.logLevel, "log-level", "warn",
		"log what is at least this important: `LEVEL` is debug, info, warn or error (default warn; the agent: info)")
	flags.Lookup("log-level").DefValue = "" // for its text has it
	flags.StringVar(&a.logFormat, "log-format", "text", "how to log: `FORMAT` is text or json")
	flags.BoolVar(&a.noColor, "no-color", false, "no colours, also on a terminal")
	flags.StringVar(&a.root, "root", "", "prepare the tree below `DIR` instead of this host; nothing is mounted")
}

// unknownCommand says that root has no command of that name, and which one may have been meant.
func unknownCommand(root *cobra.Command, name string) error {
	var names []string
	for _, c := range root.Commands() {
		if c.IsAvailableCommand() {
			names = append(names, c.Name())
		}
	}
	hint := ""
	if near := meant(name, names); near != "" {
		hint = fmt.Sprintf("; did you mean %q?", near)
	}
	return usageError{fmt.Errorf("there is no command %q%s", name, hint), root}
}

// meant gives the one of names that somebody may have meant who wrote name, "" for none: the only one that begins so,
// or else the nearest.
func meant(name string, names []string) string {
	var begun []string
	for _, n := range names {
		if strings.HasPrefix(n, name) {
			begun = append(begun, n)
		}
	}
	if len(begun) == 1 {
		return begun[0]
	}
	return suggest.Nearest(name, names...)
}

// wrongOption says what is wrong with an option, in the words of the help, and which one may have been meant.
func wrongOption(cmd *cobra.Command, err error) error {
	var unknown *pflag.NotExistError
	var bare *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	var malformed *pflag.InvalidSyntaxError
	switch {
	case errors.As(err, &unknown):
		err = unknownOption(cmd, unknown)
	case errors.As(err, &bare):
		err = fmt.Errorf("--%s needs a value", bare.GetFlag().Name)
	case errors.As(err, &invalid):
		takes := invalid.Unwrap().Error()
		switch invalid.GetFlag().Value.Type() {
		case "bool":
			takes = "it takes true or false, or nothing"
		case "int":
			takes = "it takes a number"
		case "duration":
			takes = "it takes a time such as 30s"
		}
		err = fmt.Errorf("--%s %q: %s", invalid.GetFlag().Name, invalid.GetValue(), takes)
	case errors.As(err, &malformed):
		err = fmt.Errorf("%s is no option", malformed.GetSpecifiedFlag())
	}
	return usageError{err, cmd}
}

// unknownOption says that cmd has no such option. What follows one dash may be meant to follow two, as in -target.
func unknownOption(cmd *cobra.Command, unknown *pflag.NotExistError) error {
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden {
			names = append(names, f.Name)
		}
	})
	name, dashes := unknown.GetSpecifiedName(), "--"
	if letters := unknown.GetSpecifiedShortnames(); letters != "" {
		dashes = "-"
		name, _, _ = strings.Cut(letters, "=")
	}
	hint := ""
	if near := meant(name, names); near != "" && len(name) > 1 {
		hint = fmt.Sprintf("; did you mean --%s?", near)
	}
	return fmt.Errorf("there is no option %s%s%s", dashes, name, hint)
}

// setUp checks the global flags and starts logging.
func (a *app) setUp(cmd *cobra.Command) error {
	level, err := logrus.ParseLevel(a.logLevel)
	if err != nil {
		return usageError{fmt.Errorf("--log-level %q: use debug, info, warn or error", a.logLevel), cmd}
	}
	a.log = logrus.New()
	a.log.SetOutput(a.err)
	a.log.SetLevel(level)
	switch a.logFormat {
	case "text":
		colour := a.colour(a.err)
		a.log.SetFormatter(&logrus.TextFormatter{ForceColors: colour, DisableColors: !colour, FullTimestamp: true})
	case "json":
		a.log.SetFormatter(&logrus.JSONFormatter{})
	default:
		return usageError{fmt.Errorf("--log-format %q: use text or json", a.logFormat), cmd}
	}
	if a.root != "" {
		info, err := os.Stat(a.root)
		switch {
		case err != nil:
			return usageError{fmt.Errorf("--root: cannot %w", err), cmd}
		case !info.IsDir():
			return usageError{fmt.Errorf("--root: %s is not a directory", a.root), cmd}
		}
	}
	return nil
}

// colour tells whether to colour what goes to a stream.
func (a *app) colour(stream any) bool {
	_, off := a.env("NO_COLOR") // https://no-color.org: set and not empty
	term, _ := a.env("TERM")
	return !a.noColor && !off && term != "dumb" && isTerminal(stream)
}

// host is the machine, or the tree, that commands look at and change.
func (a *app) host() *reconcile.Host { return &reconcile.Host{Root: a.treeRoot(), Log: a.log} }

// atMost is a check for the number of arguments.
func atMost(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if len(args) > n {
			return usageError{fmt.Errorf("unexpected argument %q", args[n]), cmd}
		}
		return nil
	}
}
