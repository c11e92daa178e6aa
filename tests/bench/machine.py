"""On what the benchmark ran: the machine, the day and the commit."""

from __future__ import annotations

import datetime
import os
import platform
import re
import subprocess
from pathlib import Path


def about(command: str, versions: dict[str, str]) -> dict[str, str]:
    """One entry for each line of the page's table, in its order."""
    now = datetime.datetime.now(datetime.UTC)
    return {
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "command": command,
        "commit": _commit(),
        "CPU": f"{_field('/proc/cpuinfo', 'model name') or platform.machine()}, {os.cpu_count()} logical CPUs",
        "memory": f"{int(re.sub('[^0-9]', '', _field('/proc/meminfo', 'MemTotal') or '0')) / 2**20:.1f} GiB",
        "system": f"{_distribution()}, Linux {platform.release()}",
        "load before": f"{os.getloadavg()[0]:.2f} (average of one minute)",
    } | versions


def _commit() -> str:
    """The commit, and whether the tree differs from it."""
    top = Path(__file__).parent
    try:
        head = _git(top, "rev-parse", "--short=12", "HEAD")
        return head + (" with changes" if _git(top, "status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def _git(top: Path, *words: str) -> str:
    return subprocess.run(["git", "-C", top, *words], capture_output=True, text=True, timeout=10, check=True).stdout.strip()


def _field(path: str, name: str) -> str | None:
    """The value behind `name :`."""
    found = re.search(rf"^{name}\s*:\s*(.+)$", Path(path).read_text(), re.MULTILINE)
    return found[1] if found else None


def _distribution() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return "an unknown distribution"
