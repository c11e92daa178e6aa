"""The servers: a private PostgreSQL, and the proxies in front of it, on free ports of the loopback interface."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from . import scram
from .clients import PASSWORD, Failure, Target, psql
from .measure import wait_until

DIRECT, HAPROXY, PGBOUNCER, RAW, FRAMED = "direct", "haproxy", "pgbouncer", "pgvpd raw", "pgvpd framed"
POOL = "pgvpd pool"
TARGETS = (DIRECT, HAPROXY, PGBOUNCER, RAW, FRAMED)
POOLS = (PGBOUNCER, POOL)
PGVPD = (RAW, FRAMED, POOL)
MAX_CLIENTS = 1100
START_SECONDS = 20

# Tuned so that the disk does not speak.
POSTGRESQL_CONF = """
listen_addresses = '127.0.0.1'
max_connections = {connections}
fsync = off
synchronous_commit = off
full_page_writes = off
shared_buffers = 512MB
jit = off
autovacuum = off
max_wal_size = 8GB
checkpoint_timeout = 1h
"""

HAPROXY_CFG = """
global
    maxconn {clients}
defaults
    mode tcp
    timeout connect 10s
    timeout client 1h
    timeout server 1h
listen postgresql
    bind 127.0.0.1:{port}
    server postgresql 127.0.0.1:{upstream}
"""

PGBOUNCER_INI = """
[databases]
postgres = host=127.0.0.1 port={upstream}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = session
max_client_conn = {clients}
default_pool_size = {clients}
log_connections = 0
log_disconnections = 0
"""

GRANTS = """
GRANT ALL ON ALL TABLES IN SCHEMA public TO app_user;
CREATE UNLOGGED TABLE blob (x text);
GRANT ALL ON blob TO app_user;
"""


@dataclass(frozen=True)
class Programs:
    """Where the programs are."""

    postgres: Path
    """The directory of PostgreSQL's programs."""
    pgvpd: Path
    haproxy: str = shutil.which("haproxy", path=f"{os.environ['PATH']}:/usr/sbin") or "haproxy"
    pgbouncer: str = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin") or "pgbouncer"

    def versions(self) -> dict[str, str]:
        """What each of them says about itself."""
        commands: dict[str, Sequence[str | Path]] = {
            "PostgreSQL": [self.postgres / "postgres", "--version"],
            "pgbench": [self.postgres / "pgbench", "--version"],
            "HAProxy": [self.haproxy, "-v"],
            "PgBouncer": [self.pgbouncer, "-V"],
            "pgvpd": [self.pgvpd, "--version"],
        }
        return {name: _first_line(command) for name, command in commands.items()}

    def has_framed_relay(self) -> bool:
        """Whether this pgvpd accepts `--relay framed`."""
        check: list[str | Path] = [self.pgvpd, "--check-config", "--relay", "framed"]
        return subprocess.run(check, capture_output=True, timeout=10, env=_environment(), check=False).returncode == 0


