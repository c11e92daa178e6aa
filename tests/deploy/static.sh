# The static binary in an empty root directory; sourced by tests/deploy.sh.
# Variables are shared.
# shellcheck shell=bash disable=SC2034,SC2154
# Needs: binary, work, tests, start_postgres.

empty=$work/empty

# pgvpd, where nothing else is, as nobody in particular.
in_empty=(chroot --userspec=65532:65532 "$empty" /pgvpd)

# A server for the empty root's resolv.conf; port 53 of an address of the loopback network that is nobody's.
start_dns() {
    start python3 "$tests/dns.py" 127.53.0.1 db.pgvpd.test
    line_of "$output" '^bound$' >/dev/null
}

# A name service that a static program must not load: it ends whoever does.
broken_name_service() {
    local directory
    directory=$empty/lib/$(cc -print-multiarch)
    mkdir -p "$directory"
    cc -shared -fPIC -nostdlib -o "$directory/libnss_broken.so.2" -x c - \
        <<<'__attribute__((constructor)) static void end(void) { __builtin_trap(); }'
}

# resolves HOST: a proxy whose server has this name lets a tenant in.
resolves() {
    local line status=0
    start "${in_empty[@]}" --port 0 --upstream-host "$1" --upstream-port "$server_port"
    line=$(line_of "$output" 'pgvpd is listening.* address=127\.0\.0\.1:[0-9]+')
    line=${line#* address=127.0.0.1:}
    same anvil items acme 127.0.0.1 "${line%% *}" plain || status=1
    end "$started"
    [ $status = 0 ] || cat <&"$output"
    return $status
}

test_static() {
    check "the binary is static" says 'statically linked\|not a dynamic executable' env LC_ALL=C bash -c "ldd $binary 2>&1 || true"
    if [ "$(id -u)" != 0 ]; then
        skip "the static binary in an empty root" "only root can change it"
        return
    fi
    rm -rf "$empty"
    mkdir -p "$empty/etc"
    cp "$binary" "$empty/pgvpd"
    echo '127.0.0.1 db.hosts.test' >"$empty/etc/hosts"
    echo 'nameserver 127.53.0.1' >"$empty/etc/resolv.conf"
    echo 'hosts: broken files dns' >"$empty/etc/nsswitch.conf"
    cp pgvpd.conf.example "$empty/etc/pgvpd.conf"
    broken_name_service
    start_dns
    check "in an empty root: --version" same "pgvpd $version" "${in_empty[@]}" --version
    check "in an empty root: --check-config" says 'configuration is valid' "${in_empty[@]}" --check-config --config /etc/pgvpd.conf
    check "in an empty root: a login, the server's name from /etc/hosts" resolves db.hosts.test
    check "in an empty root: a login, the server's name from DNS" resolves db.pgvpd.test
    check "in an empty root: a name that does not exist" refuses 'cannot resolve.*nowhere.pgvpd.test.*Name or service not known' \
        "${in_empty[@]}" --port 0 --listen-host nowhere.pgvpd.test
    check "without certificates of authorities, and upstream_tls: an error says so" refuses 'certificate' \
        "${in_empty[@]}" --check-config --upstream-tls true
    mkdir -p "$empty/etc/ssl/certs"
    cp /etc/ssl/certs/ca-certificates.crt "$empty/etc/ssl/certs/"
    check "with Debian's file of them it is valid" says 'configuration is valid' "${in_empty[@]}" --check-config --upstream-tls true
}
