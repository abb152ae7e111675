package overlayfs_test

import (
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// debian are the defaults of the kernels of Debian.
var debian = overlayfs.Defaults{RedirectAlwaysFollow: true}

func TestCompare(t *testing.T) {
	const (
		base   = "lowerdir=/l,upperdir=/u,workdir=/w"
		pinned = base + ",redirect_dir=off,index=off,metacopy=off"
		noUp   = "lowerdir=/a:/b"
	)
	links := func(a, b string) bool { return a == "/link" && b == "/l" || a == "/l" && b == "/link" }
	for _, test := range []struct {
		name     string
		want     string // as MountOptions
		flags    string // field 6
		super    string
		defaults *overlayfs.Defaults
		sameFS   bool
		same     func(a, b string) bool
		reasons  string // joined by "; ", empty: no difference
		part     string // layers, options, flags
	}{
		{name: "equal", want: pinned + ",nofail", flags: "rw,relatime", super: "rw," + base},
		{name: "uuid is the kernel's", want: pinned, flags: "rw,relatime", super: "rw," + base + ",uuid=on"},
		{
			name: "the same text, differently clean", want: pinned, flags: "rw",
			super: "rw,lowerdir=//l/.,upperdir=/u/,workdir=/x/../w",
		},
		{
			name: "a symlink to the layer", want: pinned, flags: "rw",
			super: "rw,lowerdir=/link,upperdir=/u,workdir=/w", same: links,
		},
		{
			name: "a relative path is nobody's", want: pinned, flags: "rw", super: "rw,lowerdir=l,upperdir=/u,workdir=/w",
			same: func(_, _ string) bool { return true }, reasons: "lowerdirs changed: + /l, - l", part: "layers",
		},
		{
			name: "layer added", want: "lowerdir=/srv/tools:/l,upperdir=/u,workdir=/w", flags: "rw", super: "rw," + base,
			reasons: "lowerdirs changed: + /srv/tools", part: "layers",
		},
		{
			name: "layer changed", want: pinned, flags: "rw", super: "rw,lowerdir=/old,upperdir=/u,workdir=/w",
			reasons: "lowerdirs changed: + /l, - /old", part: "layers",
		},
		{
			name: "order", want: "lowerdir=/a:/b", flags: "ro", super: "ro,lowerdir=/b:/a,redirect_dir=on",
			reasons: "lowerdirs changed: their order is /b:/a, not /a:/b; mounted read-only", part: "layers flags",
		},
		{
			name: "data-only layers", want: "lowerdir=/a:/b", flags: "rw", super: "ro,lowerdir=/a:/b::/d,redirect_dir=on",
			reasons: "data-only lowerdirs changed: - /d", part: "layers",
		},
		{
			name: "upper and work", want: "lowerdir=/l,upperdir=/b,workdir=/bw", flags: "rw", super: "rw," + base,
			reasons: "upperdir is /u, not /b; workdir is /w, not /bw", part: "layers",
		},
		{
			name: "upper lost", want: base, flags: "rw", super: "ro,lowerdir=/l,redirect_dir=on",
			reasons: "upperdir is missing, /u is wanted; workdir is missing, /w is wanted; redirect_dir is on, not follow",
			part:    "layers options",
		},
		{
			name: "upper not wanted", want: "lowerdir=/l", flags: "rw", super: "rw," + base + ",redirect_dir=on",
			reasons: "upperdir is /u, none is wanted; workdir is /w, none is wanted", part: "layers",
		},
		{
			name: "workdir without upper", want: noUp, flags: "rw",
			super: "ro,lowerdir=/a:/b,workdir=/w,redirect_dir=on",
		},

		{
			name: "redirect_dir=follow shown by 5.10", want: pinned, flags: "rw",
			super: "rw," + base + ",redirect_dir=follow",
		},
		{
			name: "redirect_dir=follow wanted, not shown", want: base + ",redirect_dir=follow", flags: "rw",
			super: "rw," + base,
		},
		{
			name: "follow without redirect_always_follow", want: base + ",redirect_dir=follow",
			flags: "rw", super: "rw," + base,
			defaults: &overlayfs.Defaults{}, reasons: "redirect_dir is nofollow, not follow", part: "options",
		},
		{
			name: "off without redirect_always_follow", want: pinned, flags: "rw",
			super: "rw," + base, defaults: &overlayfs.Defaults{},
		},
		{
			name: "redirect_dir on", want: pinned, flags: "rw", super: "rw," + base + ",redirect_dir=on",
			reasons: "redirect_dir is on, not follow", part: "options",
		},
		{
			name: "kernel default on, not shown", want: pinned, flags: "rw", super: "rw," + base,
			defaults: &overlayfs.Defaults{RedirectDir: true, RedirectAlwaysFollow: true},
			reasons:  "redirect_dir is on, not follow", part: "options",
		},
		{
			name: "kernel default on, pinned off", want: pinned, flags: "rw",
			super:    "rw," + base + ",redirect_dir=off,index=off,metacopy=off",
			defaults: &overlayfs.Defaults{RedirectDir: true, Index: true, Metacopy: true, RedirectAlwaysFollow: true},
		},
		{
			name: "no upper shows redirect_dir=on", want: noUp + ",redirect_dir=off,index=off,metacopy=off", flags: "rw",
			super: "ro," + noUp + ",redirect_dir=on",
		},
		{
			name: "no upper on 5.10", want: noUp + ",redirect_dir=off,index=off,metacopy=off", flags: "rw",
			super: "ro," + noUp,
		},
		{
			name: "no upper drops index and volatile", want: noUp + ",index=on,volatile", flags: "rw",
			super: "ro," + noUp + ",redirect_dir=on",
		},
		{
			name: "no upper drops nfs_export", want: noUp + ",nfs_export=on", flags: "rw",
			super: "ro," + noUp + ",redirect_dir=on",
		},
		{
			name: "no upper keeps nfs_export with nofollow", want: noUp + ",nfs_export=on,redirect_dir=nofollow",
			flags: "rw", super: "ro," + noUp + ",redirect_dir=nofollow", reasons: "nfs_export is off, not on", part: "options",
		},

		{
			name: "metacopy on 6.12", want: base + ",redirect_dir=on,metacopy=on", flags: "rw",
			super: "rw," + base + ",redirect_dir=on,metacopy=on",
		},
		{name: "metacopy on 5.10", want: base + ",metacopy=on", flags: "rw", super: "rw," + base + ",metacopy=on"},
		{
			name: "metacopy off", want: base + ",metacopy=on", flags: "rw", super: "rw," + base,
			reasons: "redirect_dir is follow, not on; metacopy is off, not on", part: "options",
		},
		{
			name: "userxattr implies nofollow", want: base + ",userxattr", flags: "rw",
			super: "rw," + base + ",redirect_dir=nofollow,userxattr",
		},
		{
			name: "userxattr set", want: pinned, flags: "rw", super: "rw," + base + ",redirect_dir=nofollow,userxattr",
			reasons: "redirect_dir is nofollow, not follow; userxattr is set", part: "options",
		},
		{
			name: "default_permissions missing", want: pinned + ",default_permissions", flags: "rw", super: "rw," + base,
			reasons: "default_permissions is missing", part: "options",
		},
		{
			name: "nfs_export implies index", want: base + ",nfs_export=on", flags: "rw",
			super: "rw," + base + ",index=on,nfs_export=on",
		},
		{
			name: "index on", want: pinned, flags: "rw", super: "rw," + base + ",index=on",
			reasons: "index is on, not off", part: "options",
		},
		{
			name: "verity with metacopy, 6.12", want: base + ",verity=on", flags: "rw",
			super: "rw," + base + ",redirect_dir=on,metacopy=on,verity=on",
		},
		{name: "verity alone, 6.18", want: base + ",verity=on", flags: "rw", super: "rw," + base + ",verity=on"},
		{
			name: "volatile", want: pinned, flags: "rw", super: "rw," + base + ",volatile",
			reasons: "fsync is volatile, not auto", part: "options",
		},
		{
			name: "volatile under its new name", want: base + ",volatile", flags: "rw",
			super: "rw," + base + ",fsync=volatile",
		},
		{name: "xino on one filesystem", want: base + ",xino=on", flags: "rw", super: "rw," + base, sameFS: true},
		{
			name: "xino on several", want: base + ",xino=on", flags: "rw", super: "rw," + base,
			reasons: "xino is off, not on", part: "options",
		},
		{name: "xino auto turned off", want: base + ",xino=auto", flags: "rw", super: "rw," + base},
		{
			name: "xino by default", want: base + ",xino=off", flags: "rw", super: "rw," + base,
			defaults: &overlayfs.Defaults{XinoAuto: true}, reasons: "xino is auto, not off", part: "options",
		},
		{name: "uuid on, 6.1 shows nothing", want: base + ",uuid=on", flags: "rw", super: "rw," + base},
		{name: "uuid auto", want: base + ",uuid=auto", flags: "rw", super: "rw," + base + ",uuid=null"},
		{
			name: "uuid off", want: base + ",uuid=off", flags: "rw", super: "rw," + base,
			reasons: "uuid=off is missing", part: "options",
		},
		{
			name: "uuid other", want: base + ",uuid=on", flags: "rw", super: "rw," + base + ",uuid=null",
			reasons: "uuid is null, not on", part: "options",
		},
		{
			name: "a foreign option that is shown", want: base + ",context=x", flags: "rw",
			super: "rw," + base + ",context=x",
		},
		{
			name: "a foreign option that is not", want: base + ",context=x", flags: "rw", super: "rw," + base,
			reasons: "context is missing", part: "options",
		},
		{name: "override_creds is never shown", want: base + ",override_creds", flags: "rw", super: "rw," + base},
		{name: "what the kernel adds", want: base, flags: "rw", super: "rw," + base + ",seclabel"},

		{
			name: "flags", want: pinned + ",nosuid,nodev,noexec", flags: "rw,nodev,relatime", super: "rw," + base,
			reasons: "nosuid is missing; noexec is missing", part: "flags",
		},
		{name: "more flags than wanted", want: pinned, flags: "rw,nosuid,noatime", super: "rw," + base},
		{name: "strictatime shows as nothing", want: pinned + ",strictatime", flags: "rw", super: "rw," + base},
		{
			name: "strictatime missing", want: pinned + ",strictatime", flags: "rw,relatime", super: "rw," + base,
			reasons: "strictatime is missing", part: "flags",
		},
		{
			name: "relatime", want: pinned + ",relatime", flags: "rw,noatime", super: "rw," + base,
			reasons: "noatime is set, not relatime", part: "flags",
		},
		{name: "ro as wanted", want: pinned + ",ro", flags: "ro,relatime", super: "ro," + base},
		{
			name: "ro by remount,bind", want: pinned, flags: "ro,relatime",
			super: "rw," + base, reasons: "mounted read-only", part: "flags",
		},
		{
			name: "ro by remount", want: pinned, flags: "ro,relatime",
			super: "ro," + base, reasons: "mounted read-only", part: "flags",
		},
		{
			name: "rw against the spec", want: pinned + ",ro", flags: "rw", super: "rw," + base,
			reasons: "mounted read-write, not read-only", part: "flags",
		},
		{
			name: "fell back to read-only", want: pinned, flags: "rw,relatime", super: "ro," + base,
			reasons: "the kernel fell back to read-only: it could not clean the workdir when it mounted", part: "options",
		},
		{name: "no upper is read-only by nature", want: noUp, flags: "rw", super: "ro," + noUp + ",redirect_dir=on"},
	} {
		t.Run(test.name, func(t *testing.T) {
			want, err := overlayfs.ParseMountOptions(test.want)
			if err != nil {
				t.Fatal(err)
			}
			flags := test.flags
			if flags == "rw" && !strings.Contains(test.want, "strictatime") {
				flags = "rw,relatime"
			}
			live := parse(t, "2 1 0:2 / /m "+flags+" - overlay overlayd "+test.super).All()[0]
			defaults := debian
			if test.defaults != nil {
				defaults = *test.defaults
			}
			got := overlayfs.Compare(want, live, defaults, test.sameFS, test.same)
			if s := strings.Join(got.Reasons, "; "); s != test.reasons {
				t.Errorf("reasons %q\nwant    %q", s, test.reasons)
			}
			var parts []string
			for name, set := range map[string]bool{"layers": got.Layers, "options": got.Options, "flags": got.Flags} {
				if set != strings.Contains(test.part, name) {
					t.Errorf("%s = %t, want parts %q", name, set, test.part)
				}
				if set {
					parts = append(parts, name)
				}
			}
			if got.None() != (test.reasons == "") || got.None() != (len(parts) == 0) {
				t.Errorf("None() = %t with %+v", got.None(), got)
			}
			if got.FlagsOnly() != (test.part == "flags") {
				t.Errorf("FlagsOnly() = %t with %+v", got.FlagsOnly(), got)
			}
		})
	}
}

func TestCompareOther(t *testing.T) {
	live := parse(t, line(1, 0, "/m")).All()[0]
	got := overlayfs.Compare(overlayfs.Config{}, live, debian, false, nil)
	if !got.Layers || len(got.Reasons) != 1 || got.Reasons[0] != "tmpfs is mounted, not an overlay" {
		t.Errorf("got %+v", got)
	}
}
