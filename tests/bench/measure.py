"""What Linux says about a process: CPU time, memory, descriptors; and on which CPUs it may run."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

SAMPLE_SECONDS = 0.02


def cpu_seconds(pid: int) -> float:
    """User and system time of the process, all threads, those that have ended included.

    The process's own CPU clock, as of clock_getcpuclockid(3): nanoseconds, where /proc/PID/stat counts in hundredths
    of a second. Its id is composed as in the kernel's include/linux/posix-timers.h; 2 is CPUCLOCK_SCHED.
    """
    return time.clock_gettime_ns((~pid << 3) | 2) / 1e9


def pss_kib(pid: int) -> int:
    """Proportional set size of the process in KiB."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1])
    raise OSError(f"no Pss in smaps_rollup of {pid}")


def descriptors(pid: int) -> int:
    """How many file descriptors the process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Polls until the condition holds; False if it does not in time."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


class PeakMemory:
    """The growth of a process's memory while a `with` block runs, sampled every 20 ms."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._before = self._peak = pss_kib(pid)
        self._ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def _sample(self) -> None:
        while not self._ended.wait(SAMPLE_SECONDS):
            try:
                self._peak = max(self._peak, pss_kib(self._pid))
            except OSError:
                return

    def __enter__(self) -> Self:
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._sampler.join()

    @property
    def growth_kib(self) -> int:
        """How far the memory was above its start, at the highest."""
        return max(self._peak, pss_kib(self._pid)) - self._before


def _family(pid: int) -> list[int]:
    """The process and its children."""
    children: list[int] = []
    for task in Path(f"/proc/{pid}/task").iterdir():
        children += map(int, (task / "children").read_text().split())
    return [pid, *children]


def _allow(pid: int, cpus: set[int]) -> None:
    """Moves all threads of a process; one that ends meanwhile does not count."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        try:
            os.sched_setaffinity(int(task.name), cpus)
        except ProcessLookupError:
            pass


@contextmanager
def on_cpus(cpus: set[int], postmaster: int) -> Iterator[None]:
    """Keeps PostgreSQL, this process and all that they start meanwhile on these CPUs."""
    before = os.sched_getaffinity(0)

    def move(to: set[int]) -> None:
        for pid in [os.getpid(), *_family(postmaster)]:
            try:
                _allow(pid, to)
            except FileNotFoundError:
                pass

    move(cpus)
    try:
        yield
    finally:
        move(before)
