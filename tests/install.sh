# Installing what a script needs; sourced by the scripts of the tests and the benchmark.
# shellcheck shell=bash

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

# use_node MAJOR DIRECTORY: puts a Node.js of at least this version on PATH; npm brings one where the system's is older, as
# Debian 12's is.
use_node() {
    local major architecture
    major=$(node --version 2>/dev/null | sed 's/^v\([0-9]*\).*/\1/')
    [ "${major:-0}" -lt "$1" ] || return 0
    architecture=$(uname -m | sed 's/x86_64/x64/; s/aarch64/arm64/')
    if [ ! -x "$2/node_modules/node-linux-$architecture/bin/node" ]; then
        echo "fetching Node.js 22"
        mkdir -p "$2"
        npm install --no-save --no-package-lock --no-audit --no-fund --prefix "$2" "node-linux-$architecture@22.23.3" >"$2/npm.log" 2>&1 || {
            tail -n 5 "$2/npm.log" >&2
            echo "$0: npm failed, see $2/npm.log; Node.js $1 or later is needed" >&2
            exit 1
        }
    fi
    PATH=$2/node_modules/node-linux-$architecture/bin:$PATH
}
