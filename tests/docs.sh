#!/usr/bin/env bash
# Follows the manual: runs every command that README.md and docs/ show, and checks their links.
#
#   tests/docs.sh [PAGE...]
#
# Needs the built program (cargo build -p pgvpd-cli), PostgreSQL and psql. Pages are followed by root, or with sudo, in a network, with
# processes and an /etc of their own, so that the manual's ports and paths are the real ones and nothing is left behind. For who may not,
# links and messages alone are checked.
set -euo pipefail
cd "$(dirname "$0")"
pages=()
for page in "$@"; do pages+=("$(cd - >/dev/null && realpath "$page")"); done
python=/usr/bin/python3
[ -x "$python" ] || python=python3
# shellcheck source=tests/own_system.sh
. ./own_system.sh
if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2>/dev/null; then
        echo "skipped: the pages' commands, which need root or sudo"
        exec "$python" -m docs --no-pages
    fi
    own_system_as=(sudo -n '--preserve-env=PATH,PGVPD_PG_BINDIR')
fi
own_system "$python" -m docs "${pages[@]}"
