#!/usr/bin/env bash
# The examples of docs/drizzle-integration.md and docs/prisma.md: types checked, and run against a PostgreSQL through a proxy.
#
#   tests/examples/node.sh [drizzle|prisma]...
#
# Needs Node.js 20.19 or newer and npm; Rust too, unless the addon in bindings/node is built. The last line counts.
set -euo pipefail
cd "$(dirname "$0")"

[ $# -gt 0 ] || set -- drizzle prisma
package=../../bindings/node
passed=0
failed=0

# npm's install scripts stay off: that of Prisma's engines downloads one.
install() {
    npm install --no-package-lock --no-audit --no-fund --ignore-scripts --loglevel error --prefix "$1" >&2
}

if ! cmp -s package.json node_modules/.installed.json; then
    install .
    cp package.json node_modules/.installed.json
fi

# The addon, unless there is one that is newer than what it is made of.
addon=$(find "$package" -maxdepth 1 -name '*.node' -print -quit)
sources=("$package/src" "$package/Cargo.toml" ../../pgvpd-core/src ../../sql)
if [ -z "$addon" ] || [ -n "$(find "${sources[@]}" -type f -newer "$addon" -print -quit)" ]; then
    [ -x "$package/node_modules/.bin/napi" ] || install "$package"
    (cd "$package" && node_modules/.bin/napi build --platform --js binding.cjs --dts binding.d.cts >&2)
fi

# As npm would install it, with the addon in it. A link would take other copies of what the package's types refer to.
archive=$(npm pack "./$package" --silent --pack-destination node_modules)
rm -rf node_modules/pgvpd
mkdir node_modules/pgvpd
tar -xzf "node_modules/$archive" -C node_modules/pgvpd --strip-components 1
cp "$package"/*.node node_modules/pgvpd/
rm "node_modules/$archive"

# check NAME COMMAND...: one test.
check() {
    local name=$1
    shift
    if "$@"; then
        echo "ok    $name"
        passed=$((passed + 1))
    else
        echo "FAIL  $name"
        failed=$((failed + 1))
    fi
}

# Vitest counts; an error beside the tests, such as an exception that nobody caught, shows in its status only.
vitest() {
    local results=node_modules/.results.json status=0 ok bad
    rm -f "$results"
    node_modules/.bin/vitest run --root "$1" --reporter default --reporter json --outputFile.json "$PWD/$results" || status=$?
    read -r ok bad < <(node -p 'const r = JSON.parse(fs.readFileSync(process.argv[1])); `${r.numPassedTests} ${r.numFailedTests}`' "$results" || echo 0 1)
    [ "$status" = 0 ] || [ "$bad" -gt 0 ] || bad=1
    passed=$((passed + ok))
    failed=$((failed + bad))
}

# Prisma's command line wants a schema engine before it does anything, and would download it, also where it has no use for it.
generate() {
    (cd prisma && CHECKPOINT_DISABLE=1 PRISMA_SCHEMA_ENGINE_BINARY="$(type -P true)" ../node_modules/.bin/prisma generate)
}

for example in "$@"; do
    [ "$example" != prisma ] || check "prisma: generate" generate
    check "$example: types" node_modules/.bin/tsc -p "$example"
    vitest "$example"
done

echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
