package main

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/journal"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// journalSocket is where journald takes messages in its own format.
const journalSocket = "/run/systemd/journal/socket"

// logToJournal makes the log go to the journal with its fields, if stderr is the journal; otherwise all stays as it is.
// It is for the agent. Other commands say on stderr what their caller is to read, in a service as on a terminal; and
// who asks for --log-format=json reads that.
func (a *app) logToJournal() {
	f, isFile := fileOf(a.err)
	if !isFile || f != os.Stderr || a.logFormat != "text" {
		return
	}
	if ours, err := journal.StderrIsJournalStream(); err == nil && ours {
		journalTo(a.log, &journalConn{path: journalSocket})
	}
}

// journalTo makes a log go to a journal; what that does not take goes where the log went before.
func journalTo(log *logrus.Logger, conn *journalConn) {
	log.AddHook(&journalHook{conn: conn, format: log.Formatter, out: log.Out})
	log.SetOutput(io.Discard)
}

// journalHook sends what is logged to the journal.
type journalHook struct {
	conn   *journalConn
	format logrus.Formatter
	mu     sync.Mutex
	out    io.Writer
}

func (h *journalHook) Levels() []logrus.Level { return logrus.AllLevels }

// Fire logs an entry: to the journal, else to the stream that was there before, where journald reads lines that begin
// with their priority (sd-daemon(3)).
func (h *journalHook) Fire(e *logrus.Entry) error {
	failed := h.conn.send(journalMessage(e))
	if failed == nil {
		return nil
	}
	line, err := h.format.Format(e)
	if err != nil {
		return errors.Join(failed, err)
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	_, err = fmt.Fprintf(h.out, "<%d>%s", priority(e.Level), line)
	return err
}

// priority is a level as syslog has it. Nothing is worth an emergency, which goes to all terminals.
func priority(l logrus.Level) journal.Priority {
	switch l {
	case logrus.PanicLevel, logrus.FatalLevel:
		return journal.PriCrit
	case logrus.ErrorLevel:
		return journal.PriErr
	case logrus.WarnLevel:
		return journal.PriWarning
	case logrus.InfoLevel:
		return journal.PriInfo
	default:
		return journal.PriDebug
	}
}

// journalMessage is an entry in journald's format, https://systemd.io/JOURNAL_NATIVE_PROTOCOL. journalctl shows
// the message alone, and none of it if there is something in it that cannot be printed. Fields are exact.
func journalMessage(e *logrus.Entry) []byte {
	text := e.Message
	if err, ok := e.Data[logrus.ErrorKey].(error); ok {
		text += ": " + err.Error()
	}
	var b bytes.Buffer
	appendField(&b, "PRIORITY", strconv.Itoa(int(priority(e.Level))))
	appendField(&b, "SYSLOG_IDENTIFIER", "overlayd")
	appendField(&b, "MESSAGE", plainLines(errors.New(text)))
	names := make([]string, 0, len(e.Data))
	for name := range e.Data {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		data := e.Data[name]
		if text, ok := data.(string); ok && name == "duration" { // as text in the formats for people, and in JSON
			if d, err := time.ParseDuration(text); err == nil {
				data = d
			}
		}
		switch value := data.(type) {
		case time.Duration:
			appendField(&b, journalField(name+"_usec"), strconv.FormatInt(value.Microseconds(), 10))
		case []string:
			for _, one := range value { // a field may have several values
				appendField(&b, journalField(name), one)
			}
		default:
			appendField(&b, journalField(name), fmt.Sprint(value))
		}
		if unit, ok := e.Data[name].(string); ok && name == "unit" {
			// By this "journalctl -u UNIT" and "systemctl status UNIT" show what root says about a unit.
			appendField(&b, "OBJECT_SYSTEMD_UNIT", unit)
		}
	}
	return b.Bytes()
}

// journalField is the name of a field of ours. journald drops names of more than 64 characters, or of other ones than
// these.
func journalField(name string) string {
	name = strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToUpper(name))
	name = "OVERLAYD_" + name
	return name[:min(len(name), 64)]
}

func appendField(b *bytes.Buffer, name, value string) {
	b.WriteString(name)
	if strings.Contains(value, "\n") {
		b.WriteByte('\n')
		_ = binary.Write(b, binary.LittleEndian, uint64(len(value))) // a bytes.Buffer takes everything
	} else {
		b.WriteByte('=')
	}
	b.WriteString(value)
	b.WriteByte('\n')
}

// journalConn is a connection to journald. go-systemd's journal.Send does the same without connecting its socket, and
// then a journald that is behind costs a whole processor until it is there again: poll(2) says that such a socket can
// be written to, and sendmsg(2) that it cannot.
type journalConn struct {
	path string
	wait time.Duration // for how long to wait for journald; 0 for [journalWait]

	mu   sync.Mutex
	conn *net.UnixConn
}

// journalWait is for how long journald may keep the agent waiting. It seldom does: while it restarts, the kernel keeps
// what is sent to it.
const journalWait = time.Second

// send sends a message. The socket is systemd's and outlives journald; should it be another one than before, a second
// try finds that.
func (c *journalConn) send(message []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var err error
	for range 2 {
		if err = c.try(message); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if c.conn != nil {
			_ = c.conn.Close()
			c.conn = nil
		}
	}
	return err
}

func (c *journalConn) try(message []byte) (err error) {
	if c.conn == nil {
		if c.conn, err = net.DialUnix("unixgram", nil, &net.UnixAddr{Name: c.path, Net: "unixgram"}); err != nil {
			c.conn = nil
			return err
		}
	}
	wait := c.wait
	if wait == 0 {
		wait = journalWait
	}
	if err := c.conn.SetWriteDeadline(time.Now().Add(wait)); err != nil {
		return err
	}
	_, err = c.conn.Write(message)
	if errors.Is(err, unix.EMSGSIZE) || errors.Is(err, unix.ENOBUFS) {
		return c.sendFile(message)
	}
	return err
}

// sendFile sends a message that is too long for a datagram as a file that nobody can change any more.
func (c *journalConn) sendFile(message []byte) error {
	fd, err := unix.MemfdCreate("overlayd-journal", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return os.NewSyscallError("memfd_create", err)
	}
	f := os.NewFile(uintptr(fd), "journal message")
	defer f.Close()
	if _, err := f.Write(message); err != nil {
		return err
	}
	const seals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals); err != nil {
		return os.NewSyscallError("fcntl", err)
	}
	raw, err := c.conn.SyscallConn() // WriteMsgUnix wants no connected socket
	if err != nil {
		return err
	}
	rights := unix.UnixRights(int(f.Fd()))
	var sent error
	err = raw.Write(func(socket uintptr) bool {
		sent = unix.Sendmsg(int(socket), nil, rights, nil, unix.MSG_NOSIGNAL)
		return !errors.Is(sent, unix.EAGAIN)
	})
	return cmp.Or(err, os.NewSyscallError("sendmsg", sent))
}
