package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/overlayd/overlayd/internal/overlayfs"
	"github.com/overlayd/overlayd/internal/overlayfs/host"
)

// oldestKernel is the oldest one that overlayd supports, that of Debian 11.
var oldestKernel = version{5, 10}

func (r *report) kernel(f Facts) {
	r.release(f.Kernel.Release)
	r.filesystem(f)
	r.defaults(f.Kernel)
	r.options(f)
	r.nativeDiff(f)
}

func (r *report) filesystem(f Facts) {
	switch {
	case f.Kernel.Overlay:
		r.add(AreaKernel, OK, "overlay", "this kernel has the overlay filesystem", "")
	case !f.Privileges.Mounts:
		r.add(AreaKernel, Warning, "overlay", "the overlay filesystem is not loaded, and only root may load it",
			asRoot(f, "run overlayd on the host itself"))
	default:
		r.add(AreaKernel, Error, "overlay", "this kernel has no overlay filesystem",
			"install the module (modprobe overlay says what is missing), or a kernel with CONFIG_OVERLAY_FS")
	}
}

func (r *report) release(text string) {
	const subject = "release"
	v, ok := parseVersion(text)
	switch {
	case !ok:
		r.add(AreaKernel, Warning, subject, fmt.Sprintf("%q tells no version; overlayd needs %s or later", text,
			oldestKernel), "")
	case v.before(oldestKernel):
		r.add(AreaKernel, Error, subject, fmt.Sprintf("%s is older than %s, the oldest that overlayd works with", text,
			oldestKernel), "run a newer kernel")
	default:
		r.add(AreaKernel, OK, subject, text, "")
	}
}

// defaults tells what overlays get that name no options, which those of overlayd never are.
func (r *report) defaults(k Kernel) {
	const subject, dir = "defaults", "/sys/module/overlay/parameters"
	switch {
	case k.DefaultsErr != "":
		r.add(AreaKernel, Warning, subject, k.DefaultsErr,
			"make "+dir+" readable; until then drift may not be seen rightly")
		return
	case !k.DefaultsSeen:
		r.add(AreaKernel, Warning, subject, dir+" is not to be seen; those of a kernel without wishes are assumed",
			"load the module (modprobe overlay); in a container, let /sys/module be seen")
		return
	}
	on := func(v bool) string {
		if v {
			return "on"
		}
		return "off"
	}
	d := k.Defaults
	r.add(AreaKernel, OK, subject, fmt.Sprintf("redirect_dir=%s, index=%s, metacopy=%s, nfs_export=%s, xino=%s; "+
		"the units of overlayd pin the first three, so that hosts do not differ", on(d.RedirectDir), on(d.Index),
		on(d.Metacopy), on(d.NFSExport), map[bool]string{true: "auto", false: "off"}[d.XinoAuto]), "")
}

func (r *report) options(f Facts) {
	const subject = "options"
	if f.Kernel.Options == nil {
		switch {
		case !f.Privileges.Mounts:
			r.add(AreaKernel, Warning, subject, "which ones the kernel takes is not known: to try takes root, who may mount",
				asRoot(f, "run overlayd on the host itself"))
		case !f.Kernel.Overlay:
			r.add(AreaKernel, Warning, subject, "which ones the kernel takes is not known without the filesystem", "")
		default:
			r.add(AreaKernel, Error, subject, f.Kernel.OptionsErr,
				"run overlayd on the host itself, or give the container the right to mount")
		}
		return
	}
	own := []string{host.OptionVolatile, host.OptionLowerPlus, host.OptionDataPlus, host.OptionDataOnly}
	var missing []string
	total := 0
	for _, name := range host.Options() {
		if slices.Contains(own, name) {
			continue
		}
		total++
		if !f.Kernel.Options[name] {
			missing = append(missing, name)
		}
	}
	text := fmt.Sprintf("takes all %d settings that a spec may name", total)
	if len(missing) > 0 {
		text = fmt.Sprintf("takes %d of the %d settings that a spec may name, not %s", total-len(missing), total,
			strings.Join(missing, ", "))
	}
	r.add(AreaKernel, OK, subject, text, "")
}

// unknown lists the options of an overlay that the kernel does not take. It asks for them as a unit writes them.
func unknown(k Kernel, o overlayfs.Options) []string {
	var out []string
	if k.Options == nil {
		return nil
	}
	for name, value := range o {
		option := host.OptionName(name, value)
		if takes, asked := k.Options[option]; asked && !takes {
			out = append(out, option)
		}
	}
	slices.Sort(out)
	return out
}

// nativeDiff tells whether what a client changed can be read from its upperdir alone. Redirects and metadata copies
// refer to the layers below; with an index a file may change by its other names.
func (r *report) nativeDiff(f Facts) {
	text := "possible: with what units pin, an upperdir holds all that its client changed"
	var not []string
	for _, o := range f.Overlays {
		for _, name := range []string{"redirect_dir", "metacopy", "index"} {
			if o.Options[name] == "on" {
				not = append(not, fmt.Sprintf("%s (%s=on)", o.Address, name))
				break
			}
		}
	}
	slices.Sort(not)
	switch not = slices.Compact(not); {
	case len(not) > 0:
		text += ", but for " + list(not)
	case f.Kernel.Defaults.RedirectDir || f.Kernel.Defaults.Metacopy:
		text += "; not of overlays that others mount with this kernel's defaults"
	}
	r.add(AreaKernel, OK, "native diff", text, "")
}

// list joins a few items and counts the rest.
func list(items []string) string {
	const most = 3
	if len(items) <= most {
		return strings.Join(items, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(items[:most], ", "), len(items)-most)
}
