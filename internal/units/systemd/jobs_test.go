package systemd_test

import (
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"

	"github.com/overlayd/overlayd/internal/units/systemd"
)

// deafSystemd takes start jobs and never signals their ends, as one that was executed anew. It has each of them when it
// is asked the first time, and none after.
type deafSystemd struct {
	started, listed atomic.Int32
}

func (d *deafSystemd) answer(call *godbus.Message) []any {
	member, _ := call.Headers[godbus.FieldMember].Value().(string)
	switch member {
	case "Hello":
		return []any{":1.7"}
	case "StartUnit":
		d.started.Add(1)
		unit := call.Body[0].(string)
		return []any{godbus.ObjectPath("/org/freedesktop/systemd1/job/" + idOf(unit))}
	case "ListJobs":
		jobs := []dbus.JobStatus{}
		if d.listed.Add(1) == 1 {
			for i := range d.started.Load() {
				unit := jobOf(int(i))
				id, _ := strconv.ParseUint(idOf(unit), 10, 32)
				jobs = append(jobs, dbus.JobStatus{Id: uint32(id), Unit: unit, JobPath: "/", UnitPath: "/"})
			}
		}
		return []any{jobs}
	case "ListUnitsByNames":
		var list []dbus.UnitStatus
		for _, name := range call.Body[0].([]string) {
			list = append(list, dbus.UnitStatus{
				Name: name, LoadState: "loaded", ActiveState: "active", SubState: "mounted", Path: "/", JobPath: "/",
			})
		}
		return []any{list}
	}
	return nil
}

// idOf is the id of the job of a unit that jobOf names.
func idOf(unit string) string {
	return "1" + strings.TrimSuffix(strings.TrimPrefix(unit, "srv-"), ".mount")
}

// TestJobsShareALook starts many units on a systemd that does not say when their jobs end.
func TestJobsShareALook(t *testing.T) {
	bus := newFakeBus(t)
	var deaf deafSystemd
	go func() {
		for conn := range bus.conns {
			go conn.serve(deaf.answer)
		}
	}()
	m, err := systemd.Connect(t.Context())
	must(t, err)
	defer m.Close()
	const many = 100
	errs := make(chan error, many)
	for i := range many {
		go func() { errs <- m.Start(t.Context(), jobOf(i)) }()
	}
	for range many {
		must(t, <-errs)
	}
	// One has each of them, two more have none.
	if n := deaf.listed.Load(); n < 3 || n > many/4 {
		t.Errorf("asked %d times for the jobs of %d units", n, many)
	}
}
