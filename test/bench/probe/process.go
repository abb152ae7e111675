package probe

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process is what a process has used so far.
type Process struct {
	Ticks    int   `json:"ticks"`    // user and system time in hundredths of a second, see proc_pid_stat(5)
	Resident int64 `json:"resident"` // bytes
	Peak     int64 `json:"peak"`     // bytes resident at most, since the start or the last ResetPeak
	Switches int   `json:"switches"` // how often its threads began to wait
}

// ReadProcess reads it from /proc.
func ReadProcess(pid int) (Process, error) {
	var p Process
	dir := fmt.Sprintf("/proc/%d", pid)
	stat, err := os.ReadFile(dir + "/stat")
	if err != nil {
		return p, fmt.Errorf("cannot read what process %d uses: %w", pid, err)
	}
	if p.Ticks, err = ticks(string(stat)); err != nil {
		return p, err
	}
	status, err := os.ReadFile(dir + "/status")
	if err != nil {
		return p, fmt.Errorf("cannot read what process %d uses: %w", pid, err)
	}
	for _, f := range []struct {
		key string
		to  *int64
	}{{"VmRSS", &p.Resident}, {"VmHWM", &p.Peak}} {
		kib, err := number(status, f.key)
		if err != nil {
			return p, err
		}
		*f.to = kib << 10
	}
	threads, err := filepath.Glob(dir + "/task/*/status")
	if err != nil {
		return p, err
	}
	for _, file := range threads {
		status, err := os.ReadFile(file)
		if err != nil {
			continue // this thread has ended
		}
		n, err := number(status, "voluntary_ctxt_switches")
		if err != nil {
			return p, err
		}
		p.Switches += int(n)
	}
	return p, nil
}

// ResetPeak makes a process' peak what is resident now.
func ResetPeak(pid int) error {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		return fmt.Errorf("cannot reset the peak of process %d: %w", pid, err)
	}
	return nil
}

// ticks reads the text of /proc/PID/stat. The name of the program may have blanks and parentheses in it.
func ticks(stat string) (int, error) {
	const utime, stime = 14, 15 // counted from 1, and the name is 2
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) <= stime-3 {
		return 0, fmt.Errorf("cannot read the CPU time of a process: %q", stat)
	}
	user, err := strconv.Atoi(fields[utime-3])
	if err != nil {
		return 0, fmt.Errorf("cannot read the CPU time of a process: %w", err)
	}
	system, err := strconv.Atoi(fields[stime-3])
	if err != nil {
		return 0, fmt.Errorf("cannot read the CPU time of a process: %w", err)
	}
	return user + system, nil
}

// number finds a line of /proc/PID/status.
func number(status []byte, key string) (int64, error) {
	for line := range bytes.Lines(status) {
		name, value, _ := strings.Cut(string(line), ":")
		if fields := strings.Fields(value); name == key && len(fields) > 0 {
			n, err := strconv.ParseInt(fields[0], 10, 64)
			if err != nil {
				return 0, fmt.Errorf("cannot read %s of a process: %w", key, err)
			}
			return n, nil
		}
	}
	return 0, fmt.Errorf("cannot find %s of a process: has it ended?", key)
}

// running is how long all threads of a process have run so far, from /proc/PID/task/TID/schedstat, in nanoseconds:
// the ticks of /proc/PID/stat are too coarse to see that it rests.
func running(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil {
		return 0, err
	}
	if len(files) == 0 {
		return 0, fmt.Errorf("cannot tell whether process %d rests: it has ended, or the kernel has no schedstat", pid)
	}
	var sum time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // this thread has ended
		}
		if err != nil {
			return 0, fmt.Errorf("cannot tell whether process %d rests: %w", pid, err)
		}
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("cannot tell whether process %d rests: %w", pid, err)
		}
		sum += time.Duration(ns)
	}
	return sum, nil
}

const (
	// rest is how long somebody has not run who rests. systemd reads the mount table at most 5 times a second, so it
	// may still have some of that before it when it pauses for less.
	rest = 250 * time.Millisecond
	// restless is when waiting for that is given up.
	restless = 5 * time.Minute
)

// Rest waits until none of the processes runs any more.
func Rest(ctx context.Context, pids ...int) error {
	ctx, cancel := context.WithTimeout(ctx, restless)
	defer cancel()
	var last time.Duration
	since := time.Now()
	for {
		var now time.Duration
		for _, pid := range pids {
			d, err := running(pid)
			if err != nil {
				return err
			}
			now += d
		}
		if now != last {
			last, since = now, time.Now()
		}
		if time.Since(since) >= rest {
			return nil
		}
		if err := sleep(ctx, rest/10); err != nil {
			return fmt.Errorf("cannot wait until processes %v rest: %w", pids, err)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
