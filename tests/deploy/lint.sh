# Lints of what is deployed and of every shell script; sourced by tests/deploy.sh.
# Variables are shared.
# shellcheck shell=bash disable=SC2034,SC2154
# Needs: work.

# The unit, with a binary that is there: systemd-analyze looks for it.
verify_unit() {
    mkdir -p "$work/unit"
    sed "s,/usr/bin/pgvpd,$binary," docs/deploy/pgvpd.service >"$work/unit/pgvpd.service"
    # It says what it does not understand, and succeeds all the same.
    same '' bash -c "systemd-analyze verify --man=no $work/unit/pgvpd.service 2>&1"
}

# zizmor's code is that of the worst finding; those that are suppressed have their reason beside them.
workflows() { zizmor --offline --no-progress --quiet .github/workflows; }

scripts() {
    local file files=()
    while read -r file; do
        case $(head -c 64 "$file" | tr -d '\0') in '#!/bin/sh'* | '#!/sbin/openrc-run'* | '#!/usr/bin/env bash'*) files+=("$file") ;; esac
        case $file in tests/deploy/*.sh | tests/install.sh) files+=("$file") ;; esac
    done < <(git ls-files --cached --others --exclude-standard)
    shellcheck --severity=warning --external-sources "${files[@]}"
}

yaml() {
    local files
    mapfile -t files < <(git ls-files --cached --others --exclude-standard '*.yml' '*.yaml')
    yamllint --strict --config-data '{extends: default, rules: {line-length: {max: 150}, document-start: disable, truthy: disable,
        comments: {min-spaces-from-content: 1}, braces: {max-spaces-inside: 1}, indentation: {indent-sequences: consistent}}}' "${files[@]}"
}

test_lint() {
    check "lint: systemd-analyze verify" verify_unit
    # 2.5 at most; it prints 1.4.
    check "lint: systemd-analyze security" systemd-analyze security --offline=yes --threshold=25 --no-pager docs/deploy/pgvpd.service
    check "lint: hadolint" hadolint docs/deploy/Dockerfile
    check "lint: zizmor" workflows
    check "lint: yamllint" yaml
    check "lint: shellcheck" scripts
    check "lint: versions" deploy/set-version.sh --check
}
