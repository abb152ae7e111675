package plan

import (
	"fmt"
	"slices"
	"strings"
)

// Policy says what may be done to a host while nobody watches.
type Policy string

// The policies. None touches a conflict.
const (
	PolicyObserve Policy = "observe" // nothing
	PolicySafe    Policy = "safe"    // what takes no live mount down
	PolicyFull    Policy = "full"    // disruptive changes too, but for those of overlays that are in use
)

// Policies lists all, the most cautious first.
func Policies() []Policy { return []Policy{PolicyObserve, PolicySafe, PolicyFull} }

// ParsePolicy reads the name of a policy.
func ParsePolicy(name string) (Policy, error) {
	if p := Policy(name); slices.Contains(Policies(), p) {
		return p, nil
	}
	var names []string
	for _, p := range Policies() {
		names = append(names, string(p))
	}
	return "", fmt.Errorf("there is no policy %q: use %s", name, strings.Join(names, ", "))
}

// Refuses says why a change must wait for somebody, "" if it may be made. Who uses a mount is not its matter.
func (p Policy) Refuses(c *Change) string {
	switch {
	case p == PolicyObserve:
		return "policy observe changes nothing: overlayd apply does"
	case p == PolicySafe && c.Disruptive:
		return "policy safe takes no live mount down: overlayd apply does it"
	}
	return ""
}
