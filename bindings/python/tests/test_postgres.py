"""A private PostgreSQL from start to stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psycopg
import pytest

import pgvpd
from pgvpd.testing import Postgres, PostgresError


def test_it_runs_within_with_by_its_settings() -> None:
    with Postgres(settings={"work_mem": "7MB", "max_connections": 33, "jit": False}) as postgres:
        assert repr(postgres) == f"<pgvpd.testing.Postgres {postgres.version} on 127.0.0.1:{postgres.port}>"
        with psycopg.connect(postgres.url("postgres")) as session:
            shown = [session.execute(f"SHOW {name}").fetchone() for name in ("work_mem", "max_connections", "jit")]
            assert shown == [("7MB",), ("33",), ("off",)]
            assert session.info.parameter_status("server_version") is not None
            assert str(session.info.parameter_status("server_version")).startswith(postgres.version)
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(f"postgresql://postgres@127.0.0.1:{session.info.port}/postgres")
    with pytest.raises(pgvpd.Error, match="the server does not run"):
        postgres.url("postgres")
    postgres.stop()


def test_data_outlives_restart_and_kill_but_not_stop() -> None:
    async def run() -> None:
        async with Postgres() as postgres:
            port = postgres.port
            postgres.execute("postgres", "CREATE TABLE t (id int); INSERT INTO t VALUES (1)")
            for end in (postgres.restart, postgres.kill):
                end()
                postgres.restart()
                assert postgres.port == port
                postgres.execute("postgres", "DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (2)")
            postgres.stop()
            postgres.start()
            with pytest.raises(PostgresError, match='relation "t" does not exist'):
                postgres.execute("postgres", "SELECT * FROM t")

    asyncio.run(run())


def test_an_application_s_database_has_the_sql_and_the_role(pgvpd_postgres: Postgres) -> None:
    pgvpd_postgres.create_app_database('a "b"/c')
    url = pgvpd_postgres.app_url('a "b"/c')
    assert f"//{pgvpd_postgres.app_user}:{pgvpd_postgres.app_password}@" in url
    with psycopg.connect(url) as session:
        assert session.execute("SELECT current_user::text, current_tenant_id()").fetchone() == ("app_user", None)
        assert session.execute("SELECT pgvpd_context('a.b')").fetchone() == (None,)
    pgvpd_postgres.create_database("plain")
    with pytest.raises(PostgresError, match="current_tenant_id"):
        pgvpd_postgres.execute("plain", "SELECT current_tenant_id()")
    with pytest.raises(PostgresError, match="already exists"):
        pgvpd_postgres.create_database("plain")


def test_a_directory_without_postgres_is_an_error(tmp_path: Path) -> None:
    postgres = Postgres(bin_dir=tmp_path)
    with pytest.raises(PostgresError, match="cannot be used as PostgreSQL's program directory"):
        postgres.start()
    assert issubclass(PostgresError, pgvpd.Error)


def test_settings_that_postgres_refuses_are_told_with_its_log() -> None:
    postgres = Postgres(settings={"work_mem": "much"})
    with pytest.raises(PostgresError, match="work_mem"):
        postgres.start()
    with pytest.raises(TypeError):
        Postgres(settings={"work_mem": None})  # type: ignore[dict-item]
