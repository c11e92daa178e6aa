"""What the Python clients share: the connection's data, and how a step is checked."""

import os

HOST, PORT, DATABASE = os.environ["PGHOST"], int(os.environ["PGPORT"]), os.environ["PGDATABASE"]
PASSWORD = os.environ["PGPASSWORD"]
TENANT = os.environ["PGVPD_TENANT"]

SLEEP = f"SELECT pg_sleep(60) /* {TENANT} */"
RUNNING = f"SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query = '{SLEEP}'"


def ok(step: str) -> None:
    print("ok", step, flush=True)


def same(expected: object, found: object) -> None:
    if expected != found:
        raise SystemExit(f"expected {expected!r}, got {found!r}")
