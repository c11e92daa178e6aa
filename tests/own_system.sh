# A network, processes and an /etc of a test's own, for root; sourced by the scripts that use real ports and paths.
# shellcheck shell=bash

# own_system COMMAND...: runs it there instead of this shell. Whatever it starts ends with it, and nothing of it is left behind.
# With a prefix in the array own_system_as, such as sudo.
own_system_as=()
own_system() {
    # shellcheck disable=SC2016 # expanded by the inner shell
    exec "${own_system_as[@]}" unshare --net --pid --mount --fork --kill-child --mount-proc bash -euc '
        ip link set lo up
        own=$(mktemp -d)
        mount -t tmpfs tmpfs "$own"
        cp -a /etc/. "$own"
        mount --bind "$own" /etc
        umount "$own"
        rmdir "$own"
        mkdir -p /etc/pgvpd
        exec "$@"
    ' - "$@"
}
