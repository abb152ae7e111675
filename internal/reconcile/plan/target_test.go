package plan_test

import (
	"testing"

	"github.com/overlayd/overlayd/internal/reconcile/plan"
)

func TestTargetMatches(t *testing.T) {
	tests := []struct {
		target, address string
		want            bool
	}{
		{`overlay.client`, `overlay.client`, true},
		{`overlay.client`, `overlay.client["a"]`, true},
		{`overlay.client`, `overlay.clients`, false},
		{`overlay.client["a"]`, `overlay.client["a"]`, true},
		{`overlay.client["a"]`, `overlay.client`, false},
		{`overlay.client[a]`, `overlay.client["a"]`, true}, // a shell has eaten the quotes
		{`overlay.client["pi-*"]`, `overlay.client["pi-07"]`, true},
		{`overlay.client["pi-*"]`, `overlay.client["ci-07"]`, false},
		{`overlay.client["pi-[0-3]"]`, `overlay.client["pi-2"]`, true},
		{`overlay.client["a*"]`, `overlay.client["a*"]`, true},
		{`overlay.client["a/b"]`, `overlay.client["a/b"]`, true},
		{`overlay.client["a\"b"]`, `overlay.client["a\"b"]`, true},
		{`overlay.client["${x}"]`, `overlay.client["$${x}"]`, true}, // addresses are quoted as HCL quotes
	}
	for _, tc := range tests {
		target, err := plan.ParseTarget(tc.target)
		if err != nil {
			t.Errorf("%s: %v", tc.target, err)
			continue
		}
		if got := target.Matches(tc.address); got != tc.want {
			t.Errorf("%s matches %s: got %t", tc.target, tc.address, got)
		}
	}
	for _, bad := range []string{"", "client", "overlay.", "overlay.a b", `overlay.a["x"`, "lowerdir.base", `overlay.a["["]`} {
		if _, err := plan.ParseTarget(bad); err == nil {
			t.Errorf("%q is taken for a target", bad)
		}
	}
}
