package machine

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// Main runs the tests of a package that needs machines; call it from TestMain. Each prepare is called before the first
// test, with a context that ends with an interrupt: what waits on it cleans up then, as after a failure. One that
// answers [ErrMissing] keeps the tests from running, with its reason printed; with CI=true that is a failure.
func Main(run func() int, prepare ...func(ctx context.Context) error) (code int) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	context.AfterFunc(ctx, stop) // a second interrupt ends this program at once

	check := func(context.Context) error {
		if err := Missing(); err != nil {
			return fmt.Errorf("%w: %w", ErrMissing, err)
		}
		return nil
	}
	for _, step := range append([]func(context.Context) error{check}, prepare...) {
		switch err := step(ctx); {
		case errors.Is(err, ErrMissing) && os.Getenv("CI") != "true":
			fmt.Fprintf(os.Stderr, "SKIP these tests: %v\n", err)
			return 0
		case errors.Is(err, ErrMissing):
			fmt.Fprintf(os.Stderr, "FAIL these tests: %v; with CI=true they must run\n", err)
			return 1
		case err != nil:
			fmt.Fprintf(os.Stderr, "FAIL these tests: %v\n", err)
			return 1
		}
	}
	return run()
}

// ErrMissing says that this computer cannot run the tests as it is.
var ErrMissing = errors.New("something is missing here")

// Say prints progress, which go test shows at once when it runs in the folder of the package.
func Say(format string, args ...any) { fmt.Fprintf(os.Stderr, "# "+format+"\n", args...) }
