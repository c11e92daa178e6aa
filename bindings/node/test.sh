#!/usr/bin/env bash
# Builds the addon and runs every test of the Node.js package; installs first what they need from npm.
#
#   bindings/node/test.sh            all of that
#   bindings/node/test.sh --install  the installing only
#
# The last line is "N passed, M failed", as tests/run.sh reads it.
set -euo pipefail
cd "$(dirname "$0")"
export RUST_BACKTRACE="${RUST_BACKTRACE:-0}"

if ! cmp -s package.json node_modules/.installed.json; then
    npm --loglevel=error install --no-package-lock --no-audit --no-fund --ignore-scripts
    cp package.json node_modules/.installed.json
fi
[ "${1:-}" != --install ] || exit 0
node_modules/.bin/napi build --platform --js binding.cjs --dts binding.d.cts

log=$(mktemp)
trap 'rm -f "$log"' EXIT
status=0
# One file after the other: the cycles measure memory.
node --test --test-concurrency=1 --test-reporter=tap test/*.test.cjs test/*.test.mjs | tee "$log" || status=$?
count() { sed -n "s/^# $1 \([0-9]*\)$/\1/p" "$log"; }
passed=$(count pass)
failed=$(($(count fail) + $(count cancelled)))
[ "$status" = 0 ] || [ "$failed" -gt 0 ] || failed=1
echo "${passed:-0} passed, $failed failed"
[ "$failed" = 0 ]
