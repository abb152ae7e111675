#!/bin/bash
# Builds the Debian package from the working tree, uncommitted changes included.
#
#   packaging/deb/build.sh [--version VERSION] [ARCH...]
#
# ARCH is amd64 (the default) or arm64. Writes bin/overlayd_VERSION_ARCH.deb and the link bin/overlayd_ARCH.deb to it.
# README.source tells which version that is; --version asks for another one, to try an upgrade.
set -euo pipefail
cd "$(dirname "$0")/../.."

fail() {
	echo "build.sh: cannot build the package: $*" >&2
	exit 1
}

wanted=
if [ "${1:-}" = --version ]; then
	wanted=${2:?"build.sh: --version needs a version"}
	shift 2
fi
[ $# -gt 0 ] || set -- amd64
for arch; do
	case $arch in
	amd64 | arm64) ;;
	*) fail "there is none for \"$arch\"; it is made for amd64 and arm64" ;;
	esac
done
for program in go git dh dpkg-buildpackage; do
	command -v "$program" >/dev/null || fail "there is no $program here; it takes Go, git and debhelper"
done

# The package's date is that of its changelog, whatever the caller's.
unset SOURCE_DATE_EPOCH
export TZ=UTC LC_ALL=C.UTF-8
umask 022

next=$(dpkg-parsechangelog -l packaging/deb/changelog -S Version)
commit=$(git log -1 --format=%ct) || fail "it is built from a git work tree with a commit"
tag=$(git tag --points-at HEAD --list 'v[0-9]*' | tail -n 1)
if [ -n "$wanted" ]; then
	version=$wanted
elif [ -z "$tag" ]; then
	version=$next~git$(date --date="@$commit" +%Y%m%d.%H%M%S).$(git rev-parse --short=7 HEAD)
elif [ "$tag" = "v$next" ]; then
	version=$next
else
	fail "HEAD has the tag $tag, but the top entry of packaging/deb/changelog is $next; write one for ${tag#v}"
fi

# One build at a time.
mkdir -p bin/deb
exec 9>bin/deb/lock
flock 9

for arch; do
	dir=bin/deb/$arch
	tree=$dir/overlayd
	rm -rf "$dir"
	mkdir -p "$tree"
	# What git knows may have been deleted.
	git ls-files -z --cached --others --exclude-standard --deduplicate |
		while IFS= read -r -d '' file; do
			if [ -e "$file" ] || [ -L "$file" ]; then printf '%s\0' "$file"; fi
		done |
		xargs -0 cp --parents --no-dereference --preserve=mode --target-directory="$tree"
	cp -R "$tree/packaging/deb" "$tree/debian"
	chmod -R u=rwX,go=rX "$tree"
	if [ "$version" != "$next" ]; then
		sed -i -e "1s/(.*)/($version)/" -e "0,/^ -- /s/^\( -- .*>  \).*/\1$(date --date="@$commit" -R)/" \
			"$tree/debian/changelog"
	fi
	# Build dependencies are not checked: each package implies a C compiler, and this one has no use for it.
	if ! (cd "$tree" && dpkg-buildpackage --build=binary --no-sign --no-check-builddeps --host-arch "$arch") \
		>"$dir/log" 2>&1 9>&-; then
		cat "$dir/log" >&2
		fail "see above; it has been tried in $tree"
	fi
	deb=overlayd_${version}_$arch.deb
	mv "$dir/$deb" "bin/$deb"
	ln -s "$deb" "$dir/link"
	mv -T "$dir/link" "bin/overlayd_$arch.deb"
	rm -rf "$tree" # else grep and gofumpt find each source file twice
	echo "bin/$deb"
done
