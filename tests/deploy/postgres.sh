# A private PostgreSQL with one table of two tenants, for the scripts in this directory; sourced by tests/deploy.sh.
# Variables are shared.
# shellcheck shell=bash disable=SC2034,SC2154
# Needs: binary, work.

# start_postgres: sets server_port, admin_url, app_password. The demo of the binary starts it, and removes it when it ends.
start_postgres() {
    local line
    # The demo's own proxy is on a port of its own.
    start "$binary" demo --port 0
    demo_out=$output
    line=$(line_of "$demo_out" 'PostgreSQL .* on 127\.0\.0\.1:[0-9]+$')
    server_port=${line##*:}
    line=$(line_of "$demo_out" '//app_user\.acme:')
    app_password=${line#*//app_user.acme:}
    app_password=${app_password%%@*}
    line=$(line_of "$demo_out" '//postgres:')
    admin_url=${line#*\'}
    admin_url=${admin_url%/shop\'}
}

# new_database NAME: one that has the table, and not yet pgvpd's SQL.
new_database() {
    psql -q -X -v ON_ERROR_STOP=1 -d "$admin_url/postgres" -c "CREATE DATABASE $1"
    psql -q -X -v ON_ERROR_STOP=1 -d "$admin_url/$1" -c "CREATE TABLE orders (tenant_id text NOT NULL, item text)" \
        -c "INSERT INTO orders VALUES ('acme', 'anvil'), ('globex', 'hammock')"
}

grant_table() {
    psql -q -X -v ON_ERROR_STOP=1 -d "$admin_url/$1" -c "GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO app_user"
}

# items TENANT HOST PORT DATABASE: what a tenant sees through a proxy.
items() {
    PGPASSWORD=$app_password PGCONNECT_TIMEOUT=20 psql -X -At -d "host=$2 port=$3 dbname=$4 user=app_user.$1" \
        -c 'SELECT item FROM orders ORDER BY item'
}

# free_port: one that nobody has at the moment.
free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
