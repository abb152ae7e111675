package probe

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Keep is the least that can be done to bring a mount back: it is told the one mountpoint that will be taken away,
// waits for the mount table, looks whether the mount is gone and calls mount(2). A line of in is a mountpoint, a tab
// and the mount's options; it is answered by a line when the watch has begun. Keep ends with in.
func Keep(ctx context.Context, in io.Reader, out io.Writer) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	orders := bufio.NewScanner(in)
	for orders.Scan() {
		mountpoint, options, ok := strings.Cut(orders.Text(), "\t")
		if !ok {
			return fmt.Errorf("cannot keep %q: no options given", orders.Text())
		}
		if err := keep(ctx, mountpoint, options, out); err != nil {
			return err
		}
	}
	return orders.Err()
}

func keep(ctx context.Context, mountpoint, options string, out io.Writer) error {
	t, err := openTable()
	if err != nil {
		return err
	}
	defer t.close()
	p, err := openPlace(mountpoint)
	if err != nil {
		return err
	}
	defer p.close()
	if _, err := fmt.Fprintln(out, "watching"); err != nil {
		return err
	}
	missing := func() (bool, error) {
		is, err := p.mounted()
		return !is, err
	}
	if err := t.until(ctx, missing); err != nil {
		return err
	}
	if err := unix.Mount("overlayd", mountpoint, "overlay", 0, options); err != nil {
		return fmt.Errorf("cannot mount %s: %w", mountpoint, err)
	}
	return nil
}

// keeper is a process that runs Keep.
type keeper struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
	err *strings.Builder
}

func startKeeper(ctx context.Context, argv []string) (*keeper, error) {
	if len(argv) == 0 {
		return nil, errors.New("cannot start the bare loop: no command given")
	}
	k := &keeper{cmd: exec.CommandContext(ctx, argv[0], argv[1:]...), err: &strings.Builder{}}
	k.cmd.Stderr = k.err
	in, err := k.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := k.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	k.in, k.out = in, bufio.NewReader(out)
	if err := k.cmd.Start(); err != nil {
		return nil, fmt.Errorf("cannot start the bare loop: %w", err)
	}
	return k, nil
}

// arm tells it what will be taken away, and returns when it watches.
func (k *keeper) arm(o Overlay) error {
	_, err := fmt.Fprintf(k.in, "%s\t%s\n", o.Mountpoint, o.Options)
	if err == nil {
		_, err = k.out.ReadString('\n')
	}
	if err != nil {
		k.end()
		return fmt.Errorf("cannot tell the bare loop what to keep: %w: %s", err, k.err)
	}
	return nil
}

// end waits for its end. What it failed at shows in the round that it failed.
func (k *keeper) end() {
	_ = k.in.Close()
	_ = k.cmd.Wait()
}
