"""The clients: pgbench and psql against one target, each with a deadline."""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

PASSWORD = "secret"
CHUNK = 1 << 20


class Failure(Exception):
    """A run that gave no figure."""


@dataclass(frozen=True)
class Target:
    """Where clients connect to."""

    name: str
    port: int
    user: str
    programs: Path
    """The directory of psql and pgbench."""
    pid: int | None = None
    """The proxy's process; None for a direct connection."""

    def start(self, command: list[str], **options: Any) -> subprocess.Popen:
        """Starts psql or pgbench, whatever the caller's own settings of libpq are."""
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PG")}
        environment |= {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": self.user,
            "PGPASSWORD": PASSWORD,
            "PGDATABASE": "postgres",
            "PGSSLMODE": "disable",
            "PGGSSENCMODE": "disable",
            "PGCONNECT_TIMEOUT": "30",
        }
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | options
        return subprocess.Popen([self.programs / command[0], *command[1:]], env=environment, **pipes)

    def run(self, command: list[str], deadline: float, **options: Any) -> str:
        """Runs psql or pgbench to its end; what it printed."""
        with self.start(command, text=True, **options) as client:
            try:
                output, errors = client.communicate(timeout=deadline)
            except BaseException as reason:
                client.kill()
                if isinstance(reason, subprocess.TimeoutExpired):
                    raise Failure(f"{command[0]} was not done after {deadline:.0f} s") from None
                raise
        if client.returncode != 0:
            raise Failure(f"{command[0]}: {_error(errors)}")
        return output or ""


@dataclass(frozen=True)
class Transactions:
    """What pgbench reports."""

    number: int
    per_second: float
    p50_us: float | None = None
    p99_us: float | None = None


def psql(target: Target, sql: str, deadline: float = 30, **options: Any) -> str:
    """Runs statements; the rows as plain text."""
    return target.run(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql], deadline, **options).strip()


@contextmanager
def psql_output(target: Target, sql: str, deadline: float) -> Iterator[IO[bytes]]:
    """The output of a statement to read at will; psql holds back in step. Ended after the deadline, which is an error."""
    with target.start(["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]) as client:
        assert client.stdout is not None and client.stderr is not None
        timer = threading.Timer(deadline, client.kill)
        timer.start()
        try:
            yield client.stdout
            client.wait()
        finally:
            timer.cancel()
            client.kill()
        if client.returncode != 0:
            raise Failure(f"psql: {_error(client.stderr.read().decode())} (exit {client.returncode})")


def count_bytes(stream: IO[bytes]) -> int:
    """Reads to the end."""
    total = 0
    while chunk := os.read(stream.fileno(), CHUNK):
        total += len(chunk)
    return total


def pgbench(target: Target, options: list[str], deadline: float, latencies: bool = False) -> Transactions:
    """Runs pgbench's select-only script, or another one given as an option, and checks that nothing failed."""
    script = [] if "-f" in options else ["-S"]
    with tempfile.TemporaryDirectory(prefix="pgvpd-bench-log-") as directory:
        log = ["-l", f"--log-prefix={directory}/log"] if latencies else []
        output = target.run(["pgbench", "-n", *script, *options, *log], deadline)
        times = sorted(_latencies(Path(directory)))
    failed = re.search(r"number of failed transactions: (\d+)", output)
    if failed and failed[1] != "0":
        raise Failure(f"pgbench: {failed[1]} transactions failed")
    number = re.search(r"actually processed: (\d+)(?:/(\d+))?", output)
    rate = re.search(r"^tps = ([\d.]+)", output, re.MULTILINE)
    if not number or not rate or number[2] not in (None, number[1]):
        raise Failure(f"pgbench: not all was done: {output[-300:]}")
    if not times:
        return Transactions(int(number[1]), float(rate[1]))
    return Transactions(int(number[1]), float(rate[1]), times[len(times) // 2], times[int(len(times) * 0.99)])


def _latencies(directory: Path) -> Iterator[int]:
    """Microseconds of each transaction, from pgbench's log files."""
    for path in directory.iterdir():
        with path.open() as lines:
            for line in lines:
                yield int(line.split(" ", 3)[2])


def _error(text: str) -> str:
    """The first line that says what went wrong."""
    lines = [line for line in text.splitlines() if "error" in line.lower() or "FATAL" in line]
    return (lines or text.splitlines() or ["no message"])[0][:300]
