package main

import (
	"errors"
	"fmt"
	"runtime"
	"slices"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

// actFlags are the flags of commands that change the host.
type actFlags struct {
	autoApprove bool
	json        bool
	parallelism int
	lockTimeout time.Duration
}

func (f *actFlags) register(flags *pflag.FlagSet) {
	flags.BoolVar(&f.autoApprove, "auto-approve", false, "do it without asking")
	flags.BoolVar(&f.json, "json", false, "print the report as JSON; asks nothing, so it needs --auto-approve")
	flags.IntVar(&f.parallelism, "parallelism", max(4, 2*runtime.NumCPU()),
		"mount or unmount at most `N` overlays at a time (default twice the processors, at least 4)")
	flags.Lookup("parallelism").DefValue = "0" // for its text has it, and not for this machine alone
	registerLockTimeout(flags, &f.lockTimeout)
}

func registerLockTimeout(flags *pflag.FlagSet, d *time.Duration) {
	flags.DurationVar(d, "lock-timeout", 30*time.Second, "wait `TIME` for another overlayd that changes the host")
}

func (f *actFlags) check(cmd *cobra.Command) error {
	switch {
	case f.parallelism < 1:
		return usageError{fmt.Errorf("--parallelism %d: it takes a number from 1", f.parallelism), cmd}
	case f.lockTimeout < 0:
		return usageError{fmt.Errorf("--lock-timeout %s: it takes a time such as 30s", f.lockTimeout), cmd}
	}
	return nil
}

func (a *app) applyCommand() *cobra.Command {
	var spec specFlags
	var t targetFlags
	var f actFlags
	var allowEmpty bool
	cmd := &cobra.Command{
		Use:   "apply [OPTION...] [PATH... | PLANFILE]",
		Short: "Make the host as the spec says",
		Long: `Apply shows the plan, asks, and carries it out: it makes directories, writes and
enables one mount unit per overlay, reloads systemd once, and mounts. PATH is a
file or a directory, by default /etc/overlayd. What cannot be done is left as it
is, and the rest is done; running it again finishes the job. It never deletes
what a client wrote.

A PLANFILE that "overlayd plan --out" saved is carried out exactly as it was
shown, without asking, or refused if the host has changed since.

It exits 1 if anything failed, was skipped or is a conflict.`,
		Example: `  overlayd apply
  overlayd apply --auto-approve --json
  overlayd apply --target 'overlay.client["client_1"]'
  overlayd apply --root /mnt/image --auto-approve`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := f.check(cmd); err != nil {
				return err
			}
			if i := slices.IndexFunc(args, reconcile.IsPlanFile); i >= 0 {
				if len(args) > 1 {
					return usageError{fmt.Errorf("%s is a saved plan, which goes alone", args[i]), cmd}
				}
				return a.fail(a.applySaved(cmd, args[0], f, spec, t, allowEmpty), f.json)
			}
			look := a.host().LookAhead(f.autoApprove)
			defer look.Close()
			l, err := a.mustLoad(args, spec, f.json)
			if err != nil {
				return err
			}
			return a.fail(a.applySpec(cmd, look, l, f, &t, allowEmpty), f.json)
		},
	}
	spec.register(cmd.Flags())
	t.register(cmd.Flags())
	f.register(cmd.Flags())
	cmd.Flags().BoolVar(&allowEmpty, "allow-empty", false, "let a spec without any overlay delete all it had")
	return cmd
}

func (a *app) applySpec(cmd *cobra.Command, look *reconcile.Ahead, l loaded, f actFlags, t *targetFlags, allowEmpty bool,
) error {
	if err := trust(l.files()); err != nil {
		return err
	}
	b, err := a.begin(cmd, look, l.desired, t)
	if err != nil {
		return err
	}
	defer b.Close()
	if n := b.Plan().Count(plan.Delete); len(l.desired.Overlays) == 0 && n > 0 && !allowEmpty {
		return emptyError(n)
	}
	return a.act(cmd, b, f, reconcile.ApplyOptions{}, actWords{
		plan: planWords{title: "Plan", inSync: "Nothing to do."}, question: "Apply these changes?", title: "Apply", saved: true,
	})
}

// begin plans, by a look at the host that goes on.
func (a *app) begin(cmd *cobra.Command, look *reconcile.Ahead, d plan.Desired, t *targetFlags) (*reconcile.Begun, error) {
	targets, err := t.parse(cmd, a.host(), d)
	if err != nil {
		return nil, err
	}
	return look.Begin(cmd.Context(), d, targets)
}

