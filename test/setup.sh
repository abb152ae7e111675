#!/bin/sh
# Installs, by apt-get, what the tests need and this machine lacks; with the
# argument "demo" what the demo needs, with "deb" what building the package
# needs. Changes nothing else.
set -eu

missing=
need() { # need PACKAGES TEST...
	packages=$1
	shift
	"$@" >/dev/null 2>&1 || missing="$missing $packages"
}
need debhelper command -v dh
if [ "${1:-}" != deb ]; then
	need systemd-container command -v systemd-nspawn
	need mmdebstrap command -v mmdebstrap
	need debian-archive-keyring test -e /usr/share/keyrings/debian-archive-keyring.gpg
fi
if [ -z "${1:-}" ]; then
	# What others say of the same overlays, layers and graphs.
	need podman command -v podman
	need umoci command -v umoci
	need graphviz command -v dot
	need acl command -v setfacl
	need attr command -v setfattr
	# The race detector links with the C library.
	need 'gcc libc6-dev' command -v gcc
	# What reads the package and its pages.
	need lintian command -v lintian
	need 'man-db groff-base' command -v lexgrog
	# Those who drive overlayd on many hosts, and how they reach them.
	need ansible-core command -v ansible-playbook
	need openssh-client command -v ssh
fi

if [ -z "$missing" ]; then
	exit 0
fi
if [ "$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then
	echo "setup: not root on a Debian machine, so these stay missing:$missing" >&2
	echo "setup: the end-to-end tests will be skipped; the demo cannot run, nor a package be built" >&2
	[ "${CI:-}" != true ] || exit 1
	exit 0
fi
echo "setup: installing$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# shellcheck disable=SC2086 # a list of words
apt-get update >"$log" 2>&1 && apt-get install -y --no-install-recommends $missing >>"$log" 2>&1 || {
	cat "$log" >&2
	echo "setup: apt-get failed" >&2
	exit 1
}
