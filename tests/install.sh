# Installing what a script needs; sourced by the scripts of the tests and the benchmark.

have() { command -v "$1" >/dev/null 2>&1; }

# install_packages LOG PACKAGE...: installs Debian packages, or says what to install.
install_packages() {
    local log=$1 sudo=()
    shift
    [ "$(id -u)" = 0 ] || sudo=(sudo)
    if ! have apt-get || { [ "$(id -u)" != 0 ] && ! have sudo; }; then
        echo "$0: install these with your package manager, then run it again: $*" >&2
        exit 1
    fi
    echo "installing: $*"
    mkdir -p "$(dirname "$log")"
    if ! { "${sudo[@]}" apt-get update -q &&
        "${sudo[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@"; } >"$log" 2>&1; then
        tail -n 5 "$log" >&2
        echo "$0: apt-get failed, see $log" >&2
        exit 1
    fi
}
