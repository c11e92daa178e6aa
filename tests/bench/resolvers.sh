#!/usr/bin/env bash
# What resolvers cost a login.
#
#   PGHOST=... PGPORT=... PGUSER=postgres tests/bench/resolvers.sh
#
# Needs a PostgreSQL whose superuser these name and who may log in without a password, pgbench, psql, and ports 7511 to 7517. Makes a
# database with a table of 100,000 members, gives app_user another password, and starts a proxy before it for each way to resolve: none; one or three
# resolvers of one level, on the session's own connection, as resolver_user, and as resolver_user with results that are used again. Measures by turns,
# five times: logins per second of four clients that log in, ask for 1 and leave, for four seconds. Prints each figure.
set -euo pipefail
cd "$(dirname "$0")/../.."

password=$(openssl rand -hex 16)
host=${PGHOST:-127.0.0.1} port=${PGPORT:-5432}
cargo build --quiet --release -p pgvpd-cli
user=${PGUSER:-postgres}
admin() { PGHOST=$host PGPORT=$port PGUSER=$user PGOPTIONS='-c client_min_messages=error' psql -qAtX -v ON_ERROR_STOP=1 "$@" >/dev/null; }

admin -d postgres -c 'DROP DATABASE IF EXISTS pgvpd_bench_resolvers' -c 'CREATE DATABASE pgvpd_bench_resolvers'
admin -d pgvpd_bench_resolvers -f sql/setup.sql
admin -d pgvpd_bench_resolvers -c "
    CREATE TABLE members (org text, user_id text, role text, PRIMARY KEY (org, user_id));
    INSERT INTO members SELECT 't' || n % 100, n::text, 'editor' FROM generate_series(1, 100000) n;
    ALTER ROLE app_user PASSWORD '$password'; DROP ROLE IF EXISTS pgvpd_bench_resolver;
    CREATE ROLE pgvpd_bench_resolver LOGIN PASSWORD '$password'; GRANT SELECT ON members TO app_user, pgvpd_bench_resolver" -c 'VACUUM ANALYZE members'

proxies=()
files=$(mktemp -d)
finish() {
    kill "${proxies[@]}" 2>/dev/null || true
    admin -d postgres -c 'DROP DATABASE IF EXISTS pgvpd_bench_resolvers WITH (FORCE)' -c 'DROP ROLE IF EXISTS pgvpd_bench_resolver'
    rm -r "$files"
}
trap finish EXIT

# resolvers NUMBER TTL FILE
resolvers() {
    for number in $(seq "$1"); do
        printf '[[resolver]]\nname = "r%s"\nquery = "SELECT role FROM members WHERE org = $1 AND user_id = $2"\n' "$number"
        printf 'params = ["app.current_tenant_id", "app.user_id"]\ninject = { "app.role_%s" = "role" }\nrequired = true\ncache_ttl = %s\n' "$number" "$2"
    done >"$3"
}
for number in 1 3; do
    resolvers $number 0 "$files/asked-$number"
    resolvers $number 600 "$files/kept-$number"
done
start() {
    target/release/pgvpd --log-level error --upstream-host "$host" --upstream-port "$port" \
        --context-variables app.current_tenant_id,app.user_id "$@" & proxies+=($!)
}
account=(--resolver-user pgvpd_bench_resolver --resolver-password "$password")
kinds=(none own-1 own-3 user-1 user-3 kept-1 kept-3)
start --port 7511
start --port 7512 --resolvers "$files/asked-1"
start --port 7513 --resolvers "$files/asked-3"
start --port 7514 --resolvers "$files/asked-1" "${account[@]}"
start --port 7515 --resolvers "$files/asked-3" "${account[@]}"
start --port 7516 --resolvers "$files/kept-1" "${account[@]}"
start --port 7517 --resolvers "$files/kept-3" "${account[@]}"

echo 'SELECT 1' >"$files/script"
export PGHOST=127.0.0.1 PGUSER=app_user.t7:7 PGPASSWORD=$password PGDATABASE=pgvpd_bench_resolvers
until PGPORT=7517 psql -qX -c '' 2>/dev/null; do read -rt 0.1 <> <(:) || true; done
for _ in 1 2 3 4 5; do
    for index in "${!kinds[@]}"; do
        rate=$(PGPORT=$((7511 + index)) pgbench -n -C -f "$files/script" -T 4 -c 4 2>/dev/null | sed -n 's/^tps = \([0-9.]*\).*/\1/p')
        echo "${kinds[index]}: $(printf %.0f "$rate") logins/s"
    done
    echo
done
