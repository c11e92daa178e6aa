#!/bin/sh
# After the files have gone. dpkg itself removes the configuration file on purge. What an administrator put into /etc/pgvpd stays,
# keys among it, and so does the user: files elsewhere may be its.
set -e

if [ "$1" = purge ]; then
    rm -rf /var/log/pgvpd
    # What `systemctl enable` made; there is no unit any more that could be disabled.
    rm -f /etc/systemd/system/multi-user.target.wants/pgvpd.service
fi
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload
fi
