"""What is measured: each workload runs once against one target and gives figures."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace

from .clients import CHUNK, Failure, Target, count_bytes, pgbench, psql, psql_output
from .measure import PeakMemory, cpu_seconds, descriptors, pss_kib, wait_until
from .servers import DIRECT, FRAMED, HAPROXY, MAX_CLIENTS, PGBOUNCER, POOLS, RAW, TARGETS, Servers

SESSIONS = 1000
assert SESSIONS < MAX_CLIENTS
SETTLE_SECONDS = 10
PROXIES = TARGETS[1:]
PROTOCOLS = ("simple", "extended", "prepared")
"""Of pgbench's queries through the pools."""


@dataclass(frozen=True)
class Effort:
    """How much a form of the benchmark does."""

    repetitions: int
    memory_repetitions: int
    seconds: int
    """Of each pgbench run."""
    churn_seconds: int
    copy_mb: int


Figures = dict[str, float]
Measure = Callable[[Servers, Target, Effort], Figures]


@dataclass(frozen=True)
class Figure:
    """One figure that a workload gives."""

    key: str
    title: str
    decimals: int = 0
    charted: bool = False


@dataclass(frozen=True)
class Workload:
    """A workload, and how its figures are to be read."""

    name: str
    title: str
    about: str
    measure: Measure
    figures: tuple[Figure, ...]
    pinned: bool = False
    """PostgreSQL, proxy and client on one CPU."""
    alone: bool = False
    """Each run has a fresh proxy, and only `memory_repetitions` of them are made."""
    targets: tuple[str, ...] = TARGETS
    compared: str | None = None
    """The figure of which the page shows the ratios to the references."""
    references: tuple[str, ...] = (DIRECT, HAPROXY)
    short: tuple[str, ...] = field(default=())
    """The targets in the short form."""


def _transactions(options: list[str]) -> Measure:
    def measure(_: Servers, target: Target, effort: Effort) -> Figures:
        before = cpu_seconds(target.pid) if target.pid else 0
        options_ = [*options, "-T", str(effort.seconds)]
        done = pgbench(target, options_, deadline=effort.seconds * 3 + 30, latencies=True)
        figures = {"per_second": done.per_second, "p50": done.p50_us or 0, "p99": done.p99_us or 0}
        if target.pid:
            figures["cpu"] = (cpu_seconds(target.pid) - before) / done.number * 1e6
        return figures

    return measure


def _churn(clients: int) -> Measure:
    def measure(_: Servers, target: Target, effort: Effort) -> Figures:
        before = cpu_seconds(target.pid) if target.pid else 0
        options = ["-C", "-c", str(clients), "-j", "2", "-T", str(effort.churn_seconds)]
        done = pgbench(target, options, deadline=effort.churn_seconds * 3 + 30)
        figures = {"per_second": done.per_second}
        if target.pid:
            figures["cpu"] = (cpu_seconds(target.pid) - before) / done.number * 1e6
        return figures

    return measure


def _copy_sql(megabytes: int) -> str:
    """Rows of 1,000 bytes with their newline."""
    return f"COPY (SELECT repeat('x', 999) FROM generate_series(1, {megabytes * 1000})) TO STDOUT"


def _copied(target: Target, megabytes: int, copy: Callable[[], None]) -> Figures:
    before, start = cpu_seconds(target.pid) if target.pid else 0, time.monotonic()
    copy()
    figures = {"per_second": megabytes / (time.monotonic() - start)}
    if target.pid:
        figures["cpu"] = (cpu_seconds(target.pid) - before) / megabytes * 1000
    return figures


def _copy_out(_: Servers, target: Target, effort: Effort) -> Figures:
    def copy() -> None:
        with open("/dev/null", "wb") as nowhere:
            psql(target, _copy_sql(effort.copy_mb), deadline=180, stdout=nowhere)

    return _copied(target, effort.copy_mb, copy)


def _copy_in(servers: Servers, target: Target, effort: Effort) -> Figures:
    megabytes = effort.copy_mb // 2
    path = servers.directory / "copy-in.txt"
    if not path.exists():
        with path.open("wb") as file:
            for _ in range(megabytes):
                file.write((b"x" * 999 + b"\n") * 1000)

    def copy() -> None:
        # A row of the file is read and parsed, and nothing is stored.
        with path.open("rb") as file:
            psql(target, "COPY blob FROM STDIN WHERE false", deadline=180, stdin=file)

    return _copied(target, megabytes, copy)


