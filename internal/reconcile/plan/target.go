package plan

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// Target selects addresses: overlay.NAME for all instances of a block, overlay.NAME["KEY"] for one, where KEY may be a
// pattern with *, ? and [...].
type Target struct {
	text  string
	block string
	key   string
	keyed bool
}

// unquoteTemplate undoes what HCL adds to a string so that it is no template.
var unquoteTemplate = strings.NewReplacer("$${", "${", "%%{", "%{")

var targetForm = regexp.MustCompile(`^overlay\.([A-Za-z_][A-Za-z0-9_-]*)(?:\[(.*)\])?$`)

// ParseTarget reads a target as given on the command line.
func ParseTarget(text string) (Target, error) {
	m := targetForm.FindStringSubmatch(text)
	if m == nil {
		return Target{}, fmt.Errorf("cannot read target %q: write overlay.NAME, or overlay.NAME[\"KEY\"]", text)
	}
	t := Target{text: text, block: m[1]}
	if strings.HasSuffix(text, "]") {
		key := m[2]
		if unquoted, err := strconv.Unquote(key); err == nil {
			key = unquoted
		}
		if _, err := path.Match(key, ""); err != nil {
			return Target{}, fmt.Errorf("cannot read target %q: %s is not a pattern", text, m[2])
		}
		t.key, t.keyed = key, true
	}
	return t, nil
}

// String gives the target as it was written.
func (t Target) String() string { return t.text }

// Matches tells whether the target selects an address.
func (t Target) Matches(address string) bool {
	rest, ok := strings.CutPrefix(address, "overlay."+t.block)
	switch {
	case !ok || rest != "" && rest[0] != '[':
		return false
	case !t.keyed:
		return true
	}
	quoted := strings.TrimSuffix(strings.TrimPrefix(rest, "["), "]")
	key, err := strconv.Unquote(quoted)
	if err != nil {
		return quoted == t.key
	}
	key = unquoteTemplate.Replace(key)
	hit, err := path.Match(t.key, key)
	return key == t.key || err == nil && hit
}

// Unmatched gives the targets that select none of the addresses.
func Unmatched(targets []Target, addresses []string) []Target {
	return slices.DeleteFunc(slices.Clone(targets), func(t Target) bool {
		return slices.ContainsFunc(addresses, t.Matches)
	})
}

// narrow leaves only what the targets select and what that needs: the overlays it stands on as far as they change,
// those that stand on it as far as it goes down, and those that hold its upperdir or workdir.
func (b *builder) narrow(targets []Target) {
	keep := map[*Change]bool{}
	var add func(c *Change)
	add = func(c *Change) {
		if c == nil || keep[c] {
			return
		}
		keep[c] = true
		if g := b.goals[c.Mountpoint]; g != nil {
			for _, p := range g.parents {
				add(b.family.byMount[p])
			}
		}
		for _, at := range b.o.Resets[c.Mountpoint].Down {
			add(b.family.byMount[at])
		}
		for _, l := range c.Do.Unmount {
			for _, kid := range b.family.children[l.Mountpoint] {
				add(b.family.byMount[kid])
			}
		}
		if c.Do.Mount != nil && c.Do.Mount.Upper != "" {
			for _, dir := range []string{c.Do.Mount.Upper, c.Do.Mount.Work} {
				for _, at := range b.family.holders[dir] {
					add(b.family.byMount[at])
				}
				if info := b.o.path(dir); info.Exists {
					for _, at := range b.family.ids[info.ID] {
						add(b.family.byMount[at])
					}
				}
			}
		}
	}
	for _, c := range b.changes {
		if slices.ContainsFunc(targets, func(t Target) bool { return t.Matches(c.Address) }) {
			add(c)
		}
	}
	b.changes = slices.DeleteFunc(b.changes, func(c *Change) bool { return !keep[c] })
}
