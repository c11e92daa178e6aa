"""The benchmark: pgvpd beside a direct connection, HAProxy and PgBouncer. `run.sh` is the way in."""
