#!/usr/bin/env bash
# Installs the tools of deploy/requirements.txt into a virtual environment, anew when the list changes, and prints its bin directory.
#
#   PATH=$(deploy/tools.sh):$PATH
#
# Needs Python 3.9 or later with venv (Debian: python3-venv).
set -euo pipefail
cd "$(dirname "$0")/.."
tools=$PWD/target/deploy-tools
# Debian's own, for which python3-venv is.
python=/usr/bin/python3
[ -x "$python" ] || python=python3
if ! cmp -s deploy/requirements.txt "$tools/requirements.txt"; then
    {
        "$python" -m venv --clear "$tools"
        "$tools/bin/pip" install --quiet --disable-pip-version-check --requirement deploy/requirements.txt
    } >&2
    cp deploy/requirements.txt "$tools/requirements.txt"
fi
echo "$tools/bin"
