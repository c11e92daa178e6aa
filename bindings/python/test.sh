#!/usr/bin/env bash
# Installs the package from its sources into a virtual environment under target/, and runs its tests.
#
#   bindings/python/test.sh [argument of pytest]...
#
# PGVPD_PG_BINDIR names the PostgreSQL to test with; otherwise one is looked for.
set -euo pipefail
cd "$(dirname "$0")"

target=${CARGO_TARGET_DIR:-$PWD/../../target}
venv=$target/python
python=/usr/bin/python3
[ -x "$python" ] || python=python3

[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# Unoptimized and into the source folder, so that cargo's work is used again.
"$venv/bin/pip" install -q --disable-pip-version-check 'maturin>=1.9,<2'
VIRTUAL_ENV=$venv PATH=$venv/bin:$PATH "$venv/bin/maturin" develop --quiet --extras test

# A test that hangs must not hang those who run it.
status=0
results=$(mktemp)
trap 'rm -f "$results"' EXIT
PYTHONDONTWRITEBYTECODE=1 timeout 600 "$venv/bin/python" -m pytest -q -p no:cacheprovider --junit-xml="$results" "$@" || status=$?
"$venv/bin/python" - "$results" <<'COUNT' || status=1
import sys, xml.etree.ElementTree as tree

suite = tree.parse(sys.argv[1]).getroot().find("testsuite")
tests, skipped, failed = (int(suite.get(name)) for name in ("tests", "skipped", "failures"))
failed += int(suite.get("errors"))
print(f"{tests - skipped - failed} passed, {failed} failed")
sys.exit(failed > 0)
COUNT
exit "$status"
