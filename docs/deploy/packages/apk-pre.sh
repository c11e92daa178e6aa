#!/bin/sh
# Before the files are there, on install and on upgrade: their group. Alpine's own tools.
addgroup -S pgvpd 2>/dev/null
adduser -S -D -H -h / -s /sbin/nologin -G pgvpd -g "pgvpd, a proxy for PostgreSQL" pgvpd 2>/dev/null
exit 0
