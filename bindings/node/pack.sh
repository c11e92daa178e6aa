#!/usr/bin/env bash
# Builds the release addon of this platform and packs what npm would publish: the package pgvpd, and the package with
# the addon, such as @pgvpd/node-linux-x64-gnu.
#
#   bindings/node/pack.sh OUTDIR
#
# The version is the workspace's, stamped into copies: the package.json that is checked in holds 0.0.0.
set -euo pipefail
[ $# = 1 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0"; exit 2; }
mkdir -p "$1"
out=$(cd "$1" && pwd)
cd "$(dirname "$0")"
here=$PWD
root=$(cd ../.. && pwd)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
npm=(npm --loglevel=error)

[ -x node_modules/.bin/napi ] || "${npm[@]}" install --no-package-lock --no-audit --no-fund --ignore-scripts >&2
version=$(sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"$/\1/p' "$root/Cargo.toml")
[ -n "$version" ] || { echo "pack.sh: no version in $root/Cargo.toml" >&2; exit 1; }

# The addon and its loader, made for the stamped version.
node - "$version" >"$stage/package.json" <<'SCRIPT'
const manifest = require('./package.json')
manifest.version = process.argv[2]
delete manifest.devDependencies
console.log(JSON.stringify(manifest, null, 2))
SCRIPT
node_modules/.bin/napi build --platform --release --strip --manifest-path "$here/Cargo.toml" \
    --package-json-path "$stage/package.json" --output-dir "$stage" --js binding.cjs --dts binding.d.cts >&2
(cd "$stage" && "$here/node_modules/.bin/napi" create-npm-dirs >&2)
addon=$(basename "$stage"/pgvpd.*.node)
platform=${addon#pgvpd.}
platform=${platform%.node}

# The package of the addon.
mv "$stage/$addon" "$stage/npm/$platform/"
cp "$root/LICENSE" "$stage/npm/$platform/"

# The main package: the files that package.json names, and every platform as an optional dependency.
node - "$stage" <<'SCRIPT'
const { copyFileSync, existsSync, readFileSync, readdirSync, writeFileSync } = require('node:fs')
const stage = process.argv[2]
const manifest = JSON.parse(readFileSync(`${stage}/package.json`))
for (const file of manifest.files) if (!existsSync(`${stage}/${file}`)) copyFileSync(file, `${stage}/${file}`)
const platforms = readdirSync(`${stage}/npm`).sort()
const nameOf = (platform) => JSON.parse(readFileSync(`${stage}/npm/${platform}/package.json`)).name
manifest.optionalDependencies = Object.fromEntries(platforms.map((platform) => [nameOf(platform), manifest.version]))
writeFileSync(`${stage}/package.json`, `${JSON.stringify(manifest, null, 2)}\n`)
SCRIPT
cp README.md "$root/LICENSE" "$stage/"

# pack FOLDER FILE...: packs it, prints its size, and fails where it does not hold exactly these files.
pack() {
    local folder=$1 tarball
    shift
    tarball=$out/$("${npm[@]}" pack --silent --pack-destination "$out" "$folder")
    if ! diff <(printf 'package/%s\n' "$@" | sort) <(tar -tzf "$tarball" | sort) >&2; then
        echo "pack.sh: $tarball does not hold what it should (<) but what it has (>)" >&2
        exit 1
    fi
    printf '%s  %d bytes packed, %d unpacked, %d files\n' "$(basename "$tarball")" "$(wc -c <"$tarball")" \
        "$(tar -xzOf "$tarball" | wc -c)" "$#"
}
# Not by mapfile, which macOS's bash does not have.
files=()
while read -r file; do files+=("$file"); done < <(node -p "require('./package.json').files.join('\n')")
pack "$stage" package.json README.md LICENSE "${files[@]}"
pack "$stage/npm/$platform" package.json README.md LICENSE "$addon"
