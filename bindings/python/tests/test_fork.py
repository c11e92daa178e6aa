"""A forked child has no threads of the proxy: it is told so, and harms nothing of its parent's."""

from __future__ import annotations

from .conftest import Run

# Runs `child()` in a fork, which leaves by way of the interpreter's exit, and reports how it went.
FORK = """
import gc, os, sys, pgvpd
from pgvpd.testing import Postgres

def in_fork(child):
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        child()
        sys.exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7

def refused(what):
    try:
        what()
    except pgvpd.Error as error:
        assert "forked" in str(error) and "URLs" in str(error), error
        print("refused")
    else:
        print("not refused")
"""


def test_a_fork_of_a_process_that_uses_it_is_refused(run_python: Run) -> None:
    done = run_python(
        FORK
        + """
proxy = pgvpd.Proxy(port=0).start()

def child():
    for what in [lambda: proxy.port, proxy.stats, proxy.stop, proxy.closed, lambda: proxy.url("a", "b"), proxy.reload]:
        refused(what)
    refused(pgvpd.Proxy(port=0).start)
    refused(Postgres().start)
    refused(lambda: pgvpd.testing.assert_isolated("t", login=str, tenants=("a", "b")))

in_fork(child)
print(proxy.stop())
"""
    )
    assert done.stdout == "refused\n" * 9 + "0\n"


def test_a_fork_that_ends_or_collects_stops_nothing_of_its_parents(run_python: Run) -> None:
    done = run_python(
        FORK
        + """
import socket
postgres = Postgres().start()
proxy = pgvpd.Proxy(port=0).start()
kept = pgvpd.Proxy(port=0).start()

def child():
    global postgres, proxy
    del postgres, proxy
    gc.collect()

for _ in range(3):
    in_fork(child)
for service in (postgres, proxy, kept):
    socket.create_connection(("127.0.0.1", service.port)).close()
postgres.execute("postgres", "SELECT 1")
print("all there")
"""
    )
    assert done.stdout == "all there\n"


def test_a_fork_before_the_first_use_may_use_it(run_python: Run) -> None:
    done = run_python(
        FORK
        + """
proxy = pgvpd.Proxy(port=0)

def child():
    with proxy:
        print(proxy.port > 0, flush=True)

in_fork(child)
with proxy:
    print(proxy.port > 0)
"""
    )
    assert done.stdout == "True\nTrue\n"


def test_a_pool_of_forked_workers_uses_urls(run_python: Run) -> None:
    done = run_python(
        """
        import multiprocessing, psycopg, pgvpd
        from pgvpd.testing import Postgres

        def tenant(url):
            with psycopg.connect(url) as session:
                return session.execute("SELECT current_tenant_id()").fetchone()[0]

        with Postgres() as postgres:
            postgres.create_app_database("app")
            with pgvpd.Proxy(upstream_port=postgres.port, port=0) as proxy:
                urls = [proxy.url(name, "app", postgres.app_password) for name in ("acme", "globex")]
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    print(pool.map(tenant, urls))
        """
    )
    assert done.stdout == "['acme', 'globex']\n"
