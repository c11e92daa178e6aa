# The manifests: their schema in every version that they are for, what they name, and their configuration, by the program itself;
# sourced by tests/deploy.sh.
# Variables are shared.
# shellcheck shell=bash disable=SC2034,SC2154
# Needs: binary, work, tests, version.

manifests=docs/deploy/kubernetes

# Where the kubelet would mount it, as the user that the pod has.
configuration() {
    local root=$work/pod
    rm -rf "$root"
    deploy/image.sh "$binary" "$root"
    mkdir -p "$root/etc/pgvpd/secrets"
    cp "$manifests/pgvpd.conf" "$root/etc/pgvpd/"
    openssl rand -hex 32 >"$root/etc/pgvpd/secrets/signing-key"
    openssl rand -hex 32 >"$root/etc/pgvpd/secrets/admin-token"
    chown -R 0:65532 "$root/etc/pgvpd/secrets"
    chmod 0440 "$root"/etc/pgvpd/secrets/*
    # Without a note, such as one about a key that others can read.
    same 'pgvpd: the configuration is valid' chroot --userspec=65532:65532 "$root" /usr/bin/pgvpd --check-config --config /etc/pgvpd/pgvpd.conf
    rm -rf "$root"
}

test_kubernetes() {
    local release files
    mapfile -t files < <(git ls-files --cached --others --exclude-standard "$manifests/*.yaml" | grep -v /kustomization)
    # From the first that has preStop's sleep without a feature gate.
    for release in 1.30 1.31 1.32 1.33 1.34 1.35 1.36 1.37; do
        check "kubernetes: manifests are valid in $release" kubernetes-validate --strict --quiet -k $release "${files[@]}"
    done
    check "  and agree with each other" python "$tests/manifests.py" "$manifests" "$version"
    if [ "$(id -u)" = 0 ]; then
        check "  pgvpd.conf is valid, with secrets where they are mounted" configuration
    else
        skip "pgvpd.conf of the manifests" "only root can put secrets where they are mounted"
    fi
}
