package state

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// Self returns what tells this process from all others since the host started:
// its number, and when it started, in clock ticks since then (field 22 of
// /proc/PID/stat, proc_pid_stat(5)). Numbers are used again, both are not.
func Self() (pid int, startTime uint64, err error) {
	pid = os.Getpid()
	startTime, err = started(pid)
	if err != nil {
		return 0, 0, fmt.Errorf("cannot find out when this process started: %w", err)
	}
	return pid, startTime, nil
}

var errEnded = errors.New("the process has ended")

// started returns when a living process started.
func started(pid int) (uint64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	// Field 2, the name in parentheses, may contain anything, parentheses included.
	// The state is field 3; Z and X are what is left of a process that has ended.
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	const startTime = 22 - 3
	if len(fields) <= startTime {
		return 0, fmt.Errorf("/proc/%d/stat has %d fields after the name", pid, len(fields))
	}
	if s := fields[0][0]; s == 'Z' || s == 'X' {
		return 0, errEnded
	}
	return strconv.ParseUint(string(fields[startTime]), 10, 64)
}

// lives tells whether a process lives. Where /proc is mounted with hidepid=,
// others cannot see when root's processes started, but kill(2) still tells a
// number that is in use from one that is not. Then it is taken for the agent's:
// an agent that ends removes its state, and to take a recycled number for a
// killed agent is less likely than a living agent that is hidden.
func lives(pid int, startTime uint64) bool {
	t, err := started(pid)
	switch {
	case err == nil:
		return t == startTime
	case errors.Is(err, errEnded):
		return false
	}
	err = unix.Kill(pid, 0)
	return err == nil || errors.Is(err, unix.EPERM)
}
