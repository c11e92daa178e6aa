"""The interpreter exits cleanly, whatever runs."""

from __future__ import annotations

import os
import socket

import pytest

from .conftest import Run

# A server, a proxy and a session, all running.
RUNNING = """
import logging, os, sys, threading, psycopg, pgvpd
from pgvpd.testing import Postgres
postgres = Postgres().start()
postgres.create_app_database("app")
proxy = pgvpd.Proxy(upstream_port=postgres.port, port=0).start()
url = proxy.url("acme", "app", postgres.app_password)
print(postgres.port, proxy.port, flush=True)
"""


def assert_gone(output: str) -> None:
    for port in output.split()[:2]:
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", int(port))) != 0


@pytest.mark.parametrize("end, code", [("", 0), ("sys.exit(3)", 3), ("del sys.modules['pgvpd'], pgvpd, Postgres", 0)])
def test_what_runs_is_stopped(run_python: Run, end: str, code: int) -> None:
    done = run_python(RUNNING + "session = psycopg.connect(url)\n" + end, code=code)
    assert_gone(done.stdout)
    assert done.stderr == ""


def test_an_exception_is_all_that_is_printed(run_python: Run) -> None:
    done = run_python(RUNNING + "session = psycopg.connect(url)\nraise ValueError('mine')", code=1)
    assert_gone(done.stdout)
    assert done.stderr.splitlines()[-1] == "ValueError: mine" and done.stderr.count("Traceback") == 1


def test_a_thread_that_waits_for_the_end_sees_it(run_python: Run) -> None:
    done = run_python(RUNNING + "threading.Thread(target=proxy.closed, daemon=True).start()")
    assert_gone(done.stdout)
    assert done.stderr == ""


@pytest.mark.parametrize("attempt", range(8))
def test_records_written_at_that_moment_do_no_harm(run_python: Run, attempt: int) -> None:
    script = """
logging.basicConfig(level="DEBUG", filename=os.devnull)
begun = threading.Barrier(5)
def hammer():
    begun.wait()
    while True:
        try:
            psycopg.connect(url).close()
        except psycopg.Error:
            pass
for _ in range(4):
    threading.Thread(target=hammer, daemon=True).start()
session = psycopg.connect(url)
begun.wait()
"""
    done = run_python(RUNNING + script)
    assert_gone(done.stdout)
    assert done.stderr == ""


def test_a_handler_that_never_returns_does_not_keep_the_interpreter(run_python: Run) -> None:
    script = """
# By `handle`, since `logging` itself waits at exit for the lock that a handler holds around `emit`.
class Stuck(logging.Handler):
    def handle(self, record):
        threading.Event().wait()
logging.getLogger("pgvpd").addHandler(Stuck())
logging.getLogger("pgvpd").setLevel("DEBUG")
threading.Thread(target=psycopg.connect, args=[url], daemon=True).start()
while not proxy.stats().sessions_total:
    pass
"""
    done = run_python(RUNNING + script)
    assert_gone(done.stdout)
    assert done.stderr == ""


def test_what_logs_while_the_interpreter_goes_away_does_no_harm(run_python: Run) -> None:
    # An exit handler that runs after all others starts a proxy, and module teardown has it write records.
    script = """
import atexit, logging, os, socket, sys

class Last:
    def __del__(self, socket=socket.socket):
        for _ in range(20):
            with socket() as client:
                client.connect((b"127.0.0.1", late.port))
                client.sendall(b"GET / HTTP/1.1")
                client.recv(1000)
        assert sys.is_finalizing()
        os.write(1, b"done")

last = Last()
sys.modules["last"] = last
atexit.register(lambda: late.start())
import pgvpd
late = pgvpd.Proxy(port=0)
logging.basicConfig(level="DEBUG", filename=os.devnull)
"""
    done = run_python(script)
    assert (done.stdout, done.stderr) == ("done", "")


def test_a_killed_process_leaves_no_server(run_python: Run) -> None:
    done = run_python(RUNNING + "os.kill(os.getpid(), 9)", code=-9)
    port = int(done.stdout.split()[0])
    while True:
        with socket.socket() as client:
            if client.connect_ex(("127.0.0.1", port)) != 0:
                return
        os.sched_yield()
