#!/bin/sh
# After an upgrade ($1 is 1) the new program takes the place of the one that runs.
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    if [ "$1" -ge 1 ]; then
        systemctl try-restart pgvpd.service || :
    fi
fi
exit 0
