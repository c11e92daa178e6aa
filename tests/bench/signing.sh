#!/usr/bin/env bash
# What a signed context costs a statement, beside a plain one.
#
#   PGHOST=... PGPORT=... PGUSER=postgres tests/bench/signing.sh
#
# Needs a PostgreSQL whose superuser these name and who may log in without a password, pgbench, psql, and port 7501 and 7502. Makes two
# databases of 1,000 tenants with 1,000 rows each, one with a key, gives app_user another password, and starts a proxy before each, in the framed relay; measures by turns, five
# times: a point query (prepared, 4,000 times) and a sequential scan of all rows. Prints each figure; in microseconds and milliseconds.
set -euo pipefail
cd "$(dirname "$0")/../.."

key=$(openssl rand -hex 32)
password=$(openssl rand -hex 16)
host=${PGHOST:-127.0.0.1} port=${PGPORT:-5432}
cargo build --quiet --release -p pgvpd-cli
admin() { PGOPTIONS='-c client_min_messages=error' psql -qAtX -v ON_ERROR_STOP=1 "$@" >/dev/null; }

for kind in plain signed; do
    admin -d postgres -c "DROP DATABASE IF EXISTS pgvpd_bench_$kind" -c "CREATE DATABASE pgvpd_bench_$kind"
    admin -d "pgvpd_bench_$kind" -f sql/setup.sql
    admin -d "pgvpd_bench_$kind" -c "
        CREATE TABLE big (tenant_id text NOT NULL, id int NOT NULL, v text);
        INSERT INTO big SELECT 't' || (n % 1000), n / 1000, 'x' FROM generate_series(0, 999999) n;
        CREATE UNIQUE INDEX ON big (tenant_id, id); GRANT SELECT ON big TO app_user;
        ALTER ROLE app_user PASSWORD '$password'; SELECT pgvpd_protect('big')" -c "VACUUM ANALYZE big"
done
admin -d pgvpd_bench_signed -c "SELECT pgvpd.install_key('1', decode('$key', 'hex'))"

proxies=()
trap 'kill "${proxies[@]}" 2>/dev/null || true; for kind in plain signed; do admin -d postgres -c "DROP DATABASE IF EXISTS pgvpd_bench_$kind WITH (FORCE)"; done' EXIT
start() { target/release/pgvpd --log-level error --upstream-host "$host" --upstream-port "$port" "$@" & proxies+=($!); }
start --port 7501 --relay framed
start --port 7502 --context-signing-key "$key"
script=$(mktemp)
printf '\\set i random(0, 999)\nSELECT v FROM big WHERE id = :i;\n' >"$script"

one() {
    export PGHOST=127.0.0.1 PGPORT=$2 PGUSER=app_user.t7 PGPASSWORD=$password PGDATABASE=pgvpd_bench_$1
    local point scan
    point=$(pgbench -n -f "$script" -M prepared -t 4000 -c 1 2>/dev/null | sed -n 's/latency average = \(.*\) ms/\1/p')
    scan=$(psql -qX -c '\timing on' -c 'SET enable_indexscan = off; SET enable_bitmapscan = off; SET enable_indexonlyscan = off' \
        -c 'SELECT count(*) FROM big' | sed -n 's/^Time: \([0-9.]*\) ms.*/\1/p' | tail -n 1)
    echo "$1: point query $(awk "BEGIN {printf \"%.0f\", $point * 1000}") us, scan $scan ms"
}
until (PGHOST=127.0.0.1 PGPORT=7502 PGUSER=app_user.t7 PGPASSWORD=$password psql -qX -d pgvpd_bench_signed -c '' 2>/dev/null); do read -rt 0.1 <> <(:) || true; done
for _ in 1 2 3 4 5; do
    (one plain 7501)
    (one signed 7502)
done
