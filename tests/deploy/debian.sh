# The deb on a Debian that was just installed, with systemd running: what an administrator does with it from the first day to the
# last; sourced by tests/deploy.sh.
# Variables are shared.
# shellcheck shell=bash disable=SC2034,SC2154
# Needs: binary, work, tests, packages, base, postgres.

host=$work/debian

# boot: starts the system, and sets leader, its first process.
boot() {
    local notify
    rm -f "$work/notify"
    start python3 "$tests/notify.py" "$work/notify"
    notify=$output
    line_of "$notify" '^bound$' >/dev/null
    # This machine may run without systemd: nspawn asks for nothing from it. The network is the machine's, where PostgreSQL is.
    start env NOTIFY_SOCKET="$work/notify" SYSTEMD_NSPAWN_LOCK=0 systemd-nspawn --quiet --register=no --keep-unit --notify-ready=yes \
        --boot --directory "$host" --resolv-conf=off --timezone=off --link-journal=no
    container=$started
    exec {console}<&"$output"
    # Or it would stop when the pipe is full.
    cat <&"$console" >"$work/console.log" &
    leader=$(line_of "$notify" '^X_NSPAWN_LEADER_PID=')
    leader=${leader#*=}
    line_of "$notify" '^READY=1$' >/dev/null
}

# on_host COMMAND...: as root there.
on_host() {
    nsenter --target "$leader" --mount --uts --ipc --pid --cgroup --root --wd \
        env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive SYSTEMD_COLORS=0 SYSTEMD_PAGER='' "$@"
}

# set_option NAME VALUE: in the host's configuration.
set_option() {
    sed -i "/^$1 = /d" "$host/etc/pgvpd/pgvpd.conf"
    echo "$1 = $2" >>"$host/etc/pgvpd/pgvpd.conf"
}

process() { on_host systemctl show --property=MainPID --value pgvpd; }

# restricted: what the unit takes from the process has been taken.
restricted() {
    local status
    status=$(on_host cat "/proc/$(process)/status")
    grep -q $'^Seccomp:\t2$' <<<"$status" && grep -q $'^NoNewPrivs:\t1$' <<<"$status" && grep -q $'^CapBnd:\t0000000000000000$' <<<"$status" ||
        { echo "$status"; return 1; }
}

# The next release: the same, but for its version, and a configuration that has another comment.
next_release() {
    local tree=$work/next
    rm -rf "$tree"
    dpkg-deb -R "$deb" "$tree"
    sed -i "s/^Version: .*/&.1/" "$tree/DEBIAN/control"
    echo '# A comment of the next release.' >>"$tree/etc/pgvpd/pgvpd.conf"
    dpkg-deb -Zgzip -z1 --root-owner-group -b "$tree" "$host/next.deb" >/dev/null
    rm -rf "$tree"
}

# all_files: of the host, but for what every installation of a package writes.
all_files() {
    (cd "$host" && find . -xdev \( -path ./var/lib/dpkg -o -path ./var/cache -o -path ./var/log/apt -o -path ./var/log/journal -o -path ./proc \
        -o -path ./sys -o -path ./run -o -path ./tmp -o -path ./dev \) -prune -o -print) | grep -v -e '^./etc/.*-$' -e '^./var/log/dpkg.log$' \
        -e '^./etc/.pwd.lock$' -e '^./var/lib/apt' -e '^./var/log/alternatives.log' -e '^./var/lib/systemd' | sort
}

# The first day: it is installed, and put in front of a database by its own commands.
test_debian_install() {
    all_files >"$work/before"
    cp "$deb" "$host/pgvpd.deb"
    check "deb, where systemd runs: apt installs it, from no server" on_host apt-get install -y -q /pgvpd.deb
    check "  systemd knows the service, which is neither enabled nor started" same $'inactive\ndisabled' \
        on_host systemctl show --property=ActiveState,UnitFileState --value pgvpd
    check "  it starts as it was installed" on_host systemctl enable --now pgvpd
    check "  and has said that it is ready" same active on_host systemctl is-active pgvpd
    check "  as a user of its own" same pgvpd on_host stat -c %U "/proc/$(process)"
    check "  without rights and system calls that it does not need" restricted

    set_option port "$port"
    set_option upstream_port "$server_port"
    check "  pgvpd init adds a key to the configuration" on_host pgvpd init -d "$admin_url/signed" --config /etc/pgvpd/pgvpd.conf --force
    check "  which the group can still read, and nobody else" same 'root:pgvpd 640' on_host stat -c '%U:%G %a' /etc/pgvpd/pgvpd.conf
    check "  pgvpd protect protects a table" on_host pgvpd protect -d "$admin_url/signed" orders
    grant_table signed
    check "  systemctl restart takes it over" on_host systemctl restart pgvpd
    check "  a tenant logs in through it, and sees its own row" same anvil items acme 127.0.0.1 "$port" signed
    check "  another tenant as well" same hammock items globex 127.0.0.1 "$port" signed
}

# Days between.
test_debian_use() {
    local before
    before=$(process)
    set_option tenant_deny acme
    check "  systemctl reload takes a change over" on_host systemctl reload pgvpd
    # systemctl does not wait until it has been read.
    check "  a tenant that is denied cannot log in" eventually refuses 'tenant "acme" is not permitted' items acme 127.0.0.1 "$port" signed
    check "  in the same process" same "$before" process
    set_option tenant_deny nobody
    on_host systemctl reload pgvpd

    next_release
    check "  an upgrade" on_host apt-get install -y -q -o Dpkg::Options::=--force-confold /next.deb
    check "  keeps the configuration that was edited" says '^context_signing_key' cat "$host/etc/pgvpd/pgvpd.conf"
    check "  and who may read it" same 'root:pgvpd 640' on_host stat -c '%U:%G %a' /etc/pgvpd/pgvpd.conf
    check "  runs the new program" not same "$before" process
    check "  which is active" same active on_host systemctl is-active pgvpd
    check "  and lets a tenant in" same anvil items acme 127.0.0.1 "$port" signed

    # A session that is open when the service is told to stop.
    mkfifo "$work/session"
    start env PGPASSWORD="$app_password" psql -X -At -d "host=127.0.0.1 port=$port dbname=signed user=app_user.acme" -f "$work/session"
    exec {session}>"$work/session"
    rm "$work/session"
    echo '\echo open' >&"$session"
    line_of "$output" '^open$' >/dev/null
    on_host systemctl stop --no-block pgvpd
    check "  systemctl stop lets a session finish" drains
    exec {session}>&-
    # A second stop waits for the first one.
    on_host systemctl stop pgvpd
    check "  and the service ends without an error" same $'success\ninactive' on_host systemctl show --property=ActiveState,Result --value pgvpd
    on_host systemctl start pgvpd
}

# drains: new logins are refused, and the session that is open goes on.
drains() {
    eventually refuses 'refused\|shutting down' items acme 127.0.0.1 "$port" signed || return 1
    echo 'SELECT item FROM orders;' >&"$session"
    line_of "$output" '^anvil$'
}

# The last day.
test_debian_remove() {
    local before
    before=$(process)
    check "  apt removes it" on_host apt-get remove -y -q pgvpd
    check "  and it does not run any more" not on_host test -e "/proc/$before"
    check "  the configuration stays" says '^context_signing_key' cat "$host/etc/pgvpd/pgvpd.conf"
    echo secret >"$host/etc/pgvpd/tls.key"
    check "  apt purges it" on_host apt-get purge -y -q pgvpd
    check "  what the administrator put beside the configuration stays" same /etc/pgvpd/tls.key on_host find /etc/pgvpd -type f
    rm -r "$host/etc/pgvpd" "$host/pgvpd.deb" "$host/next.deb"
    all_files >"$work/after"
    check "  nothing else is left" diff "$work/before" "$work/after"
    check "  but the user, which files elsewhere may belong to" says '^pgvpd:' on_host getent passwd pgvpd
    check "  systemd knows of no service that failed" same running on_host systemctl is-system-running
}

test_debian() {
    if [ "$(id -u)" != 0 ]; then
        skip "the deb in a booted Debian" "only root can boot one"
        return
    fi
    make_packages
    unpack_base "$host"
    port=$(free_port)
    new_database signed
    boot
    test_debian_install
    test_debian_use
    test_debian_remove
    # As if the power button was pressed.
    end "$container"
    rm -rf "$host"
}
