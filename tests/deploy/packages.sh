# The packages: made, looked at, and those that are not Debian's installed where nothing runs; sourced by tests/deploy.sh.
# Variables are shared.
# shellcheck shell=bash disable=SC2034,SC2154
# Needs: binary, work, version.

packages=$work/packages

# make_packages: sets deb, rpm, apk.
make_packages() {
    [ -z "${deb:-}" ] || return 0
    rm -rf "$packages"
    deploy/packages.sh "$binary" "$packages" >"$work/packages.log"
    deb=$(grep '\.deb$' "$work/packages.log")
    rpm=$(grep '\.rpm$' "$work/packages.log")
    apk=$(grep '\.apk$' "$work/packages.log")
}

# What each of them holds, beside documents.
expected_files() {
    cat <<FILES
/etc/pgvpd/pgvpd.conf
/usr/bin/pgvpd
/usr/share/bash-completion/completions/pgvpd
/usr/share/fish/vendor_completions.d/pgvpd.fish
/usr/share/man/man1/pgvpd.1.gz
/usr/share/pgvpd/sql/audit.sql
/usr/share/pgvpd/sql/hardening.sql
/usr/share/pgvpd/sql/helpers.sql
/usr/share/pgvpd/sql/setup.sql
FILES
    printf '%s\n' "$@"
}

deb_files() { dpkg-deb --fsys-tarfile "$deb" | tar -t | sed 's/^\.//'; }
rpm_files() { rpm -qp --qf '[%{FILENAMES}\n]' "$rpm"; }
apk_files() { tar -tzf "$apk" 2>/dev/null | grep -v '^\.' | sed 's,^,/,'; }

# holds LIST FILE...: a package holds these, and no others but documents and directories.
holds() {
    local list=$1
    shift
    diff <(expected_files "$@" | sort) <("$list" | grep -v -e '/$' -e '^/usr/share/doc/' | sort)
}

# documents LIST: every page and example.
documents() {
    local file
    for file in docs/*.md; do "$1" | grep -qx "/usr/share/doc/pgvpd/$file" || { echo "no $file"; return 1; }; done
    for file in pgvpd.conf.example resolvers.toml.example tenants.toml.example prometheus-rules.yml grafana.json; do
        "$1" | grep -qx "/usr/share/doc/pgvpd/examples/$file" || { echo "no $file"; return 1; }
    done
}

# The same again, of which the bytes are compared.
reproducible() {
    deploy/packages.sh "$binary" "$work/packages-again" >/dev/null
    diff -r "$packages" "$work/packages-again"
    rm -rf "$work/packages-again"
}

# in_root COMMAND...: in a Debian where no systemd runs.
in_root() { chroot "$work/root" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin DEBIAN_FRONTEND=noninteractive "$@"; }

configuration_is_the_groups() { same 'root:pgvpd 640' in_root stat -c '%U:%G %a' /etc/pgvpd/pgvpd.conf; }

# A Debian without systemd: the user is made by other means.
test_without_systemd() {
    unpack_base "$work/root"
    in_root mv /usr/bin/systemd-sysusers /usr/bin/systemd-sysusers.away
    cp "$deb" "$work/root/"
    check "deb, where no systemd is: dpkg installs it" in_root dpkg -i "/$(basename "$deb")"
    check "  and makes a user without a shell" says '^pgvpd:.*:/usr/sbin/nologin$' in_root getent passwd pgvpd
    check "  whose group can read the configuration" configuration_is_the_groups
    check "  which is valid" says 'is valid' chroot --userspec=pgvpd:pgvpd "$work/root" /usr/bin/pgvpd --check-config --config /etc/pgvpd/pgvpd.conf
    check "  a second time, nothing changes" in_root dpkg -i "/$(basename "$deb")"
    check "  dpkg removes and purges it" in_root dpkg -P pgvpd
    check "  and its configuration" not test -e "$work/root/etc/pgvpd"

    # rpm's own scripts, in the same root with its user gone; dependencies are of another distribution.
    in_root userdel pgvpd
    check "rpm: installed in another root" rpm --root "$work/root" --nodeps -i "$rpm"
    check "  it makes the user" says '^pgvpd:' in_root getent passwd pgvpd
    check "  whose group can read the configuration" configuration_is_the_groups
    check "  every file is as it was packed" rpm --root "$work/root" --nodeps -V pgvpd
    check "  the binary runs" same "pgvpd $version" in_root pgvpd --version
    echo '# edited' >>"$work/root/etc/pgvpd/pgvpd.conf"
    check "  rpm removes it" rpm --root "$work/root" --nodeps -e pgvpd
    check "  and keeps the configuration that was edited" test -e "$work/root/etc/pgvpd/pgvpd.conf.rpmsave"
    test_openrc
    rm -rf "$work/root"
}

# rc ARGUMENT...: rc-service, with /proc, without the services of the network.
rc() {
    # shellcheck disable=SC2016 # expanded there
    unshare --mount bash -c 'mount -t proc proc "$1/proc" && exec chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin rc-service --nodeps pgvpd "${@:2}"' \
        rc "$work/root" "$@"
}

# The service of Alpine's package, with the files of that package, under Debian's OpenRC.
test_openrc() {
    tar -C "$work/root" -xzf "$apk" etc usr 2>/dev/null
    in_root chgrp pgvpd /etc/pgvpd/pgvpd.conf
    sed -i "s/^upstream_port = .*/upstream_port = $server_port/" "$work/root/etc/pgvpd/pgvpd.conf"
    mkdir -p "$work/root/run/openrc"
    touch "$work/root/run/openrc/softlevel"
    check "apk: its service starts under OpenRC" rc start
    check "  OpenRC says that it runs" says 'status: started' rc status
    check "  a tenant logs in" eventually same anvil items acme 127.0.0.1 6432 plain
    check "  as a user of its own" pgrep -u "$(in_root id -u pgvpd)" -x pgvpd
    echo 'tenant_deny = acme' >>"$work/root/etc/pgvpd/pgvpd.conf"
    check "  it reloads" rc reload
    check "  what was changed counts" eventually refuses 'tenant "acme" is not permitted' items acme 127.0.0.1 6432 plain
    echo 'no_such_option = 1' >>"$work/root/etc/pgvpd/pgvpd.conf"
    # Where OpenRC does not restart it, its code is 0 all the same.
    check "  with a configuration that is wrong it is not restarted" says no_such_option rc restart
    check "  and still runs" says 'status: started' rc status
    check "  it stops" rc stop
    check "  and nobody listens" refuses 'Connection refused' items acme 127.0.0.1 6432 plain
}

