"""A proxy from start to stop."""

from __future__ import annotations

import asyncio
import gc
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

import pgvpd
from pgvpd import Proxy
from pgvpd.pytest_plugin import Tenant

from .conftest import Run


def refuses(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) != 0


def test_it_runs_within_with_on_a_free_port() -> None:
    with Proxy(port=0) as proxy:
        assert proxy.host == "127.0.0.1"
        assert proxy.port > 0 and not refuses(proxy.port)
        assert repr(proxy) == f"<pgvpd.Proxy on 127.0.0.1:{proxy.port}>"
        port = proxy.port
    assert refuses(port)
    assert repr(proxy) == "<pgvpd.Proxy, not running>"


def test_tls_is_spoken_on_a_port_of_its_own(tmp_path: Path) -> None:
    cert, key = tmp_path / "cert", tmp_path / "key"
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc", "-subj", "/CN=localhost"]
    subprocess.run([*new, "-keyout", key, "-out", cert], check=True, capture_output=True)
    with Proxy(port=0, tls_port=0, tls_cert=str(cert), tls_key=str(key)) as proxy:
        assert proxy.tls_port and proxy.tls_port != proxy.port
        with socket.create_connection(("127.0.0.1", proxy.tls_port)) as client:
            client.sendall(b"\0\0\0\x08\x04\xd2\x16\x2f")
            assert client.recv(1) == b"S"
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            with context.wrap_socket(client) as secured:
                assert secured.version() == "TLSv1.3"
    with Proxy(port=0) as proxy:
        assert proxy.tls_port is None


def test_it_can_be_started_again_and_not_twice() -> None:
    proxy = Proxy(port=0).start()
    with pytest.raises(pgvpd.Error, match="has been started already"):
        proxy.start()
    with proxy:
        assert proxy.port > 0
    with proxy:
        assert proxy.port > 0
    assert proxy.stop() == 0


def test_two_threads_start_it_once() -> None:
    proxy = Proxy(port=0)
    outcomes: list[object] = []
    together = threading.Barrier(8)

    def start() -> None:
        together.wait()
        try:
            outcomes.append(proxy.start())
        except pgvpd.Error as error:
            outcomes.append(error)

    threads = [threading.Thread(target=start) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    proxy.stop()
    assert outcomes.count(proxy) == 1


@pytest.mark.parametrize("use", [lambda p: p.port, lambda p: p.stats(), lambda p: p.url("a", "b"), lambda p: p.reload()])
def test_what_does_not_run_says_so(use: Callable[[Proxy], object]) -> None:
    with pytest.raises(pgvpd.Error, match="the proxy does not run; call start"):
        use(Proxy(port=0))


def test_a_url_encodes_tenant_database_and_password() -> None:
    with Proxy(port=0, login_roles=["web", "worker"]) as proxy:
        at = f"127.0.0.1:{proxy.port}"
        assert proxy.url("acme", "mydb") == f"postgresql://web.acme@{at}/mydb"
        assert proxy.url("a@b:c/ü", "my db", password="p@:/ß") == (
            f"postgresql://web.a%40b%3Ac%2F%C3%BC:p%40%3A%2F%C3%9F@{at}/my%20db"
        )


def test_stats_count_what_happens(pgvpd_proxy: Proxy, tenant: Tenant) -> None:
    before = pgvpd_proxy.stats()
    with psycopg.connect(tenant.url):
        during = pgvpd_proxy.stats()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(tenant.url.replace(tenant.name, ""))
    after = pgvpd_proxy.stats()
    assert during.sessions_active > 0
    assert after.sessions_total == before.sessions_total + 1
    assert after.refused_total == before.refused_total + 1
    assert after.connections_total == before.connections_total + 2
    assert after._fields == ("connections_total", "sessions_total", "refused_total", "sessions_active")


def test_reload_changes_what_it_names_and_tells_what_it_cannot() -> None:
    with Proxy(port=0, tenant_deny="initech") as proxy:
        port = proxy.port
        assert proxy.reload(tenant_deny=["acme", "globex"], port=1) == ["port"]
        assert proxy.port == port
        assert proxy.option("tenant_deny") == "acme,globex"
        with pytest.raises(psycopg.OperationalError, match="acme"):
            psycopg.connect(proxy.url("acme", "app", password="x"))
        with pytest.raises(pgvpd.ConfigError):
            proxy.reload(tenant_deny="initech", relay="cooked")
        assert proxy.option("tenant_deny") == "acme,globex"
        assert proxy.reload(login_roles="web", port=0) == []
        assert proxy.url("acme", "app").startswith("postgresql://web.acme@")


def test_stop_counts_the_sessions_that_it_closes(pgvpd_postgres: pgvpd.testing.Postgres, pgvpd_database: str) -> None:
    proxy = Proxy(port=0, upstream_port=pgvpd_postgres.port).start()
    session = psycopg.connect(proxy.url("acme", pgvpd_database, pgvpd_postgres.app_password))
    assert proxy.stop() == 1
    with pytest.raises(psycopg.OperationalError):
        session.execute("SELECT 1")


def test_stop_waits_for_sessions_as_long_as_it_may(
    pgvpd_postgres: pgvpd.testing.Postgres, pgvpd_database: str
) -> None:
    proxy = Proxy(port=0, upstream_port=pgvpd_postgres.port).start()
    port = proxy.port
    session = psycopg.connect(proxy.url("acme", pgvpd_database, pgvpd_postgres.app_password))
    closed: list[int] = []
    stopping = threading.Thread(target=lambda: closed.append(proxy.stop(timeout=60)))
    stopping.start()
    while not refuses(port):
        pass
    assert session.execute("SELECT current_tenant_id()").fetchone() == ("acme",)
    assert proxy.closed(timeout=0) is False
    session.close()
    stopping.join()
    assert closed == [0]


def test_closed_waits_without_the_gil() -> None:
    proxy = Proxy(port=0).start()
    waiting = threading.Event()
    results: list[bool] = []

    def wait() -> None:
        waiting.set()
        results.append(proxy.closed())

    thread = threading.Thread(target=wait)
    thread.start()
    waiting.wait()
    assert proxy.closed(timeout=0) is False
    proxy.stop()
    thread.join()
    assert results == [True]
    assert proxy.closed() is True


def test_times_are_seconds_from_zero() -> None:
    with Proxy(port=0) as proxy:
        for timeout in (-1, float("nan")):
            with pytest.raises(ValueError):
                proxy.stop(timeout)
        with pytest.raises(OverflowError):
            proxy.closed(float("inf"))


def test_async_with_leaves_the_event_loop_free() -> None:
    async def session() -> int:
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0)

        ticking = asyncio.create_task(tick())
        async with Proxy(port=0) as proxy:
            assert not refuses(proxy.port)
            port = proxy.port
        ticking.cancel()
        assert refuses(port)
        return ticks

    assert asyncio.run(session()) > 0


def test_an_unused_one_is_stopped_when_it_is_collected() -> None:
    proxy = Proxy(port=0).start()
    port = proxy.port
    del proxy
    gc.collect()
    while not refuses(port):
        pass


def test_ctrl_c_ends_a_wait(run_python: Run) -> None:
    done = run_python(
        """
        import os, signal, threading, pgvpd
        with pgvpd.Proxy(port=0) as proxy:
            try:
                threading.Thread(target=os.kill, args=(os.getpid(), signal.SIGINT)).start()
                proxy.closed()
            except KeyboardInterrupt:
                print("interrupted")
        """
    )
    assert done.stdout == "interrupted\n"
