#!/bin/sh
# On a first install ($1 is 1) the distribution's presets say whether the service is enabled; it is not started.
if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
fi
if [ "$1" = 1 ] && command -v systemctl >/dev/null; then
    systemctl --no-reload preset pgvpd.service || :
fi
exit 0
