package main

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// screen is a terminal that shows one picture at a time, on its alternate screen: what stood on it before is there
// again afterwards. See console_codes(4) and XTerm's control sequences.
type screen struct {
	f *os.File

	mu  sync.Mutex
	was *unix.Termios // nil while the screen is as it was
}

const (
	// Alternate screen; no line breaks at the edge, where terminal and program may count a character's columns
	// otherwise; no cursor.
	enterScreen = "\x1b[?1049h\x1b[?7l\x1b[?25l"
	leaveScreen = "\x1b[?25h\x1b[?7h\x1b[?1049l"
)

// enter takes the screen. What is typed is not shown, as it would spoil the picture, but Ctrl-C and Ctrl-Z work.
func (s *screen) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	was, err := unix.IoctlGetTermios(int(s.f.Fd()), unix.TCGETS)
	if err != nil {
		return fmt.Errorf("cannot read the settings of the terminal: %w", err)
	}
	silent := *was
	silent.Lflag &^= unix.ECHO | unix.ICANON
	if err := unix.IoctlSetTermios(int(s.f.Fd()), unix.TCSETSW, &silent); err != nil {
		return fmt.Errorf("cannot change the settings of the terminal: %w", err)
	}
	s.was = was
	_, err = s.f.WriteString(enterScreen)
	return err
}

// leave gives the screen back. To call it again does nothing.
func (s *screen) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.was == nil {
		return
	}
	// The terminal may be gone, and then there is nothing to restore.
	_, _ = s.f.WriteString(leaveScreen)
	_ = unix.IoctlSetTermios(int(s.f.Fd()), unix.TCSETSF, s.was) // drops what was typed
	s.was = nil
}

// show draws lines over those that are there, in one write, so that nothing flickers.
func (s *screen) show(lines []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.was == nil {
		return nil // given back already
	}
	_, err := s.f.WriteString(picture(lines))
	return err
}

// picture is what draws lines over others. What stood there is erased before each line, not after: behind a line as
// wide as the terminal the cursor stands on its last column, which would go.
func picture(lines []string) string {
	const home, restOfLine, restOfScreen = "\x1b[H", "\x1b[K", "\x1b[J"
	var b strings.Builder
	b.WriteString(home)
	for i, l := range lines {
		if i == len(lines)-1 {
			b.WriteString(restOfScreen + l)
		} else {
			b.WriteString(restOfLine + l + "\r\n")
		}
	}
	return b.String()
}

// size is how many columns and lines there are.
func (s *screen) size() (width, height int) {
	width, height, err := term.GetSize(int(s.f.Fd()))
	if err != nil || width <= 0 || height <= 0 {
		return 80, 24 // a serial line does not know
	}
	return width, height
}
