#!/bin/sh
# When the last one goes ($1 is 0), not on an upgrade.
if [ "$1" = 0 ] && command -v systemctl >/dev/null; then
    if [ -d /run/systemd/system ]; then
        systemctl --no-reload disable --now pgvpd.service || :
    else
        systemctl --no-reload disable pgvpd.service || :
    fi
fi
exit 0
