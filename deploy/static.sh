#!/usr/bin/env bash
# Builds `pgvpd` as a static binary, which runs on any Linux of this architecture, and prints its path.
#
#   deploy/static.sh [--profile NAME] [--target-dir DIR]
#
# Without options: the release profile, into target/static. Needs glibc 2.34 or later and its static libraries (Debian: libc6-dev),
# a C compiler and make.
set -euo pipefail
cd "$(dirname "$0")/.."

profile=release
target=$PWD/target/static
while [ $# -gt 0 ]; do
    case $1 in
        --profile) profile=${2:?"--profile needs a name"} ;;
        --target-dir) mkdir -p "${2:?"--target-dir needs a directory"}" && target=$(cd "$2" && pwd) ;;
        *)
            sed -n '2,7s/^# \{0,1\}//p' "$0" >&2
            exit 2
            ;;
    esac
    shift 2
done

mkdir -p "$target"
names=$target/names.o
"${CC:-cc}" -O2 -fPIC -Wall -Werror -c deploy/static/names.c -o "$names"
# The flags are for the program alone: macros and build scripts are loaded by the compiler, and stay dynamic.
cargo rustc --locked --package pgvpd-cli --bin pgvpd --profile "$profile" --target-dir "$target" -- \
    -C target-feature=+crt-static -C link-arg="$names" -C strip=symbols >&2

# Cargo's directory of the profile dev has another name.
binary=$target/${profile/#dev/debug}/pgvpd
if LC_ALL=C readelf --program-headers --dynamic "$binary" | grep -E 'INTERP|\(NEEDED\)' >&2; then
    echo "static.sh: $binary is not static" >&2
    exit 1
fi
echo "$binary"
