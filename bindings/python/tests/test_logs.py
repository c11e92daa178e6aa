"""What the proxy reports reaches `logging`."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

import psycopg
import pytest

import pgvpd
from pgvpd import Proxy
from pgvpd.testing import Postgres

from .conftest import Run


def refused_login(proxy: Proxy) -> None:
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(proxy.url("", "app", "x"))


def test_records_are_below_the_logger_pgvpd(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with Proxy(port=0) as proxy:
        refused_login(proxy)
        proxy.reload(tenant_deny="acme")
    names = {record.name for record in caplog.records}
    assert "pgvpd.reload" in names and "pgvpd.session" in names
    (reload,) = (record for record in caplog.records if "configuration reloaded" in record.message)
    assert reload.levelno == logging.INFO
    assert Path(reload.pathname).parts[-2:] == ("reload", "mod.rs")


def test_levels_are_those_of_the_moment(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("pgvpd")
    with Proxy(port=0) as proxy:
        for level, expected in [("ERROR", 0), ("INFO", 1), ("ERROR", 0), ("DEBUG", 1)]:
            with caplog.at_level(level, logger="pgvpd"):
                caplog.clear()
                proxy.reload(tenant_deny="acme")
                assert len(caplog.records) == expected, level
    assert logger.level == logging.NOTSET


def test_no_other_crate_logs_statements_with_their_passwords(
    caplog: pytest.LogCaptureFixture, pgvpd_postgres: Postgres
) -> None:
    caplog.set_level(logging.DEBUG)
    pgvpd_postgres.create_app_database("logged")
    pgvpd_postgres.execute("logged", "SELECT 'do not log me'")
    assert "do not log me" not in caplog.text
    assert pgvpd_postgres.app_password not in caplog.text
    assert {record.name.partition(".")[0] for record in caplog.records} <= {"pgvpd", "asyncio"}


def test_a_handler_may_use_the_proxy_and_stop_it(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="pgvpd")
    answers: list[object] = []
    done = threading.Event()

    class Curious(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name != "pgvpd.session" or done.is_set():
                return
            answers.append(proxy.stats())
            answers.append(proxy.reload(tenant_deny="acme"))
            answers.append(proxy.stop())
            done.set()

    handler = Curious()
    logging.getLogger("pgvpd").addHandler(handler)
    try:
        with Proxy(port=0) as proxy:
            refused_login(proxy)
            assert done.wait(60)
    finally:
        logging.getLogger("pgvpd").removeHandler(handler)
    assert isinstance(answers[0], pgvpd.Stats)
    assert answers[1:] == [[], 0]


def test_a_handler_that_blocks_holds_up_no_client_and_losses_are_reported(
    caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    caplog.set_level(logging.INFO, logger="pgvpd")
    users = tmp_path / "users.txt"
    users.write_text('"root" "secret"\n')
    users.chmod(0o600)
    begun, released, reported = threading.Event(), threading.Event(), threading.Event()

    class Stuck(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            begun.set()
            released.wait(120)
            if "log lines are missing here" in record.getMessage():
                reported.set()

    def log_more_than_can_wait() -> None:
        dsn = f"host=127.0.0.1 port={proxy.port} user=root password=secret dbname=pgvpd"
        with psycopg.connect(dsn, autocommit=True) as console:
            for _ in range(10):
                console.execute(b"DISCONNECT TENANT 'nobody';" * 500)

    handler = Stuck()
    logging.getLogger("pgvpd").addHandler(handler)
    try:
        with Proxy(port=0, admin_users="root", auth_file=users) as proxy:
            client = threading.Thread(target=log_more_than_can_wait, daemon=True)
            client.start()
            client.join(30)
            assert begun.is_set()
            assert not client.is_alive(), "the client waits for the handler"
            proxy.reload(tenant_deny="acme")
            assert not reported.is_set()
            released.set()
            assert reported.wait(60)
    finally:
        released.set()
        logging.getLogger("pgvpd").removeHandler(handler)


def test_nothing_is_written_where_nobody_asked(run_python: Run) -> None:
    done = run_python("import pgvpd; pgvpd.Proxy(port=0).start().reload(tenant_deny='acme')")
    assert (done.stdout, done.stderr) == ("", "")
