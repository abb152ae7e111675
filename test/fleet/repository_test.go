//go:build e2e

package fleet

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// repository puts a repository of packages on the host, with overlayd in it and nothing else, and forgets those of
// Debian, which a host without a network cannot ask. It returns what overlayd.sources says of it.
func repository(t *testing.T, h *host) string {
	t.Helper()
	deb, err := os.ReadFile(suite.deb)
	if err != nil {
		t.Fatal(err)
	}
	control, err := exec.Command("dpkg-deb", "--field", suite.deb).Output()
	if err != nil {
		t.Fatalf("dpkg-deb --field %s: %v", suite.deb, err)
	}
	h.sh(t, "rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*; mkdir /srv/apt")
	if err := h.Install(suite.deb, "/srv/apt/overlayd.deb", 0o644); err != nil {
		t.Fatal(err)
	}
	h.put(t, "/srv/apt/Packages", fmt.Sprintf("%sFilename: ./overlayd.deb\nSize: %d\nSHA256: %x\n",
		control, len(deb), sha256.Sum256(deb)))
	return "Types: deb\nURIs: file:/srv/apt\nSuites: ./\nTrusted: yes\n"
}
