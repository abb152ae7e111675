package doctor_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/overlayd/overlayd/internal/doctor"
)

func TestParseMountVersion(t *testing.T) {
	for _, c := range []struct {
		output, version string
		utilLinux       bool
	}{
		{"mount from util-linux 2.38.1 (libmount 2.38.1: selinux, smack, btrfs, verity)\n", "2.38.1", true},
		{"mount from util-linux 2.41 (libmount 2.41.0: selinux)\n", "2.41", true},
		{"mount from util-linux 2.40-rc1 (libmount 2.40.0)\nmore\n", "2.40-rc1", true},
		{"mount: unrecognized option '--version'\nBusyBox v1.36.1 () multi-call binary.\n", "", false},
		{"mount from util-linux \n", "", false},
		{"mount from util-linux x.y (z)\n", "", false},
		{"", "", false},
	} {
		m := doctor.ParseMountVersion(c.output)
		if !m.Found || m.Version != c.version || m.UtilLinux != c.utilLinux {
			t.Errorf("%q gives %+v", c.output, m)
		}
	}
}

func TestParseSystemdVersion(t *testing.T) {
	for output, want := range map[string]int{
		"systemd 252 (252.39-1~deb12u1)\n+PAM +AUDIT\n": 252,
		"systemd 257 (257.13-1~deb13u1)\n":              257,
		"systemd 258~rc1 (258~rc1-1)\n":                 258,
		"systemd v257\n":                                0,
		"elogind 252\n":                                 0,
		"systemd":                                       0,
		"":                                              0,
	} {
		if got := doctor.ParseSystemdVersion(output); got != want {
			t.Errorf("%q gives %d, want %d", output, got, want)
		}
	}
}

func TestParseFstab(t *testing.T) {
	const text = `# <file system> <mount point> <type> <options>
UUID=1 / ext4 errors=remount-ro 0 1
overlay /careless overlay lowerdir=/a,upperdir=/b,workdir=/c 0 0
overlay	/with\040blank	overlay	nofail,lowerdir=/a:/b	0 0

#overlay /comment overlay lowerdir=/a 0 0
overlay /later overlay lowerdir=/a:/b,noauto
overlay /short overlay
broken`
	want := []doctor.FstabLine{
		{Line: 3, Mountpoint: "/careless", Careless: true},
		{Line: 4, Mountpoint: `/with\040blank`},
		{Line: 7, Mountpoint: "/later"},
		{Line: 8, Mountpoint: "/short", Careless: true},
	}
	if diff := cmp.Diff(want, doctor.ParseFstab(text)); diff != "" {
		t.Errorf("want -, got +\n%s", diff)
	}
}
