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
	"strconv"
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
	docs   string
	from   string
	suites []machine.Suite
	only   *regexp.Regexp
	sizes
}

// sizes say how much is measured.
type sizes struct {
	numbers []int         // of overlays, side by side
	ways    []string      // of those, side by side
	turns   int           // of everybody with few overlays, side by side
	still   int           // times that what changes nothing is measured in a turn
	limit   time.Duration // a turn that takes longer is the last one with as many overlays
	many    int           // overlays of overlayd alone; 0 for none
	ansible int           // turns of Ansible; 0 for none
	rounds  int           // of each reaction
	memory  int           // overlays in the measurement of memory; 0 for none
}

func parse() (options, error) {
	o := options{}
	flag.StringVar(&o.deb, "deb", "", "install and measure this `package` (default: the one that make deb has made)")
	flag.StringVar(&o.json, "json", "bin/bench.json", "write all samples to `FILE`")
	flag.StringVar(&o.docs, "docs", "", "write the page and the curves of what was measured into `FOLDER`")
	flag.StringVar(&o.from, "from", "", "measure nothing: take what an earlier run has written to `FILE`")
	suites := flag.String("suites", "bookworm,trixie", "the Debian `releases` to measure on")
	only := flag.String("run", "", "measure only what matches this `REGEXP`: "+strings.Join(names(), ", "))
	numbers := flag.String("sizes", "100,500,1000,2000,4000", "side by side, with these `NUMBERS` of overlays")
	ways := flag.String("ways", "overlayd,fstab,systemctl,bare", "side by side, in these `WAYS`")
	flag.IntVar(&o.turns, "turns", 3, "how often each way has its turn, side by side (with over 2,000 overlays: half)")
	flag.IntVar(&o.still, "still", 3, "how often in a turn what changes nothing is measured, such as plan")
	flag.DurationVar(&o.limit, "limit", time.Minute, "a way whose turn takes longer has no more with as many overlays")
	flag.IntVar(&o.many, "many", 10000, "measure overlayd alone with this `NUMBER` of overlays (0: do not)")
	flag.IntVar(&o.ansible, "ansible", 2, "how often Ansible has its turn (0: never, and it is not downloaded)")
	flag.IntVar(&o.rounds, "rounds", 100, "how often each reaction is measured")
	flag.IntVar(&o.memory, "memory", 0, "measure the memory of an agent with this `NUMBER` of overlays (0: do not)")
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
	if o.numbers, err = parseNumbers(*numbers); err != nil {
		return o, fmt.Errorf("-sizes: %w", err)
	}
	for name := range strings.SplitSeq(*ways, ",") {
		if !slices.Contains(sides, name) {
			return o, fmt.Errorf("-ways: %q is none of %v", name, sides)
		}
		o.ways = append(o.ways, name)
	}
	least := min(o.rounds-1, o.turns-1, o.still-1, o.memory, o.many, o.ansible)
	if flag.NArg() > 0 || least < 0 {
		return o, errors.New("it takes no arguments, and numbers from 1 on; see -help")
	}
	return o, nil
}

// parseNumbers reads a list of numbers, sorted, which may be empty.
func parseNumbers(text string) ([]int, error) {
	var out []int
	if text == "" {
		return nil, nil
	}
	for word := range strings.SplitSeq(text, ",") {
		n, err := strconv.Atoi(word)
		if err != nil || n < 1 || n > mostOverlays {
			return nil, fmt.Errorf("%q is not a number from 1 to %d", word, mostOverlays)
		}
		out = append(out, n)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// mostOverlays have names of the same length. A mount namespace takes 100,000 mounts, see proc_sys_fs(5).
const mostOverlays = 50000

// bench makes all measurements. One that cannot be made does not keep the others from being made.
func bench(ctx context.Context, out, progress io.Writer) (err error) {
	o, err := parse()
	if err != nil {
		return err
	}
	if o.from != "" {
		return retell(o, out)
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
			if !o.only.MatchString(s.name) || s.once && !last || s.off != nil && s.off(o.sizes) {
				continue
			}
			r.Load = append(r.Load, load())
			e := &env{out: progress, store: store, suite: suite, deb: o.deb, sizes: o.sizes, name: s.name}
			tables, err := e.measure(ctx, s)
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if err != nil {
				failed = append(failed, fmt.Errorf("cannot measure %s on %s: %w", s.name, suite, err))
			}
			r.Tables = append(r.Tables, tables...)
			if err := write(tables, out); err != nil {
				return err
			}
		}
	}
	r.Load = append(r.Load, load())
	fmt.Fprintf(out, "overlayd %s, Linux %s, %d CPUs; load average %.2f at the start, at most %.2f.\n",
		r.Overlayd, r.Kernel, r.CPUs, r.Load[0], slices.Max(r.Load))
	return errors.Join(append(failed, save(r, o.json), tell(r, o.docs))...)
}

func write(tables []report.Table, out io.Writer) error {
	for _, t := range tables {
		if err := t.Write(out); err != nil {
			return err
		}
	}
	return nil
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
	r.Overlayd, r.Kernel, r.Processor = version, unix.ByteSliceToString(uts.Release[:]), processor()
	return r, nil
}

// processor is what the kernel calls the first one.
func processor() string {
	text, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "" // it is told only so that a reader can judge
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
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
