package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

// helpWidth is for the narrowest terminal that is common.
const helpWidth = 80

// group adds commands to a program, below a title in its help.
func group(root *cobra.Command, title string, commands ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, c := range commands {
		c.GroupID = title
		c.DisableFlagsInUseLine = true // Use has [OPTION...] where it belongs
	}
	root.AddCommand(commands...)
}

// showHelp shows how a command is used: what one looks for most often first.
func showHelp(cmd *cobra.Command, _ []string) {
	var out strings.Builder
	long := cmd.Long
	if long == "" {
		long = cmd.Short + "."
	}
	fmt.Fprintf(&out, "Usage: %s\n\n%s\n", cmd.UseLine(), long)
	for _, g := range cmd.Groups() {
		fmt.Fprintf(&out, "\n%s:\n", g.Title)
		for _, c := range cmd.Commands() {
			if c.GroupID == g.ID {
				fmt.Fprintf(&out, "  %-10s  %s\n", c.Name(), c.Short)
			}
		}
	}
	if cmd.HasExample() {
		fmt.Fprintf(&out, "\nExamples:\n%s\n", cmd.Example)
	}
	if flags := cmd.LocalFlags(); flags.HasAvailableFlags() {
		fmt.Fprintf(&out, "\nOptions:\n%s", flags.FlagUsagesWrapped(helpWidth))
	}
	if flags := cmd.InheritedFlags(); flags.HasAvailableFlags() {
		fmt.Fprintf(&out, "\nOptions of all commands:\n%s", flags.FlagUsagesWrapped(helpWidth))
	}
	if cmd.HasAvailableSubCommands() {
		fmt.Fprintf(&out, "\n\"%[1]s COMMAND --help\" shows how a command is used, \"man %[1]s-COMMAND\"\n"+
			"says more, and \"man %[1]s.hcl\" is about the language of specs.\n", cmd.CommandPath())
	}
	fmt.Fprint(cmd.OutOrStdout(), out.String())
}

func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "help [OPTION...] [COMMAND]",
		Short: "Show how a command is used",
		Long: `Help shows how COMMAND is used, as "overlayd COMMAND --help" does; without it,
which commands there are.`,
		Example: "  overlayd help plan",
		ValidArgsFunction: func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			var names []string
			for _, c := range cmd.Root().Commands() {
				if len(args) == 0 && c.GroupID != "" {
					names = append(names, cobra.CompletionWithDesc(c.Name(), c.Short))
				}
			}
			return names, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			about, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(cmd.Root(), strings.Join(args, " "))
			}
			return about.Help()
		},
	}
}
