package metrics

import (
	"bufio"
	"cmp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/overlayd/overlayd/internal/usage"
)

// Client is an overlay whose upperdir is to be measured.
type Client struct {
	Address    string
	Mountpoint string
	Upper      string // its upperdir, an absolute path
}

func (c Client) compare(o Client) int {
	return cmp.Or(strings.Compare(c.Address, o.Address), strings.Compare(c.Mountpoint, o.Mountpoint))
}

// client is a client and what is known of it. There may be ten thousand of these: the texts are the caller's own.
type client struct {
	Client
	tried    time.Time // when it was last measured, or could not be; zero for never
	measured bool
	bytes    int64
	inodes   int64
}

// SetClients says which clients there are. Those that are gone vanish from the file, and one with another upperdir than
// before is measured anew. With the same clients as before it costs next to nothing, if they are in order of addresses.
func (m *Metrics) SetClients(clients []Client) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if slices.EqualFunc(m.clients, clients, func(have client, c Client) bool { return have.Client == c }) {
		return
	}
	now := make([]client, len(clients))
	for i, c := range clients {
		now[i].Client = c
	}
	slices.SortFunc(now, func(a, b client) int { return a.compare(b.Client) })
	// The same series twice would make node_exporter refuse the whole file.
	now = slices.CompactFunc(now, func(a, b client) bool { return a.compare(b.Client) == 0 })
	for i := range now {
		if old := m.find(now[i].Client); old != nil {
			now[i] = *old
		}
	}
	m.clients = now
	touch(m.changed)
	touch(m.listed)
}

// find gives what is known of a client, nil if it is not there, or not with this upperdir. The caller holds mu.
func (m *Metrics) find(c Client) *client {
	i, there := slices.BinarySearchFunc(m.clients, c, func(have client, c Client) int { return have.compare(c) })
	if !there || m.clients[i].Upper != c.Upper {
		return nil
	}
	return &m.clients[i]
}

// has tells whether a client is still there.
func (m *Metrics) has(c Client) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.find(c) != nil
}

// measured takes down what a client stores. With an error nothing is known of it: no number is better than one that is
// no longer true.
func (m *Metrics) measured(c Client, u usage.Usage, err error, at time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if known := m.find(c); known != nil {
		*known = client{Client: known.Client, tried: at, measured: err == nil, bytes: u.Bytes, inodes: u.Inodes}
		touch(m.changed)
	}
}

// oldest gives the client whose last measurement is the longest ago, and when that was; one that never was measured
// comes first. There may be none.
func (m *Metrics) oldest() (c Client, tried time.Time, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var first *client
	for i := range m.clients {
		if one := &m.clients[i]; first == nil || one.tried.Before(first.tried) {
			first = one
		}
	}
	if first == nil {
		return c, tried, false
	}
	return first.Client, first.tried, true
}

// families are the metrics that each client has.
var families = []struct {
	name, help string
	value      func(*client) int64
}{
	{
		"overlayd_client_upper_bytes",
		"What the upperdir of a client takes on disk, as du counts: allocated blocks, directories included, hard links once.",
		func(c *client) int64 { return c.bytes },
	},
	{
		"overlayd_client_upper_inodes",
		"Files and directories in the upperdir of a client, hard links once.",
		func(c *client) int64 { return c.inodes },
	},
	{
		"overlayd_client_upper_measured_timestamp_seconds",
		"When the upperdir of a client was measured, since the epoch.",
		func(c *client) int64 { return c.tried.Unix() },
	},
}

// writeClients writes the metrics of all clients that were measured. For ten thousand clients a prometheus.Collector
// and expfmt make 20 MB of garbage in 50 ms; a third of what the agent may take in all is too much for this.
func (m *Metrics) writeClients(w *bufio.Writer) {
	m.mu.Lock()
	all := slices.Clone(m.clients) // so that nobody waits for the disk
	m.mu.Unlock()
	all = slices.DeleteFunc(all, func(c client) bool { return !c.measured })
	if len(all) == 0 {
		return
	}
	var line []byte
	for _, f := range families {
		line = append(line[:0], "# HELP "+f.name+" "+f.help+"\n# TYPE "+f.name+" gauge\n"...)
		for i := range all {
			line = append(append(line, f.name...), `{address="`...)
			line = append(appendLabel(line, all[i].Address), `",mountpoint="`...)
			line = append(appendLabel(line, all[i].Mountpoint), `"} `...)
			line = append(strconv.AppendInt(line, f.value(&all[i]), 10), '\n')
			_, _ = w.Write(line) // a bufio.Writer keeps its error
			line = line[:0]
		}
	}
}

// appendLabel appends the value of a label, with the three characters escaped that the text format asks for.
func appendLabel(line []byte, value string) []byte {
	value = valid(value)
	for i := range len(value) {
		switch c := value[i]; c {
		case '\n':
			line = append(line, `\n`...)
		case '\\', '"':
			line = append(line, '\\', c)
		default:
			line = append(line, c)
		}
	}
	return line
}
