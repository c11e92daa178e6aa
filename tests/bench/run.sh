#!/usr/bin/env bash
# Measures pgvpd beside a direct connection, HAProxy and PgBouncer.
#
#   tests/bench/run.sh                    everything, 5 repetitions, about 25 minutes; writes docs/performance.md
#   tests/bench/run.sh --short            the key figures in about 3 minutes, to the terminal
#   tests/bench/run.sh --only idle,churn  these workloads, to the terminal; --help has their names
#   tests/bench/run.sh --only pool        the pool beside PgBouncer: all workloads whose names begin with pool-
#   tests/bench/run.sh --report FILE ...  writes docs/performance.md again from the results in target/bench; of each workload
#                                         the last file that has it counts, and the page says what was measured apart
#
# --write writes the page in spite of --short or --only. Needs Rust and Linux. On Debian and its kin, what else is missing
# is installed with apt-get. Servers are private, on free ports of the loopback interface, and end with the script.
set -euo pipefail
cd "$(dirname "$0")/../.."

# shellcheck source=tests/install.sh
. tests/install.sh

# The newest directory that has both the server and pgbench.
find_postgres() {
    local directory
    for directory in "${PGVPD_PG_BINDIR:-}" $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -Vr) "$(dirname "$(command -v postgres)")"; do
        if [ -x "$directory/postgres" ] && [ -x "$directory/pgbench" ]; then
            echo "$directory"
            return
        fi
    done
}

# A Python that can draw, if there is to be a page.
find_python() {
    local python modules=sys
    [ -z "$page" ] || modules=matplotlib
    for python in python3 /usr/bin/python3; do
        if have "$python" && "$python" -c "import sys, $modules; assert sys.version_info >= (3, 10)" 2>/dev/null; then
            echo "$python"
            return
        fi
    done
}

page=
case " $* " in
    *' --write '* | *' --report'*) page=yes ;;
    *' --short '* | *' --only'* | *' --help '* | *' -h '*) ;;
    *) page=yes ;;
esac
servers=yes
case " $* " in
    *' --report'* | *' --help '* | *' -h '*) servers= ;;
esac

missing=()
if [ -n "$servers" ]; then
    if ! have cargo; then
        echo "tests/bench/run.sh: cargo is missing: install Rust first (https://rustup.rs)" >&2
        exit 1
    fi
    PATH=$PATH:/usr/sbin
    have cc || missing+=(gcc libc6-dev)
    have make || missing+=(make)
    [ -n "$(find_postgres)" ] || missing+=(postgresql)
    have haproxy || missing+=(haproxy)
    have pgbouncer || missing+=(pgbouncer)
fi
[ -n "$(find_python)" ] || missing+=(python3 ${page:+python3-matplotlib})
[ ${#missing[@]} = 0 ] || install_packages target/bench/apt.log "${missing[@]}"

if [ -n "$servers" ]; then
    echo "building"
    cargo build --release --package pgvpd-cli --quiet
    BENCH_POSTGRES=$(find_postgres)
    BENCH_PGVPD=$(realpath "${CARGO_TARGET_DIR:-target}/release/pgvpd")
    export BENCH_POSTGRES BENCH_PGVPD
fi
export PYTHONPATH=tests PYTHONDONTWRITEBYTECODE=1
exec "$(find_python)" -m bench "$@"
