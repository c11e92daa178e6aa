#!/usr/bin/env bash
# Lays out what is in the container image, of which docs/deploy/Dockerfile makes one layer: the static binary and the few files
# that it reads.
#
#   deploy/image.sh BINARY DIRECTORY
set -euo pipefail
[ $# = 2 ] || { sed -n '2,5s/^# \{0,1\}//p' "$0" >&2; exit 2; }
cd "$(dirname "$0")/.."
binary=$1 image=$2
authorities=/etc/ssl/certs/ca-certificates.crt
[ -e "$authorities" ] || { echo "image.sh: $authorities is missing (Debian: ca-certificates)" >&2; exit 1; }

rm -rf "$image"
install -D -m 0755 "$binary" "$image/usr/bin/pgvpd"
# For upstream_tls without upstream_tls_ca.
install -D -m 0644 "$authorities" "$image$authorities"
install -D -m 0644 LICENSE "$image/usr/share/licenses/pgvpd/LICENSE"
install -d "$image/usr/share/pgvpd/sql" "$image/etc/pgvpd"
install -m 0644 sql/*.sql "$image/usr/share/pgvpd/sql/"
# Names for the numbers; nothing needs them but who looks.
echo 'pgvpd:x:65532:65532:pgvpd:/:/sbin/nologin' >"$image/etc/passwd"
echo 'pgvpd:x:65532:' >"$image/etc/group"
