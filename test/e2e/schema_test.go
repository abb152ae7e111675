//go:build e2e

package e2e

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/overlayd/overlayd/test/schema"
)

var schemas = sync.OnceValues(func() (*schema.Set, error) { return schema.Open(schema.Dir) })

// checkJSON holds what a command printed against its schema, if it was overlayd and asked for JSON.
func checkJSON(ts *testscript.TestScript, argv []string, stdin string, code int, stdout, stderr []byte) {
	args := overlaydArgs(argv, stdin)
	if args == nil {
		return
	}
	s, err := schemas()
	ts.Check(err)
	ts.Check(s.Check(schema.Run{Args: args, Code: code, Stdout: stdout, Stderr: stderr}))
}

// overlaydArgs gives the arguments of overlayd, where the output of a command is overlayd's alone: it may be started by
// another, such as setpriv, or by a script that has nothing else in it.
func overlaydArgs(argv []string, stdin string) []string {
	if slices.Equal(argv, scriptShell) {
		if strings.ContainsAny(strings.TrimSpace(stdin), "|&;<>()$`\n") {
			return nil
		}
		argv = strings.Fields(stdin)
	}
	if i := slices.Index(argv, "overlayd"); i >= 0 {
		return argv[i+1:]
	}
	return nil
}

func TestOverlaydArgs(t *testing.T) {
	for _, c := range []struct {
		argv  []string
		stdin string
		want  []string
	}{
		{argv: []string{"overlayd", "list", "--json"}, want: []string{"list", "--json"}},
		{argv: []string{"setpriv", "--reuid=1", "overlayd", "list", "--json"}, want: []string{"list", "--json"}},
		{argv: []string{"systemctl", "start", "overlayd.service"}},
		{scriptShell, "runuser -u nobody -- overlayd plan --json\n", []string{"plan", "--json"}},
		{scriptShell, "X=1 overlayd plan --json", []string{"plan", "--json"}},
		{scriptShell, "overlayd plan --json | grep x", nil},
		{scriptShell, "true\noverlayd plan --json", nil},
	} {
		if diff := cmp.Diff(c.want, overlaydArgs(c.argv, c.stdin)); diff != "" {
			t.Errorf("%q %q: %s", c.argv, c.stdin, diff)
		}
	}
}
