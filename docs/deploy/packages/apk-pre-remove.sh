#!/bin/sh
# Before the files go.
rc-service --ifexists --ifstarted pgvpd stop
rc-update --quiet delete pgvpd default 2>/dev/null
exit 0
