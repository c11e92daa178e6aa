#!/usr/bin/env bash
# How long a proxy takes from start to ready in Python and in Node, beside Rust; no server is started for it.
#
#   tests/bench/start.sh
#
# Builds the packages as they are published and installs them under target/bench-start. Each language starts 25 proxies in a
# row, five times, by turns; the table has the median of each time, in microseconds.
set -euo pipefail
cd "$(dirname "$0")/../.."
# shellcheck source=tests/install.sh
. tests/install.sh

place=$PWD/target/bench-start
rounds=5
mkdir -p "$place"
use_node 20 "$PWD/target/node"
echo "building" >&2
{
    cargo build --release -p pgvpd-core --benches
    tests/packages.sh python
    tests/packages.sh node
    python=/usr/bin/python3
    [ -x "$python" ] || python=python3
    "$python" -m venv --clear "$place/venv"
    "$place/venv/bin/pip" install -q --disable-pip-version-check target/wheels/pgvpd-*.whl
    rm -rf "$place/node"
    npm install --no-package-lock --no-audit --no-fund --prefix "$place/node" target/packages/node/*.tgz
} >"$place/build.log" 2>&1 || { tail -n 20 "$place/build.log" >&2; exit 1; }

one() {
    case $1 in
        rust) cargo bench --quiet -p pgvpd-core --bench start ;;
        python) "$place/venv/bin/python" bindings/python/bench/start.py ;;
        node) PGVPD_BENCH_PACKAGE=$place/node/node_modules/pgvpd node bindings/node/bench/start.mjs ;;
    esac | awk -v name="$1" '$1 == name { print $2 }'
}

declare -A medians
for _ in $(seq $rounds); do
    for language in rust python node; do medians[$language]+=" $(one $language)"; done
done
middle() { tr ' ' '\n' <<<"$1" | grep . | sort -n | sed -n "$(((rounds + 1) / 2))p"; }
base=$(middle "${medians[rust]}")
printf '%-7s %8s %7s   %s\n' '' 'µs' '÷ rust' 'all'
for language in rust python node; do
    median=$(middle "${medians[$language]}")
    printf '%-7s %7s %7s   %s\n' "$language" "$median" "$(awk "BEGIN { printf \"%.2f\", $median / $base }")" "${medians[$language]# }"
done
