package main

import (
	"errors"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/overlayd/overlayd/internal/inventory"
)

// findOverlay gives the overlay that an ADDRESS|PATH argument means. Its errors say what to do.
func (a *app) findOverlay(ref string) (inventory.Overlay, error) {
	i, err := inventory.Read(a.host())
	if err != nil {
		return inventory.Overlay{}, err
	}
	return i.Find(reference(ref))
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
