package systemd

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/coreos/go-systemd/v22/dbus"

	"github.com/overlayd/overlayd/internal/units"
)

// jobMode is how a job gets on with jobs that are queued already: it takes the place of one that wants the opposite,
// as with systemctl, where the last word counts. [Manager.WaitJobs] has let those before it end. Against a shutdown it
// does not get through: its jobs are irreversible, and the call fails.
const jobMode = "replace"

// JobError is a job that ended otherwise than done.
type JobError struct {
	Unit       string
	Verb       string // start, stop or restart
	Result     string // of the job: failed, timeout, dependency, canceled, skipped …
	UnitResult string // of the unit where it says more: exit-code, timeout, protocol …
}

func (e *JobError) Error() string {
	result := e.Result
	if e.UnitResult != "" {
		result += ", " + e.UnitResult
	}
	unit := shellWord(e.Unit)
	return fmt.Sprintf("cannot %s unit %s: systemd says %s; see systemctl status -- %s and journalctl -u %s",
		e.Verb, e.Unit, result, unit, unit)
}

// shellWord quotes a unit name, which often has backslashes, for a shell.
func shellWord(unit string) string {
	if strings.ContainsAny(unit, "\\ '\"$`*?[](){}<>|&;~#!") {
		return "'" + strings.ReplaceAll(unit, "'", `'\''`) + "'"
	}
	return unit
}

type jobCall func(conn *dbus.Conn, ctx context.Context, unit, mode string, ch chan<- string) (int, error)

// Start starts a unit and waits until it is up. Of a failure it is a *[JobError]; the job goes on when the context
// ends, and the failed state of earlier jobs, with its start limit, is cleared before. Stop and Restart are alike.
func (m *Manager) Start(ctx context.Context, unit string) error {
	return m.job(ctx, "start", unit, (*dbus.Conn).StartUnitContext)
}

// Stop stops a unit and what requires it, and waits until it is down.
func (m *Manager) Stop(ctx context.Context, unit string) error {
	return m.job(ctx, "stop", unit, (*dbus.Conn).StopUnitContext)
}

// Restart stops and starts a unit in one job, which also brings back the units that were up and require it. A stop
// and a start would leave them dead.
func (m *Manager) Restart(ctx context.Context, unit string) error {
	return m.job(ctx, "restart", unit, (*dbus.Conn).RestartUnitContext)
}

// StartAlone queues the start of a unit, without what it wants or requires, and does not wait for it. The start of a
// target, also of one that is active, would otherwise start all that it wants and that is down: what an administrator
// has stopped, and what must not be mounted now.
func (m *Manager) StartAlone(ctx context.Context, unit string) error {
	return m.alone(ctx, "start", unit, (*dbus.Conn).StartUnitContext)
}

// StopAlone queues the stop of a unit, without what requires it or is part of it, and does not wait for it. A service
// that says PartOf=overlayd.target, as that of the agent does, goes on. It is no error if systemd does not have the
// unit.
func (m *Manager) StopAlone(ctx context.Context, unit string) error {
	err := m.alone(ctx, "stop", unit, (*dbus.Conn).StopUnitContext)
	if isNoSuchUnit(err) {
		return nil
	}
	return err
}