def _idle(servers: Servers, target: Target, _: Effort) -> Figures:
    pid = _warm(target)
    memory, files = pss_kib(pid), descriptors(pid)
    script = servers.directory / "idle.sql"
    script.write_text("SELECT 1;\n\\sleep 100 s\n")
    count = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'app_user' AND state = 'idle' AND query = 'SELECT 1;'"
    with target.start(["pgbench", "-n", "-c", str(SESSIONS), "-j", "2", "-t", "1", "-f", str(script)]) as clients:
        try:
            wait_until(lambda: clients.poll() is not None or int(psql(servers.admin, count)) >= SESSIONS, seconds=60)
            sessions, full = int(psql(servers.admin, count)), pss_kib(pid)
        finally:
            clients.kill()
        if sessions < SESSIONS:
            raise Failure(f"{sessions} of {SESSIONS} sessions")
    # PgBouncer keeps its server connections.
    wait_until(lambda: descriptors(pid) <= files, seconds=1 if target.name == PGBOUNCER else SETTLE_SECONDS)
    wait_until(lambda: pss_kib(pid) <= memory, seconds=5)
    return {
        "sessions": sessions,
        "each": (full - memory) / sessions,
        "left": pss_kib(pid) - memory,
        "files": descriptors(pid) - files,
    }


def _logins(servers: Servers, target: Target, _: Effort) -> Figures:
    pid = _warm(target)
    # Something that pgbench does by itself: each connection ends as soon as it is ready.
    script = servers.directory / "logins.sql"
    script.write_text("\\set nothing 0\n")
    logins = ["-C", "-c", "4", "-j", "2", "-f", str(script)]
    files = descriptors(pid)
    start = time.monotonic()
    pgbench(target, [*logins, "-t", "500"], deadline=60)
    wait_until(lambda: descriptors(pid) <= files, SETTLE_SECONDS)
    memory = pss_kib(pid)
    pgbench(target, [*logins, "-t", "2000"], deadline=240)
    seconds = time.monotonic() - start
    wait_until(lambda: descriptors(pid) <= files, SETTLE_SECONDS)
    return {"growth": pss_kib(pid) - memory, "files": descriptors(pid) - files, "seconds": seconds}


def _large(_: Servers, target: Target, __: Effort) -> Figures:
    pid = _warm(target)
    return {
        "row": _growth(pid, target, "SELECT repeat('x', 200000000)", 200_000_001),
        "copy": _growth(pid, target, _copy_sql(1000), 1_000_000_000),
        "slow": _growth(pid, target, _copy_sql(200), 200_000_000, unread_seconds=2),
    }


def _growth(pid: int, target: Target, sql: str, expected: int, unread_seconds: float = 0) -> float:
    """How far the proxy's memory grows while this output passes, of which all must arrive."""
    with PeakMemory(pid) as memory, psql_output(target, sql, deadline=120) as output:
        output.read(CHUNK if unread_seconds else 0)
        time.sleep(unread_seconds)
        received = (CHUNK if unread_seconds else 0) + count_bytes(output)
    if received != expected:
        raise Failure(f"{received} of {expected} bytes arrived")
    return memory.growth_kib


def _warm(target: Target) -> int:
    """One login through the proxy, so that its code is in memory; the proxy's process."""
    assert target.pid is not None
    psql(target, "SELECT 1")
    # Until this session, and the probe for the port before it, are closed on both sides.
    time.sleep(0.5)
    return target.pid


_RATE = Figure("per_second", "transactions/s", charted=True)
_QUERY = (_RATE, Figure("cpu", "proxy CPU µs/query", 2, charted=True), Figure("p50", "p50 µs"), Figure("p99", "p99 µs"))
_COPY = (Figure("per_second", "MB/s", charted=True), Figure("cpu", "proxy CPU s/GB", 3, charted=True))
_LOGINS = (Figure("per_second", "logins/s", charted=True), Figure("cpu", "proxy CPU µs/login", 0, charted=True))
_KEY = (DIRECT, HAPROXY, RAW, FRAMED)
_PGVPD = (RAW, FRAMED)
_OPEN_FILES = Figure("files", "descriptors left open")