# Alpine's tools are not to be had here: its package is unpacked, and the scripts for them are only parsed.
test_apk() {
    local root=$work/alpine script
    rm -rf "$root"
    mkdir -p "$root"
    tar -C "$root" -xzf "$apk" 2>/dev/null
    check "apk: holds what it should" holds apk_files /etc/init.d/pgvpd /usr/share/licenses/pgvpd/LICENSE /usr/share/zsh/site-functions/_pgvpd
    check "  documents as well" documents apk_files
    check "  its name and version" says "^pkgver = $version" cat "$root/.PKGINFO"
    check "  it needs OpenRC and nothing else" same 'depend = openrc' grep '^depend' "$root/.PKGINFO"
    check "  the configuration is for the group" says '^-rw-r----- root/pgvpd .* etc/pgvpd/pgvpd.conf' tar -tvzf "$apk"
    check "  the service is executable" test -x "$root/etc/init.d/pgvpd"
    for script in pre-install pre-upgrade post-upgrade pre-deinstall; do
        check "  .$script is there, and parses" sh -n "$root/.$script"
    done
    [ "$(id -u)" != 0 ] || check "  the binary runs where nothing else is" same "pgvpd $version" chroot "$root" /usr/bin/pgvpd --version
    rm -rf "$root"
}

test_packages() {
    make_packages
    check "packages are the same when they are made again" reproducible
    local unit=/usr/lib/systemd/system/pgvpd.service users=/usr/lib/sysusers.d/pgvpd.conf
    check "deb: holds what it should" holds deb_files $unit $users /usr/share/zsh/vendor-completions/_pgvpd
    check "  documents as well" documents deb_files
    check "  its name, version and architecture" same "pgvpd $version $(dpkg --print-architecture)" \
        dpkg-deb -W --showformat='${Package} ${Version} ${Architecture}' "$deb"
    check "  it needs nothing but what makes the user" same passwd dpkg-deb -f "$deb" Depends
    check "  the configuration is marked as such" same /etc/pgvpd/pgvpd.conf dpkg-deb -I "$deb" conffiles
    check "rpm: holds what it should" holds rpm_files $unit $users /usr/share/licenses/pgvpd/LICENSE /usr/share/zsh/site-functions/_pgvpd
    check "  documents as well" documents rpm_files
    check "  its name, version and licence" same "pgvpd $version-1 MIT" rpm -qp --qf '%{NAME} %{VERSION}-%{RELEASE} %{LICENSE}' "$rpm"
    check "  it needs what makes the user" says '^shadow-utils' rpm -qp --requires "$rpm"
    check "  the configuration is kept when it was edited" says '^/etc/pgvpd/pgvpd.conf$' rpm -qp --configfiles "$rpm"
    check "  and for the group" same 'root pgvpd 100640' bash -c \
        "rpm -qp --qf '[%{FILENAMES} %{FILEUSERNAME} %{FILEGROUPNAME} %{FILEMODES:octal}\n]' $rpm | sed -n 's,^/etc/pgvpd/pgvpd.conf ,,p'"
    test_apk
    if [ "$(id -u)" = 0 ]; then
        test_without_systemd
    else
        skip "deb and rpm installed in a root of their own" "only root can"
    fi
}