// emptyError refuses a spec without any overlay: more often than not, its files are just not where they should be.
func emptyError(deletes int) error {
	return fmt.Errorf("nothing was done: the spec has no overlay, so %s would be deleted; if that is meant, say "+
		"--allow-empty", count(deletes, "overlay"))
}

// actWords are what differs between the commands that carry a plan out.
type actWords struct {
	plan     planWords
	question string
	saved    bool   // it can carry out a saved plan
	title    string // of the report's last line
}

// act shows a plan, asks, and carries it out. It is what apply, destroy and reset share.
func (a *app) act(cmd *cobra.Command, b *reconcile.Begun, f actFlags, opt reconcile.ApplyOptions, words actWords) error {
	p := b.Plan()
	if !f.json {
		a.writePlan(a.out, p, words.plan)
	}
	if !p.Pending() && !a.host().Unfinished() {
		if p.InSync() && !f.json {
			return nil // the plan has said so
		}
		return a.showReport(reconcile.Unchanged(p), nil, f.json, words.title)
	}
	if !f.autoApprove {
		if f.json {
			needs := "--auto-approve"
			if words.saved {
				needs += " or a saved plan"
			}
			return errors.New("nothing was done: --json asks nothing, so it needs " + needs)
		}
		if err := a.approve(cmd.Context(), words.question, "use --auto-approve"); err != nil {
			return err
		}
		opt.Approved = reconcile.Agree(p)
	}
	return a.carryOut(cmd, b, f, opt, words.title)
}

// carryOut applies and shows the report.
func (a *app) carryOut(cmd *cobra.Command, b *reconcile.Begun, f actFlags, opt reconcile.ApplyOptions,
	title string,
) error {
	opt.Parallelism, opt.LockTimeout = f.parallelism, f.lockTimeout
	_ = a.flush() // the plan, before anything is done; run tells at the end if that fails
	bar := a.progress(cmd.Context())
	if bar != nil {
		opt.Progress = func(now reconcile.Progress) {
			bar.tell(int64(now.Done), int64(now.Total), func() string { return progressText(now) })
		}
		opt.Progress(reconcile.Progress{})
	}
	report, err := b.Apply(cmd.Context(), opt)
	bar.end()
	if err != nil && len(report.Results) == 0 {
		return err
	}
	return a.showReport(report, err, f.json, title)
}

// progressText is how far an apply is, and what it does now.
func progressText(now reconcile.Progress) string {
	text := now.Phase.String()
	if now.Address != "" {
		text += " " + plain(now.Address)
	}
	if now.Total > 0 {
		text = humanize.Comma(int64(now.Done)) + " of " + humanize.Comma(int64(now.Total)) + "  " + text
	}
	return text
}

// showReport shows a report, and gives the exit code: as failure or the report says.
func (a *app) showReport(report reconcile.Report, failure error, asJSON bool, title string) error {
	if asJSON {
		if err := a.writeJSON(newReportJSON(report, failure)); err != nil && failure == nil {
			return err
		}
	} else {
		a.writeReport(a.out, title, report)
	}
	switch {
	case failure != nil && !asJSON:
		return failure
	case failure != nil || !report.OK():
		return exitCode(exitError)
	}
	return nil
}

// applySaved carries out a saved plan. It uses nothing of the spec, so flags about the spec make no sense with it.
func (a *app) applySaved(cmd *cobra.Command, file string, f actFlags, spec specFlags, t targetFlags,
	allowEmpty bool,
) error {
	if len(spec.values) > 0 || len(t.texts) > 0 {
		return usageError{fmt.Errorf("--var, --var-file and --target are part of the saved plan %s: plan again with "+
			"them", file), cmd}
	}
	look := a.host().LookAhead(true)
	defer look.Close()
	saved, err := a.host().Open(file, version())
	if err != nil {
		return err
	}
	deletes := 0
	for _, c := range saved.Changes {
		if c.Change == plan.Delete {
			deletes++
		}
	}
	if len(saved.Desired.Overlays) == 0 && deletes > 0 && !allowEmpty {
		return emptyError(deletes)
	}
	t.texts = saved.Targets
	targets, err := t.targets(cmd)
	if err != nil {
		return err
	}
	b, err := look.Begin(cmd.Context(), saved.Desired, targets)
	if err != nil {
		return err
	}
	defer b.Close()
	return a.carryOut(cmd, b, f, reconcile.ApplyOptions{Approved: saved.Changes}, "Apply")
}
