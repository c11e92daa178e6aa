#!/usr/bin/env bash
# From a fresh folder: installs the tarballs of pack.sh, then a three-line Vitest file and a Jest file have to pass.
#
#   bindings/node/fresh.sh TARBALL...
set -euo pipefail
[ $# -gt 0 ] || { sed -n '2,4s/^# \{0,1\}//p' "$0"; exit 2; }
tarballs=()
for tarball in "$@"; do tarballs+=("$(realpath "$tarball")"); done
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
version() { node -p "require('$here/package.json').devDependencies['$1']"; }
passed=0
failed=0
check() {
    local name=$1
    shift
    if "$@" >"$folder/log" 2>&1; then
        passed=$((passed + 1))
        echo "ok    $name"
    else
        failed=$((failed + 1))
        echo "FAIL  $name"
        sed 's/^/      /' "$folder/log"
    fi
}

npm --loglevel=error init -y >/dev/null
# The platforms' packages are optional and, before the first release, not in the registry: npm goes on without them.
npm --loglevel=error install --no-audit --no-fund --ignore-scripts \
    "${tarballs[@]}" "vitest@$(version vitest)" "jest@$(version jest)"

cat >schema.sql <<'SQL'
CREATE TABLE orders (tenant_id text NOT NULL DEFAULT current_tenant_id(), item text);
SELECT pgvpd_protect('orders');
GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO app_user;
SQL

# Vitest: one line of configuration and its options, three lines of test.
cat >vitest.config.mjs <<'JS'
export default { test: { globalSetup: 'pgvpd/vitest', provide: { pgvpd: { schema: 'schema.sql' } }, include: ['*.vitest.mjs'] } }
JS
cat >orders.vitest.mjs <<'JS'
import { test } from 'vitest'
import { assertIsolated } from 'pgvpd/testing'
test('tenants see only their own orders', () => assertIsolated('orders'))
JS
check vitest npx --no-install vitest run

# Jest, likewise.
cat >jest.config.cjs <<'JS'
module.exports = { preset: 'pgvpd', globals: { pgvpd: { schema: 'schema.sql' } }, testMatch: ['**/*.jest.cjs'] }
JS
cat >orders.jest.cjs <<'JS'
const { assertIsolated } = require('pgvpd/testing')
test('tenants see only their own orders', () => assertIsolated('orders'))
JS
check jest npx --no-install jest --detectOpenHandles

# And both have to fail when the table leaks.
sed -i.bak '/pgvpd_protect/d' schema.sql
leaks() { ! "$@" && grep -q 'orders leaks' "$folder/log"; }
check 'vitest with a leak' leaks npx --no-install vitest run
check 'jest with a leak' leaks npx --no-install jest

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