func (m *Manager) alone(ctx context.Context, verb, unit string, queue jobCall) error {
	err := m.call(ctx, func(conn *dbus.Conn) error {
		_, err := queue(conn, ctx, unit, "ignore-dependencies", nil)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot %s unit %s: %w", verb, unit, err)
	}
	return nil
}

func (m *Manager) job(ctx context.Context, verb, unit string, queue jobCall) error {
	// A start limit that was hit refuses the start without a try, and a result that is left over from a failed stop
	// makes systemd 252 call the next stop, which works, failed as well.
	err := m.call(ctx, func(conn *dbus.Conn) error { return conn.ResetFailedUnitContext(ctx, unit) })
	if err != nil && !isNoSuchUnit(err) {
		return fmt.Errorf("cannot %s unit %s: %w", verb, unit, err)
	}
	done := make(chan string, 1) // with room, or an abandoned job would block the connection for all
	var id int
	call := m.call
	if verb == "restart" {
		call = m.callOnce
	}
	err = call(ctx, func(conn *dbus.Conn) (err error) {
		id, err = queue(conn, ctx, unit, jobMode, done)
		return err
	})
	if err != nil {
		return fmt.Errorf("cannot %s unit %s: %w", verb, unit, err)
	}
	result, err := m.await(ctx, verb, unit, id, done)
	if err != nil {
		return fmt.Errorf("cannot wait for systemd to %s unit %s: %w; its job goes on, see systemctl list-jobs",
			verb, unit, err)
	}
	if result == jobDone {
		return nil
	}
	return &JobError{Unit: unit, Verb: verb, Result: result, UnitResult: m.unitResult(ctx, unit)}
}

const (
	jobDone   = "done"
	jobFailed = "failed"
)

// await waits for the result of a job. When a connection breaks or systemd is executed anew while the job runs, the
// signal with the result never comes. So it looks after the job now and then; of one that is gone for longer than a
// signal takes, it takes the result from the state of the unit.
func (m *Manager) await(ctx context.Context, verb, unit string, id int, done <-chan string) (string, error) {
	look := time.NewTimer(jobsAge)
	defer look.Stop()
	gone := false
	for {
		select {
		case result := <-done:
			return result, nil
		case <-ctx.Done():
			return "", ctx.Err()
		case <-look.C:
		}
		jobs, err := m.recentJobs(ctx)
		if err != nil {
			return "", err
		}
		queued := jobs[id] == unit
		if gone && !queued {
			return m.outcome(ctx, verb, unit)
		}
		gone = !queued
		look.Reset(jobsAge) // from now: the next answer is another one
	}
}

// jobsAge is how old an answer about jobs may be, and more than a signal takes.
const jobsAge = time.Second

// jobsAnswer is what systemd last said of its jobs.
type jobsAnswer struct {
	turn  chan struct{} // holds one for who reads or asks
	asked time.Time
	units map[int]string // by the id of the job; never changed
}

// recentJobs gives the unit of each job by its id, as it was within the last second. All who wait share one answer: with
// hundreds of them, each would ask for the jobs of all, and systemd starts jobs with the least priority, behind all
// messages (run_queue_event_source at SD_EVENT_PRIORITY_IDLE, 252).
func (m *Manager) recentJobs(ctx context.Context) (map[int]string, error) {
	select {
	case m.jobs.turn <- struct{}{}:
		defer func() { <-m.jobs.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	now := time.Now()
	if now.Sub(m.jobs.asked) < jobsAge {
		return m.jobs.units, nil
	}
	err := m.call(ctx, func(conn *dbus.Conn) error {
		jobs, err := conn.ListJobsContext(ctx)
		if err != nil {
			return err
		}
		m.jobs.asked, m.jobs.units = now, make(map[int]string, len(jobs))
		for _, job := range jobs {
			m.jobs.units[int(job.Id)] = job.Unit
		}
		return nil
	})
	return m.jobs.units, err
}

// outcome is the result of a job by the state of its unit.
func (m *Manager) outcome(ctx context.Context, verb, unit string) (string, error) {
	states, err := m.listStates(ctx, []string{unit})
	if err != nil {
		return "", err
	}
	if states[unit].Up() == (verb != "stop") {
		return jobDone, nil
	}
	return jobFailed, nil
}

// unitResult is what the Result property of a mount adds to the result of its job.
func (m *Manager) unitResult(ctx context.Context, unit string) string {
	if !strings.HasSuffix(unit, mountSuffix) {
		return ""
	}
	values, err := m.properties(ctx, []property{{unit, "Mount", "Result"}})
	if err != nil {
		return ""
	}
	result, _ := values[0].(string)
	if result == "success" {
		return ""
	}
	return result
}

// WaitJobs waits until no job is queued or running for the units or overlayd.target, and tells whether there was one.
// It asks again and again rather than subscribe to signals, see [Watch]: jobs in the way are rare.
func (m *Manager) WaitJobs(ctx context.Context, names map[string]bool) (waited bool, err error) {
	var jobs []dbus.JobStatus
	done, err := again(ctx, func() (bool, error) {
		err := m.call(ctx, func(conn *dbus.Conn) (err error) {
			jobs, err = conn.ListJobsContext(ctx)
			return err
		})
		jobs = slices.DeleteFunc(jobs, func(job dbus.JobStatus) bool {
			return !names[job.Unit] && job.Unit != units.TargetName
		})
		waited = waited || len(jobs) > 0
		return len(jobs) == 0, err
	})
	switch {
	case err != nil:
		return waited, fmt.Errorf("cannot ask systemd for its jobs: %w", err)
	case !done:
		first := slices.MinFunc(jobs, func(a, b dbus.JobStatus) int { return int(a.Id) - int(b.Id) })
		return waited, fmt.Errorf("cannot wait for systemd to %s unit %s (job %d is %s, %d in the way): %w; "+
			"see systemctl list-jobs", first.JobType, first.Unit, first.Id, first.Status, len(jobs), ctx.Err())
	}
	return waited, nil
}

// WaitActive waits until systemd shows all these units as active, or the context ends, and tells whether it does. A
// mount made by mount(2) is active when systemd has read the mount table, which it does five times a second at most
// (SYSTEMD_DEFAULT_MOUNT_RATE_LIMIT_BURST, 252 and later). Until then "systemctl stop" of a unit that was
// replaced may find it inactive, and do nothing.
func (m *Manager) WaitActive(ctx context.Context, names []string) (bool, error) {
	left := names
	done, err := again(ctx, func() (bool, error) {
		states, err := m.listStates(ctx, left)
		var down []string
		for _, name := range left {
			if states[name].Active != "active" {
				down = append(down, name)
			}
		}
		left = down
		return len(left) == 0, err
	})
	if err != nil && ctx.Err() == nil {
		return false, fmt.Errorf("cannot ask systemd for the state of units: %w", err)
	}
	return done, nil
}

// again asks with growing pauses until the answer is yes, or an error, or the context ends.
func again(ctx context.Context, ask func() (bool, error)) (bool, error) {
	const longest = 250 * time.Millisecond
	for pause := 10 * time.Millisecond; ; pause = min(2*pause, longest) {
		if done, err := ask(); done || err != nil {
			return done && err == nil, err
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return false, nil
		}
	}
}
