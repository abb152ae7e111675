#!/bin/bash
# Checks the package: builds it again in another folder, with other settings, and compares the bytes; has lintian judge
# it; and looks at what must hold of its contents.
#
#   packaging/deb/check.sh [ARCH...]
#
# ARCH is amd64 (the default) or arm64. The package stays in bin/, as build.sh leaves it.
set -euo pipefail
cd "$(dirname "$0")/../.."
[ $# -gt 0 ] || set -- amd64

fail() {
	echo "check.sh: $*" >&2
	exit 1
}

command -v lintian >/dev/null || fail "cannot check the package: lintian is not installed"
# The agent needs systemd; without it there is "overlayd apply". Only lintian of Debian 12 minds, and that of Debian 13
# minds an override for what it does not know.
no_script=package-supports-alternative-init-but-no-init.d-script
suppress=()
if lintian-explain-tags --list-tags | grep -x "$no_script" >/dev/null; then suppress=(--suppress-tags "$no_script"); fi

scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The working tree as another user would have it, elsewhere.
copy=$scratch/elsewhere/overlayd
git clone --quiet --shared --no-checkout . "$copy"
git ls-files -z --cached --others --exclude-standard --deduplicate >"$scratch/files"
while IFS= read -r -d '' file; do
	if [ -e "$file" ] || [ -L "$file" ]; then printf '%s\0' "$file"; fi
done <"$scratch/files" | (umask 077 && xargs -0 cp --parents --no-dereference --target-directory="$copy")

for arch; do
	packaging/deb/build.sh "$arch"
	deb=bin/overlayd_$arch.deb
	(
		umask 027
		mkdir -p "$scratch/home"
		# A build cache of its own takes minutes, and would show what Go promises: the same package compiles to the same.
		modules=$(go env GOMODCACHE) cache=$(go env GOCACHE)
		export HOME=$scratch/home GOMODCACHE=$modules GOCACHE=$cache
		export TZ=Asia/Kolkata LANG=C.UTF-8 LC_ALL=C SOURCE_DATE_EPOCH=1
		export GOFLAGS=-buildvcs=auto GOAMD64=v2 GOARM64=v8.1
		"$copy/packaging/deb/build.sh" "$arch" >/dev/null
	)
	again=$copy/bin/$(readlink "$deb")
	if ! cmp -- "$deb" "$again"; then
		for each in "$deb" "$again"; do dpkg-deb --fsys-tarfile "$each" | tar -tv --full-time; done >&2
		fail "two builds of the same files differ"
	fi
	echo "two builds are the same: $(sha256sum "$deb")"

	lintian --allow-root --display-info --fail-on error,warning,info "${suppress[@]}" "$deb"
	echo "lintian has nothing to say"

	tree=$scratch/$arch
	dpkg-deb -x "$deb" "$tree"
	dpkg-deb -e "$deb" "$tree.control"
	file=$tree/usr/bin/overlayd
	if grep -qF -e "$PWD" -e "$scratch" "$file"; then fail "$file of $arch has the folder in it where it was built"; fi
	diff - "$tree.control/conffiles" <<-END || fail "these are not the conffiles"
		/etc/default/overlayd
		/etc/overlayd/overlayd.hcl
	END

	if [ "$arch" = "$(dpkg --print-architecture)" ]; then
		version=$(dpkg-deb -f "$deb" Version)
		"$file" version | grep -qF "overlayd $version (" || fail "the program does not say that it is $version"
		# What comes commented out is a spec, and as it comes, an empty one.
		spec=$tree/etc/overlayd/overlayd.hcl
		if grep -vE '^(#|$)' "$spec" >&2; then fail "the spec that comes with the package declares something"; fi
		"$file" validate "$spec"
		sed '/^# [^ ]/d; /^#   /d; /^#$/d; s/^#//' "$spec" >"$scratch/uncommented.hcl"
		"$file" validate "$scratch/uncommented.hcl"
		"$file" plan --json "$scratch/uncommented.hcl" | grep -qF '/srv/clients/client_1' ||
			fail "the example in the spec that comes with the package declares no client"
	fi
done
