package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/overlayd/overlayd/test/bench/probe"
	"github.com/overlayd/overlayd/test/bench/report"
	"github.com/overlayd/overlayd/test/bench/scale"
)

// sideways measures overlayd beside what else there is, with more and more overlays.
func sideways(ctx context.Context, e *env) (tables []report.Table, err error) {
	if err := e.alone(ctx); err != nil {
		return nil, err
	}
	// One round that does not count, so that everybody's programs have been read from the disk.
	const warm = 10
	if _, err := e.sized(ctx, warm, 1, e.ways...); err != nil {
		return nil, fmt.Errorf("cannot warm up: %w", err)
	}
	var trouble error
	for _, n := range e.numbers {
		rows, err := e.sized(ctx, n, e.roundsOf(n), e.ways...)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		trouble = errors.Join(trouble, err)
		if rows == nil {
			return tables, trouble
		}
		t := report.Table{
			System: e.system, Title: report.Number(float64(n)) + " overlays", Baseline: scale.Overlayd, Rows: rows,
		}
		if n == e.numbers[len(e.numbers)-1] {
			t.Note = scale.SideNote
		}
		tables = append(tables, t)
	}
	for i := range tables {
		tables[i].Name = scale.Side
	}
	if grown := scale.Grown(tables); len(grown.Rows) > 0 {
		tables = append(tables, grown)
	}
	return tables, trouble
}

// numerous measures overlayd alone, with very many overlays.
func numerous(ctx context.Context, e *env) (report.Table, error) {
	t := report.Table{
		Title: report.Number(float64(e.many)) + " overlays", Baseline: scale.Overlayd,
		Note: "bare loop: it reads all units and the mount table; its start is not counted.",
	}
	if err := e.alone(ctx); err != nil {
		return t, err
	}
	var err error
	t.Rows, err = e.sized(ctx, e.many, 1, probe.ByOverlayd)
	return t, err
}

// managed measures overlayd beside Ansible.
func managed(ctx context.Context, e *env) (report.Table, error) {
	t := report.Table{
		Title: report.Number(ansibleOverlays) + " overlays, overlayd and Ansible", Baseline: scale.Overlayd,
		Note: "Ansible: one play with one ansible.posix.mount for each overlay, on the machine itself; the directories " +
			"are there before.",
	}
	if err := e.alone(ctx); err != nil {
		return t, err
	}
	if _, err := e.sized(ctx, 1, 1, probe.ByOverlayd, probe.ByAnsible); err != nil {
		return t, fmt.Errorf("cannot warm up: %w", err)
	}
	var err error
	t.Rows, err = e.sized(ctx, ansibleOverlays, e.ansible, probe.ByOverlayd, probe.ByAnsible)
	return t, err
}

const ansibleOverlays = 100

// alone stops the agent, which would take part, and gives what is measured a disk of its own.
func (e *env) alone(ctx context.Context) error {
	if _, err := e.sh(ctx, "systemctl stop overlayd; rm -f /etc/overlayd/*.hcl"); err != nil {
		return err
	}
	_, err := e.sh(ctx, diskScript)
	if err != nil {
		err = fmt.Errorf("cannot make a file system for the overlays and units: %w", err)
	}
	return err
}

// diskScript makes an ext4 with a journal, in a file, for the overlays and the units. On that of the computer the rounds
// would get into each other's way, if it has no journal: such an ext4 gives no inode away again that was freed within
// the last minute, so whoever makes a file then has to search through those that the one before him has freed. What is
// mounted here goes with the machine, and the loop device with the mount.
//
// Go's runtime looks for the control group that limits the processor when a program starts. On a host that is one of the
// first mounts. Where the computer has it in a hierarchy of cgroup v1, which a machine does not, overlayd would be
// charged with reading the whole mount table in vain, 10 ms with 2,000 overlays; so it is mounted before them.
const diskScript = `
hierarchy=$(sed -n 's/^[1-9][0-9]*:\(cpu\(,[a-z]*\)*\):.*/\1/p' /proc/self/cgroup)
if [ -n "$hierarchy" ] && [ ! -d /run/bench-cpu ]; then
	mkdir /run/bench-cpu
	mount -t cgroup -o "$hierarchy" cgroup /run/bench-cpu
fi
image=/var/tmp/bench.img
truncate --size=8G "$image"
mkfs.ext4 -q "$image"
[ -e /dev/loop-control ] || mknod /dev/loop-control c 10 237
tries=10
while :; do # until nobody else takes the one that is free
	loop=$(losetup --find)
	[ -e "$loop" ] || mknod "$loop" b 7 "${loop#/dev/loop}"
	mount -o "loop=$loop" "$image" /srv/bench && break
	tries=$((tries - 1))
	[ "$tries" != 0 ]
done
rm "$image"
mkdir /srv/bench/lower /srv/bench/extra /srv/bench/m /srv/bench/units
touch /srv/bench/lower/in-lower /srv/bench/extra/in-extra
cp --archive /etc/systemd/system/. /srv/bench/units
mount --bind /srv/bench/units /etc/systemd/system
systemctl daemon-reload
`

func (e *env) sized(ctx context.Context, n, rounds int, ways ...string) ([]report.Row, error) {
	s := &sideBySide{env: e, n: n, rounds: rounds, ways: ways}
	return s.run(ctx)
}

// roundsOf is how often everything is measured with so many overlays.
func (e *env) roundsOf(n int) int {
	const large = 2000
	if n > large {
		return max(1, e.turns/2)
	}
	return e.turns
}
