#!/usr/bin/env bash
# What watching a proxy costs: /metrics scraped each second under 1,000 sessions, and 100,000 tenants one after the other.
#
#   PGHOST=... PGPORT=... PGUSER=postgres tests/bench/operations.sh [REPETITIONS [TENANTS]]
#
# Needs a PostgreSQL with room for 1,050 connections whose superuser these name and who may log in without a password, pgbench, psql, curl, Python,
# and ports 7521 to 7523. Makes a database, gives app_user another password. First part: 992 sessions wait, and eight clients run `pgbench -S`'s kind of query
# for four seconds, by turns with and without a scrape each second; prints queries per second. Second part: each of TENANTS tenants logs in once, through a
# pool, while metrics are scraped; prints the proxy's memory, and what /metrics has.
set -euo pipefail
cd "$(dirname "$0")/../.."

repetitions=${1:-9} tenants=${2:-100000}
password=$(openssl rand -hex 16)
host=${PGHOST:-127.0.0.1} port=${PGPORT:-5432} user=${PGUSER:-postgres}
cargo build --quiet --release -p pgvpd-cli
admin() { PGHOST=$host PGPORT=$port PGUSER=$user PGOPTIONS='-c client_min_messages=error' psql -qAtX -v ON_ERROR_STOP=1 "$@" >/dev/null; }

admin -d postgres -c 'DROP DATABASE IF EXISTS pgvpd_bench_operations' -c 'CREATE DATABASE pgvpd_bench_operations'
admin -d pgvpd_bench_operations -f sql/setup.sql
admin -d pgvpd_bench_operations -c "
    CREATE TABLE items (id int PRIMARY KEY, value text); INSERT INTO items SELECT n, 'x' FROM generate_series(1, 100000) n;
    GRANT SELECT ON items TO app_user; ALTER ROLE app_user PASSWORD '$password'" -c 'VACUUM ANALYZE items'

files=$(mktemp -d)
running=()
finish() {
    kill "${running[@]}" 2>/dev/null || true
    wait 2>/dev/null || true
    admin -d postgres -c 'DROP DATABASE IF EXISTS pgvpd_bench_operations WITH (FORCE)'
    rm -r "$files"
}
trap finish EXIT
start() {
    target/release/pgvpd --log-level error --upstream-host "$host" --upstream-port "$port" "$@" & running+=($!)
}
start --port 7521 --relay framed --admin-port 7522
proxy=$!
printf '\\set id random(1, 100000)\nSELECT value FROM items WHERE id = :id;\n' >"$files/query"
printf 'SELECT 1;\n\\sleep 2000 s\n' >"$files/wait"
export PGHOST=127.0.0.1 PGPORT=7521 PGUSER=app_user.acme PGPASSWORD=$password PGDATABASE=pgvpd_bench_operations
until curl -sf http://127.0.0.1:7522/ready >/dev/null; do read -rt 0.1 <> <(:) || true; done
for tenant in 1 2 3 4; do
    PGUSER=app_user.t$tenant pgbench -n -c 248 -j 1 -T 3600 -f "$files/wait" >/dev/null 2>&1 & running+=($!)
done
until [ "$(curl -s http://127.0.0.1:7522/metrics | sed -n 's/^pgvpd_session_states{state="idle"} \([0-9]*\).*/\1/p')" -ge 992 ]; do read -rt 0.5 <> <(:) || true; done
echo "sessions: $(curl -s http://127.0.0.1:7522/metrics | sed -n 's/^pgvpd_connections_active //p'), /metrics: $(curl -s http://127.0.0.1:7522/metrics | wc -c) bytes"
scrape() { while curl -s -H 'accept: application/openmetrics-text' http://127.0.0.1:7522/metrics >/dev/null; do sleep 1; done; }
measure() { pgbench -n -c 8 -j 1 -T 4 -f "$files/query" 2>/dev/null | sed -n 's/^tps = \([0-9.]*\).*/\1/p'; }
measure >/dev/null
for _ in $(seq "$repetitions"); do
    without=$(measure)
    scrape & scraper=$!
    with=$(measure)
    kill "$scraper"; wait "$scraper" 2>/dev/null || true
    printf 'without: %.0f queries/s, with: %.0f, %.3f\n' "$without" "$with" "$(echo "$with / $without" | bc -l)"
done
kill "${running[@]}"; wait 2>/dev/null || true; running=()

echo "\"app_user\" \"$password\"" >"$files/users"
chmod 600 "$files/users" # pgvpd takes no file of secrets that others can read
start --port 7521 --pool-mode session --auth-file "$files/users" --client-auth cleartext --admin-port 7522 --log-sessions false
proxy=$!
until curl -sf http://127.0.0.1:7522/ready >/dev/null; do read -rt 0.1 <> <(:) || true; done
python3 tests/bench/many_tenants.py 7521 7522 "$proxy" "$tenants"
