#!/sbin/openrc-run
# The service of pgvpd for OpenRC (Alpine). Like the systemd unit: own user, started again when it fails, drained on stop.
# shellcheck shell=sh disable=SC2034,SC2154

name=pgvpd
description="Virtual Private Database for PostgreSQL"
supervisor=supervise-daemon
command=/usr/bin/pgvpd
command_args="--config /etc/pgvpd/pgvpd.conf"
command_user=pgvpd:pgvpd
output_logger="logger -t pgvpd -p daemon.info"
error_logger="logger -t pgvpd -p daemon.err"
pidfile=/run/pgvpd.pid
umask=0077
rc_ulimit="-n 65536"
respawn_delay=1
# Longer than shutdown_timeout, for which sessions may go on.
retry=TERM/45/KILL/5
extra_commands=checkconfig
extra_started_commands=reload

depend() {
    need net
    use dns logger
    after firewall postgresql
}

checkconfig() {
    "$command" --check-config --config /etc/pgvpd/pgvpd.conf
}

# Before a restart stops what runs.
stop_pre() {
    [ "$RC_CMD" != restart ] || checkconfig
}

start_pre() {
    checkconfig || return 1
    checkpath --directory --mode 0755 --owner pgvpd:pgvpd /run/pgvpd /var/log/pgvpd
}

reload() {
    ebegin "Reloading $name"
    supervise-daemon "$RC_SVCNAME" --signal HUP --pidfile "$pidfile"
    eend $?
}
