"""The command `pgvpd`, as the wheel carries it."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import pgvpd

PROGRAM = shutil.which("pgvpd", path=sysconfig.get_path("scripts"))


def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    assert PROGRAM, "the package is not installed"
    done = subprocess.run([PROGRAM, *arguments], capture_output=True, text=True, timeout=120)
    assert done.returncode == code, done
    return done


def test_it_is_the_program_by_either_name() -> None:
    assert run("--version").stdout == f"pgvpd {pgvpd.__version__}\n"
    module = subprocess.run([sys.executable, "-m", "pgvpd", "--help"], capture_output=True, text=True, timeout=60)
    assert module.stdout == run("--help").stdout
    assert "Usage: pgvpd" in module.stdout


def test_exit_codes_are_the_program_s(tmp_path: Path) -> None:
    assert "a value is required" in run("--port", code=2).stderr
    assert "--port" in run("--port", "x", "--check-config", code=2).stderr
    assert "valid" in run("--check-config").stdout
    assert "pgvpd:" in run("--listen-host", "192.0.2.1", code=3).stderr
    assert run("completions", "bash").stdout.endswith("\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_it_in_good_order(number: signal.Signals) -> None:
    assert PROGRAM
    with subprocess.Popen([PROGRAM, "--port", "0"], stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr
            while "pgvpd is listening" not in process.stderr.readline():
                assert process.poll() is None
            process.send_signal(number)
            log = process.communicate(timeout=60)[1]
        finally:
            process.kill()
    assert process.returncode == 0
    assert "stopped" in log and "Traceback" not in log and "KeyboardInterrupt" not in log


def test_the_demonstration_holds() -> None:
    assert "acme" in run("demo", "--once").stdout
