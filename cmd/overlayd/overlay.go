package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/overlayd/overlayd/internal/inventory"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// find gives the overlay that an ADDRESS|PATH argument means. Its errors say what to do. A name alone is a path, in the
// working directory; where that leads to no overlay, the address may have been meant.
func find(i *inventory.Inventory, ref string) (inventory.Overlay, error) {
	o, err := i.Find(reference(ref))
	if err == nil || ref == "" || inventory.IsAddress(ref) || strings.Contains(ref, "/") {
		return o, err
	}
	target, bad := plan.ParseTarget("overlay." + ref)
	if bad != nil {
		return o, err
	}
	meant, none := i.Match([]plan.Target{target})
	if none != nil {
		return o, err
	}
	var addresses []string
	for _, m := range meant {
		addresses = append(addresses, m.Address)
	}
	return o, fmt.Errorf("%w; did you mean %s?", err, list(addresses))
}

// reference is an ADDRESS|PATH argument with its path made absolute.
func reference(ref string) string {
	if ref == "" || inventory.IsAddress(ref) {
		return ref
	}
	return absolute(ref)
}

// oneOverlay is a check for the arguments of a command that is about one overlay.
func oneOverlay(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return usageError{errors.New("an overlay is needed: ADDRESS, or a PATH in it"), cmd}
	}
	return atMost(1)(cmd, args)
}

// completeOverlay completes the one ADDRESS|PATH argument of a command: the shell completes paths itself.
func (a *app) completeOverlay(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.addresses(nil, typed), cobra.ShellCompDirectiveDefault
}

// completeAddresses completes any number of ADDRESS arguments, each given once.
func (a *app) completeAddresses(_ *cobra.Command, args []string, typed string) ([]string, cobra.ShellCompDirective) {
	return a.addresses(args, typed), cobra.ShellCompDirectiveNoFileComp
}

// addresses are those that begin as typed, without those given already. Completion has nowhere to report an error to.
func (a *app) addresses(given []string, typed string) []string {
	i, err := inventory.Read(a.host())
	if err != nil {
		return nil
	}
	var out []string
	for _, o := range i.All() {
		if o.Address != "" && strings.HasPrefix(o.Address, typed) && !slices.Contains(given, o.Address) {
			out = append(out, o.Address)
		}
	}
	return out
}
