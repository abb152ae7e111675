package main

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"

	"github.com/coreos/go-systemd/v22/daemon"
	"github.com/hashicorp/hcl/v2"
	"github.com/sirupsen/logrus"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/agent"
	"github.com/overlayd/overlayd/internal/config"
	"github.com/overlayd/overlayd/internal/doctor"
	"github.com/overlayd/overlayd/internal/hostlock"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/reconcile/plan"
	"github.com/overlayd/overlayd/internal/units/systemd"
)

// agentFlags are those of the agent's settings; what is not given the spec says.
type agentFlags struct {
	policy      string
	resync      string
	metricsFile string
}

func (a *app) agentCommand() *cobra.Command {
	var spec specFlags
	var f agentFlags
	cmd := &cobra.Command{
		Use:   "agent [OPTION...] [PATH...]",
		Short: "Keep the host as the spec says",
		Long: `Agent waits until something changes (a mount, a unit file, the spec) and makes
the host as the spec says, at once. It is what overlayd.service runs.

How far it goes is its policy:

  observe  it only reports what differs
  safe     it does what takes no live mount down, and leaves the rest for
           "overlayd apply" (default)
  full     it also takes mounts down, but those that somebody uses

A spec that has errors, is being written, or has no overlay any more changes
nothing; the one before stays in force. What somebody stopped with systemctl
stays down. "overlayd status" shows what is held back and what failed.

On SIGHUP it reads the spec again, on SIGTERM it ends and leaves the mounts.`,
		Example: "  systemctl enable --now overlayd\n  overlayd agent --policy observe --log-level debug",
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.agent(cmd, args, spec, f)
		},
	}
	spec.register(cmd.Flags())
	cmd.Flags().StringVar(&f.policy, "policy", "", "what may be done: `POLICY` is observe, safe or full (default safe)")
	cmd.Flags().StringVar(&f.resync, "resync", "",
		"look at everything each `TIME`, whatever happens or not (default 10m)")
	cmd.Flags().StringVar(&f.metricsFile, "metrics-file", "", "write metrics to `FILE`, for node_exporter")
	return cmd
}

// settings are what the spec says, except where there are flags.
func (f agentFlags) settings(spec config.Agent) (agent.Settings, error) {
	s := agent.DefaultSettings()
	if name := firstOf(f.policy, spec.Policy); name != "" {
		var err error
		if s.Policy, err = plan.ParsePolicy(name); err != nil {
			return s, err
		}
	}
	if spec.Resync != 0 {
		s.Resync = spec.Resync
	}
	if f.resync != "" {
		d, err := config.ParseResync(f.resync)
		if err != nil {
			return s, fmt.Errorf("--resync %q %w", f.resync, err)
		}
		s.Resync = d
	}
	if f.metricsFile != "" {
		if err := config.CheckMetricsFile(f.metricsFile); err != nil {
			return s, fmt.Errorf("--metrics-file %q %w", f.metricsFile, err)
		}
	}
	s.MetricsFile = firstOf(f.metricsFile, spec.MetricsFile)
	return s, nil
}

func firstOf(texts ...string) string {
	for _, t := range texts {
		if t != "" {
			return t
		}
	}
	return ""
}

