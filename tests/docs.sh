#!/usr/bin/env bash
# Follows the manual: runs every command that README.md and docs/ show, and checks their links.
#
#   tests/docs.sh [PAGE...]
#
# Needs the built program (cargo build -p pgvpd-cli), PostgreSQL and psql. As root it has a network, processes and an /etc of its
# own, so that the manual's ports and paths are the real ones and nothing is left behind; otherwise ports 5432, 6432 and 9090 have to be free.
set -euo pipefail
cd "$(dirname "$0")"
pages=()
for page in "$@"; do pages+=("$(cd - >/dev/null && realpath "$page")"); done
python=/usr/bin/python3
[ -x "$python" ] || python=python3
if [ "$(id -u)" != 0 ]; then
    exec "$python" -m docs "${pages[@]}"
fi
# shellcheck disable=SC2016 # expanded by the inner shell
exec unshare --net --pid --mount --fork --kill-child --mount-proc bash -euc '
    ip link set lo up
    own=$(mktemp -d)
    mount -t tmpfs tmpfs "$own"
    cp -a /etc/. "$own"
    mount --bind "$own" /etc
    mkdir -p /etc/pgvpd
    exec "$@"
' - "$python" -m docs "${pages[@]}"
