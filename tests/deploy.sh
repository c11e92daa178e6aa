#!/usr/bin/env bash
# What is deployed, used as its user would use it: the static binary, the packages, the image's content, the manifests; and lints.
#
#   tests/deploy.sh [PART...]     parts: static packages debian image kubernetes lint; without one, all of them
#
# A Debian is made with debootstrap from the mirror that this machine's apt has, once (/var/cache/pgvpd-tests), and booted
# in a container of systemd-nspawn. For root, on Debian; for others, what needs root is skipped.
set -euo pipefail
cd "$(dirname "$0")/.."
umask 022

parts=("$@")
[ $# -gt 0 ] || parts=(static packages debian image kubernetes lint)
tests=$PWD/tests/deploy
work=$PWD/target/deploy
logs=target/test-logs
mkdir -p "$work" "$logs"
# What the scripts in tests/deploy share.
binary='' admin_url='' passed=0 failed=0 skipped=0
# shellcheck source=tests/install.sh
. tests/install.sh
for file in check postgres base packages "${parts[@]}"; do
    # shellcheck source=/dev/null
    . "$tests/$file.sh"
done
# shellcheck disable=SC2034 # shared as well
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' Cargo.toml)

ensure_tools() {
    local missing=()
    have cc || missing+=(gcc libc6-dev)
    have make || missing+=(make)
    have rpm || missing+=(rpm)
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || [ -n "${PGVPD_PG_BINDIR:-}" ] || have initdb || missing+=(postgresql)
    have psql || missing+=(postgresql-client)
    have curl || missing+=(curl)
    have systemd-analyze || missing+=(systemd)
    [ -e /etc/ssl/certs/ca-certificates.crt ] || missing+=(ca-certificates)
    /usr/bin/python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)
    if [ "$(id -u)" = 0 ]; then
        have debootstrap || missing+=(debootstrap)
        have ip || missing+=(iproute2)
        have systemd-nspawn || missing+=(systemd-container)
    fi
    [ ${#missing[@]} = 0 ] || install_packages "$logs/apt-deploy.log" "${missing[@]}"
}

ensure_tools
PATH=$(deploy/tools.sh):$PATH
# Without optimization: what is tested is how it is linked, and what is around it.
export CARGO_INCREMENTAL=0 CARGO_PROFILE_DEV_DEBUG=0
if [ "$(id -u)" = 0 ] && [ -z "${PGVPD_DEPLOY_ALONE:-}" ]; then
    make_base >"$logs/debootstrap.log" 2>&1 &
    deploy/static.sh --profile dev >/dev/null
    wait $! || { tail -n 5 "$logs/debootstrap.log" >&2; exit 1; }
    # From here on in a network of its own: every port is free, port 53 as well, and nothing else can be reached.
    # shellcheck disable=SC2016 # expanded there
    exec env PGVPD_DEPLOY_ALONE=1 unshare --net bash -c 'ip link set lo up && exec "$@"' alone "$0" "${parts[@]}"
fi
binary=$(deploy/static.sh --profile dev)
# Also where a command that is no check has failed.
finish() {
    end_all
    if [ -n "$part" ]; then
        failed=$((failed + 1))
        echo "FAILED  $part: ended early"
    fi
    [ "$skipped" = 0 ] || echo "$skipped skipped"
    echo "$passed passed, $failed failed"
    [ "$failed" = 0 ] || exit 1
}
rm -rf "$work"
mkdir -p "$work"
part=PostgreSQL
trap finish EXIT
start_postgres
new_database plain
"$binary" init -d "$admin_url/plain" --no-signing --config "$work/plain.conf" >"$work/init.log" 2>&1
"$binary" protect -d "$admin_url/plain" orders >>"$work/init.log" 2>&1
grant_table plain
for part in "${parts[@]}"; do
    "test_$part"
done
part=''