func (a *app) agent(cmd *cobra.Command, args []string, spec specFlags, f agentFlags) error {
	if err := a.agentFits(cmd, args); err != nil {
		return err
	}
	if _, err := f.settings(config.Agent{}); err != nil {
		fmt.Fprintf(a.err, "Error: cannot run the agent: %v\n", err)
		return exitCode(exitConfig) // no restart mends an option
	}
	if !cmd.Flags().Changed("log-level") {
		a.log.SetLevel(logrus.InfoLevel)
	}
	a.logToJournal()
	var paths []string
	for _, p := range a.paths(args) {
		paths = append(paths, absolute(p))
	}
	scope := plan.Scope{Files: paths, Dirs: paths} // what a path is shows when it can be read
	watched := paths
	for _, v := range spec.values {
		if v.File {
			watched = append(watched, absolute(v.Arg))
		}
	}
	m, err := systemd.Connect(cmd.Context())
	if err != nil {
		return err
	}
	defer m.Close()
	host := a.host()
	host.Systemd, host.Memory = m, &reconcile.Memory{}
	reload := make(chan os.Signal, 1)
	signal.Notify(reload, unix.SIGHUP)
	defer signal.Stop(reload)
	alive, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		a.log.WithError(err).Warn("cannot tell how often the watchdog wants to hear from us")
	}
	err = agent.Run(cmd.Context(), agent.Config{
		Host: host, Paths: watched, Scope: scope, Version: version(), Log: a.log, Reload: reload, Alive: alive,
		Load: func() agent.Loaded { return a.loadForAgent(args, spec, f) },
		Notify: func(state string) {
			if _, err := daemon.SdNotify(false, state); err != nil {
				a.log.WithError(err).Warn("cannot notify systemd")
			}
		},
	})
	var held *hostlock.HeldError
	if errors.As(err, &held) && held.PID != 0 {
		return fmt.Errorf("cannot start the agent: process %d is one already; see systemctl status overlayd", held.PID)
	}
	return err
}

// exitConfig is EX_CONFIG of sysexits.h: to try again is of no use.
const exitConfig = 78

// agentFits refuses to run where no agent can.
func (a *app) agentFits(cmd *cobra.Command, args []string) error {
	if a.treeRoot() != "" {
		return usageError{errors.New("an agent keeps a running host; --root prepares a tree for one, with apply"), cmd}
	}
	for _, file := range args {
		if reconcile.IsPlanFile(file) {
			return fmt.Errorf("cannot read %s as a spec: it is a saved plan, for overlayd apply %s", file, file)
		}
	}
	if os.Geteuid() != 0 {
		return errors.New("cannot run the agent: changing the host takes root")
	}
	if !systemd.Running() {
		fmt.Fprintln(a.err, "Error: cannot run the agent: systemd does not run this host; overlayd apply works without")
		return exitCode(exitConfig)
	}
	if lacking := doctor.Unfit(); len(lacking) > 0 {
		for _, l := range lacking {
			fmt.Fprintf(a.err, "Error: cannot run the agent: %s; %s\n", l.Text, l.Remedy)
		}
		return exitCode(exitConfig)
	}
	return nil
}

// loadForAgent reads the spec as apply does, and refuses what apply refuses.
func (a *app) loadForAgent(args []string, spec specFlags, f agentFlags) agent.Loaded {
	l := a.load(args, spec)
	// Flags hold even if the spec says nothing, and what it says of the agent even if the rest of it is wrong.
	var out agent.Loaded
	if l.spec != nil {
		out.Settings, out.Err = f.settings(l.spec.Agent)
	}
	var failures []string
	for _, d := range l.diags {
		if d.Severity == hcl.DiagError {
			failures = append(failures, sentence(d))
		} else {
			out.Warnings = append(out.Warnings, sentence(d))
		}
	}
	if len(failures) > 0 {
		const most = 5
		if n := len(failures); n > most {
			failures = append(failures[:most], fmt.Sprintf("and %d errors more; overlayd validate shows all", n-most))
		}
		out.Err = errors.New(strings.Join(failures, "\n"))
		return out
	}
	if out.Err == nil {
		out.Err = trust(l.files())
	}
	out.Desired = l.desired
	return out
}

// sentence is a diagnostic in a line.
func sentence(d *hcl.Diagnostic) string {
	text := d.Summary
	if d.Detail != "" {
		text += ": " + strings.TrimSuffix(strings.Join(strings.Fields(d.Detail), " "), ".")
	}
	switch file, whole := d.Extra.(wholeFile); {
	case d.Subject != nil:
		return fmt.Sprintf("%s:%d: %s", d.Subject.Filename, d.Subject.Start.Line, text)
	case whole:
		return string(file) + ": " + text
	}
	return text
}
