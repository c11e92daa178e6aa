#!/bin/sh
# Before the files go; an upgrade lets the old program run until the new one takes its place.
set -e

if [ "$1" = remove ] && [ -d /run/systemd/system ]; then
    deb-systemd-invoke stop pgvpd.service
fi
