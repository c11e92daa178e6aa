#!/usr/bin/env bash
# Logs in with psql once for each line `PORT USER WAY`, and prints one line each. LD_LIBRARY_PATH chooses the libpq.
set -euo pipefail
while read -r port user way; do
    settings="sslmode=$way"
    case $way in
        direct) settings='sslmode=verify-full sslnegotiation=direct' ;;
        binding) settings='sslmode=require channel_binding=require' ;;
    esac
    if said=$(psql -X -A -t -q "host=localhost hostaddr=127.0.0.1 port=$port user=$user $settings sslrootcert=$PGVPD_CA" \
        -c 'SELECT current_tenant_id()' 2>&1); then
        echo "ok $said"
    else
        echo "error ${said//$'\n'/ }"
    fi
done
