#!/bin/bash
# All that must hold before the version on top of packaging/deb/changelog is
# tagged: nothing uncommitted, changelogs and documents of that version, what is
# generated as its source says, fuzzing, all tests, the demo, both packages.
# Tells everything that is wrong, not just the first.
set -uo pipefail
cd "$(dirname "$0")/.."
export CI=true

wrong=0
check() { # check WHAT COMMAND...
	local what=$1
	shift
	echo "== $what"
	if "$@"; then
		echo "ok: $what"
	else
		echo "NOT READY: $what" >&2
		wrong=$((wrong + 1))
	fi
}

version=$(sed -n '1s/^overlayd (\(.*\)) .*/\1/p' packaging/deb/changelog)

committed() {
	local left
	left=$(git status --porcelain) && [ -z "$left" ] && return
	echo "$left"
	return 1
}
untagged() { ! git rev-parse -q --verify "refs/tags/v$version"; }
debian_changelog() { sed -n 1p packaging/deb/changelog | grep -v UNRELEASED; }
# "## [1.2.3] - 2026-11-23", with something below it, and nothing that waits above it.
changelog() {
	awk -v version="$version" '
		/^## / { section = $2 }
		section == "[Unreleased]" && /^- / { print "still unreleased: " $0; bad = 1 }
		section == "[" version "]" && /^- / { found = 1 }
		END { if (!found) print "CHANGELOG.md has no entries for " version; exit bad || !found }
	' CHANGELOG.md
}
# What is generated and kept is what comes out now.
generated() { "$@" && git diff --stat --exit-code; }

if [ -z "$version" ]; then
	echo "release-check: packaging/deb/changelog begins with no version" >&2
	exit 1
fi
echo "== release $version"
check "nothing is uncommitted" committed
check "v$version is no tag yet" untagged
check "packaging/deb/changelog is for a release" debian_changelog
check "CHANGELOG.md has version $version" changelog
check "tools are there" test/setup.sh
check "golden files are as the program writes them" generated make golden
check "the pictures are as the examples say" generated make picture
check "the modules are what go.sum says" go mod verify
check "fuzzing finds nothing" make fuzz FUZZTIME=20s
check "all tests pass" make test
check "both packages build" make deb
check "the demo plays" make demo
if [ "$wrong" != 0 ]; then
	echo "release-check: $version is not ready: $wrong of the above" >&2
	exit 1
fi
echo "release-check: $version is ready: git tag -s v$version"
