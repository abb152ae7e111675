package main

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/reconcile"
	"github.com/overlayd/overlayd/internal/usage"
)

func TestViewDu(t *testing.T) {
	overlay := func(address, mountpoint string) usage.Overlay {
		return usage.Overlay{
			Address: address, Mountpoint: mountpoint, Config: overlayfs.Config{Upper: mountpoint + "/upper"},
		}
	}
	whole := usage.Report{
		Clients: []usage.Client{
			{
				Overlay: overlay(`overlay.seat["1"]`, "/srv/1"), Stored: usage.Usage{Bytes: 12 << 20, Inodes: 340},
				FullCopy: 96 << 30,
			},
			{Overlay: overlay(`overlay.seat["2"]`, "/srv/2"), Stored: usage.Usage{Inodes: 1}, FullCopy: 95 << 30},
			{Overlay: overlay("", "/srv/odd\x1b[2J"), Stored: usage.Usage{Bytes: 4096, Inodes: 2}, FullCopy: 4096},
		},
		Bases: []usage.Base{{Path: "/srv/base\n", Stored: usage.Usage{Bytes: 95 << 30, Inodes: 1_234_567}}},
	}
	bad := whole
	bad.Clients = append([]usage.Client{
		{
			Overlay:   overlay(`overlay.seat["0"]`, "/srv/0"),
			StoredErr: errors.New("cannot read /srv/0: permission denied; that takes root"),
			FullErr:   errors.New("cannot read the layers"),
		},
		{
			Overlay: overlay("overlay.x", "/srv/x"), Stored: usage.Usage{Bytes: 1, Inodes: 1},
			FullErr: errors.New("cannot read /srv/gone: no such file or directory"),
		},
	}, whole.Clients[:1]...)
	bad.Bases = append([]usage.Base{
		{Path: "/srv/gone", Err: errors.New("cannot read /srv/gone: no such file or directory")},
	}, whole.Bases...)
	show := func(r usage.Report, paint painter) func(w io.Writer) {
		return func(w io.Writer) { printDu(w, w, paint, paint, r) }
	}
	golden(t, "du", show(whole, false))
	golden(t, "du_terminal", show(bad, true))
	golden(t, "du_none", show(usage.Report{}, false))
	golden(t, "du_json", func(w io.Writer) {
		if err := (&app{streams: streams{out: w}}).writeJSON(newDuJSON(bad)); err != nil {
			t.Fatal(err)
		}
	})
}

func TestDuSummary(t *testing.T) {
	for _, test := range []struct {
		stored, base, full int64
		want               string
	}{
		{1 << 30, 0, 96 << 30, "Stored 1.0 GiB; full copies would take 96 GiB: 95 GiB (99%) saved."},
		{1, 0, 1 << 40, "Stored 1 B; full copies would take 1.0 TiB: 1024 GiB (99%) saved."},
		{4096, 4096, 8192, "Stored 8.0 KiB; full copies would take 8.0 KiB: nothing saved."},
		{4096, 8192, 8192, "Stored 12 KiB; full copies would take 8.0 KiB: nothing saved."},
		{0, 0, 0, "Stored 0 B; full copies would take 0 B: nothing saved."},
	} {
		got := duSummary(usage.Report{
			Clients: []usage.Client{{Stored: usage.Usage{Bytes: test.stored}, FullCopy: test.full}},
			Bases:   []usage.Base{{Stored: usage.Usage{Bytes: test.base}}},
		})
		if got != test.want {
			t.Errorf("%q, want %q", got, test.want)
		}
	}
}

func TestViewPrune(t *testing.T) {
	dir := func(path, address string) reconcile.DataDir {
		return reconcile.DataDir{Path: path, Address: address, Mountpoint: "/srv/x"}
	}
	takes := func(n int64) usage.Tree { return usage.Tree{Stored: usage.Usage{Bytes: n, Inodes: 3}} }
	kept := dir("/var/lib/overlayd/b/upper.reset-20261123T131500Z", "overlay.b")
	kept.Kept, kept.SetAside = true, time.Date(2026, 11, 23, 13, 15, 0, 0, time.Local)
	holds := dir("/var/lib/overlayd/d", "overlay.d")
	holds.Kept = true
	inUse := []reconcile.InUse{
		{DataDir: dir("/var/lib/overlayd/e", "overlay.e"), By: "what is mounted at /mnt in the mount namespace of process 7"},
		{DataDir: dir("/var/lib/overlayd/f", "overlay.f"), By: "what is mounted at /srv/f"},
	}
	leftover := dir("/var/lib/overlayd/.overlayd-prune-2f", "")
	leftover.Leftover = true
	found := func() []*garbage {
		return []*garbage{
			{DataDir: leftover, size: takes(0)},
			{DataDir: dir("/var/lib/overlayd/a", "overlay.a"), size: takes(12 << 20)},
			{DataDir: kept, size: takes(5 << 30), stays: true},
			{DataDir: dir("/var/lib/overlayd/client.%0A", "overlay.client[\"\n\"]"), size: takes(4096)},
		}
	}
	golden(t, "prune", func(w io.Writer) { printGarbage(w, false, found(), inUse) })
	golden(t, "prune_kept", func(w io.Writer) { printGarbage(w, false, found()[2:3], nil) })
	golden(t, "prune_none", func(w io.Writer) { printGarbage(w, true, nil, nil); printPruned(w, w, true, true, nil) })
	golden(t, "prune_in_use", func(w io.Writer) { printGarbage(w, false, nil, inUse[1:]) })
	golden(t, "prune_with_kept", func(w io.Writer) {
		all := append(found(), &garbage{DataDir: holds, size: takes(1 << 20)})
		all[2].stays = false
		printGarbage(w, false, all, nil)
	})
	done := found()
	done[0].deleted, done[1].deleted = true, true
	done[3].err = errors.New("cannot delete /var/lib/overlayd/client.%0A: it is used meanwhile by what is mounted at /mnt")
	golden(t, "prune_done", func(w io.Writer) { printPruned(w, w, false, false, done[:3]) })
	golden(t, "prune_failed", func(w io.Writer) { printPruned(w, w, true, true, done) })
	done[2].SetAside = time.Date(2026, 11, 23, 13, 15, 0, 0, time.UTC)
	golden(t, "prune_json", func(w io.Writer) {
		if err := (&app{streams: streams{out: w}}).writeJSON(newPruneJSON(done, inUse[:1])); err != nil {
			t.Fatal(err)
		}
	})
}
