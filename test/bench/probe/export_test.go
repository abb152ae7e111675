package probe

import (
	"context"
	"time"
)

var (
	Ticks   = ticks
	Number  = number
	DropOne = drop
)

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
