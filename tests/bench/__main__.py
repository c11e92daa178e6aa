"""The command: which workloads to run against which targets, in which order."""

from __future__ import annotations

import argparse
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from . import machine, report
from .clients import Failure, Target
from .measure import on_cpus
from .results import Results, Run
from .servers import FRAMED, Programs, Servers
from .workloads import WORKLOADS, Effort, Workload

TOP = Path(__file__).resolve().parents[2]
PAGE, CHARTS = TOP / "docs/performance.md", TOP / "docs/performance"
FULL = Effort(repetitions=5, memory_repetitions=3, seconds=5, churn_seconds=5, copy_mb=1000)
SHORT = Effort(repetitions=5, memory_repetitions=1, seconds=1, churn_seconds=1, copy_mb=250)
OPEN_FILES = 65536
ONLY_HELP = f"{', '.join(w.name for w in WORKLOADS)}; pool for all that begin with pool-, and so on"
REPORT_HELP = "write docs/performance.md from results in target/bench; of each workload, the last file that has it counts"


def main() -> int:
    """0: measured, whatever the figures are; 1: a run failed; 2: bad arguments; 130: interrupted."""
    options = _arguments()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    try:
        results = report.combined([Results.load(file) for file in options.report]) if options.report else _benchmark(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (Failure, OSError, subprocess.SubprocessError) as error:
        print(f"tests/bench/run.sh: {error}", file=sys.stderr)
        return 1
    print(report.summary(results))
    if options.write:
        from . import charts

        charts.draw(results, CHARTS)
        PAGE.write_text(report.page(results))
        print(f"wrote {PAGE.relative_to(TOP)}")
    return int(any(run.error for run in results.runs))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tests/bench/run.sh", description="The benchmark; see tests/bench/run.sh.")
    parser.add_argument("--short", action="store_true", help="the key figures, in about 3 minutes")
    parser.add_argument("--only", metavar="WORKLOAD,...", type=_workloads, help=ONLY_HELP)
    parser.add_argument("--repetitions", metavar="N", type=int, help="instead of 5, and 3 or 1 for memory")
    parser.add_argument("--write", action="store_true", help="write docs/performance.md in spite of --short or --only")
    parser.add_argument("--report", metavar="FILE", type=Path, nargs="+", help=REPORT_HELP)
    options = parser.parse_args()
    options.write = options.write or bool(options.report) or not (options.short or options.only)
    return options


def _workloads(names: str) -> list[str]:
    known = [workload.name for workload in WORKLOADS]
    chosen = {name: [w for w in known if w == name or w.startswith(f"{name}-")] for name in names.split(",")}
    if unknown := [name for name, meant in chosen.items() if not meant]:
        raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")
    return [name for meant in chosen.values() for name in meant]


def _benchmark(options: argparse.Namespace) -> Results:
    programs = Programs(Path(os.environ["BENCH_POSTGRES"]), Path(os.environ["BENCH_PGVPD"]))
    effort = SHORT if options.short else FULL
    if options.repetitions:
        effort = Effort(options.repetitions, options.repetitions, effort.seconds, effort.churn_seconds, effort.copy_mb)
    results = Results(machine.about(" ".join(["tests/bench/run.sh", *sys.argv[1:]]), programs.versions()))
    framed = programs.has_framed_relay()
    if not framed:
        results.notes.append("this pgvpd has no framed relay, so `pgvpd framed` was not measured")
        print(results.notes[-1])
    workloads = [w for w in WORKLOADS if (w.name in options.only if options.only else w.short or not options.short)]
    file = TOP / "target/bench" / time.strftime("%Y%m%d-%H%M%S.json", time.gmtime())
    _raise_file_limit()
    start = time.monotonic()
    with Servers(programs, scale=10) as servers:
        for workload in workloads:
            wanted = workload.short if options.short and workload.short else workload.targets
            names = [name for name in wanted if name != FRAMED or framed]
            for run in _runs(servers, workload, names, effort):
                results.runs.append(run)
                # After each run, so that an interrupted benchmark keeps what it has.
                results.save(file)
                print(f"{time.monotonic() - start:6.0f} s  {_line(run)}", flush=True)
    print(f"\nresults: {file.relative_to(TOP)}\n")
    return results


def _runs(servers: Servers, workload: Workload, names: list[str], effort: Effort) -> Iterator[Run]:
    """All repetitions of a workload; the order of the targets rotates."""
    allowed = os.sched_getaffinity(0)
    with ExitStack() as stack:
        if workload.pinned:
            stack.enter_context(on_cpus({max(allowed)}, servers.postmaster))
        shared = [] if workload.alone else stack.enter_context(servers.proxies(names))
        for repetition in range(effort.memory_repetitions if workload.alone else effort.repetitions):
            turn = repetition % len(names)
            for name in names[turn:] + names[:turn]:
                with ExitStack() as own:
                    targets = shared or own.enter_context(servers.proxies([name]))
                    target = next(target for target in targets if target.name == name)
                    yield _run(servers, workload, target, effort, repetition + 1)


def _run(servers: Servers, workload: Workload, target: Target, effort: Effort, repetition: int) -> Run:
    try:
        return Run(workload.name, repetition, target.name, workload.measure(servers, target, effort))
    except (Failure, OSError) as error:
        return Run(workload.name, repetition, target.name, error=str(error))


def _line(run: Run) -> str:
    """A run for the terminal."""
    figures = "  ".join(f"{key} {value:.6g}" for key, value in run.figures.items())
    return f"{run.workload:<13} {run.repetition}  {run.target:<13} {run.error or figures}"


def _raise_file_limit() -> None:
    """For a thousand sessions; the servers inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    soft = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _interrupt(_: int, __: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
