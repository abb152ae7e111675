// The benchmarks measure overlayd on disposable Debian systems with a real
// systemd, each beside what else could be done in its place, in the same run:
// so the ratios hold on other computers, too. They print a table for each
// measurement and write all samples as JSON.
//
// No measurement is too slow here; the exit code is 1 only when one could not be
// made. A measurement is a file: see scenarios.go for how to add one.
//
// Run it by "make bench", on a computer that does nothing else.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/test/bench/report"
	"github.com/overlayd/overlayd/test/machine"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	var err error
	if len(os.Args) > 2 && os.Args[1] == inside {
		err = runInside(ctx, os.Args[2], os.Stdin, os.Stdout)
	} else {
		err = bench(ctx, os.Stdout, os.Stderr)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// options are what the command line says.
type options struct {
	deb    string
	json   string
	suites []machine.Suite
	only   *regexp.Regexp
	sizes
}

// sizes say how much is measured.
type sizes struct {
	rounds int // of each reaction
	memory int // overlays in the measurement of memory; 0 for none
}

func parse() (options, error) {
	o := options{}
	flag.StringVar(&o.deb, "deb", "", "install and measure this `package` (default: the one that make deb has made)")
	flag.StringVar(&o.json, "json", "bin/bench.json", "write all samples to `FILE`")
	suites := flag.String("suites", "bookworm,trixie", "the Debian `releases` to measure on")
	only := flag.String("run", "", "measure only what matches this `REGEXP`: "+strings.Join(names(), ", "))
	flag.IntVar(&o.rounds, "rounds", 100, "how often each reaction is measured")
	flag.IntVar(&o.memory, "memory", 0, "measure the memory of an agent with this `NUMBER` of overlays (10000 takes minutes)")
	flag.Parse()
	var err error
	if o.only, err = regexp.Compile(*only); err != nil {
		return o, fmt.Errorf("-run: %w", err)
	}
	for name := range strings.SplitSeq(*suites, ",") {
		suite := machine.Suite(name)
		if !slices.Contains(machine.Suites(), suite) {
			return o, fmt.Errorf("-suites: %q is none of %v", name, machine.Suites())
		}
		o.suites = append(o.suites, suite)
	}
	if flag.NArg() > 0 || o.rounds < 1 || o.memory < 0 {
		return o, errors.New("it takes no arguments, and numbers from 1 on; see -help")
	}
	return o, nil
}

// bench makes all measurements. One that cannot be made does not keep the others from being made.
func bench(ctx context.Context, out, progress io.Writer) (err error) {
	o, err := parse()
	if err != nil {
		return err
	}
	if o.deb == "" {
		if o.deb, err = machine.OverlaydDeb(); err != nil {
			return err
		}
	}
	r, err := conditions(ctx, o.deb)
	if err != nil {
		return err
	}
	dir, err := machine.DefaultDir()
	if err != nil {
		return err
	}
	say := func(format string, args ...any) { fmt.Fprintf(progress, format+"\n", args...) }
	store, err := machine.Open(ctx, dir, say)
	if err != nil {
		return err
	}
	var failed []error
	for i, suite := range o.suites {
		for _, s := range scenarios {
			last := i == len(o.suites)-1
			if !o.only.MatchString(s.name) || s.once && !last || s.name == memoryName && o.memory == 0 {
				continue
			}
			r.Load = append(r.Load, load())
			e := &env{out: progress, store: store, suite: suite, deb: o.deb, sizes: o.sizes, name: s.name}
			t, err := e.measure(ctx, s)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				failed = append(failed, fmt.Errorf("cannot measure %s on %s: %w", s.name, suite, err))
				continue
			}
			r.Tables = append(r.Tables, t)
			if err := t.Write(out); err != nil {
				return err
			}
		}
	}
	r.Load = append(r.Load, load())
	fmt.Fprintf(out, "overlayd %s, Linux %s, %d CPUs; load average %.2f at the start, at most %.2f.\n",
		r.Overlayd, r.Kernel, r.CPUs, r.Load[0], slices.Max(r.Load))
	return errors.Join(append(failed, save(r, o.json))...)
}

func save(r report.Report, file string) error {
	err := os.MkdirAll(filepath.Dir(file), 0o755)
	if err != nil {
		return fmt.Errorf("cannot write what was measured: %w", err)
	}
	f, err := os.Create(file)
	if err != nil {
		return fmt.Errorf("cannot write what was measured: %w", err)
	}
	return errors.Join(r.WriteJSON(f), f.Close())
}

// conditions are those under which everything is measured.
func conditions(ctx context.Context, deb string) (report.Report, error) {
	r := report.Report{CPUs: runtime.NumCPU(), Started: time.Now().UTC().Truncate(time.Second)}
	version, err := versionOf(ctx, deb)
	if err != nil {
		return r, err
	}
	var uts unix.Utsname
	if err := unix.Uname(&uts); err != nil {
		return r, err
	}
	r.Overlayd, r.Kernel = version, unix.ByteSliceToString(uts.Release[:])
	return r, nil
}

// load is the load average of the last minute.
func load() float64 {
	var l float64
	text, err := os.ReadFile("/proc/loadavg")
	if err == nil {
		_, err = fmt.Sscan(string(text), &l)
	}
	if err != nil {
		return 0 // it is told only so that a reader can judge
	}
	return l
}
