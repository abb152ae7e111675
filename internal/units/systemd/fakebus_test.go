package systemd_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	godbus "github.com/godbus/dbus/v5"
)

const (
	theBus      = "org.freedesktop.DBus"
	systemdName = "org.freedesktop.systemd1"
	managerName = systemdName + ".Manager"
	systemdID   = ":1.1" // on the fake bus
)

// fakeBus is a system bus with a systemd, as far as one that watches can tell. Each connection goes to the test, which
// decides what happens on it.
type fakeBus struct {
	t      *testing.T
	listen net.Listener
	conns  chan *fakeConn
}

// newFakeBus makes one and lets this process take it for the system bus.
func newFakeBus(t *testing.T) *fakeBus {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus")
	listen, err := net.Listen("unix", path)
	must(t, err)
	t.Cleanup(func() { listen.Close() })
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+path)
	b := &fakeBus{t: t, listen: listen, conns: make(chan *fakeConn)}
	go func() {
		for {
			conn, err := listen.Accept()
			if err != nil {
				return
			}
			c := &fakeConn{t: t, conn: conn, in: bufio.NewReader(conn)}
			select {
			case b.conns <- c:
			case <-t.Context().Done():
				conn.Close()
				return
			}
		}
	}()
	return b
}

// next gives the next connection.
func (b *fakeBus) next() *fakeConn {
	b.t.Helper()
	select {
	case c := <-b.conns:
		return c
	case <-b.t.Context().Done():
		b.t.Fatal("no connection came")
		return nil
	}
}

type fakeConn struct {
	t    *testing.T
	conn net.Conn
	in   *bufio.Reader
}

func (c *fakeConn) drop() { c.conn.Close() }

// welcome lets a connection in and answers what it asks until it has subscribed. It gives the match rules.
func (c *fakeConn) welcome() []string { return c.welcomeBy(true) }

// welcomeEarly does so while systemd is not on the bus, until all that remains is to wait for it.
func (c *fakeConn) welcomeEarly() { c.welcomeBy(false) }

func (c *fakeConn) welcomeBy(systemd bool) []string {
	c.t.Helper()
	c.handshake()
	var rules []string
	for {
		call := c.read()
		member, _ := call.Headers[godbus.FieldMember].Value().(string)
		switch member {
		case "Hello":
			c.reply(call, ":1.7")
		case "GetNameOwner":
			if systemd {
				c.reply(call, systemdID)
			} else {
				c.refuse(call, theBus+".Error.NameHasNoOwner")
			}
		case "AddMatch":
			rules = append(rules, call.Body[0].(string))
			c.reply(call)
			if !systemd && len(rules) == 3 {
				return rules
			}
		case "Subscribe":
			c.reply(call)
			return rules
		default:
			c.t.Fatalf("call of %q", member)
		}
	}
}

// serve answers calls until the other side closes the connection.
func (c *fakeConn) serve(answer func(call *godbus.Message) []any) {
	c.handshake()
	for {
		call, err := godbus.DecodeMessage(c.in)
		if err != nil {
			return
		}
		c.reply(call, answer(call)...)
	}
}

func (c *fakeConn) handshake() {
	c.t.Helper()
	answers := []struct{ begin, answer string }{
		{"\x00AUTH", "REJECTED EXTERNAL"},
		{"AUTH EXTERNAL", "OK 0123456789abcdef0123456789abcdef"},
		{"NEGOTIATE_UNIX_FD", "ERROR"},
		{"BEGIN", ""},
	}
	for _, a := range answers {
		line, err := c.in.ReadString('\n')
		must(c.t, err)
		if !strings.HasPrefix(line, a.begin) {
			c.t.Fatalf("handshake: %q, want %q", line, a.begin)
		}
		if a.answer != "" {
			_, err := io.WriteString(c.conn, a.answer+"\r\n")
			must(c.t, err)
		}
	}
}

func (c *fakeConn) read() *godbus.Message {
	c.t.Helper()
	m, err := godbus.DecodeMessage(c.in)
	must(c.t, err)
	return m
}

func (c *fakeConn) write(m *godbus.Message) {
	c.t.Helper()
	if len(m.Body) > 0 {
		m.Headers[godbus.FieldSignature] = godbus.MakeVariant(godbus.SignatureOf(m.Body...))
	}
	must(c.t, m.EncodeTo(c.conn, binary.LittleEndian))
}

func (c *fakeConn) reply(call *godbus.Message, body ...any) {
	c.t.Helper()
	c.write(&godbus.Message{Type: godbus.TypeMethodReply, Body: body, Headers: map[godbus.HeaderField]godbus.Variant{
		godbus.FieldReplySerial: godbus.MakeVariant(call.Serial()), godbus.FieldSender: godbus.MakeVariant(theBus),
	}})
}

func (c *fakeConn) refuse(call *godbus.Message, name string) {
	c.t.Helper()
	c.write(&godbus.Message{Type: godbus.TypeError, Headers: map[godbus.HeaderField]godbus.Variant{
		godbus.FieldReplySerial: godbus.MakeVariant(call.Serial()), godbus.FieldErrorName: godbus.MakeVariant(name),
		godbus.FieldSender: godbus.MakeVariant(theBus),
	}})
}

func (c *fakeConn) signal(sender, iface, member string, body ...any) {
	c.t.Helper()
	c.write(&godbus.Message{Type: godbus.TypeSignal, Body: body, Headers: map[godbus.HeaderField]godbus.Variant{
		godbus.FieldPath:   godbus.MakeVariant(godbus.ObjectPath("/org/freedesktop/systemd1")),
		godbus.FieldSender: godbus.MakeVariant(sender), godbus.FieldInterface: godbus.MakeVariant(iface),
		godbus.FieldMember: godbus.MakeVariant(member),
	}})
}

func (c *fakeConn) jobRemoved(unit string) {
	c.t.Helper()
	c.signal(systemdID, managerName, "JobRemoved", uint32(7), godbus.ObjectPath("/org/freedesktop/systemd1/job/7"), unit,
		"done")
}

// read up to here: it waits until the other side has taken all that was sent to it.
func (c *fakeConn) sync() {
	c.t.Helper()
	c.write(&godbus.Message{Type: godbus.TypeMethodCall, Headers: map[godbus.HeaderField]godbus.Variant{
		godbus.FieldPath: godbus.MakeVariant(godbus.ObjectPath("/")), godbus.FieldSender: godbus.MakeVariant(theBus),
		godbus.FieldInterface: godbus.MakeVariant(theBus + ".Peer"), godbus.FieldMember: godbus.MakeVariant("Ping"),
	}})
	if m := c.read(); m.Type != godbus.TypeMethodReply {
		c.t.Fatalf("answer to Ping: %v", m)
	}
}

func jobOf(i int) string { return fmt.Sprintf("srv-%d.mount", i) }
