// Package fleet runs what examples/ has for Ansible, Puppet and Salt against
// disposable Debians with a real systemd, as an administrator of a few hosts
// would: with Debian's own ansible-core and puppet-agent, and, as Debian has no
// Salt any more, with a stand-in for it.
//
// What belongs here: that a copied example installs the package, lays a spec
// down, reports changed only when something changed, shows a plan beforehand,
// and fails with words one can act on. What overlayd itself does with a spec is
// the business of test/e2e.
//
// Everything here needs the build tag e2e, root, what test/setup.sh installs,
// and the package (make deb):
//
//	go test -tags e2e ./test/fleet
//	go test -tags e2e ./test/fleet -run Ansible -v
//
// OVERLAYD_DEB names another package of overlayd to test.
//
// The tests run one after the other: each has several machines.
package fleet
