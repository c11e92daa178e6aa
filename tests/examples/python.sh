#!/usr/bin/env bash
# The examples of docs/sqlalchemy.md and docs/django.md, run against a PostgreSQL through a proxy.
#
#   tests/examples/python.sh [sqlalchemy|django]...
#
# Needs Python's venv; Rust too, unless the wheel in target/wheels is newer than its sources. The last line counts.
set -euo pipefail
cd "$(dirname "$0")"

[ $# -gt 0 ] || set -- sqlalchemy django
target=${CARGO_TARGET_DIR:-$PWD/../../target}
venv=$target/examples/venv
package=../../bindings/python
python=/usr/bin/python3
[ -x "$python" ] || python=python3

wheel=$(find "$target/wheels" -name 'pgvpd-*.whl' -print -quit 2>/dev/null || true)
sources=("$package/src" "$package/python" "$package/pyproject.toml" "$package/Cargo.toml" ../../pgvpd-core/src ../../pgvpd-cli/src ../../sql)
if [ -z "$wheel" ] || [ -n "$(find "${sources[@]}" -type f -newer "$wheel" -not -name '*.so' -not -name '*.pyc' -print -quit)" ]; then
    "$package/build.sh" >&2
    wheel=$(find "$target/wheels" -name 'pgvpd-*.whl' -print -quit)
fi
if ! cmp -s python-requirements.txt "$target/examples/requirements.txt"; then
    "$python" -m venv --clear "$venv"
    "$venv/bin/pip" install -q --disable-pip-version-check -r python-requirements.txt
    cp python-requirements.txt "$target/examples/requirements.txt"
fi
"$venv/bin/pip" install -q --disable-pip-version-check --force-reinstall --no-deps "$wheel"

export PYTHONDONTWRITEBYTECODE=1
status=0
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
for example in "$@"; do
    # A test that hangs must not hang those who run it.
    (cd "$example" && timeout 300 "$venv/bin/python" -m pytest -q --junit-xml="$results/$example.xml") || status=1
done
"$venv/bin/python" -m pytest -q -p no:cacheprovider --junit-xml="$results/guides.xml" test_guides.py || status=1
"$venv/bin/python" - "$results"/*.xml <<'COUNT'
import sys, xml.etree.ElementTree as tree

suites = [tree.parse(path).getroot().find("testsuite") for path in sys.argv[1:]]
tests, failed = (sum(int(suite.get(name)) for suite in suites for name in names) for names in (["tests"], ["failures", "errors"]))
print(f"{tests - failed} passed, {failed} failed")
COUNT
exit "$status"