class Servers:
    """A private directory with a running PostgreSQL; the proxies come and go."""

    def __init__(self, programs: Programs, scale: int) -> None:
        self.programs = programs
        self.directory = Path(tempfile.mkdtemp(prefix="pgvpd-bench-"))
        self._account = _account()
        self._cleanup = ExitStack()
        self._cleanup.callback(shutil.rmtree, self.directory, ignore_errors=True)
        try:
            self._start_postgres(scale)
        except BaseException:
            self._cleanup.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._cleanup.close()

    def _start_postgres(self, scale: int) -> None:
        binaries, data, password = self.programs.postgres, self.directory / "data", self.directory / "password"
        password.write_text(PASSWORD)
        if self._account:
            shutil.chown(self.directory, self._account)
        initdb: list[str | Path] = [
            binaries / "initdb",
            "-D",
            data,
            "-U",
            "postgres",
            "--pwfile",
            password,
            "-A",
            "scram-sha-256",
            "-N",
        ]
        self._run_once(initdb)
        with (data / "postgresql.conf").open("a") as conf:
            conf.write(POSTGRESQL_CONF.format(connections=MAX_CLIENTS + 20))
        port = _free_port()
        options: list[str | Path] = ["-D", data, "-p", str(port), "-k", self.directory]
        postgres = self._start("postgres", [binaries / "postgres", *options], death="INT")
        self._cleanup.callback(_stop, postgres, "INT")
        self.postmaster = postgres.pid
        self.admin = Target("administrator", port, "postgres", binaries)
        self.direct = Target(DIRECT, port, "app_user", binaries)
        self._wait_for(postgres, port)
        wait_until(lambda: _answers(self.admin), START_SECONDS)
        verifier = scram.verifier(PASSWORD, iterations=1)
        psql(self.admin, f"CREATE ROLE app_user LOGIN PASSWORD '{verifier}'")
        # For the two pools: the server's own verifier, with which they log clients in, and themselves.
        self._users = self._write("users.txt", f'"app_user" "{verifier}"\n')
        # pgvpd takes no file of secrets that others can read.
        self._users.chmod(0o600)
        if self._account:
            shutil.chown(self._users, self._account, self._account)
        self.admin.run(["pgbench", "-i", "-q", "-s", str(scale)], deadline=120)
        psql(self.admin, GRANTS)

    @contextmanager
    def proxies(self, names: list[str]) -> Iterator[list[Target]]:
        """Fresh proxies with these names, in this order; they stay on the CPUs that this process is on."""
        with ExitStack() as stack:
            targets = []
            for name in names:
                if name == DIRECT:
                    targets.append(self.direct)
                    continue
                port = _free_port()
                process = self._start(name.replace(" ", "-"), self._command(name, port), as_us=name in PGVPD)
                stack.callback(_stop, process, "TERM")
                self._wait_for(process, port)
                user = "app_user.acme" if name in PGVPD else "app_user"
                targets.append(Target(name, port, user, self.programs.postgres, process.pid))
            yield targets

    def _command(self, name: str, port: int) -> Sequence[str | Path]:
        upstream = self.direct.port
        values = {"port": port, "upstream": upstream, "clients": MAX_CLIENTS, "users": self._users}
        if name == HAPROXY:
            return [self.programs.haproxy, "-db", "-f", self._write("haproxy.cfg", HAPROXY_CFG.format(**values))]
        if name == PGBOUNCER:
            return [self.programs.pgbouncer, self._write("pgbouncer.ini", PGBOUNCER_INI.format(**values))]
        options = {"log-level": "warn", "port": port, "upstream-host": "127.0.0.1", "upstream-port": upstream}
        options |= self._mode(name)
        return [self.programs.pgvpd, *(f"--{key}={value}" for key, value in options.items())]

    def _mode(self, name: str) -> dict[str, str | int]:
        """What makes one of the pgvpd targets different from the others."""
        if name != POOL:
            return {"relay": "framed" if name == FRAMED else "raw"}
        sizes = {"pool-size": MAX_CLIENTS, "max-upstream-connections": MAX_CLIENTS}
        return {"pool-mode": "session", "auth-file": str(self._users)} | sizes

    def _write(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path

    def _run_once(self, command: Sequence[str | Path]) -> None:
        done = subprocess.run(
            [str(word) for word in command],
            capture_output=True, text=True, timeout=60, user=self._account, group=self._account, cwd=self.directory,
            extra_groups=[] if self._account else None, check=False,
        )  # fmt: skip
        if done.returncode != 0:
            raise Failure(f"{Path(command[0]).name}: {done.stderr.strip()[-500:]}")

    def _start(self, name: str, command: Sequence[str | Path], death: str = "KILL", as_us: bool = False) -> subprocess.Popen:
        """Starts a server in a session of its own, so that Ctrl-C reaches only us, and ends it should we be killed."""
        account = None if as_us else self._account
        with (self.directory / f"{name}.log").open("w") as log:
            return subprocess.Popen(
                ["setpriv", "--pdeathsig", death, *(str(word) for word in command)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=self.directory,
                user=account, group=account, extra_groups=[] if account else None, env=_environment(),
            )  # fmt: skip

    def _wait_for(self, process: subprocess.Popen, port: int) -> None:
        ready = wait_until(lambda: process.poll() is not None or _listening(port), START_SECONDS)
        if not ready or process.poll() is not None:
            logs = "".join(f"\n{path.name}: {path.read_text()[-800:]}" for path in self.directory.glob("*.log"))
            raise Failure(f"{process.args!r} did not start{logs}")


def _account() -> str | None:
    """Whom root's servers run as; None where we are not root."""
    if os.geteuid() != 0:
        return None
    known = {entry.pw_name for entry in pwd.getpwall()}
    return next((name for name in ("postgres", "nobody") if name in known), None)


def _environment() -> dict[str, str]:
    """Ours, without settings for the servers that we start."""
    return {key: value for key, value in os.environ.items() if not key.startswith(("PG", "PGVPD_"))}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _answers(target: Target) -> bool:
    try:
        psql(target, "SELECT 1")
    except Failure:
        return False
    return True


def _stop(process: subprocess.Popen, signal: str) -> None:
    """Asks the server to end, then ends it."""
    process.send_signal({"TERM": 15, "INT": 2}[signal])
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _first_line(command: Sequence[str | Path]) -> str:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=10, check=False)
    return (done.stdout or done.stderr).splitlines()[0].split(" - ")[0]