def _queries(name: str, title: str, options: list[str], short: tuple[str, ...] = ()) -> Workload:
    about = f"`pgbench -S {' '.join(options)}`; PostgreSQL, proxies and pgbench share one CPU."
    measure = _transactions(options)
    return Workload(name, title, about, measure, _QUERY, pinned=True, compared="per_second", short=short)


def _pooled_queries(protocol: str) -> Workload:
    queries = _queries(f"pool-{protocol}", f"Pooled queries, {protocol}", ["-M", protocol, "-c", "8", "-j", "2"], short=POOLS)
    return replace(queries, targets=POOLS, references=(PGBOUNCER,))


WORKLOADS = (
    _queries("select-1", "Select-only, one client", ["-c", "1"]),
    _queries("select-8", "Select-only, 8 clients", ["-c", "8", "-j", "2"], short=_KEY),
    _queries("extended-8", "Extended protocol, 8 clients", ["-M", "extended", "-c", "8", "-j", "2"]),
    _queries("prepared-8", "Prepared statements, 8 clients", ["-M", "prepared", "-c", "8", "-j", "2"]),
    Workload(
        "churn",
        "Connection churn",
        "`pgbench -S -C -c 4 -j 2`: a login, one query, and a disconnect. The role's SCRAM verifier has 1 iteration, so"
        " that the login's messages count, and not the key derivation. PgBouncer answers logins itself and keeps its"
        " server connections, so it avoids the work that is measured for the others.",
        _churn(clients=4),
        _LOGINS,
        compared="per_second",
        short=_KEY,
    ),
    Workload(
        "copy-out",
        "COPY out",
        "`COPY … TO STDOUT` of rows of 1,000 bytes, through psql to /dev/null.",
        _copy_out,
        _COPY,
        compared="per_second",
        short=_KEY,
    ),
    Workload(
        "copy-in",
        "COPY in",
        "`COPY … FROM STDIN WHERE false` of rows of 1,000 bytes, half the volume of COPY out; nothing is stored.",
        _copy_in,
        _COPY,
        compared="per_second",
    ),
    Workload(
        "idle",
        "1,000 sessions",
        "1,000 sessions at a time, each of which has run one query and is idle. Memory is the growth of the proxy's PSS"
        " per session, then what remains of it 5 s after all clients have disconnected.",
        _idle,
        (
            Figure("each", "KiB/session", 2, charted=True),
            Figure("left", "KiB left afterwards", charted=True),
            Figure("sessions", "sessions"),
            _OPEN_FILES,
        ),
        alone=True,
        targets=PROXIES,
        short=_PGVPD,
    ),
    Workload(
        "logins",
        "10,000 logins in a row",
        "Four clients take turns logging in and disconnecting, as fast as they can. A leaked socket shows as a"
        " descriptor, a leaked task or buffer as memory: the growth of the proxy's PSS between login 2,000 and login"
        " 10,000.",
        _logins,
        (Figure("growth", "KiB growth", charted=True), _OPEN_FILES, Figure("seconds", "seconds", 1)),
        alone=True,
        targets=PROXIES,
        # PostgreSQL takes most of the time: 10,000 backends.
        short=(RAW,),
    ),
    Workload(
        "large",
        "Large results and a slow reader",
        "A row of 200 MB; a COPY of 1 GB; a COPY of 200 MB whose client reads nothing for 2 s. All bytes have to"
        " arrive. Memory is the highest growth of the proxy's PSS in the meantime, sampled every 20 ms.",
        _large,
        (
            Figure("row", "KiB growth, 200 MB row", charted=True),
            Figure("copy", "KiB growth, 1 GB COPY", charted=True),
            Figure("slow", "KiB growth, slow reader", charted=True),
        ),
        alone=True,
        targets=PROXIES,
        short=_PGVPD,
    ),
    Workload(
        "pool-churn",
        "Pooled churn",
        "`pgbench -S -C -c 8 -j 2` through the two pools: a login that the pool itself authenticates, one query on an"
        " existing connection, and its reset before the next client.",
        _churn(clients=8),
        _LOGINS,
        targets=POOLS,
        compared="per_second",
        references=(PGBOUNCER,),
        short=POOLS,
    ),
    *(_pooled_queries(protocol) for protocol in PROTOCOLS),
)
