package agent

import "time"

// budget bounds what looking costs when somebody makes the host change without end: a share of one CPU, with some
// saved up for when there is a reason to hurry. The zero value is a full one.
type budget struct {
	debt time.Duration // of CPU time
	at   time.Time     // when debt was right
}

const (
	share  = 5               // one fifth of a CPU in the long run
	credit = 2 * time.Second // of CPU time, that may be spent at once
	most   = 2 * credit      // no look, however dear, keeps us from looking for longer than (most-credit)*share
)

// spend takes CPU time that was used by now.
func (b *budget) spend(cpu time.Duration, now time.Time) {
	b.debt = min(b.owed(now)+cpu, most)
	b.at = now
}

func (b *budget) owed(now time.Time) time.Duration {
	return max(0, b.debt-max(0, now.Sub(b.at))/share)
}

// wait gives how long to wait before the next look, 0 for not at all.
func (b *budget) wait(now time.Time) time.Duration {
	return max(0, b.owed(now)-credit) * share
}
