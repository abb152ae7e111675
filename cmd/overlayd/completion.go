package main

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// completionScripts write the completion script of each shell.
var completionScripts = map[string]func(root *cobra.Command, w io.Writer) error{
	"bash": func(root *cobra.Command, w io.Writer) error {
		err := root.GenBashCompletionV2(w, true)
		_, more := io.WriteString(w, plainBash)
		return errors.Join(err, more)
	},
	"zsh":  func(root *cobra.Command, w io.Writer) error { return root.GenZshCompletion(w) },
	"fish": func(root *cobra.Command, w io.Writer) error { return root.GenFishCompletion(w, true) },
}

// plainBash takes the place of a function of cobra's script. That calls one of the package bash-completion where the
// package is not installed, of all places.
const plainBash = `
# Without the package bash-completion: the words up to the cursor, of which bash takes
# "--option=value" for three.
__overlayd_init_completion()
{
    local line=${COMP_LINE:0:COMP_POINT} blank word i
    COMPREPLY=()
    words=()
    for ((i = 0; i <= COMP_CWORD; i++)); do
        blank=${line%%[![:space:]]*}
        line=${line#"$blank"}
        word=${COMP_WORDS[i]}
        ((i < COMP_CWORD)) || word=$line
        line=${line#"$word"}
        if ((i == 0)) || [[ -n $blank ]]; then
            words+=("$word")
        else
            words[-1]+=$word
        fi
    done
    cword=$((${#words[@]} - 1))
    cur=${words[cword]}
    prev=${words[cword > 0 ? cword - 1 : 0]}
}
`

// completeFlags has the shells complete values of flags; what is not here they take for a file.
func (a *app) completeFlags(root *cobra.Command) {
	var policies []string
	for _, p := range plan.Policies() {
		policies = append(policies, string(p))
	}
	choices := map[string]cobra.CompletionFunc{
		"policy":     cobra.FixedCompletions(policies, cobra.ShellCompDirectiveNoFileComp),
		"log-level":  cobra.FixedCompletions([]string{"debug", "info", "warn", "error"}, cobra.ShellCompDirectiveNoFileComp),
		"log-format": cobra.FixedCompletions([]string{"text", "json"}, cobra.ShellCompDirectiveNoFileComp),
		"target": func(_ *cobra.Command, _ []string, typed string) ([]string, cobra.ShellCompDirective) {
			return a.addresses(nil, typed), cobra.ShellCompDirectiveNoFileComp
		},
	}
	for _, c := range append(root.Commands(), root) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if choose, ok := choices[f.Name]; ok {
				if err := c.RegisterFlagCompletionFunc(f.Name, choose); err != nil {
					panic(err) // twice the same flag
				}
			}
		})
	}
}

// plainUsages takes out of the flags' texts what is for the help: completion shows them as they are.
func plainUsages(root *cobra.Command) {
	for _, c := range append(root.Commands(), root) {
		c.LocalFlags().VisitAll(func(f *pflag.Flag) { _, f.Usage = pflag.UnquoteUsage(f) })
	}
}

func (a *app) completionCommand() *cobra.Command {
	shells := slices.Sorted(maps.Keys(completionScripts))
	return &cobra.Command{
		Use:   "completion [OPTION...] SHELL",
		Short: "Print the completion script for bash, fish or zsh",
		Long: `Completion prints a script that completes overlayd's command line in SHELL,
which is bash, fish or zsh: commands, options, and the addresses of what is
applied. The Debian package has the scripts where the shells look for them.`,
		Example: `  overlayd completion bash >/etc/bash_completion.d/overlayd
  overlayd completion zsh >/usr/local/share/zsh/site-functions/_overlayd
  overlayd completion fish >/etc/fish/completions/overlayd.fish
  source <(overlayd completion bash)`,
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
