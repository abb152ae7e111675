package host

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// TrialMounts mounts the layers and options of each config where nobody sees it, with an empty upperdir in memory, and
// takes it down again: what the kernel refuses, it refuses here, while the live mount still stands. What hangs on the
// real upperdir or workdir (another filesystem, ESTALE with index) is not found. The errors, in the order of configs,
// are each a *MountError, or say that no trial could be made. All share one copy of the mount table.
func TrialMounts(configs []overlayfs.Config) []error {
	if len(configs) == 0 {
		return nil // a namespace is a copy of the whole mount table
	}
	errs := make([]error, len(configs))
	err := privately(func() {
		for i, c := range configs {
			errs[i] = trial(c)
		}
	})
	for i := range errs {
		if err != nil {
			errs[i] = fmt.Errorf("cannot try out a mount: %w", err)
		}
	}
	return errs
}

// onOwnThread runs f on a thread that ends with it, so that whatever f does to its thread is undone.
func onOwnThread(f func()) {
	done := make(chan struct{})
	go func() {
		runtime.LockOSThread()
		defer close(done)
		if unix.Gettid() != unix.Getpid() {
			f() // never unlocked: the thread ends with this goroutine
			return
		}
		// The main thread never ends, and /proc/self is what it sees. While it is held here, f runs on another one.
		defer runtime.UnlockOSThread()
		onOwnThread(f)
	}()
	<-done
}

// privately runs f in a mount namespace of its own, on a thread of its own. The error says that it could not.
func privately(f func()) (err error) {
	onOwnThread(func() { err = apart(f) })
	return err
}

func apart(f func()) error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("cannot make a private mount namespace: %w", err)
	}
	// The namespace is a copy of all mounts and keeps their super blocks alive; an upperdir unmounted right after
	// the trial would still be in use. When the thread ends, that is too late: let go of them now. Only the root
	// mount, where the thread stands, remains. Should it fail, the end of the thread does it.
	defer func() { _ = unix.Unmount("/", unix.MNT_DETACH) }()
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("cannot make the mount namespace private: %w", err)
	}
	f()
	return nil
}

// trial runs in the private namespace.
func trial(c overlayfs.Config) error {
	place, err := trialPlace(c)
	if err != nil {
		return err
	}
	if err := unix.Mount("overlayd", place, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700"); err != nil {
		return fmt.Errorf("cannot try out a mount: cannot mount a tmpfs: %w", err)
	}
	defer func() { _ = unix.Unmount(place, unix.MNT_DETACH) }()
	target := place + "/merged"
	if err := unix.Mkdir(target, 0o700); err != nil {
		return fmt.Errorf("cannot try out a mount: cannot make a directory: %w", err)
	}
	if c.Upper != "" {
		c.Upper, c.Work = place+"/upper", place+"/work"
		for _, dir := range []string{c.Upper, c.Work} {
			if err := unix.Mkdir(dir, 0o700); err != nil {
				return fmt.Errorf("cannot try out a mount: cannot make a directory: %w", err)
			}
		}
	}
	if err := mountLogged("trial", "overlayd", target, c); err != nil {
		return err
	}
	return unmount("trial", target, 0)
}

// trialPlace is a directory that every host has and that no layer lies in, nor behind it: the tmpfs hides what is
// below it. Descriptors are named through /proc, so that has to stay.
func trialPlace(c overlayfs.Config) (string, error) {
	layers := slices.Concat(c.Lower, c.Data)
	for _, place := range []string{"/sys", "/dev", "/run", "/mnt"} {
		if st, err := os.Lstat(place); err != nil || !st.IsDir() {
			continue
		}
		if !slices.ContainsFunc(layers, func(layer string) bool { return layer == place || within(layer, place) }) {
			return place, nil
		}
	}
	return "", errors.New("cannot try out a mount: no place to put it that is not a layer's own")
}
