#!/usr/bin/env bash
# Tests the dashboard in headless Chromium: a real PostgreSQL, a proxy, and clients that work.
#
#   tests/dashboard.sh                the tests, in tests/dashboard/*.test.mjs
#   tests/dashboard.sh FILE...        these of them
#   tests/dashboard.sh --screenshots  makes docs/dashboard/*.png again
#
# Installs what is missing: Chromium and PostgreSQL by apt-get, the rest from npm into target/dashboard/. It uses the program that
# tests/run.sh has built, and called alone builds it. The last line is "N passed, M failed", as tests/run.sh reads it.
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/install.sh
. tests/install.sh
modules=$PWD/target/dashboard
mkdir -p "$modules"

missing=()
have chromium || missing+=(chromium)
have npm || missing+=(npm)
compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || [ -n "${PGVPD_PG_BINDIR:-}" ] || have initdb || missing+=(postgresql)
[ "${1:-}" != --screenshots ] || have pngquant || missing+=(pngquant)
[ ${#missing[@]} = 0 ] || install_packages "$modules/apt.log" "${missing[@]}"
use_node 20 "$PWD/target/node"
if ! cmp -s tests/dashboard/package.json "$modules/installed.json"; then
    cp tests/dashboard/package.json "$modules/package.json"
    npm --loglevel=error install --no-package-lock --no-audit --no-fund --ignore-scripts --prefix "$modules"
    cp tests/dashboard/package.json "$modules/installed.json"
fi

if [ -z "${PGVPD_PG_BINDIR:-}" ]; then
    newest=$(compgen -G '/usr/lib/postgresql/*/bin/initdb' | sort -V | tail -n 1 || true)
    PGVPD_PG_BINDIR=$(dirname "${newest:-$(readlink -f "$(command -v initdb)")}")
fi
if [ -z "${PGVPD_PROGRAM:-}" ]; then
    cargo build --quiet -p pgvpd-cli
    PGVPD_PROGRAM=$PWD/target/debug/pgvpd
fi
PGVPD_CHROMIUM=$(command -v chromium)
export PGVPD_PG_BINDIR PGVPD_PROGRAM PGVPD_CHROMIUM PGVPD_DASHBOARD_MODULES=$modules

if [ "${1:-}" = --screenshots ]; then
    rm -rf "$modules/screenshots"
    node tests/dashboard/screenshots.mjs "$modules/screenshots"
    mkdir -p docs/dashboard
    for shot in "$modules"/screenshots/*.png; do
        pngquant --force --speed 1 --strip --output "docs/dashboard/${shot##*/}" 64 "$shot"
    done
    exit 0
fi

files=("$@")
[ ${#files[@]} -gt 0 ] || files=(tests/dashboard/*.test.mjs)
log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
# They wait more than they work.
node --test --test-concurrency=3 --test-reporter=tap "${files[@]}" | tee "$log" || status=$?
count() { sed -n "s/^# $1 \([0-9]*\)$/\1/p" "$log"; }
passed=$(count pass)
failed=$(($(count fail) + $(count cancelled)))
[ "$status" = 0 ] || [ "$failed" -gt 0 ] || failed=1
echo "${passed:-0} passed, $failed failed"
[ "$failed" = 0 ]
