#!/usr/bin/env bash
# Builds a package, installs it where nothing else is, and runs a first test of three lines there.
#
#   tests/packages.sh rust     a new crate that depends on pgvpd-core by its path
#   tests/packages.sh python   the wheel in a new virtual environment, with pytest
#   tests/packages.sh node     the tarballs in a new folder, with Vitest and with Jest
set -euo pipefail
cd "$(dirname "$0")/.."
packages=$PWD/target/packages

rust() {
    local crate=$packages/rust
    rm -rf "$crate"
    mkdir -p "$crate/tests"
    cat >"$crate/Cargo.toml" <<TOML
[package]
name = "fresh"
edition = "2024"

[lib]
path = "lib.rs"

[dev-dependencies]
pgvpd-core = { path = "$PWD/pgvpd-core", features = ["testing"] }
tokio = { version = "1", features = ["macros", "rt-multi-thread"] }

[workspace]
TOML
    touch "$crate/lib.rs"
    # The versions that the project is tested with.
    cp Cargo.lock "$crate/Cargo.lock"
    cat >"$crate/schema.sql" <<SQL
CREATE TABLE orders (tenant_id text NOT NULL, item text); SELECT pgvpd_protect('orders');
GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO app_user;
SQL
    cat >"$crate/tests/isolation.rs" <<RUST
#[tokio::test] async fn isolated() -> Result<(), pgvpd_core::testing::TestProxyError> {
    pgvpd_core::testing::TestProxy::builder().schema(include_str!("../schema.sql")).start().await?.assert_isolated("orders").await
}
RUST
    cargo test --manifest-path "$crate/Cargo.toml" --target-dir "$packages/rust-target" --test isolation
}

python() {
    bindings/python/build.sh
    bindings/python/fresh.sh "${CARGO_TARGET_DIR:-target}"/wheels/*.whl
}

node() {
    local tarballs=$packages/node
    rm -rf "$tarballs"
    bindings/node/pack.sh "$tarballs"
    bindings/node/fresh.sh "$tarballs"/*.tgz
}

case "${1:-}" in
    rust | python | node) "$1" ;;
    *)
        sed -n '2,6s/^# \{0,1\}//p' "$0"
        exit 2
        ;;
esac
