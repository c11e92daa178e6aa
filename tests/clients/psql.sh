#!/usr/bin/env bash
# psql through the proxy; LD_LIBRARY_PATH chooses the libpq. Prints one line for each step.
set -euo pipefail

libpq=$(LD_DEBUG=libs psql --version 2>&1 | sed -n 's/.*calling init: \(.*libpq[^ ]*\).*/\1/p' | head -n 1)
libpq=$(readlink -f "$libpq")
echo "client $(psql --version | grep -o '[0-9][0-9.]*' | head -n 1), libpq ${libpq##*.so.5.}"

fail() {
    echo "$*" >&2
    exit 1
}
as() { psql -X -A -t -q -v ON_ERROR_STOP=1 -v VERBOSITY=verbose -U "$@" 2>&1; }
# is EXPECTED FOUND
is() { [ "$1" = "$2" ] || fail "expected $1, got $2"; }
is "libpq ${PGVPD_LIBPQ:-${libpq##*.so.5.}}" "libpq ${libpq##*.so.5.}"
# has PART TEXT
has() { [[ $2 == *$1* ]] || fail "expected $1 in: $2"; }

is 'acme 3' "$(as app_user.acme -F ' ' -c 'SELECT DISTINCT tenant_id, count(*) OVER () FROM notes')"
is 'globex 2' "$(as app_user.globex -F ' ' -c 'SELECT DISTINCT tenant_id, count(*) OVER () FROM notes')"
echo 'ok isolation'

has 42501 "$(as app_user.acme -c "INSERT INTO notes (tenant_id, body) VALUES ('globex', 'x')" || true)"
is 0 "$(as app_user.acme -c "WITH changed AS (UPDATE notes SET body = 'x' WHERE tenant_id = 'globex' RETURNING 1) SELECT count(*) FROM changed")"
echo 'ok foreign_write'

is "it's acme" "$(as app_user.acme -v "value=it's " <<<"SELECT :'value' || tenant_id FROM notes LIMIT 1")"
echo 'ok parameters'

is $'2\n3\n4' "$(as app_user.acme <<<'PREPARE one (int) AS SELECT $1 + 1; EXECUTE one (1); EXECUTE one (2); EXECUTE one (3);')"
echo 'ok prepared'

# Only psql 18 has commands for it.
echo 'none pipeline'

as "app_user.$PGVPD_TENANT" <<<"BEGIN; INSERT INTO notes (body) VALUES ('kept'); COMMIT; BEGIN; INSERT INTO notes (body) VALUES ('lost'); ROLLBACK;"
is 'kept' "$(as "app_user.$PGVPD_TENANT" -c 'SELECT body FROM notes')"
echo 'ok transaction'

for n in {1..1000}; do echo "$PGVPD_TENANT $n"; done | as "app_user.$PGVPD_TENANT" -c 'COPY uploads FROM STDIN'
is 1000 "$(as "app_user.$PGVPD_TENANT" -c "COPY (SELECT body FROM uploads WHERE body LIKE '$PGVPD_TENANT %') TO STDOUT" | wc -l)"
echo 'ok copy'

psql -X -v VERBOSITY=verbose -U "app_user.$PGVPD_TENANT" -c "SELECT pg_sleep(60) /* $PGVPD_TENANT */" >"$PGVPD_OUTPUT" 2>&1 &
sleeping=$!
running="SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%$PGVPD_TENANT%'"
until [ "$(as app_user.acme -c "$running AND state = 'active'")" = 1 ]; do :; done
kill -INT "$sleeping"
wait "$sleeping" && fail 'the query was not cancelled'
has 57014 "$(cat "$PGVPD_OUTPUT")"
echo 'ok cancel'

is "acme"$'\n'"$PGVPD_TENANT" "$(as app_user.acme <<<"SELECT current_tenant_id();
\\connect - app_user.$PGVPD_TENANT
SELECT current_tenant_id();")"
echo 'ok reconnect'

refused=$(as app_user -c 'SELECT 1' || true)
has 'FATAL:  pgvpd: ' "$refused"
echo 'ok no_tenant'

is 'used_clients' "$(as admin -d pgvpd -c 'SHOW LISTS' | grep -o used_clients)"
has 'the console has no command' "$(as admin -d pgvpd -c 'SELECT * FROM notes' || true)"
echo 'ok console'
