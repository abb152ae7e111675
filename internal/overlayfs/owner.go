package overlayfs

import (
	"path"
	"slices"
	"strings"
)

// Owner is whose an overlay is.
type Owner string

// The owners.
const (
	OwnerOverlayd   Owner = "overlayd"
	OwnerDocker     Owner = "docker"
	OwnerPodman     Owner = "podman" // and whoever else uses containers/storage: Buildah, CRI-O
	OwnerContainerd Owner = "containerd"
	OwnerOther      Owner = "other" // anybody else, also what was mounted by hand
)

// OwnerOf tells whose a mounted overlay is, from the source label of ours, and from the paths that container engines
// use. It is a guess for people: a unit of ours is the better evidence, and nothing must be done to an overlay because
// of it.
func OwnerOf(m Mount) Owner {
	if m.Overlay == nil {
		return OwnerOther
	}
	if m.Source == string(OwnerOverlayd) {
		return OwnerOverlayd
	}
	own := []string{m.Mountpoint, m.Overlay.Upper}
	if m.Overlay.Upper == "" {
		// Anybody may take a layer of an engine as a lowerdir, but then writes elsewhere.
		own = append(own, m.Overlay.Lower...)
	}
	for _, recognise := range []struct {
		owner Owner
		by    func(p string) bool
	}{
		{OwnerDocker, isDocker},
		{OwnerPodman, isPodman},
		{OwnerContainerd, isContainerd},
	} { // Docker goes before containerd, where it may keep its layers
		if slices.ContainsFunc(own, recognise.by) {
			return recognise.owner
		}
	}
	// A store may lie anywhere (data-root, graphroot). Then its own layout tells: each layer has a short link in l/, by
	// which the overlay names its lowerdirs, relative to the store where they are many.
	if !slices.ContainsFunc(m.Overlay.Lower, isShortLink) {
		return OwnerOther
	}
	for _, p := range own {
		switch store, ok := storeOf(p); {
		case !ok:
		case path.Base(store) == "overlay2":
			return OwnerDocker
		case path.Base(store) == "overlay":
			return OwnerPodman
		}
	}
	return OwnerOther
}

// isDocker knows the default data-root, and the rootfs that Docker mounts where containerd stores its images.
func isDocker(p string) bool {
	rest, ok := strings.CutPrefix(p, "/var/lib/docker/")
	return ok && (strings.HasPrefix(rest, "overlay2/") || strings.HasPrefix(rest, "rootfs/overlayfs/"))
}

// isPodman knows the storage of root and of users, ~/.local/share/containers/storage. Volumes with the option O are
// below overlay-containers.
func isPodman(p string) bool {
	return strings.Contains(p, "/containers/storage/overlay/") ||
		strings.Contains(p, "/containers/storage/overlay-containers/")
}

// isContainerd knows the snapshots, wherever the root is (k3s has one of its own), and the bundles of running tasks.
func isContainerd(p string) bool {
	return strings.Contains(p, "/io.containerd.snapshotter.v1.overlayfs/snapshots/") ||
		strings.HasPrefix(p, "/run/") && strings.Contains(p, "/io.containerd.runtime.v2.task/")
}

// isShortLink recognises STORE/l/ID, where ID is 26 letters and digits of base32.
func isShortLink(p string) bool {
	id := path.Base(p)
	if path.Base(path.Dir(p)) != "l" || len(id) != 26 {
		return false
	}
	return strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567") == ""
}

// storeOf gives the store of STORE/ID/merged, and of STORE/ID/diff.
func storeOf(p string) (store string, ok bool) {
	if base := path.Base(p); base != "merged" && base != "diff" {
		return "", false
	}
	return path.Dir(path.Dir(p)), true
}
