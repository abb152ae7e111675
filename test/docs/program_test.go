package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
)

// binary is where TestMain's directory has the program once somebody asked.
var binary struct {
	dir  string
	once sync.Once
	out  []byte
	err  error
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "overlayd-docs-")
	if err != nil {
		panic(err)
	}
	binary.dir = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// program builds overlayd from this tree, once.
func program(t *testing.T) string {
	t.Helper()
	file := filepath.Join(binary.dir, "overlayd")
	binary.once.Do(func() {
		binary.out, binary.err = exec.Command("go", "build", "-o", file, root+"/cmd/overlayd").CombinedOutput()
	})
	if binary.err != nil {
		t.Fatalf("cannot build overlayd: %v\n%s", binary.err, binary.out)
	}
	return file
}

// command is what the help of one command tells.
type command struct {
	flags map[string]bool // name with its dashes → takes a value
}

var (
	commandLine = regexp.MustCompile(`(?m)^  ([a-z]+) {2,}`)
	flagLine    = regexp.MustCompile(`(?m)^ {2,6}(?:(-[a-zA-Z]), )?(--[a-z][a-z-]*)( [^ ]+)?(?: {2,}|$)`)
)

// manual asks each command for its help, once.
type manual struct {
	commands map[string]*command // "" is overlayd itself
}

func newManual(t *testing.T) *manual {
	t.Helper()
	m := &manual{commands: map[string]*command{}}
	text := m.ask(t, "")
	for _, name := range commandLine.FindAllStringSubmatch(text, -1) {
		m.commands[name[1]] = nil
	}
	if len(m.commands) < 10 {
		t.Fatalf("only %d commands found in\n%s", len(m.commands), text)
	}
	return m
}

func (m *manual) ask(t *testing.T, name string) string {
	t.Helper()
	args := []string{"--help"}
	if name != "" {
		args = []string{name, "--help"}
	}
	text, err := exec.CommandContext(t.Context(), program(t), args...).CombinedOutput()
	if err != nil {
		t.Fatalf("overlayd %s: %v\n%s", strings.Join(args, " "), err, text)
	}
	c := &command{flags: map[string]bool{}}
	for _, match := range flagLine.FindAllStringSubmatch(string(text), -1) {
		c.flags[match[2]] = match[3] != ""
		if match[1] != "" {
			c.flags[match[1]] = match[3] != ""
		}
	}
	m.commands[name] = c
	return string(text)
}

// command is nil when there is no such command.
func (m *manual) command(t *testing.T, name string) *command {
	t.Helper()
	c, ok := m.commands[name]
	if ok && c == nil {
		m.ask(t, name)
		c = m.commands[name]
	}
	return c
}
