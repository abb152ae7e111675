package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
)

// fakeJournal takes messages as journald does.
type fakeJournal struct {
	t    *testing.T
	path string
	conn *net.UnixConn
}

func newFakeJournal(t *testing.T) *fakeJournal {
	t.Helper()
	dir, err := os.MkdirTemp("", "") //nolint:usetesting // the path of a socket has 108 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	j := &fakeJournal{t: t, path: filepath.Join(dir, "socket")}
	j.open()
	t.Cleanup(j.close)
	return j
}

func (j *fakeJournal) open() {
	j.t.Helper()
	var err error
	if j.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Name: j.path, Net: "unixgram"}); err != nil {
		j.t.Fatal(err)
	}
}

func (j *fakeJournal) close() {
	_ = j.conn.Close()
	_ = os.Remove(j.path)
}

// fields are those of a message, as NAME=value, in order.
type fields []string

func (f fields) of(name string) (values []string) {
	for _, one := range f {
		if value, ok := strings.CutPrefix(one, name+"="); ok {
			values = append(values, value)
		}
	}
	return values
}

// next reads a message, by datagram or as a file.
func (j *fakeJournal) next() fields {
	j.t.Helper()
	packet, oob := make([]byte, 1<<20), make([]byte, 1000)
	err := j.conn.SetReadDeadline(time.Now().Add(time.Minute)) // instead of hanging
	n, oobn, _, _, readErr := j.conn.ReadMsgUnix(packet, oob)
	if err := errors.Join(err, readErr); err != nil {
		j.t.Fatal(err)
	}
	packet = packet[:n]
	if oobn > 0 {
		packet = append(packet, j.file(oob[:oobn])...)
	}
	return parseJournal(j.t, packet)
}

func (j *fakeJournal) file(oob []byte) []byte {
	j.t.Helper()
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		j.t.Fatal(err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		j.t.Fatal(fds, err)
	}
	f := os.NewFile(uintptr(fds[0]), "message")
	defer f.Close()
	// journald takes no file that its sender could still change.
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	const all = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE
	if err != nil || seals&all != all {
		j.t.Errorf("seals %x, %v", seals, err)
	}
	text, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<30))
	if err != nil {
		j.t.Fatal(err)
	}
	return text
}

