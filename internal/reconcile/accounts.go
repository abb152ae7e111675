package reconcile

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// accounts looks names up in the passwd and group files below a root. It reads the files itself, because --root asks
// for those of another tree; a host whose accounts come from elsewhere (LDAP) names ids by number.
type accounts struct {
	root   string
	users  map[string]int
	groups map[string]int
}

// resolve gives the ids of owner and group, -1 for one that is not named, and why one is no account here.
func (a *accounts) resolve(owner, group string) (uid, gid int, bad string) {
	uid, gid = -1, -1
	if owner != "" {
		if uid, bad = a.find(owner, "user", "etc/passwd", &a.users); bad != "" {
			return -1, -1, bad
		}
	}
	if group != "" {
		if gid, bad = a.find(group, "group", "etc/group", &a.groups); bad != "" {
			return -1, -1, bad
		}
	}
	return uid, gid, ""
}

func (a *accounts) find(name, what, file string, table *map[string]int) (int, string) {
	if id, err := strconv.ParseUint(name, 10, 32); err == nil && id != 1<<32-1 {
		return int(id), ""
	}
	path := filepath.Join("/", a.root, file)
	if *table == nil {
		ids, err := readIDs(path)
		if err != nil {
			return -1, err.Error()
		}
		*table = ids
	}
	id, ok := (*table)[name]
	if !ok {
		return -1, fmt.Sprintf("%s %q is not in %s", what, name, path)
	}
	return id, ""
}

// readIDs reads name and id of each line of a passwd or group file (passwd(5), group(5)).
func readIDs(path string) (map[string]int, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cannot look up accounts: %w", err)
	}
	defer f.Close()
	out := map[string]int{}
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.SplitN(s.Text(), ":", 4)
		if len(fields) < 4 {
			continue
		}
		if id, err := strconv.ParseUint(fields[2], 10, 32); err == nil {
			if _, dup := out[fields[0]]; !dup {
				out[fields[0]] = int(id)
			}
		}
	}
	return out, nil
}
