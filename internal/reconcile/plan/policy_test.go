package plan_test

import (
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

func TestPolicyRefuses(t *testing.T) {
	for _, c := range []struct {
		policy     plan.Policy
		disruptive bool
		refused    bool
	}{
		{plan.PolicyObserve, false, true},
		{plan.PolicyObserve, true, true},
		{plan.PolicySafe, false, false},
		{plan.PolicySafe, true, true},
		{plan.PolicyFull, false, false},
		{plan.PolicyFull, true, false},
	} {
		// What counts is what a change does to a live mount, whatever its kind.
		for _, kind := range plan.Kinds() {
			why := c.policy.Refuses(&plan.Change{Kind: kind, Disruptive: c.disruptive})
			if (why != "") != c.refused {
				t.Errorf("%s, %s, disruptive %t: %q", c.policy, kind, c.disruptive, why)
			}
			if why != "" && !strings.Contains(why, string(c.policy)) {
				t.Errorf("%q does not name the policy %s", why, c.policy)
			}
		}
	}
}

func TestParsePolicy(t *testing.T) {
	for _, p := range plan.Policies() {
		if got, err := plan.ParsePolicy(string(p)); got != p || err != nil {
			t.Errorf("ParsePolicy(%s) = %s, %v", p, got, err)
		}
	}
	if _, err := plan.ParsePolicy("brave"); err == nil || !strings.Contains(err.Error(), "observe, safe, full") {
		t.Errorf("ParsePolicy(brave): %v, want the choices", err)
	}
}
