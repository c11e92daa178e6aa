#!/usr/bin/env bash
# TLS with clients beside PgBouncer's: logins, and rows in bulk.
#
#   PGHOST=... PGPORT=... PGUSER=postgres tests/bench/tls.sh
#
# Needs a PostgreSQL whose superuser these name and who may log in without a password, pgbouncer, pgbench, psql, openssl, and ports
# 7521 to 7523. Gives app_user another password, and starts before the server, each with the same certificate (ECDSA, P-256): PgBouncer
# with session pooling, pgvpd with session pooling, pgvpd passing through. All ask for SCRAM-SHA-256. Measures by turns, nine times: logins
# per second of four clients that log in over TLS, ask for 1 and leave, for three seconds; and a COPY of 400 MB to one client. Prints each
# figure, and the time that the proxy's process has used for it.
set -euo pipefail
cd "$(dirname "$0")/../.."

password=$(openssl rand -hex 16)
host=${PGHOST:-127.0.0.1} port=${PGPORT:-5432} user=${PGUSER:-postgres}
cargo build --quiet --release -p pgvpd-cli
admin() { PGSSLMODE=prefer PGHOST=$host PGPORT=$port PGUSER=$user PGOPTIONS='-c client_min_messages=error' psql -qAtX -v ON_ERROR_STOP=1 "$@" >/dev/null; }

files=$(mktemp -d)
proxies=()
finish() {
    kill "${proxies[@]}" 2>/dev/null || true
    admin -d postgres -c 'DROP DATABASE IF EXISTS pgvpd_bench_tls WITH (FORCE)'
    rm -r "$files"
}
trap finish EXIT
admin -d postgres -c 'DROP DATABASE IF EXISTS pgvpd_bench_tls' -c 'CREATE DATABASE pgvpd_bench_tls'
admin -d pgvpd_bench_tls -f sql/setup.sql
admin -d pgvpd_bench_tls -c "ALTER ROLE app_user PASSWORD '$password'"

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 2 -subj /CN=localhost \
    -addext 'subjectAltName = DNS:localhost, IP:127.0.0.1' -keyout "$files/key" -out "$files/cert" 2>/dev/null
# The server's own verifier, so that neither has to derive keys for a login.
verifier=$(PGHOST=$host PGPORT=$port PGUSER=$user psql -qAtX -d postgres -c "SELECT rolpassword FROM pg_authid WHERE rolname = 'app_user'")
echo "\"app_user\" \"$verifier\"" >"$files/users"
# pgvpd takes no file of secrets that others can read; PgBouncer may run as somebody else.
install -m 600 "$files/users" "$files/own-users"
cat >"$files/pgbouncer.ini" <<EOF
[databases]
* = host=$host port=$port
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = 7521
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $files/users
pool_mode = session
max_client_conn = 100
default_pool_size = 20
client_tls_sslmode = require
client_tls_cert_file = $files/cert
client_tls_key_file = $files/key
log_connections = 0
log_disconnections = 0
EOF
# PgBouncer does not run as root.
as=()
if [ "$(id -u)" = 0 ]; then
    chown -R postgres "$files"
    as=(setpriv --reuid=postgres --regid=postgres --clear-groups)
fi
"${as[@]}" "$(PATH=$PATH:/usr/sbin command -v pgbouncer)" -q "$files/pgbouncer.ini" 2>"$files/log" & proxies+=($!)
start() {
    target/release/pgvpd --log-level error --upstream-host "$host" --upstream-port "$port" --tls-cert "$files/cert" \
        --tls-key "$files/key" --client-tls require "$@" & proxies+=($!)
}
start --port 7522 --pool-mode session --auth-file "$files/own-users"
start --port 7523
names=(PgBouncer 'pgvpd pool' 'pgvpd passthrough')

echo 'SELECT 1' >"$files/script"
chmod a+rx "$files"
export PGPASSWORD=$password PGDATABASE=pgvpd_bench_tls PGSSLMODE=require PGHOST=127.0.0.1
# Hundredths of a second that a process has used.
used() { awk '{ sub(/^.*\) /, ""); print $12 + $13 }' "/proc/$1/stat"; }
account() { if [ "$1" = 0 ]; then echo app_user; else echo app_user.acme; fi; }
for index in 0 1 2; do
    until PGUSER=$(account $index) PGPORT=$((7521 + index)) psql -qX -c '' 2>/dev/null; do read -rt 0.1 <> <(:) || true; done
done
for _ in 1 2 3 4 5 6 7 8 9; do
    for index in 0 1 2; do
        export PGUSER PGPORT=$((7521 + index))
        PGUSER=$(account $index)
        pid=${proxies[index]} before=$(used "${proxies[index]}")
        report=$(pgbench -n -C -f "$files/script" -T 3 -c 4 2>/dev/null)
        rate=$(sed -n 's/^tps = \([0-9.]*\).*/\1/p' <<<"$report")
        count=$(sed -n 's/^number of transactions actually processed: \([0-9]*\).*/\1/p' <<<"$report")
        awk -v name="${names[index]}" -v rate="$rate" -v n="$count" -v used=$(($(used "$pid") - before)) \
            'BEGIN { printf "%s: %.0f logins/s, %.2f ms of CPU a login\n", name, rate, used * 10 / n }'
        before=$(used "$pid") begun=$(date +%s%N)
        psql -qX -c "COPY (SELECT repeat('x', 999) FROM generate_series(1, 400000)) TO STDOUT" >/dev/null
        awk -v name="${names[index]}" -v ns=$(($(date +%s%N) - begun)) -v used=$(($(used "$pid") - before)) \
            'BEGIN { printf "%s: %.0f MB/s, %.2f s of CPU a GB\n", name, 400 / (ns / 1e9), used / 100 / 0.4 }'
    done
    echo
done