// parseJournal reads journald's format.
func parseJournal(t *testing.T, text []byte) (out fields) {
	t.Helper()
	for len(text) > 0 {
		line, rest, ended := bytes.Cut(text, []byte("\n"))
		name, value, plain := bytes.Cut(line, []byte("="))
		if !plain {
			if len(rest) < 8 || uint64(len(rest)) < 9+binary.LittleEndian.Uint64(rest) {
				t.Fatalf("too short: %q", text)
			}
			size := binary.LittleEndian.Uint64(rest)
			value, rest = rest[8:8+size], rest[8+size:]
			ended = rest[0] == '\n'
			rest = rest[1:]
		}
		valid := len(name) > 0 && len(name) <= 64 && name[0] >= 'A' && name[0] <= 'Z' &&
			strings.Trim(string(name), "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == ""
		if !ended || !valid {
			t.Fatalf("%q is no field, in %q", name, text)
		}
		out = append(out, string(name)+"="+string(value))
		text = rest
	}
	return out
}

// logTo makes a log that goes to a journal, and otherwise to what it gives.
func logTo(j *fakeJournal) (*logrus.Logger, *bytes.Buffer) {
	var otherwise bytes.Buffer
	log := logrus.New()
	log.SetOutput(&otherwise)
	log.SetLevel(logrus.TraceLevel)
	log.SetFormatter(&logrus.TextFormatter{DisableColors: true, DisableTimestamp: true})
	journalTo(log, &journalConn{path: j.path, wait: 10 * time.Millisecond})
	return log, &otherwise
}

func TestJournalFields(t *testing.T) {
	j := newFakeJournal(t)
	log, otherwise := logTo(j)
	long := strings.Repeat("x", 100)
	for name, k := range map[string]struct {
		log  func()
		want fields
	}{
		"repair": {
			func() {
				log.WithFields(logrus.Fields{
					"address": `overlay.client["a"]`, "change": "repair", "mountpoint": "/srv/a", "unit": "srv-a.mount",
					"reason": "not mounted", "duration": 1500 * time.Microsecond, "result": "done",
				}).Info(`repair overlay.client["a"]: not mounted`)
			},
			fields{
				"PRIORITY=6", "SYSLOG_IDENTIFIER=overlayd", `MESSAGE=repair overlay.client["a"]: not mounted`,
				`OVERLAYD_ADDRESS=overlay.client["a"]`, "OVERLAYD_CHANGE=repair", "OVERLAYD_DURATION_USEC=1500",
				"OVERLAYD_MOUNTPOINT=/srv/a", "OVERLAYD_REASON=not mounted", "OVERLAYD_RESULT=done",
				"OVERLAYD_UNIT=srv-a.mount", "OBJECT_SYSTEMD_UNIT=srv-a.mount",
			},
		},
		"error": {
			func() { log.WithError(errors.New("no such\ndevice")).Error("cannot mount /srv/a") },
			fields{
				"PRIORITY=3", "SYSLOG_IDENTIFIER=overlayd", "MESSAGE=cannot mount /srv/a: no such\ndevice",
				"OVERLAYD_ERROR=no such\ndevice",
			},
		},
		"what cannot be printed": {
			func() { log.WithField("mountpoint", "/\x1b[31m\xff\n").Warn("mounted /\x1b[31m\xff") },
			fields{
				"PRIORITY=4", "SYSLOG_IDENTIFIER=overlayd", "MESSAGE=mounted /\ufffd[31m\ufffd",
				"OVERLAYD_MOUNTPOINT=/\x1b[31m\xff\n",
			},
		},
		"several values": {
			func() { log.WithField("reason", []string{"a", "", "b\nc"}).Warn("pending") },
			fields{
				"PRIORITY=4", "SYSLOG_IDENTIFIER=overlayd", "MESSAGE=pending",
				"OVERLAYD_REASON=a", "OVERLAYD_REASON=", "OVERLAYD_REASON=b\nc",
			},
		},
		"names": {
			func() {
				log.WithFields(logrus.Fields{
					"": 1, "_x": 2, "a=b\n": 3, "é-1": 4, long: 5, "nothing": nil, "unit": 7,
				}).Debug("")
			},
			fields{
				"PRIORITY=7", "SYSLOG_IDENTIFIER=overlayd", "MESSAGE=", "OVERLAYD_=1", "OVERLAYD__X=2", "OVERLAYD_A_B_=3",
				"OVERLAYD_NOTHING=<nil>", "OVERLAYD_UNIT=7", "OVERLAYD_" + strings.ToUpper(long[:55]) + "=5", "OVERLAYD___1=4",
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			k.log()
			if diff := cmp.Diff(k.want, j.next()); diff != "" {
				t.Error(diff)
			}
		})
	}
	if otherwise.Len() > 0 {
		t.Errorf("on stderr, too: %s", otherwise)
	}
}

func TestJournalPriority(t *testing.T) {
	j := newFakeJournal(t)
	log, _ := logTo(j)
	for level, want := range map[logrus.Level]string{
		logrus.PanicLevel: "2", logrus.FatalLevel: "2", logrus.ErrorLevel: "3", logrus.WarnLevel: "4",
		logrus.InfoLevel: "6", logrus.DebugLevel: "7", logrus.TraceLevel: "7",
	} {
		log.Log(level, "x")
		if got := j.next().of("PRIORITY"); !slices.Equal(got, []string{want}) {
			t.Errorf("%s: %q, want %s", level, got, want)
		}
	}
}

// A message longer than a datagram may be arrives, too.
func TestJournalLong(t *testing.T) {
	j := newFakeJournal(t)
	log, otherwise := logTo(j)
	long := strings.Repeat("a line\n", 200_000)
	log.WithField("reason", long).Error("short")
	if got := j.next().of("OVERLAYD_REASON"); len(got) != 1 || got[0] != long {
		t.Errorf("%d values", len(got))
	}
	log.Error("after")
	if got := j.next().of("MESSAGE"); !slices.Equal(got, []string{"after"}) {
		t.Errorf("then %q", got)
	}
	if otherwise.Len() > 0 {
		t.Errorf("on stderr, too: %.200s", otherwise)
	}
}

// What the journal does not take goes to stderr, with its priority; when the journal is there again, it goes there.
func TestJournalGone(t *testing.T) {
	j := newFakeJournal(t)
	log, otherwise := logTo(j)
	log.Info("one")
	j.close()
	log.WithField("unit", "a.mount").Warn("two")
	if got, want := otherwise.String(), "<4>level=warning msg=two unit=a.mount\n"; got != want {
		t.Errorf("on stderr %q, want %q", got, want)
	}
	otherwise.Reset()
	j.open()
	log.Info("three")
	if got := j.next().of("MESSAGE"); !slices.Equal(got, []string{"three"}) || otherwise.Len() > 0 {
		t.Errorf("got %q, on stderr %q", got, otherwise)
	}
}

// A journal that reads nothing does not keep the agent from working.
func TestJournalFull(t *testing.T) {
	j := newFakeJournal(t)
	log, otherwise := logTo(j)
	sent := 0
	for ; otherwise.Len() == 0; sent++ {
		log.Info("again")
	}
	if got, want := otherwise.String(), "<6>level=info msg=again\n"; got != want || sent < 2 {
		t.Errorf("on stderr %q after %d", got, sent)
	}
	for range sent - 1 {
		j.next()
	}
	log.Info("at last")
	if got := j.next().of("MESSAGE"); !slices.Equal(got, []string{"at last"}) {
		t.Errorf("then %q", got)
	}
}

// Whatever is logged, journald gets fields that it takes, and the whole message.
func FuzzJournal(f *testing.F) {
	f.Add("m", "name", "value", "error")
	f.Add("a\nb", "é=\n", "\x00\n\xff", "")
	f.Fuzz(func(t *testing.T, message, name, value, failure string) {
		if name == logrus.ErrorKey {
			return
		}
		e := logrus.NewEntry(logrus.New()).WithField(name, value).WithError(errors.New(failure))
		e.Message = message
		got := parseJournal(t, journalMessage(e))
		if want := plainLines(errors.New(message + ": " + failure)); !slices.Equal(got.of("MESSAGE"), []string{want}) {
			t.Errorf("message %q, want %q", got.of("MESSAGE"), want)
		}
		if !slices.Contains(got.of(journalField(name)), value) || !slices.Contains(got.of("OVERLAYD_ERROR"), failure) {
			t.Errorf("%q is not in %q", value, got)
		}
	})
}
