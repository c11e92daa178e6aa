#!/usr/bin/env bash
# Shows that a new user's first test works: installs a wheel into a fresh virtual environment and runs three lines.
#
#   bindings/python/fresh.sh WHEEL
set -euo pipefail

[ $# = 1 ] || {
    sed -n '2,4s/^# \{0,1\}//p' "$0"
    exit 2
}
wheel=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
python=/usr/bin/python3
[ -x "$python" ] || python=python3
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"

"$python" -m venv venv
venv/bin/pip install -q --disable-pip-version-check "$wheel" pytest 'psycopg[binary]'
cat >schema.sql <<'SQL'
CREATE TABLE orders (tenant_id text NOT NULL DEFAULT current_tenant_id(), item text NOT NULL);
SELECT pgvpd_protect('orders');
GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO app_user;
SQL
printf '[pytest]\npgvpd_schema = schema.sql\n' >pytest.ini

cat >test_tenants.py <<'TEST'
def test_orders_are_isolated(assert_isolated, tenant):
    assert tenant.name in tenant.url
    assert_isolated("orders")
TEST
venv/bin/pytest -q
# Where the table is not protected, the same lines fail.
sed -i.bak '/pgvpd_protect/d' schema.sql
if venv/bin/pytest -q >leak.log; then
    echo "$0: the test passed with an unprotected table" >&2
    exit 1
fi
grep -q 'orders leaks: ' leak.log
venv/bin/pgvpd --version
echo "1 passed, 0 failed"
