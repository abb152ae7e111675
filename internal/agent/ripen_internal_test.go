package agent

import (
	"testing"
	"time"
)

// What is gone from the spec may be on its way to another file.
func TestRipens(t *testing.T) {
	a := &agent{missed: map[string]time.Time{}}
	if a.ripens("a", noon) == "" {
		t.Error("deleted at once")
	}
	if a.ripens("a", after(ripening-1)) == "" {
		t.Error("deleted too early")
	}
	if why := a.ripens("a", after(ripening)); why != "" {
		t.Errorf("held for ever: %s", why)
	}
	if a.ripens("b", after(ripening)) == "" {
		t.Error("the time of one counts for another")
	}
}
