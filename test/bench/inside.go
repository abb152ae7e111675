package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/overlayd/overlayd/test/bench/probe"
)

// This program is its own probe: copied into a machine, and run there with "inside" and a request.
const (
	inside    = "inside"
	probePath = "/usr/local/bin/overlayd-bench"
	keepLoop  = "keep"
	unitDir   = "/etc/systemd/system"
)

// request is one of these.
type request struct {
	Rounds  *probe.Rounds `json:"rounds,omitempty"`  // answered by samples
	Drop    *drop         `json:"drop,omitempty"`    // by samples
	Storm   *storm        `json:"storm,omitempty"`   // by a probe.Damage
	Process *process      `json:"process,omitempty"` // by a probe.Process
	Step    *probe.Step   `json:"step,omitempty"`    // by a probe.Took
	Settle  *settle       `json:"settle,omitempty"`
}

type drop struct {
	Agent int          `json:"agent"`
	Files []probe.File `json:"files"`
}

type storm struct {
	Overlays int           `json:"overlays"` // how many of them are taken away
	Lasting  time.Duration `json:"lasting"`
}

type process struct {
	PID       int  `json:"pid"`
	ResetPeak bool `json:"reset_peak"` // after reading it
}

// settle waits until so many overlays are mounted, and then until nobody has anything to do with them any more.
type settle struct {
	Mounts int   `json:"mounts"`
	PIDs   []int `json:"pids"`
}

// stuck is when it is given up that more overlays get mounted.
const stuck = 2 * time.Minute

func runInside(ctx context.Context, text string, in io.Reader, out io.Writer) error {
	if text == keepLoop {
		return probe.Keep(ctx, in, out)
	}
	var r request
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return fmt.Errorf("cannot understand %q: %w", text, err)
	}
	answer, err := r.do(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(answer)
}

func (r request) do(ctx context.Context) (any, error) {
	switch {
	case r.Rounds != nil:
		overlays, err := probe.Overlays(unitDir)
		if err != nil {
			return nil, err
		}
		self, err := os.Executable()
		if err != nil {
			return nil, err
		}
		r.Rounds.Keep = []string{self, inside, keepLoop}
		return r.Rounds.Run(ctx, overlays)
	case r.Drop != nil:
		return probe.Drop(ctx, r.Drop.Agent, r.Drop.Files)
	case r.Storm != nil:
		overlays, err := probe.Overlays(unitDir)
		if err != nil {
			return nil, err
		}
		return probe.Storm(ctx, overlays[:min(r.Storm.Overlays, len(overlays))], r.Storm.Lasting)
	case r.Process != nil:
		p, err := probe.ReadProcess(r.Process.PID)
		if err == nil && r.Process.ResetPeak {
			err = probe.ResetPeak(r.Process.PID)
		}
		return p, err
	case r.Step != nil:
		return r.Step.Run(ctx)
	case r.Settle != nil:
		if err := probe.Mounted(ctx, r.Settle.Mounts, stuck); err != nil {
			return nil, err
		}
		return nil, probe.Rest(ctx, r.Settle.PIDs...)
	}
	return nil, fmt.Errorf("cannot do nothing")
}
