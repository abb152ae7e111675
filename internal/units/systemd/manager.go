package systemd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/coreos/go-systemd/v22/dbus"
	godbus "github.com/godbus/dbus/v5"
)

// maxCalls is how many calls are under way at once. dbus-daemon refuses more than 128 pending replies for a connection.
const maxCalls = 32

// Manager speaks with the systemd of this host. Its methods may be called from several goroutines.
type Manager struct {
	calls chan struct{}
	jobs  jobsAnswer

	mu   sync.Mutex
	conn *dbus.Conn
}

// Running tells whether systemd runs this host, see sd_booted(3).
func Running() bool {
	info, err := os.Lstat("/run/systemd/system")
	return err == nil && info.IsDir()
}

// Connect connects to systemd, by the system bus or, for root, by systemd's own socket where there is no bus. The
// context limits the connecting only. A connection that breaks later (systemctl daemon-reexec, restart of the bus) is
// made anew by the call after.
func Connect(ctx context.Context) (*Manager, error) {
	m := &Manager{calls: make(chan struct{}, maxCalls), jobs: jobsAnswer{turn: make(chan struct{}, 1)}}
	if _, err := m.connection(ctx); err != nil {
		return nil, err
	}
	return m, nil
}

// Close ends the connection.
func (m *Manager) Close() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		m.conn.Close()
		m.conn = nil
	}
}

func (m *Manager) connection(ctx context.Context) (*dbus.Conn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.conn != nil {
		if m.conn.Connected() {
			return m.conn, nil
		}
		m.conn.Close()
		m.conn = nil
	}
	conn, err := dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("cannot connect to systemd: %w", err)
	}
	m.conn = conn
	return conn, nil
}

func dial(ctx context.Context) (*dbus.Conn, error) {
	type result struct {
		conn *dbus.Conn
		err  error
	}
	done := make(chan result, 1)
	// The context given to dbus ends the connection, not the connecting.
	go func() { //nolint:gosec,contextcheck // that is why it is not ours
		conn, err := dbus.NewWithContext(context.Background())
		done <- result{conn, err}
	}()
	select {
	case r := <-done:
		return r.conn, r.err
	case <-ctx.Done():
		go func() {
			if r := <-done; r.err == nil {
				r.conn.Close()
			}
		}()
		return nil, ctx.Err()
	}
}

// call makes D-Bus calls when it is their turn, and once more if systemd or the bus went away under them.
func (m *Manager) call(ctx context.Context, f func(*dbus.Conn) error) error {
	err := m.callOnce(ctx, f)
	if isGone(err) {
		err = m.callOnce(ctx, f)
	}
	return err
}

// callOnce is for calls that do harm when made twice.
func (m *Manager) callOnce(ctx context.Context, f func(*dbus.Conn) error) error {
	select {
	case m.calls <- struct{}{}:
		defer func() { <-m.calls }()
	case <-ctx.Done():
		return ctx.Err()
	}
	conn, err := m.connection(ctx)
	if err != nil {
		return err
	}
	return f(conn)
}

// isGone tells whether an answer did not come because systemd left the bus (daemon-reexec, or the bus lost patience
// with a systemd that was busy for long), or the bus ended, before the call or under it.
func isGone(err error) bool {
	if failed, ok := errors.AsType[godbus.Error](err); ok {
		return failed.Name == "org.freedesktop.DBus.Error.NoReply" ||
			failed.Name == "org.freedesktop.DBus.Error.Disconnected"
	}
	return slices.ContainsFunc(brokenErrors[:], func(broken error) bool { return errors.Is(err, broken) })
}

var brokenErrors = [...]error{
	godbus.ErrClosed, net.ErrClosed, io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE,
}

// each calls f for each of n, as many at once as calls are allowed, and gives the first error.
func each(n int, f func(i int) error) error {
	limit := make(chan struct{}, maxCalls)
	failed := make(chan error, 1)
	var wait sync.WaitGroup
	for i := range n {
		limit <- struct{}{}
		if len(failed) > 0 {
			break
		}
		wait.Go(func() {
			defer func() { <-limit }()
			if err := f(i); err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	wait.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// Reload makes systemd read all unit files again. It comes back when that is done; should the context end before,
// systemd goes on with it.
func (m *Manager) Reload(ctx context.Context) error {
	err := m.call(ctx, func(conn *dbus.Conn) error { return conn.ReloadContext(ctx) })
	if err != nil {
		return fmt.Errorf("cannot make systemd reload its units: %w; try systemctl daemon-reload", err)
	}
	return nil
}

// isNoSuchUnit tells whether systemd does not have the unit loaded, or not at all.
func isNoSuchUnit(err error) bool {
	var failed godbus.Error
	return errors.As(err, &failed) && failed.Name == "org.freedesktop.systemd1.NoSuchUnit"
}
