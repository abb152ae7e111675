package systemd

import (
	"context"
	"errors"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	godbus "github.com/godbus/dbus/v5"

	"github.com/overlayd/overlayd/internal/units"
)

const (
	busName     = "org.freedesktop.DBus"
	systemdName = "org.freedesktop.systemd1"
	managerName = systemdName + ".Manager"

	// directAddress is systemd's own socket, for root. It works without a bus.
	directAddress = "unix:path=/run/systemd/private"

	linkLimit = 30 * time.Second
)

// link is one connection for signals. go-systemd has none for those of the manager.
type link struct {
	conn    *godbus.Conn
	backlog *backlog
	direct  bool          // to systemd itself
	renewed chan struct{} // another systemd has taken the name on the bus

	mu    sync.Mutex
	owner string // the unique name of systemd on the bus, "" before it is known and while there is none
	told  bool   // by a signal, which is newer than an answer
}

// connectLink makes a connection and asks for signals. The context ends it.
func connectLink(ctx context.Context, b *backlog) (*link, error) {
	l := &link{backlog: b, renewed: make(chan struct{}, 1)}
	options := []godbus.ConnOption{godbus.WithContext(ctx), godbus.WithSignalHandler(l)}
	conn, err := godbus.SystemBusPrivate(options...)
	if err != nil && os.Geteuid() == 0 {
		// There is no bus. One that is there but has no systemd yet is worth waiting for.
		l.direct = true
		var directErr error
		if conn, directErr = godbus.Dial(directAddress, options...); directErr == nil {
			err = nil
		} else {
			err = errors.Join(err, directErr)
		}
	}
	if err != nil {
		return nil, err
	}
	l.conn = conn
	// Authentication takes no context, and a bus that is about to start takes connections without an answer.
	limit := time.AfterFunc(linkLimit, func() { conn.Close() })
	defer limit.Stop()
	if err := l.setUp(ctx); err != nil {
		conn.Close()
		return nil, err
	}
	return l, nil
}

func (l *link) setUp(ctx context.Context) error {
	// By number: a name would have to be looked up.
	if err := l.conn.Auth([]godbus.Auth{godbus.AuthExternal(strconv.Itoa(os.Geteuid()))}); err != nil {
		return err
	}
	if l.direct {
		return nil // it sends all signals to everybody
	}
	if err := l.conn.Hello(); err != nil {
		return err
	}
	bus := l.conn.BusObject()
	err := l.conn.AddMatchSignalContext(ctx, godbus.WithMatchSender(busName), godbus.WithMatchInterface(busName),
		godbus.WithMatchMember("NameOwnerChanged"), godbus.WithMatchArg(0, systemdName))
	if err != nil {
		return err
	}
	owner, err := ownerOf(ctx, bus)
	if err != nil {
		return err
	}
	l.mu.Lock()
	if !l.told {
		l.owner = owner
	}
	l.mu.Unlock()
	for _, member := range []string{"Reloading", "JobRemoved"} {
		err := l.conn.AddMatchSignalContext(ctx, godbus.WithMatchSender(systemdName),
			godbus.WithMatchInterface(managerName), godbus.WithMatchMember(member))
		if err != nil {
			return err
		}
	}
	if owner == "" {
		return nil // the next one to have the name is asked then
	}
	return l.subscribe(ctx)
}

// ownerOf asks who is systemd on the bus. While a host boots that may be nobody yet: units start before systemd has
// come to the bus that it has started.
func ownerOf(ctx context.Context, bus godbus.BusObject) (string, error) {
	var owner string
	err := bus.CallWithContext(ctx, busName+".GetNameOwner", 0, systemdName).Store(&owner)
	if failed, ok := errors.AsType[godbus.Error](err); ok && failed.Name == busName+".Error.NameHasNoOwner" {
		return "", nil
	}
	return owner, err
}

// subscribe makes systemd send signals at all. One that is executed anew remembers who subscribed.
func (l *link) subscribe(ctx context.Context) error {
	object := l.conn.Object(systemdName, "/org/freedesktop/systemd1")
	err := object.CallWithContext(ctx, managerName+".Subscribe", 0).Err
	if failed, ok := errors.AsType[godbus.Error](err); ok && failed.Name == systemdName+".AlreadySubscribed" {
		return nil
	}
	return err
}

// serve keeps the subscription alive until the connection breaks or the context ends.
func (l *link) serve(ctx context.Context) {
	defer l.conn.Close()
	for {
		select {
		case <-l.conn.Context().Done():
			return
		case <-l.renewed:
		}
		limited, cancel := context.WithTimeout(ctx, linkLimit)
		err := l.subscribe(limited)
		cancel()
		if err != nil {
			return
		}
		l.backlog.put(Event{Kind: Anything})
	}
}

// DeliverSignal takes signals in the order in which they came. The connection reads nothing while it runs.
func (l *link) DeliverSignal(iface, member string, signal *godbus.Signal) {
	switch {
	case iface == busName && member == "NameOwnerChanged" && !l.direct && signal.Sender == busName:
		var name, before, after string
		if godbus.Store(signal.Body, &name, &before, &after) != nil || name != systemdName {
			return
		}
		l.mu.Lock()
		l.owner, l.told = after, true
		l.mu.Unlock()
		if after != "" {
			select {
			case l.renewed <- struct{}{}:
			default:
			}
		}
	case iface == managerName && l.fromSystemd(signal.Sender):
		if e, ok := eventOf(member, signal.Body); ok {
			l.backlog.put(e)
		}
	}
}

// fromSystemd tells whether systemd sent a signal. Anybody on the bus may send any signal to one connection; the
// matches hold back only those that are for all.
func (l *link) fromSystemd(sender string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.direct || sender == l.owner
}

func eventOf(member string, body []any) (Event, bool) {
	switch member {
	case "Reloading":
		var begins bool
		if godbus.Store(body, &begins) == nil && !begins {
			return Event{Kind: Reloaded}, true
		}
	case "JobRemoved":
		var id uint32
		var job godbus.ObjectPath
		var unit, result string
		if godbus.Store(body, &id, &job, &unit, &result) == nil &&
			(strings.HasSuffix(unit, mountSuffix) || unit == units.TargetName) {
			return Event{Kind: JobEnded, Unit: unit}, true
		}
	}
	return Event{}, false
}
