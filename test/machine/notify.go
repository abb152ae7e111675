package machine

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// notifySocket hears when the machine is up, by systemd's notification protocol.
type notifySocket struct{ *net.UnixConn }

func listen() (notifySocket, error) {
	// An empty abstract address: the kernel picks one.
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return notifySocket{}, fmt.Errorf("cannot listen for the boot: %w", err)
	}
	file := os.NewFile(uintptr(fd), "notify")
	defer file.Close()
	if err := unix.Bind(fd, &unix.SockaddrUnix{Name: ""}); err != nil {
		return notifySocket{}, fmt.Errorf("cannot listen for the boot: %w", err)
	}
	conn, err := net.FilePacketConn(file)
	if err != nil {
		return notifySocket{}, fmt.Errorf("cannot listen for the boot: %w", err)
	}
	return notifySocket{conn.(*net.UnixConn)}, nil
}

// wait returns when READY=1 comes, the machine exits or ctx ends. The socket is
// read on until it is closed: systemd goes on sending, and complains on the
// console when nobody listens.
func (s notifySocket) wait(ctx context.Context, exited <-chan struct{}) error {
	ready := make(chan struct{})
	go func() {
		told := false
		buf := make([]byte, 4096)
		for {
			n, err := s.Read(buf)
			if err != nil {
				return
			}
			if !told && slices.Contains(strings.Split(string(buf[:n]), "\n"), "READY=1") {
				told = true
				close(ready)
			}
		}
	}()
	select {
	case <-ready:
		return nil
	case <-exited:
		return errors.New("it stopped before it was up")
	case <-ctx.Done():
		return ctx.Err()
	}
}
