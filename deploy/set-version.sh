#!/usr/bin/env bash
# Gives every package of the project its version; the place that says it is Cargo.toml, [workspace.package].
#
#   deploy/set-version.sh 0.2.0     changes it there, in what the crates ask of each other, in Cargo.lock and in the manifests
#   deploy/set-version.sh --check   says where a package disagrees with it
#
# The wheel, the npm packages, deb, rpm and apk take it from Cargo.toml when they are built.
set -euo pipefail
cd "$(dirname "$0")/.."

image=docs/deploy/kubernetes/kustomization.yaml
current() { sed -n '/^\[workspace.package\]/,/^\[/s/^version = "\(.*\)"/\1/p' Cargo.toml; }

check() {
    local version wrong=0
    version=$(current)
    [ -n "$version" ] || { echo "Cargo.toml: no version in [workspace.package]" >&2; exit 1; }
    complain() { echo "$1: $2, and Cargo.toml says $version" >&2; wrong=1; }
    while read -r name required; do
        [ "$required" = "$version" ] || complain "Cargo.toml, dependency $name" "$required"
    done < <(sed -n 's/^\(pgvpd-[a-z]*\) = { path = .*version = "\([^"]*\)".*/\1 \2/p' Cargo.toml)
    while read -r manifest; do
        grep -q '^version.workspace = true' "$manifest" || complain "$manifest" "a version of its own"
    done < <(git ls-files '*/Cargo.toml' | grep -v '^tests/')
    while read -r tag; do
        [ "$tag" = "$version" ] || complain "$image" "newTag $tag"
    done < <(sed -n 's/^ *newTag: //p' "$image")
    if [ -e bindings/node/package.json ]; then
        grep -q '"version": "0.0.0"' bindings/node/package.json || complain bindings/node/package.json "not the 0.0.0 that is replaced"
    fi
    if [ -e bindings/python/pyproject.toml ]; then
        grep -q '^dynamic = \[.*"version"' bindings/python/pyproject.toml || complain bindings/python/pyproject.toml "no dynamic version"
    fi
    return $wrong
}

case "${1:-}" in
    --check) check ;;
    [0-9]*.[0-9]*.[0-9]*)
        sed -i.old -e '/^\[workspace.package\]/,/^\[/s/^version = ".*"/version = "'"$1"'"/' \
            -e '/^pgvpd-[a-z]* = { path = /s/version = "[^"]*"/version = "'"$1"'"/' Cargo.toml
        sed -i.old "s/^\( *newTag: \).*/\1$1/" "$image"
        rm Cargo.toml.old "$image.old"
        cargo update --workspace --quiet
        check
        ;;
    *)
        sed -n '2,7s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
esac
