package probe

import (
	"context"
	"time"
)

var (
	Ticks   = ticks
	Number  = number
	DropOne = drop

	MountpointsIn = mountpointsIn
	FstabWith     = fstabWith
	Brief         = brief
)

// Client shows what is made of one overlay: its line of fstab, its unit and its playbook, before it changes and after.
func Client(o Overlay, unit string) (before, after [3]string) {
	c := client{Overlay: o, Text: unit}
	show := func(c client) [3]string {
		return [3]string{c.fstab(), c.Text, playbook("mounted", []client{c})}
	}
	return show(c), show(c.changed())
}

// Clock measures commands, with a watch for a file.
func Clock(ctx context.Context, watch string, commands ...[]string) (Took, error) {
	return site{}.clock(ctx, work{commands: commands, watch: watch})
}

// RoundByLoop takes one mount away and has Keep, run by this command, bring it back.
func RoundByLoop(ctx context.Context, o Overlay, keep []string) (time.Duration, error) {
	b, err := Rounds{By: ByLoop, Keep: keep}.bringer(ctx)
	if err != nil {
		return 0, err
	}
	defer b.end()
	return b.round(ctx, o)
}

// RoundByNobody takes one mount away and gives up at once.
func RoundByNobody(ctx context.Context, o Overlay) (time.Duration, error) {
	b, err := Rounds{By: ByAgent}.bringer(ctx)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithCancel(ctx)
	b.arm = func(Overlay) error {
		cancel()
		return nil
	}
	return b.round(ctx, o)
}
