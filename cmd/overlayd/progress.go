package main

import (
	"context"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
)

// progress is a line on a terminal that tells how far something is which takes longer than somebody likes to wait
// without a word. In the end it is gone without a trace. A nil one does nothing: there is no terminal.
type progress struct {
	w       io.Writer // the terminal
	columns func() int
	options []progressbar.Option // of the bar

	mu  sync.Mutex // guards now, and is never held while something is written: a terminal may stand still (Ctrl-S)
	now step

	line  sync.Mutex // guards what is on the terminal
	bar   *progressbar.ProgressBar
	shown string // the line, "" while there is none

	over func() // takes the line away for good
}

// step is how far it is.
type step struct {
	done, total int64         // total is 0 as long as nobody knows
	text        func() string // nil before the first word
}

const (
	patience = 500 * time.Millisecond
	redraw   = 100 * time.Millisecond
)

// progress begins a line on stderr that goes away when ctx ends, or by a call of end. What is logged meanwhile goes
// above it. The options are about the bar.
func (a *app) progress(ctx context.Context, options ...progressbar.Option) *progress {
	file, _ := fileOf(a.err)
	if t, _ := a.env("TERM"); !isTerminal(a.err) || t == "" || t == "dumb" {
		return nil
	}
	s := &screen{f: file}
	p := &progress{w: a.err, columns: func() int { width, _ := s.size(); return width }, options: options}
	ctx, cancel := context.WithCancel(ctx)
	ticker := time.NewTicker(redraw)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		p.run(ctx, ticker.C)
	}()
	log := a.log.Out
	a.log.SetOutput(p)
	p.over = func() {
		ticker.Stop()
		cancel()
		<-gone
		a.log.SetOutput(log)
	}
	return p
}

// end takes the line away.
func (p *progress) end() {
	if p != nil {
		p.over()
	}
}

// tell takes note of how far it is. It never waits for the terminal, and text is called only when it is drawn.
func (p *progress) tell(done, total int64, text func() string) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = step{done, total, text}
}

// run draws at each tick, once patience is over, until ctx ends. Somebody who interrupts it finds the screen tidy,
// also if a second signal kills it while the step under way ends.
func (p *progress) run(ctx context.Context, ticks <-chan time.Time) {
	defer p.wipe()
	for n := redraw; ; n += redraw {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
		}
		if n >= patience {
			p.draw()
		}
	}
}

// eraseLine takes away what stands on the line, and goes to its begin.
const eraseLine = "\r\x1b[K"

// draw shows how far it is now. An error is no reason to stop what the line is about.
func (p *progress) draw() {
	p.mu.Lock()
	now := p.now
	p.mu.Unlock()
	if now.text == nil {
		return
	}
	width := p.columns()
	text := now.text()
	p.line.Lock()
	defer p.line.Unlock()
	if width >= narrow && now.total > 0 {
		text = p.withBar(now, width, text)
	}
	const room = 3 // for the ^C that a terminal echoes: a line break there would leave the line behind
	if text = cut(text, width-room); text == p.shown {
		return
	}
	p.shown = text
	_, _ = io.WriteString(p.w, eraseLine+text)
}

// narrow is a terminal without room for a bar.
const narrow = 60

// withBar puts the bar before the text, so that it stands still while the text changes.
func (p *progress) withBar(now step, width int, text string) string {
	if p.bar == nil {
		p.bar = progressbar.NewOptions64(1, append([]progressbar.Option{
			progressbar.OptionSetWriter(io.Discard), progressbar.OptionShowDescriptionAtLineEnd(),
			progressbar.OptionSetWidth(min(width/8, 30)), progressbar.OptionSetPredictTime(false),
		}, p.options...)...)
	}
	p.bar.ChangeMax64(max(now.done, now.total) + 1) // at its maximum it would be over
	_ = p.bar.Set64(now.done)
	p.bar.Describe(text)
	return strings.TrimRight(strings.TrimLeft(p.bar.String(), "\r"), " ")
}

// wipe takes the line away.
func (p *progress) wipe() {
	p.line.Lock()
	defer p.line.Unlock()
	if p.shown != "" {
		p.shown = ""
		_, _ = io.WriteString(p.w, eraseLine)
	}
}

// Write puts lines of a log above the line.
func (p *progress) Write(b []byte) (int, error) {
	p.line.Lock()
	defer p.line.Unlock()
	if p.shown == "" {
		return p.w.Write(b)
	}
	if _, err := io.WriteString(p.w, eraseLine+string(b)+p.shown); err != nil {
		return 0, err
	}
	return len(b), nil
}
