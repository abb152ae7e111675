package overlayfs_test

import (
	"strings"
	"testing"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// TestOwnerOf has lines of mount tables as the engines leave them: Podman's were taken from a host, the others follow
// the layouts that the engines document.
func TestOwnerOf(t *testing.T) {
	const (
		id     = "bbb51853e3686b31d19514121c7ec137e187c0869b8f96ffef27a15773142e3c"
		link   = "MLA7MVRT7E26ZXQ4YVUF6TC2PZ"
		other  = "3RWSFRLO2R6WJXMERC6EYVDISQ"
		docker = "/var/lib/docker/overlay2/"
		podman = "/var/lib/containers/storage/overlay/"
		snaps  = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/"
		k3s    = "/var/lib/rancher/k3s/agent/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots/"
	)
	for _, test := range []struct {
		name, mountpoint, source, super string
		want                            overlayfs.Owner
	}{
		{
			"ours", "/overlaytest/merged/client_1", "overlayd",
			"rw,lowerdir=/overlaytest/lowerdir,upperdir=/overlaytest/client_1/upperdir,workdir=/overlaytest/client_1/workdir",
			overlayfs.OwnerOverlayd,
		},
		{
			"ours on a layer of docker's", "/m/a", "overlayd", "ro,lowerdir=" + docker + id + "/diff:/b",
			overlayfs.OwnerOverlayd,
		},
		{
			"docker", docker + id + "/merged", "overlay",
			"rw,lowerdir=" + docker + "l/" + link + ":" + docker + "l/" + other + ",upperdir=" + docker + id + "/diff,workdir=" +
				docker + id + "/work",
			overlayfs.OwnerDocker,
		},
		{
			"docker, many layers: relative to the store", docker + id + "/merged", "overlay",
			"rw,lowerdir=l/" + link + ":l/" + other + ",upperdir=" + id + "/diff,workdir=" + id + "/work",
			overlayfs.OwnerDocker,
		},
		{
			"docker with a data-root elsewhere", "/srv/engine/overlay2/" + id + "/merged", "overlay",
			"rw,lowerdir=/srv/engine/overlay2/l/" + link + ",upperdir=/srv/engine/overlay2/" + id +
				"/diff,workdir=/srv/engine/overlay2/" + id + "/work",
			overlayfs.OwnerDocker,
		},
		{
			"docker as its container sees it", "/", "overlay",
			"rw,lowerdir=" + docker + "l/" + link + ",upperdir=" + docker + id + "/diff,workdir=" + docker + id + "/work",
			overlayfs.OwnerDocker,
		},
		{
			"docker with the images of containerd", "/var/lib/docker/rootfs/overlayfs/" + id, "overlay",
			"rw,lowerdir=" + snaps + "3/fs:" + snaps + "2/fs,upperdir=" + snaps + "12/fs,workdir=" + snaps + "12/work",
			overlayfs.OwnerDocker,
		},
		{
			"podman", podman + id + "/merged", "overlay",
			"rw,lowerdir=" + podman + "l/" + other + ",upperdir=" + podman + id + "/diff,workdir=" + podman + id +
				"/work,uuid=on",
			overlayfs.OwnerPodman,
		},
		{
			"podman with a graphroot elsewhere", "/run/pm/g/overlay/" + id + "/merged", "overlay",
			"rw,lowerdir=/run/pm/g/overlay/l/" + link + ",upperdir=/run/pm/g/overlay/" + id +
				"/diff,workdir=/run/pm/g/overlay/" + id + "/work,uuid=on",
			overlayfs.OwnerPodman,
		},
		{
			"podman of a user", "/home/ada/.local/share/containers/storage/overlay/" + id + "/merged", "overlay",
			"rw,lowerdir=l/" + link + ",upperdir=/home/ada/.local/share/containers/storage/overlay/" + id + "/diff,workdir=/w," +
				"userxattr",
			overlayfs.OwnerPodman,
		},
		{
			"a volume of podman's with the option O", "/data", "overlay",
			"rw,lowerdir=/srv/data,upperdir=/var/lib/containers/storage/overlay-containers/" + id +
				"/userdata/overlay/1/upper,workdir=/w",
			overlayfs.OwnerPodman,
		},
		{
			"containerd", "/run/containerd/io.containerd.runtime.v2.task/k8s.io/" + id + "/rootfs", "overlay",
			"rw,lowerdir=3/fs:2/fs,upperdir=" + snaps + "12/fs,workdir=" + snaps + "12/work",
			overlayfs.OwnerContainerd,
		},
		{
			"containerd of k3s", "/run/k3s/containerd/io.containerd.runtime.v2.task/k8s.io/" + id + "/rootfs", "overlay",
			"rw,lowerdir=" + k3s + "3/fs,upperdir=" + k3s + "12/fs,workdir=" + k3s + "12/work",
			overlayfs.OwnerContainerd,
		},
		{
			"a view of containerd's, without upperdir", "/var/lib/containerd/tmpmounts/containerd-mount21", "overlay",
			"ro,lowerdir=" + snaps + "3/fs:" + snaps + "2/fs", overlayfs.OwnerContainerd,
		},
		{
			"by hand", "/h/m", "overlay", "rw,lowerdir=/h/l,upperdir=/h/u,workdir=/h/w", overlayfs.OwnerOther,
		},
		{
			"by hand, upon a layer of docker's", "/h/m", "overlay",
			"rw,lowerdir=" + docker + id + "/diff,upperdir=/h/u,workdir=/h/w", overlayfs.OwnerOther,
		},
		{
			"by hand, in directories of such names", "/srv/overlay2/a/merged", "overlay",
			"rw,lowerdir=/srv/l/base,upperdir=/srv/overlay2/a/diff,workdir=/srv/overlay2/a/work", overlayfs.OwnerOther,
		},
		{
			"by hand, with links of such names", "/srv/store/a/merged", "overlay",
			"rw,lowerdir=/srv/store/l/" + link + ",upperdir=/srv/store/a/diff,workdir=/w", overlayfs.OwnerOther,
		},
		{
			"a live system", "/", "overlay", "rw,lowerdir=/run/live/rootfs,upperdir=/run/live/rw,workdir=/run/live/work",
			overlayfs.OwnerOther,
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			line := "30 1 0:40 / " + test.mountpoint + " rw,relatime - overlay " + test.source + " " + test.super + "\n"
			mounts, err := overlayfs.ParseMounts(strings.NewReader(line))
			if err != nil {
				t.Fatal(err)
			}
			if got := overlayfs.OwnerOf(mounts[0]); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
	if got := overlayfs.OwnerOf(overlayfs.Mount{FSType: "tmpfs", Source: "overlayd"}); got != overlayfs.OwnerOther {
		t.Errorf("a tmpfs with our label: got %s", got)
	}
}
