package overlayfs

// Pin returns spec with those options filled in whose default varies between kernel builds, so that hosts do not
// differ. What another option implies is spelt out as the kernel would conclude it.
func Pin(spec Options) Options {
	o := spec.Clone()
	pin := func(name, value string) {
		if _, ok := o[name]; !ok {
			o[name] = value
		}
	}
	_, userxattr := o["userxattr"]
	if v := o["verity"]; v == "on" || v == "require" {
		pin("metacopy", "on")
	}
	if o["nfs_export"] == "on" {
		pin("index", "on")
	}
	switch {
	case o["metacopy"] == "on":
		pin("redirect_dir", "on")
	case userxattr:
		pin("redirect_dir", "nofollow")
	}
	pin("redirect_dir", "off")
	pin("index", "off")
	pin("metacopy", "off")
	return o
}

// Conflict is a set of options that do not go together.
type Conflict struct {
	Options []string // names, in the order in which they are written
	Reason  string
}

// Conflicts returns what the kernel would refuse in the options of a spec (those it names, before [Pin]), or would
// drop without a word. readOnly means an overlay without an upperdir.
func Conflicts(o Options, readOnly bool) []Conflict {
	has := func(name string) bool { _, ok := o[name]; return ok }
	verity := o["verity"] == "on" || o["verity"] == "require"
	redirect := o["redirect_dir"]
	var out []Conflict
	refuse := func(bad bool, reason string, options ...string) {
		if bad {
			out = append(out, Conflict{Options: options, Reason: reason})
		}
	}
	refuse(o["metacopy"] == "on" && has("redirect_dir") && redirect != "on",
		"metacopy=on needs redirect_dir=on: a copied-up file finds its data through a redirect",
		"redirect_dir", "metacopy")
	refuse(verity && o["metacopy"] == "off",
		"verity needs metacopy=on: digests are kept with the metadata copy", "metacopy", "verity")
	refuse(verity && has("redirect_dir") && redirect != "on" && !has("metacopy"),
		"verity implies metacopy=on, which needs redirect_dir=on", "redirect_dir", "verity")
	refuse(o["nfs_export"] == "on" && o["index"] == "off",
		"nfs_export=on needs index=on: file handles are found through the index", "index", "nfs_export")
	refuse(o["nfs_export"] == "on" && o["metacopy"] == "on",
		"nfs_export=on and metacopy=on exclude each other", "metacopy", "nfs_export")
	refuse(o["nfs_export"] == "on" && verity,
		"nfs_export=on and verity exclude each other", "nfs_export", "verity")
	refuse(o["nfs_export"] == "on" && readOnly && redirect != "nofollow",
		"without an upperdir nfs_export=on needs redirect_dir=nofollow; the kernel would drop it silently",
		"redirect_dir", "nfs_export")
	refuse(has("userxattr") && has("redirect_dir") && redirect != "nofollow",
		"userxattr allows redirect_dir=nofollow only: anyone may write user.* attributes",
		"redirect_dir", "userxattr")
	refuse(has("userxattr") && o["metacopy"] == "on",
		"userxattr and metacopy=on exclude each other: anyone may write user.* attributes",
		"metacopy", "userxattr")
	refuse(has("userxattr") && verity, "userxattr and verity exclude each other", "verity", "userxattr")
	refuse(has("noatime") && has("strictatime"),
		"noatime and strictatime exclude each other; the kernel would drop noatime silently",
		"noatime", "strictatime")
	return out
}
