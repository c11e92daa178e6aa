#!/bin/sh
# After the files are there: the user, who may read the configuration, and after an upgrade the new program. Neither enabled nor
# started on a first install: where PostgreSQL is, and who may connect, is for the administrator to say.
set -e

[ "$1" = configure ] || exit 0

if command -v systemd-sysusers >/dev/null; then
    systemd-sysusers /usr/lib/sysusers.d/pgvpd.conf
elif ! getent passwd pgvpd >/dev/null; then
    useradd --system --user-group --no-create-home --home-dir / --shell /usr/sbin/nologin \
        --comment "pgvpd, a proxy for PostgreSQL" pgvpd
fi

# Once: who changes owner or mode later has a reason.
if [ -z "$2" ] && ! dpkg-statoverride --list /etc/pgvpd/pgvpd.conf >/dev/null; then
    chown root:pgvpd /etc/pgvpd/pgvpd.conf
    chmod 0640 /etc/pgvpd/pgvpd.conf
fi

if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
    if [ -n "$2" ]; then
        deb-systemd-invoke try-restart pgvpd.service || true
    fi
fi
