# A Debian of this machine's release, as debootstrap makes it, with systemd as its init; sourced by tests/deploy.sh.
# Variables are shared.
# shellcheck shell=bash disable=SC2034,SC2154

# OpenRC for the service of Alpine's package, which is not this one's init.
base_packages=systemd-sysv,openrc
# shellcheck source=/dev/null
base_tar=/var/cache/pgvpd-tests/debian-$(. /etc/os-release && echo "$VERSION_CODENAME")-$base_packages.tar

# make_base: makes it, where it is not there yet. The mirror is the one of apt's lists.
make_base() {
    local codename directory mirror
    [ ! -e "$base_tar" ] || return 0
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mirror() {
        # shellcheck disable=SC2016 # apt's own variable
        apt-get indextargets --format '$(REPO_URI)' "Codename: $codename" "Component: main" "Identifier: Packages" | head -n 1
    }
    mirror=$(mirror)
    # An image without apt's lists.
    [ -n "$mirror" ] || { apt-get update -q && mirror=$(mirror); }
    mkdir -p "$(dirname "$base_tar")"
    directory=$(mktemp -d)
    debootstrap --variant=minbase --include=$base_packages "$codename" "$directory" "$mirror"
    # For every user, which mktemp's directory is not.
    chmod 0755 "$directory"
    rm -rf "$directory"/var/cache/apt/archives/*.deb "$directory"/var/lib/apt/lists/*
    tar -C "$directory" -cf "$base_tar.new" .
    mv "$base_tar.new" "$base_tar"
    rm -rf "$directory"
}

# unpack_base DIRECTORY
unpack_base() {
    rm -rf "$1"
    mkdir -p "$1"
    tar -C "$1" -xf "$base_tar"
}
