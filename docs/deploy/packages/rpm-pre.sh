#!/bin/sh
# Before the files are there: their group.
if command -v systemd-sysusers >/dev/null; then
    echo 'u pgvpd - "pgvpd, a proxy for PostgreSQL"' | systemd-sysusers --replace=/usr/lib/sysusers.d/pgvpd.conf -
elif ! getent passwd pgvpd >/dev/null; then
    useradd --system --user-group --no-create-home --home-dir / --shell /sbin/nologin \
        --comment "pgvpd, a proxy for PostgreSQL" pgvpd
fi
exit 0
