#!/usr/bin/env bash
# Makes the packages for Debian, Red Hat and Alpine (and their kin) of a static binary, and prints their paths.
#
#   deploy/packages.sh BINARY OUTDIR       BINARY is what deploy/static.sh made
#
# What they hold is in docs/deploy/nfpm.yaml; the version is Cargo.toml's. The same commit and binary make the same bytes.
set -euo pipefail
[ $# = 2 ] || { sed -n '2,6s/^# \{0,1\}//p' "$0" >&2; exit 2; }
binary=$(realpath "$1")
mkdir -p "$2"
out=$(cd "$2" && pwd)
cd "$(dirname "$0")/.."
PATH=$(deploy/tools.sh):$PATH
umask 022

STAGE=$(mktemp -d)
trap 'rm -rf "$STAGE"' EXIT
VERSION=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)
case $(LC_ALL=C readelf --file-header "$binary" | sed -n 's/^ *Machine: *//p') in
    *X86-64) ARCH=amd64 ;;
    AArch64) ARCH=arm64 ;;
    *) echo "packages.sh: $binary is for no architecture that packages are made for" >&2; exit 1 ;;
esac
if [ "$("$binary" --version)" != "pgvpd $VERSION" ]; then
    echo "packages.sh: $binary is $("$binary" --version), and Cargo.toml says $VERSION" >&2
    exit 1
fi
# The commit's time, for all files and for what nfpm writes of its own.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export STAGE VERSION ARCH SOURCE_DATE_EPOCH

cp "$binary" "$STAGE/pgvpd"
"$binary" man | gzip -9n >"$STAGE/pgvpd.1.gz"
"$binary" completions bash >"$STAGE/pgvpd.bash"
"$binary" completions fish >"$STAGE/pgvpd.fish"
"$binary" completions zsh >"$STAGE/_pgvpd"
gzip -9n <CHANGELOG.md >"$STAGE/changelog.gz"

# Compression takes the time: side by side. The last line of each names its file.
for format in deb rpm apk; do
    nfpm package --config docs/deploy/nfpm.yaml --packager "$format" --target "$out" >"$STAGE/$format.log" 2>&1 &
done
for format in deb rpm apk; do
    wait -n || failed=yes
done
[ -z "${failed:-}" ] || { cat "$STAGE"/*.log >&2; exit 1; }
sed -n 's/^created package: //p' "$STAGE"/*.log
