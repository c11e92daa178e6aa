#!/usr/bin/env bash
# Runs what docs/migration.md and docs/comparison.md show, and checks what they claim: a real PostgreSQL, PgBouncer and pgvpd.
#
#   tests/migration.sh
#
# What is run is taken from the pages: the block behind the comment "tests/migration.sh runs it, as NAME". Needs the built program
# (cargo build -p pgvpd-cli), or another that PGVPD_TEST_PROGRAM names; installs PgBouncer and PostgreSQL where they are missing. As root
# it has a network, processes and an /etc of its own, so that the ports and paths are the real ones; otherwise ports 5432 and 6432 to 6437 have
# to be free, and /etc is another folder. The last line is "N passed, M failed".
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=tests/install.sh
. tests/install.sh
PATH=$PATH:/usr/sbin
if [ "${1:-}" != --inside ]; then
    missing=()
    have pgbouncer || missing+=(pgbouncer)
    have psql || missing+=(postgresql-client)
    compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null || [ -n "${PGVPD_PG_BINDIR:-}" ] || have initdb || missing+=(postgresql)
    [ ${#missing[@]} = 0 ] || install_packages target/test-logs/apt.log "${missing[@]}"
    [ "$(id -u)" = 0 ] || exec timeout 300 "$BASH" "$0" --inside
    # shellcheck source=tests/own_system.sh
    . tests/own_system.sh
    own_system timeout 300 "$BASH" "$0" --inside
fi

pages=("$PWD/docs/migration.md" "$PWD/docs/comparison.md")
program=$(realpath "${PGVPD_TEST_PROGRAM:-target/debug/pgvpd}")
postgres=${PGVPD_PG_BINDIR:-$(dirname "$({ compgen -G '/usr/lib/postgresql/*/bin/initdb' || readlink -f "$(command -v initdb)"; } | sort -V | tail -n 1)")}
work=$(mktemp -d)
home=$work/home
etc=/etc
as_server=()
if [ "$(id -u)" = 0 ]; then
    # Neither PostgreSQL nor PgBouncer runs as root.
    as_server=(runuser -u nobody --)
else
    etc=$work/etc
fi
mkdir -p "$home" "$work/bin" "$etc/pgbouncer" "$etc/pgvpd"
# Debian's is closed to everybody but its own user.
chmod 755 "$work" "$etc/pgbouncer"
ln -s "$program" "$work/bin/pgvpd"
passed=0
failed=0
pids=()
finish() {
    [ ${#pids[@]} = 0 ] || kill "${pids[@]}" 2>/dev/null || true
    "${as_server[@]}" "$postgres/pg_ctl" -D "$work/pg/data" -m immediate stop >/dev/null 2>&1 || true
    wait
    rm -rf "$work"
}
trap finish EXIT

# block NAME: what the page has behind the comment with this name.
block() {
    echo "$1" >>"$work/used"
    awk -v mark="tests/migration.sh runs it, as $1 -->" '
        index($0, mark) { wanted = 1; next }
        wanted && /^ *```/ { if (inside) exit; inside = 1; indent = index($0, "`"); next }
        inside { print substr($0, indent) }' "${pages[@]}" | sed "s#/etc/pg#$etc/pg#g" | tee "$work/block"
    [ -s "$work/block" ] || { echo "no block $1" >&2; return 1; }
}

# check WHAT COMMAND...: one line, and what the command printed if it failed.
check() {
    local what=$1 said
    shift
    if said=$("$@" 2>&1); then
        passed=$((passed + 1))
        echo "ok   $what"
    else
        failed=$((failed + 1))
        printf 'FAIL %s\n     %s\n' "$what" "${said//$'\n'/$'\n     '}"
    fi
}
is() { [ "$1" = "$2" ] || { printf 'expected: %s\nfound:    %s\n' "$1" "$2"; return 1; }; }
tidy() { tr -s '[:space:]' ' ' | sed 's/^ //; s/ $//'; }

# prints SHOWN COMMAND: it prints what the page shows; "…" stands for anything.
prints() {
    local pattern printed
    pattern=$(tidy <<<"$1" | sed 's/[][*?\\]/\\&/g; s/ *… */*/g')
    printed=$({ cd "$home" && bash -c "$2" 2>&1 || true; } | tidy)
    # shellcheck disable=SC2053 # a pattern
    [[ $printed == $pattern ]] || { printf 'it prints: %s\nthe page:  %s\n' "$printed" "$1"; return 1; }
}

# shown NAME: each command of a console block prints what stands below it there.
shown() {
    local name=$1 line i here=no commands=() outputs=()
    while IFS= read -r line; do
        if [[ $line == '$ '* ]]; then
            commands+=("${line:2}")
            outputs+=('')
            [[ $line != *"<<'SQL'" ]] || here=yes
        elif [ $here = yes ]; then
            commands[-1]+=$'\n'$line
            [ "$line" != SQL ] || here=no
        else
            outputs[-1]+=$line$'\n'
        fi
    done < <(block "$name")
    for i in "${!commands[@]}"; do check "$name: ${commands[i]%%$'\n'*}" prints "${outputs[i]}" "${commands[i]}"; done
}

typed() { (cd "$home" && bash -euo pipefail -c "$1"); }
# does NAME: the commands of a shell block succeed.
does() { check "$1: $(block "$1" | head -n 1)" typed "$(block "$1")"; }
sql() { psql -XAtq -v ON_ERROR_STOP=1 -d shop "$@"; }
on() { local port=$1 user=$2; shift 2; psql -XAtq -h 127.0.0.1 -p "$port" -U "$user" -d shop "$@"; }
console() { local port=$1 database=$2; shift 2; PGPASSWORD=look psql -XA -v VERBOSITY=verbose -h 127.0.0.1 -p "$port" -U ops -d "$database" "$@"; }
renewed() { console 6432 pgbouncer -q -c RECONNECT -c WAIT_CLOSE; }

# answers PORT PID: waits until somebody does there, or the process has ended.
answers() { until pg_isready -q -h 127.0.0.1 -p "$1"; do kill -0 "$2" || { cat "$work/$1.log"; return 1; }; done; }
started() {
    local port=$1
    shift
    (cd "$home" && exec "$@" >"$work/$port.log" 2>&1) &
    pids+=($!)
    answers "$port" $!
}
# bouncer PORT NAME: PgBouncer with the block NAME.
bouncer() { block "$2" >"$home/$2"; chmod 644 "$home/$2"; started "$1" "${as_server[@]}" pgbouncer "$home/$2"; }
# private NAME FILE: the block NAME, in a file for its owner alone, since it may hold a password.
private() { block "$1" >"$home/$2"; chmod 600 "$home/$2"; }
# proxy PORT FILE
proxy() { started "$1" "$program" --config "$2"; proxy_pid=$!; }
reloads() {
    local before
    before=$(grep -c 'configuration reloaded' "$work/6433.log" || true)
    kill -HUP "$proxy_pid"
    until [ "$(grep -c 'configuration reloaded' "$work/6433.log")" -gt "$before" ]; do kill -0 "$proxy_pid"; done
}
ends() { kill "$1"; wait "$1" || true; }

export PATH=$work/bin:$PATH PGHOST=$work/pg PGUSER=postgres PGPASSWORD=secret
if [ ${#as_server[@]} -gt 0 ]; then install -d -o nobody "$work/pg"; else mkdir "$work/pg"; fi
"${as_server[@]}" "$postgres/initdb" -D "$work/pg/data" -U postgres -A trust -E UTF8 --locale=C --no-sync >/dev/null
printf '%s\n' 'local all all trust' 'host all all 127.0.0.1/32 scram-sha-256' | "${as_server[@]}" tee "$work/pg/data/pg_hba.conf" >/dev/null
"${as_server[@]}" "$postgres/pg_ctl" -D "$work/pg/data" -w -l "$work/pg/log" -o "-k $work/pg -c listen_addresses=127.0.0.1 -c fsync=off -c password_encryption=scram-sha-256" start >/dev/null
psql -Xq -d postgres -c "CREATE ROLE app_user LOGIN PASSWORD 'secret'" -c 'CREATE ROLE shop_owner LOGIN' -c 'CREATE DATABASE shop OWNER shop_owner'
# The pages' file of users: a verifier that PostgreSQL made, and a password.
verifier=$(sql -c "SELECT rolpassword FROM pg_authid WHERE rolname = 'app_user'")
printf '"%s" "%s"\n' app_user "$verifier" ops look >"$etc/pgbouncer/userlist.txt"
printf '"app_user.%s" "%s"\n' acme "$verifier" globex "$verifier" >"$etc/pgbouncer/tenants.txt"
# PgBouncer's user reads them, and nobody else: pgvpd takes no secrets from a file that others can read.
chmod 600 "$etc/pgbouncer/"*.txt
if [ ${#as_server[@]} -gt 0 ]; then chown nobody "$etc/pgbouncer/"*.txt; fi
block shop.sql >"$home/shop.sql"
sql -U shop_owner -f "$home/shop.sql"

# --- A SET by hand, through PgBouncer in transaction mode.
mkdir "$home/src"
printf '%s\n' "cursor.execute('SET app.current_tenant_id = %s')" >"$home/src/middleware.py"
printf '%s\n' 'connection.execute("SET LOCAL my.tenant = #{t}")' >"$home/src/tenant.rb"
# shellcheck disable=SC2016 # as it stands in the sources
printf '%s\n' 'UPDATE orders SET item = $1' >"$home/src/other.sql"
# shellcheck disable=SC2016
printf '%s\n' 'await tx.$executeRaw`SELECT set_config(${name}, ${tenant}, true)`' >"$home/src/prisma.ts"
does find
check 'find: all three, and not an UPDATE' is $'middleware.py\nprisma.ts\ntenant.rb' "$(typed "$(block find)" | sed 's#^src/##; s/:.*//' | sort)"
bouncer 6432 pgbouncer.ini
shown leak
renewed
shown lost
renewed
shown local
shown mixed
renewed
check 'SET LOCAL outside of a transaction warns, and does nothing' is 'WARNING:  SET LOCAL can only be used in transaction blocks'$'\n'0 "$(on 6432 app_user -c "SET LOCAL app.current_tenant_id = 'acme'" -c 'SELECT count(*) FROM orders' 2>&1)"
check 'set_config there does nothing, and does not warn' is acme$'\n'0 "$(on 6432 app_user -c "SELECT set_config('app.current_tenant_id', 'acme', true)" -c 'SELECT count(*) FROM orders' 2>&1)"
said() { local words=$1 said; shift; said=$("$@" 2>&1) || true; grep -q -- "$words" <<<"$said" || { echo "$said"; return 1; }; }
refused() { local words=$1 said; shift; if said=$("$@" 2>&1); then echo "not refused: $said"; return 1; fi; grep -q -- "$words" <<<"$said" || { echo "$said"; return 1; }; }
check 'PgBouncer refuses the context in options' refused 'unsupported startup parameter' env PGOPTIONS='-c app.current_tenant_id=acme' psql -h 127.0.0.1 -p 6432 -U app_user -d shop -c 'SELECT 1'

# --- The steps from there: beside it, guarded, signed, and back.
does install
does guard
proxy 6433 pgvpd.conf
shown both
check 'the owner is bound too' is 0 "$(sql -U shop_owner -c 'SELECT count(*) FROM orders')"
check 'pgvpd refuses the context in options' refused 'startup parameter "app.current_tenant_id" cannot be set by a client' env PGOPTIONS='-c app.current_tenant_id=acme' psql -h 127.0.0.1 -p 6433 -U app_user.acme -d shop -c 'SELECT 1'
does sign
reloads
check 'signed by the proxy, not yet asked for: a SET counts' is 2 "$(on 6432 app_user -c "BEGIN; SET LOCAL app.current_tenant_id = 'acme'; SELECT count(*) FROM orders")"
does require
reloads
shown signed
does prefer
reloads
check 'unsign.sql' sql -c "$(block unsign.sql)"
shown both
check 'unguard.sql' sql -c "$(block unguard.sql)"
check 'the table is as it was' is 'tenant|t|f|' "$(sql -c "SELECT string_agg(polname, ','), relrowsecurity, relforcerowsecurity, (SELECT adbin FROM pg_attrdef WHERE adrelid = c.oid) FROM pg_class c JOIN pg_policy ON polrelid = c.oid WHERE relname = 'orders' GROUP BY c.oid")"
shown both
ends "$proxy_pid"

# --- From PgBouncer: the same userlist.txt, the same statements, both at once.
typed "$(block guard)" >/dev/null
private pgvpd.conf pool.conf
block work.sql >"$home/work.sql"
check 'pgvpd.conf is valid' typed 'pgvpd --check-config --config pool.conf'
proxy 6433 pool.conf
shown same
check 'tenants share the pool of their role' is 1 "$(console 6433 pgvpd -t -c 'SHOW POOLS' | grep -c '^shop|app_user|')"
check 'extra_float_digits goes to PostgreSQL' is -3 "$(PGOPTIONS='-c extra_float_digits=-3' on 6433 app_user.acme -c 'SHOW extra_float_digits')"
printf '"app_user" "md5%s"\n' "$(printf secretapp_user | md5sum | cut -d ' ' -f 1)" >"$home/digest.txt"
chmod 600 "$home/digest.txt"
check 'an MD5 digest is named by --check-config' said app_user typed "sed 's#^auth_file = .*#auth_file = digest.txt#; /^admin_users/d' pool.conf >digest.conf; pgvpd --check-config --config digest.conf"

# cells COLUMN FIRST: the names in a column, one a line, of the table's rows whose header begins with FIRST.
rows() { awk -v head="| $1" 'index($0, head) == 1 { on = 1; next } on && !/^\|/ { exit } on && !/^\|---/ { print }' "${pages[0]}"; }
cell() { awk -F '|' -v n="$1" '{ print $(n + 1) }'; }
# shellcheck disable=SC2016 # Markdown's own quotes
ticked() { { grep -oE '`[^`]+`' || true; } | tr -d '`'; }
console 6433 pgvpd -t -c 'SHOW CONFIG' >"$work/ours"
console 6432 pgbouncer -t -c 'SHOW CONFIG' >"$work/theirs"
# known FILE NAME...: a console's SHOW CONFIG has each of them.
known() { local file=$1 name; shift; for name in "$@"; do grep -q "^$name|" "$file" || { echo "no option $name"; return 1; }; done; }
default() { awk -F '|' -v name="$2" '$1 == name { print $3 }' "$1"; }
# has_options COLUMN TABLE: every name in that column is an option of pgvpd's.
has_options() {
    local names
    mapfile -t names < <(rows "$2" | cell "$1" | ticked)
    [ ${#names[@]} -gt 10 ] || { echo "only ${#names[@]} names"; return 1; }
    known "$work/ours" "${names[@]}"
}
check 'options beside PgBouncer: pgvpd has them' has_options 3 'PgBouncer | default'
check 'options beside PgCat and PgDog: pgvpd has them' has_options 3 'PgCat'
their_options() {
    local row names=()
    while IFS= read -r row; do
        # Those of releases after this one.
        [[ ! $row =~ [Ff]rom\ 1\.(19|2.)\ on ]] || continue
        # A name in brackets is a section.
        mapfile -t -O ${#names[@]} names < <(cell 1 <<<"$row" | ticked | grep -v '^\[')
    done < <(rows 'PgBouncer | default'; rows 'PgBouncer | |')
    known "$work/theirs" "${names[@]}"
}
check 'options beside PgBouncer: PgBouncer has them' their_options
same_defaults() {
    local row name
    while IFS= read -r row; do
        for name in $(cell 1 <<<"$row" | ticked); do
            [ -z "$(cell 2 <<<"$row" | tidy)" ] || is "$name $(cell 2 <<<"$row" | tidy)" "$name $(default "$work/theirs" "$name")" || return 1
        done
        for name in $(cell 3 <<<"$row" | ticked); do
            [ -z "$(cell 4 <<<"$row" | tidy)" ] || is "$name $(cell 4 <<<"$row" | tidy)" "$name $(default "$work/ours" "$name")" || return 1
        done
    done < <(rows 'PgBouncer | default')
}
check 'defaults are as the page has them' same_defaults

# columns TABLE: what both consoles' tables have, in pgvpd's order.
columns() {
    comm -12 <(console 6433 pgvpd -c "$1" | head -n 1 | tr '|' '\n' | sort) <(console 6432 pgbouncer -c "$1" | head -n 1 | tr '|' '\n' | sort)
}
# shellcheck disable=SC2016
both_have=$(grep '^| `SHOW [A-Z]*` | [a-z]*,' "${pages[0]}")
while IFS= read -r row; do
    table=$(cell 1 <<<"$row" | ticked)
    check "columns of $table" is "$(cell 2 <<<"$row" | tr ',' '\n' | sed 's/ //g' | sort)" "$(columns "$table")"
done <<<"$both_have"
for command in $(rows 'PgBouncer | pgvpd |' | head -n 1 | ticked | sed 's/SHOW //; /^the/d'); do
    check "SHOW $command on both" typed "$(declare -f console); console 6433 pgvpd -c 'SHOW $command' && console 6432 pgbouncer -c 'SHOW $command'"
done
for command in SHUTDOWN 'KILL shop' 'DISABLE shop' 'ENABLE shop' SUSPEND WAIT_CLOSE; do
    check "$command is answered with what there is instead" refused '0A000.*' console 6433 pgvpd -c "$command"
done
for command in RELOAD PAUSE RESUME RECONNECT 'CLOSE DATABASE shop' 'DISCONNECT TENANT acme'; do check "$command" console 6433 pgvpd -c "$command"; done
console 6433 pgvpd -c DRAIN >/dev/null 2>&1 || true
drained=0
wait "$proxy_pid" || drained=$?
check 'DRAIN ends the proxy, with code 0' is 0 "$drained"

# --- From another implementation of the design.
cp /dev/null "$etc/pgvpd/resolvers.toml"
openssl req -new -x509 -days 1 -nodes -newkey ec -pkeyopt ec_paramgen_curve:P-256 -subj /CN=localhost -addext 'subjectAltName = DNS:localhost' -keyout "$etc/pgvpd/tls.key" -out "$etc/pgvpd/tls.crt" 2>/dev/null
chmod 600 "$etc/pgvpd/tls.key"
private reference.conf reference.conf
check 'reference.conf passes as it stands' typed 'pgvpd --check-config --config reference.conf'
known_names() { sed 's/ =.*//' "$home/reference.conf" | xargs -I '{}' grep -q '^{}|' "$work/ours" && known "$work/ours" tenant_allow upstream_tls upstream_tls_ca listen_host; }
check 'the options of the design are all there' known_names
check 'pool_mode = transaction is refused' refused 'pool_mode' typed "sed 's/^pool_mode = .*/pool_mode = transaction/' reference.conf >transaction.conf; pgvpd --check-config --config transaction.conf"
for pair in 'bypass_from loopback,unix' 'admin_host 127.0.0.1' 'upstream_tls_verify true' 'allow_trust false' 'allow_cleartext false' 'role_check refuse'; do
    check "default of ${pair% *}" is "${pair#* }" "$(default "$work/ours" "${pair% *}")"
done
private misspelt.conf misspelt.conf
shown misspelt
check 'reference.sql' sql -c "$(block reference.sql)"

# --- With PgBouncer in front, and behind.
private front.conf front.conf
proxy 6434 front.conf
bouncer 6435 front.ini
in_front() {
    is 'acme 2' "$(on 6435 app_user.acme -F ' ' -c 'SELECT DISTINCT tenant_id, count(*) OVER () FROM orders')" &&
        is 'globex 1' "$(on 6435 app_user.globex -F ' ' -c 'SELECT DISTINCT tenant_id, count(*) OVER () FROM orders')" &&
        is 'globex' "$(on 6435 app_user.globex -c 'DISCARD ALL' -c 'SELECT current_tenant_id()')" &&
        is "$(on 6435 app_user.acme -c 'SELECT pg_backend_pid()')" "$(on 6435 app_user.acme -c 'SELECT pg_backend_pid()')"
}
check 'PgBouncer in front, in transaction mode: each tenant its own connections' in_front
check '  nobody without a tenant' refused FATAL on 6435 app_user -c 'SELECT 1'
bouncer 6436 behind.ini
private behind.conf behind.conf
proxy 6437 behind.conf
check 'PgBouncer behind, in session mode' is 'acme|2' "$(on 6437 app_user.acme -c 'SELECT current_tenant_id(), count(*) FROM orders')"
check '  the next tenant on the same connection' is 'globex|1' "$(on 6437 app_user.globex -c 'SELECT current_tenant_id(), count(*) FROM orders')"
ends "$proxy_pid"
sed 's/^upstream_port = .*/upstream_port = 6432/' "$home/behind.conf" >"$home/never.conf"
chmod 600 "$home/never.conf"
renewed
proxy 6437 never.conf
# psql's own command starts the other tenant's session between two statements of this one.
never() { on 6437 app_user.acme <<<"SELECT current_tenant_id();"$'\n'"\\! psql -XAtq -h 127.0.0.1 -p 6437 -U app_user.globex -d shop -c 'SELECT 1' >/dev/null"$'\n'"SELECT current_tenant_id(), item FROM orders;"; }
check 'never its transaction mode: acme reads rows of globex' is $'acme\nglobex|laser' "$(never)"
renewed

# --- What the comparison says was run.
ran() { echo "$1" >>"$work/$2.ran"; }
check 'PgBouncer: a user name with a tenant is just a name that it does not know' refused FATAL on 6436 app_user.acme -c 'SELECT 1'
ran 'tenant identity in the connection' pgbouncer
check 'PgBouncer: a session without a tenant begins' is 1 "$(on 6436 app_user -c 'SELECT 1')"
ran 'refuses a session without a tenant' pgbouncer
check 'PgBouncer: DISCARD ALL and RESET ALL take the context' is $'2\n0\n0' "$(on 6436 app_user -c "SET app.current_tenant_id = 'acme'" -c 'SELECT count(*) FROM orders' -c 'DISCARD ALL' -c 'SELECT count(*) FROM orders' -c "SET app.current_tenant_id = 'acme'" -c 'RESET ALL' -c 'SELECT count(*) FROM orders')"
ran 'context survives RESET and DISCARD' pgbouncer
ran 'context survives RESET and DISCARD' set
check 'PgBouncer: SQL becomes another tenant' is laser "$(on 6436 app_user -c "SET app.current_tenant_id = 'acme'; SET app.current_tenant_id = 'globex'; SELECT item FROM orders")"
ran 'forged context refused' pgbouncer
ran 'forged context refused' set
check 'PgBouncer: sessions share a connection, and find nothing on it' is "$(on 6436 app_user -c "SET app.current_tenant_id = 'acme'" -c 'SELECT pg_backend_pid(), 0')" "$(on 6436 app_user -c 'SELECT pg_backend_pid(), count(*) FROM orders')"
ran 'session pooling' pgbouncer
# By the blocks leak, lost and local, and by the console above.
for row in 'transaction pooling' 'admin console' 'metrics'; do ran "$row" pgbouncer; done
for row in 'tenant identity in the connection' 'refuses a session without a tenant' 'transaction pooling'; do ran "$row" set; done
said_to_be_run() { awk -F '|' -v n="$1" '$(n + 1) ~ /· run/ { gsub(/^ | $/, "", $2); print $2 }' "${pages[1]}" | sort; }
check 'comparison: the cells of PgBouncer that say run' is "$(sort "$work/pgbouncer.ran")" "$(said_to_be_run 3)"
check 'comparison: the cells of SET that say run' is "$(sort "$work/set.ran")" "$(said_to_be_run 6)"
measured() {
    local figure
    while read -r figure; do
        grep -rqF "${figure#0}" docs/performance.md docs/performance/*.md || { echo "$figure was not measured"; return 1; }
    done < <(awk -F '|' '/^## Speed/ { on = 1 } /^## When/ { on = 0 } on && $3 ~ /[0-9]/ { print $3 }' "${pages[1]}")
}
check 'comparison: figures are those of performance.md' measured
check 'every block of the pages was used' is "$(sed -n 's/.*tests\/migration.sh runs it, as \(.*\) -->/\1/p' "${pages[@]}" | sort)" "$(sort -u "$work/used")"

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
