"""The types are complete and true."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent


def check(*arguments: str) -> None:
    done = subprocess.run([sys.executable, "-m", *arguments], capture_output=True, text=True, cwd=HERE.parent, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_stub_is_what_the_compiled_part_has() -> None:
    check("mypy.stubtest", "pgvpd._pgvpd")


def test_the_package_and_its_use_pass_strict_checks() -> None:
    check("mypy", "--strict", "-p", "pgvpd")
    check("mypy", "--strict", "tests", "bench")


def test_a_wrong_use_does_not_pass(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    lines = [
        "import pgvpd",
        "proxy = pgvpd.Proxy(port=None)",
        "port: str = proxy.port",
        "proxy.url('acme')",
        "proxy.nothing()",
    ]
    wrong.write_text("\n".join(lines))
    done = subprocess.run([sys.executable, "-m", "mypy", "--strict", str(wrong)], capture_output=True, text=True, timeout=300)
    assert [line.split(":")[1] for line in done.stdout.splitlines() if ": error:" in line] == ["2", "3", "4", "5"]
