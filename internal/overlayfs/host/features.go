package host

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/overlayd/overlayd/internal/overlayfs"
)

// The names of what TrialOptions asks for besides the options of a spec.
const (
	OptionVolatile  = "volatile"  // 5.10; no fsync, and no second mount
	OptionLowerPlus = "lowerdir+" // 6.8: layers named one by one, by fsconfig(2) only
	OptionDataPlus  = "datadir+"  // 6.8: likewise, data-only layers
	OptionDataOnly  = "::"        // 6.5: data-only layers at the end of lowerdir=
)

// Options lists what [TrialOptions] asks the kernel about: each filesystem option of a spec with each value, as
// "name=value" or a bare name, and last those with names of their own. Per-mount flags are not among them: mount(2)
// has had them all since long before overlays.
func Options() []string {
	var names []string
	for _, o := range overlayfs.SpecOptions() {
		switch {
		case o.Class != overlayfs.ClassFilesystem:
		case o.Kind == overlayfs.KindFlag:
			names = append(names, o.Name)
		default:
			for _, value := range o.Values {
				names = append(names, OptionName(o.Name, value))
			}
		}
	}
	return append(names, OptionVolatile, OptionLowerPlus, OptionDataPlus, OptionDataOnly)
}

// OptionName is how Options writes one option.
func OptionName(name, value string) string {
	if value == "" {
		return name
	}
	return name + "=" + value
}

// TrialOptions asks the running kernel which of [Options] it takes, by mounting an overlay in memory with each, where
// nobody sees it. There is no other way to know: neither version nor parameters tell what was built in. What the
// kernel refuses it notes in its log, so the answer is better kept than asked for again; it holds until the next boot.
// The error says that no overlay could be mounted at all.
func TrialOptions() (map[string]bool, error) {
	known := map[string]bool{}
	var failed error
	if err := privately(func() { failed = tryOptions(known) }); err != nil {
		failed = err
	}
	if failed != nil {
		return nil, fmt.Errorf("cannot try out the options of overlays: %w", failed)
	}
	return known, nil
}

// tryOptions runs in the private namespace.
func tryOptions(known map[string]bool) error {
	place, err := trialPlace(overlayfs.Config{})
	if err != nil {
		return err
	}
	if err := unix.Mount("overlayd", place, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700"); err != nil {
		return fmt.Errorf("cannot mount a tmpfs: %w", err)
	}
	defer func() { _ = unix.Unmount(place, unix.MNT_DETACH) }()
	if _, err := tryOption(place, 0, ""); err != nil {
		return fmt.Errorf("cannot mount an overlay without any: %w", err)
	}
	for i, name := range Options() {
		if known[name], err = tryOption(place, i+1, name); err != nil {
			return fmt.Errorf("cannot mount an overlay with %s: %w", name, err)
		}
	}
	return nil
}

// tryOption mounts an overlay of fresh directories, since index and volatile leave traces in theirs.
func tryOption(place string, n int, name string) (bool, error) {
	top := filepath.Join(place, strconv.Itoa(n))
	dirs := []string{top, top + "/lower", top + "/data", top + "/upper", top + "/work", top + "/merged"}
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return false, fmt.Errorf("cannot make a directory: %w", err)
		}
	}
	c := overlayfs.Config{
		Lower: []string{top + "/lower"}, Upper: top + "/upper", Work: top + "/work", Options: overlayfs.Options{},
	}
	var err error
	switch name {
	case OptionLowerPlus, OptionDataPlus:
		err = createByLayer(c, top+"/data", name == OptionDataPlus)
	default:
		if name == OptionDataOnly {
			c.Data = []string{top + "/data"}
		}
		c.Options = withCompanions(name)
		target := top + "/merged"
		if err = unix.Mount("overlayd", target, "overlay", 0, c.KernelData()); err == nil {
			err = unix.Unmount(target, 0)
		}
	}
	switch {
	case err == nil:
		return true, nil
	case name == "":
		return false, err
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOSYS):
		return false, nil
	}
	return false, err
}

// withCompanions gives an option together with those that a kernel wants to see with it.
func withCompanions(name string) overlayfs.Options {
	for _, o := range overlayfs.SpecOptions() {
		for _, value := range append([]string{""}, o.Values...) {
			if OptionName(o.Name, value) == name {
				return companions(overlayfs.Options{o.Name: value})
			}
		}
	}
	switch name {
	case "":
		return overlayfs.Options{}
	case OptionDataOnly: // found through redirects of metadata copies
		return companions(overlayfs.Options{"metacopy": "on"})
	}
	return overlayfs.Options{name: ""}
}

// companions spells out what an option implies, and nothing else: a value that the kernel has by default could not be
// refused.
func companions(o overlayfs.Options) overlayfs.Options {
	if v := o["verity"]; v == "on" || v == "require" {
		o["metacopy"] = "on"
	}
	if o["metacopy"] == "on" {
		o["redirect_dir"] = "on"
	}
	if o["nfs_export"] == "on" {
		o["index"] = "on"
	}
	return o
}

// createByLayer makes a super block of an overlay whose layers are named one by one.
func createByLayer(c overlayfs.Config, data string, dataOnly bool) error {
	fs, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return err
	}
	defer unix.Close(fs)
	settings := [][2]string{{"lowerdir+", c.Lower[0]}, {"upperdir", c.Upper}, {"workdir", c.Work}}
	if dataOnly {
		settings = append(settings, [2]string{"redirect_dir", "on"}, [2]string{"metacopy", "on"},
			[2]string{"datadir+", data})
	}
	for _, s := range settings {
		if err := unix.FsconfigSetString(fs, s[0], s[1]); err != nil {
			return err
		}
	}
	return unix.FsconfigCreate(fs)
}
