package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"
)

// completionScripts write the completion script of each shell.
var completionScripts = map[string]func(root *cobra.Command, w io.Writer) error{
	"bash": func(root *cobra.Command, w io.Writer) error { return root.GenBashCompletionV2(w, true) },
	"zsh":  func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) },
	"fish": func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
}

func (a *app) completionCommand() *cobra.Command {
	shells := slices.Sorted(maps.Keys(completionScripts))
	return &cobra.Command{
		Use:       "completion SHELL",
		Short:     "Print the completion script for bash, fish or zsh",
		Long:      "Completion prints a script that completes overlayd's command line in SHELL: bash, fish or zsh.",
		Example:   "  overlayd completion bash >/etc/bash_completion.d/overlayd",
		ValidArgs: shells,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usageError{errors.New("a shell is needed: bash, fish or zsh"), cmd}
			}
			return atMost(1)(cmd, args)
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			script, ok := completionScripts[args[0]]
			if !ok {
				return usageError{fmt.Errorf("there is no completion for %q: use bash, fish or zsh", args[0]), cmd}
			}
			return script(cmd.Root(), a.out)
		},
	}
}
