"""Where a page is followed: a scratch folder, a fresh PostgreSQL on port 5432, and the program, as its reader has them."""

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PASSWORD = "secret"
HBA = """\
local all all scram-sha-256
host all all 127.0.0.1/32 scram-sha-256
"""
# How long a command, or a server's start, may take before it counts as stuck.
PATIENCE = 120


class Failed(Exception):
    """A command that did not do what the page says."""


def server_programs() -> Path:
    """The newest PostgreSQL of the system, or the one that PGVPD_PG_BINDIR names."""
    if named := os.environ.get("PGVPD_PG_BINDIR"):
        return Path(named)
    versions = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    initdb = versions[-1] if versions else shutil.which("initdb")
    if initdb is None:
        raise SystemExit("no PostgreSQL: apt install postgresql")
    return Path(initdb).parent


def as_server(command: list[str]) -> list[str]:
    """PostgreSQL does not run as root."""
    return ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", *command] if os.getuid() == 0 else command


class Place:
    """One page's. The server's data are copied from a template, so that pages do not see each other."""

    def __init__(self, scratch: Path, name: str, program: Path):
        self.template = scratch / "template"
        self.data = scratch / f"{name}.data"
        self.home = scratch / name
        self.program = program
        self.servers: list[subprocess.Popen[bytes]] = []
        self.postgres: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Place":
        bin_dir = server_programs()
        if not self.template.exists():
            self.template.mkdir(mode=0o700)
            if os.getuid() == 0:
                shutil.chown(self.template, "nobody", "nogroup")
            password = self.template.with_suffix(".password")
            password.write_text(PASSWORD)
            password.chmod(0o644)
            initdb = [str(bin_dir / "initdb"), "-D", str(self.template), "-U", "postgres", "--no-sync", "-E", "UTF8", "-A", "scram-sha-256"]
            subprocess.run(as_server([*initdb, f"--pwfile={password}"]), check=True, capture_output=True, cwd="/")
            (self.template / "pg_hba.conf").write_text(HBA)
        subprocess.run(["cp", "-a", str(self.template), str(self.data)], check=True)
        self.home.mkdir()
        for name in ("sql", "docs", "pgvpd.conf.example"):
            (self.home / name).symlink_to(ROOT / name)
        self.log = (self.home / "postgres.log").open("wb")
        options = ["-k", str(self.data), "-c", "listen_addresses=127.0.0.1", "-c", "fsync=off", "-p", "5432"]
        command = as_server([str(bin_dir / "postgres"), "-D", str(self.data), *options])
        self.postgres = subprocess.Popen(command, stdout=self.log, stderr=self.log, cwd="/")
        ready = self.data / "postmaster.pid"
        self.wait("PostgreSQL", lambda: ready.read_text().splitlines()[7].strip() == "ready")
        self.run("createdb mydb && createdb shop")
        return self

    def __exit__(self, *_: object) -> None:
        for server in self.servers:
            server.terminate()
        for server in self.servers:
            server.wait(PATIENCE)
        if self.postgres:
            self.postgres.send_signal(signal.SIGQUIT)
            self.postgres.wait(PATIENCE)
        self.log.close()
        shutil.rmtree(self.data, ignore_errors=True)

    def wait(self, what: str, is_true) -> None:
        """Until something is true that another process makes true."""
        enough = time.monotonic() + PATIENCE
        while True:
            try:
                if is_true():
                    return
            except (OSError, IndexError):
                pass
            if time.monotonic() > enough:
                raise Failed(f"{what}: not within {PATIENCE} s")
            time.sleep(0.02)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.program.parent}:{os.environ['PATH']}",
            "HOME": str(self.home),
            "LC_ALL": "C.UTF-8",
            "PGHOST": "127.0.0.1",
            "PGUSER": "postgres",
            # Everybody's: the reader would be asked for it.
            "PGPASSWORD": PASSWORD,
            "PSQLRC": "/dev/null",
            "NO_COLOR": "1",
        }

    def run(self, script: str) -> str:
        """Runs shell commands, and gives what they print, errors too. Whoever asks for a password gets it."""
        ended = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", script],
            cwd=self.home,
            env=self.environment,
            input=f"{PASSWORD}\n" * 20,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
            start_new_session=True,
        )
        if ended.returncode:
            raise Failed(f"exit code {ended.returncode}: {ended.stdout.strip()}")
        return ended.stdout

    def serve(self, command: str) -> None:
        """Runs the proxy, which stays until the page is done; one that ran before is ended first, as the reader would."""
        for server in self.servers:
            server.terminate()
            server.wait(PATIENCE)
        self.servers.clear()
        log = self.home / "pgvpd.log"
        with log.open("wb") as output:
            server = subprocess.Popen(
                ["bash", "-c", f"exec {command}"], cwd=self.home, env=self.environment, stdout=output, stderr=output, start_new_session=True
            )
        self.servers.append(server)

        def listens() -> bool:
            if server.poll() is not None:
                raise Failed(f"the proxy ended: {log.read_text().strip()}")
            return "is listening" in log.read_text()

        self.wait("the proxy", listens)
