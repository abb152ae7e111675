// The demo plays the quickstart on a disposable Debian with a real systemd: it
// prints each command, what that really says, and what there is to see in it.
// It exits with 1 when anything is not as it should be, so it is a test, too.
//
// Run it by "make demo".
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/overlayd/overlayd/test/machine"
)

func main() {
	deb := flag.String("deb", "", "install this `package` (default: the one that make deb has made)")
	suite := flag.String("suite", string(machine.Trixie), "the Debian release to show it on: bookworm or trixie")
	spec := flag.String("spec", "examples/quickstart.hcl", "the quickstart's `file`")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	err := run(ctx, os.Stdout, *deb, machine.Suite(*suite), *spec)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, out io.Writer, deb string, suite machine.Suite, spec string) (err error) {
	text, err := os.ReadFile(spec)
	if err != nil {
		return err
	}
	if deb == "" {
		if deb, err = machine.OverlaydDeb(); err != nil {
			return err
		}
	}
	dir, err := machine.DefaultDir()
	if err != nil {
		return err
	}
	d := &demo{out: out}
	store, err := machine.Open(ctx, dir, func(format string, args ...any) { d.tell(fmt.Sprintf(format, args...)) })
	if err != nil {
		return err
	}
	d.tell("Booting a disposable Debian (" + string(suite) + ") with a real systemd, on which apt has installed overlayd.")
	m, err := store.NewFrom(ctx, machine.Image{Suite: suite, Debs: []string{deb}}, "demo")
	if err != nil {
		return err
	}
	d.m = m
	defer func() {
		if closeErr := m.Close(); closeErr != nil {
			err = errors.Join(err, closeErr)
		}
	}()
	if _, err := m.Boot(ctx); err != nil {
		return err
	}
	if err := m.WriteFile(ctx, "/etc/overlayd/quickstart.hcl", text, 0o644); err != nil {
		return err
	}
	for _, s := range scenes {
		if err := d.play(ctx, s); err != nil {
			return err
		}
	}
	d.tell("That is all. The machine is thrown away; your computer is as it was.")
	return nil
}

type demo struct {
	out io.Writer
	m   *machine.Machine
}

// scene is one command with what is said before it and what has to be in its output.
type scene struct {
	say    string
	await  string // a shell condition to wait for without a word, for systemd is asynchronous
	run    string // for the shell; empty: reboot
	want   []string
	absent []string
}

const width = 80

// tell prints a remark, wrapped.
func (d *demo) tell(text string) {
	const mark = "# "
	fmt.Fprintln(d.out)
	line := mark
	for word := range strings.FieldsSeq(text) {
		if len(line)+len(word)+1 > width && line != mark {
			fmt.Fprintln(d.out, strings.TrimRight(line, " "))
			line = mark
		}
		line += word + " "
	}
	fmt.Fprintln(d.out, strings.TrimRight(line, " "))
}

func (d *demo) play(ctx context.Context, s scene) error {
	if s.say != "" {
		d.tell(s.say)
	}
	if s.run == "" {
		fmt.Fprintln(d.out, "$ reboot")
		state, err := d.m.Reboot(ctx)
		if err != nil {
			return err
		}
		if state != "running" {
			d.m.Dump(ctx, d.out)
			return fmt.Errorf("after the reboot systemd is %q", state)
		}
		return nil
	}
	if s.await != "" {
		if err := d.await(ctx, s.await); err != nil {
			return err
		}
	}
	fmt.Fprintf(d.out, "$ %s\n", s.run)
	var heard bytes.Buffer
	cmd := d.m.Command(ctx, "env", fmt.Sprintf("COLUMNS=%d", width), "sh", "-c", s.run)
	both := io.MultiWriter(d.out, &heard)
	cmd.Stdout, cmd.Stderr = both, both
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%q failed: %w", s.run, err)
	}
	for _, want := range s.want {
		if !strings.Contains(heard.String(), want) {
			return fmt.Errorf("%q did not say %q", s.run, want)
		}
	}
	for _, absent := range s.absent {
		if strings.Contains(heard.String(), absent) {
			return fmt.Errorf("%q said %q", s.run, absent)
		}
	}
	return nil
}

func (d *demo) await(ctx context.Context, condition string) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	out, err := d.m.Command(ctx, "sh", "-c", "until "+condition+"; do sleep 0.05; done").CombinedOutput()
	if err != nil {
		d.m.Dump(context.WithoutCancel(ctx), d.out)
		return fmt.Errorf("waited in vain for %q: %w\n%s", condition, err, out)
	}
	return nil
}
