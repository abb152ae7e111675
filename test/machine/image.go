package machine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
)

// Image is what a machine is made from: a release, more of Debian's packages
// than a bare server has, and local packages, which apt installs.
//
// Each image has a root tree of its own in the cache. Packages are downloaded
// when it is made; Debs are installed into a copy of the tree without them, with
// no network, in a second. So what a deb depends on has to be in Packages, unless
// a bare server has it anyway.
type Image struct {
	Suite    Suite
	Packages []string
	Debs     []string // files on this computer
}

// Prepare makes the tree of an image unless the cache has it. NewFrom does so by
// itself; call Prepare to have the waiting done before the clock of a test starts.
func (s *Store) Prepare(ctx context.Context, image Image) error {
	t, err := s.tree(image)
	if err != nil {
		return err
	}
	return s.withTree(ctx, t, func(string) error { return nil })
}

// tree says how the tree of an image is made.
func (s *Store) tree(image Image) (tree, error) {
	packages := slices.Compact(slices.Sorted(slices.Values(image.Packages)))
	t := image.Suite.tree(packages)
	if len(image.Debs) == 0 {
		return t, nil
	}
	// The new key of a changed deb is to have the old tree pruned: the name is made of file names only.
	var names []string
	recipe := []string{t.key, installScript}
	for _, deb := range image.Debs {
		sum, err := sum(deb)
		if err != nil {
			return tree{}, fmt.Errorf("cannot read a package: %w", err)
		}
		names = append(names, filepath.Base(deb))
		recipe = append(recipe, filepath.Base(deb), sum)
	}
	return newTree(t.name+"+"+short(names), t.what+" with "+strings.Join(names, ", "), recipe,
		func(ctx context.Context, dir string) error {
			if err := s.withTree(ctx, t, func(base string) error { return copyTree(ctx, base, dir) }); err != nil {
				return err
			}
			return install(ctx, dir, image.Debs)
		}), nil
}

// short stands for a list in a file name.
func short(list []string) string {
	digest := sha256.Sum256([]byte(strings.Join(list, "\n")))
	return hex.EncodeToString(digest[:4])
}

func sum(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	digest := sha256.New()
	_, err = io.Copy(digest, f)
	return hex.EncodeToString(digest.Sum(nil)), err
}

// installScript has apt install the packages that lie in a folder of the tree $1. The mount goes with the namespace
// that it is made in. The caches of package lists would cost every copy of the tree a hundred megabytes.
const installScript = `
mount -t proc proc "$1/proc"
exec unshare --net chroot "$1" sh -c 'DEBIAN_FRONTEND=noninteractive exec apt-get install --quiet --yes \
	--no-install-recommends -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache= /var/tmp/debs/*.deb'
`

// install installs local packages into a tree that nothing runs in.
func install(ctx context.Context, dir string, debs []string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	const folder = "var/tmp/debs"
	if err := root.Mkdir(folder, 0o755); err != nil {
		return err
	}
	for i, deb := range debs {
		data, err := os.ReadFile(deb)
		if err != nil {
			return err
		}
		if err := root.WriteFile(fmt.Sprintf("%s/%d.deb", folder, i), data, 0o644); err != nil {
			return err
		}
	}
	if out, err := isolated(ctx, "sh", "-ec", installScript, "sh", dir); err != nil {
		return fmt.Errorf("cannot install %s: %w\n%s", strings.Join(debs, ", "), err, tail(out, 20))
	}
	return root.RemoveAll(folder)
}

// OverlaydDeb is the package of overlayd to test: OVERLAYD_DEB, else what "make deb" has made in this source tree.
func OverlaydDeb() (string, error) {
	deb := os.Getenv("OVERLAYD_DEB")
	if deb == "" {
		out, err := exec.Command("go", "env", "GOMOD").Output()
		if err != nil {
			return "", fmt.Errorf("cannot find the source tree: %w; set OVERLAYD_DEB", err)
		}
		deb = filepath.Join(filepath.Dir(strings.TrimSpace(string(out))), "bin", "overlayd_"+runtime.GOARCH+".deb")
	}
	if _, err := os.Stat(deb); err != nil { //nolint:gosec // whoever sets the variable may name any file
		return "", errors.Join(errors.New("no package of overlayd to install: run make deb, or set OVERLAYD_DEB"), err)
	}
	return deb, nil
}
