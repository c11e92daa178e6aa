"""The page: docs/performance.md and what the terminal shows, from results alone."""

from __future__ import annotations

import textwrap
from pathlib import Path

from .results import Results
from .verdicts import Verdict, judge
from .workloads import WORKLOADS, Figure, Workload

PAGES = Path(__file__).resolve().parents[2] / "docs" / "performance"
BY_HAND = [PAGES / "signing.md", PAGES / "resolvers.md", PAGES / "tls.md", PAGES / "operations.md"]

INTRODUCTION = """\
# Performance

Written by `tests/bench/run.sh`; do not edit. The figures are from one machine, with client, server and proxies together
on it, over the loopback interface: compare targets within a table, not with other machines. A proxy on a separate
machine adds a network round trip that is not included here.

How it is measured:

- The targets take turns, and their order rotates from repetition to repetition. Figures are medians over the
  repetitions. A ratio is computed within a repetition, and its median is shown, so that a machine that becomes slower
  in the meantime does not decide the result. A limit on memory has to hold in every repetition: there, the worst one
  counts.
- Workloads that say so run on a single CPU, including server and client: the cost of a proxy then reduces the
  throughput, and cannot hide on another CPU. Proxies are started on that CPU, with as many threads as they then choose.
- CPU is the user and system time of the proxy's process. Memory is its proportional set size (PSS), which does not
  include the kernel's socket buffers.
- HAProxy is in TCP mode, PgBouncer in session pooling. `pgvpd raw` and `pgvpd framed` are the two relays of pgvpd,
  `pgvpd pool` is its session pooling, whose clients log in as `app_user.acme`; all others log in as `app_user`. TLS is
  not used.
- Both pools have as many server connections as there may be clients, and the same file of users. It contains the role's
  SCRAM verifier, the same as the server's, with 1 iteration, and no password: the pools log in to the server with the
  keys from a client's SCRAM exchange.
"""

REQUIRED = """\
Throughput is required of `raw`; the figures of `framed` without a limit are shown for comparison. `pool` is compared
with PgBouncer.
"""


def page(results: Results) -> str:
    """The whole of docs/performance.md."""
    parts = [INTRODUCTION, _table(["", ""], [[key, _code(key, value)] for key, value in results.about.items()])]
    parts += [_wrapped(f"**Note:** {note}") for note in results.notes]
    parts += ["## Verdict\n", REQUIRED, verdicts(results)]
    parts += [_section(results, workload) for workload in measured(results)]
    # Measured by signing.sh, resolvers.sh and tls.sh, and written by hand.
    parts += [page.read_text() for page in BY_HAND]
    return "\n".join(parts)


def summary(results: Results) -> str:
    """What the terminal shows: the medians, then the verdicts."""
    parts = [f"{workload.title}\n{medians(results, workload)}" for workload in measured(results)]
    notes = "".join(f"Note: {note}\n" for note in results.notes)
    return "\n".join([*parts, "Verdict", verdicts(results)]) + notes


def combined(files: list[Results]) -> Results:
    """The results of several benchmarks: of each workload those of the last that has it. Notes say what is not the first's."""
    last = {run.workload: index for index, results in enumerate(files) for run in results.runs}
    first, *others = sorted(set(last.values())) or [0]
    whole = Results(files[first].about, list(files[first].notes))
    for index in others:
        titles = [workload.title for workload in WORKLOADS if last.get(workload.name) == index]
        whole.notes += [_origin(titles, whole.about, files[index].about), *files[index].notes]
    for index, results in enumerate(files):
        whole.runs += [run for run in results.runs if last[run.workload] == index]
    return whole


def _origin(titles: list[str], usual: dict[str, str], about: dict[str, str]) -> str:
    different = [f"{key} {_code(key, value)}" for key, value in about.items() if value != usual.get(key)]
    return f"“{'”, “'.join(titles)}” were measured separately: {', '.join(different)}."


def measured(results: Results) -> list[Workload]:
    """The workloads of which there are results, in the page's order."""
    return [workload for workload in WORKLOADS if results.of(workload.name)]


def targets(results: Results, workload: Workload) -> list[str]:
    """The targets that were measured, in the usual order."""
    there = {run.target for run in results.of(workload.name)}
    return [target for target in workload.targets if target in there]


def verdicts(results: Results) -> str:
    """The table of requirements, each met or missed."""
    rows = [[v.requirement.text, v.requirement.target, _limit(v), v.figure, _loud(v.verdict)] for v in judge(results)]
    return _table(["requirement", "target", "required", "measured", "verdict"], rows)


def medians(results: Results, workload: Workload) -> str:
    """Medians of all figures, and the ratios to the references."""
    references = [name for name in workload.references if workload.compared and name in targets(results, workload)]
    rows = []
    for target in targets(results, workload):
        row = [target, *(_number(results.median(workload.name, target, f.key), f) for f in workload.figures)]
        for reference in references:
            ratio = results.ratio(workload.name, target, workload.compared or "", reference)
            row.append("–" if ratio is None else f"{ratio:.3f}")
        rows.append(row)
    return _table(["median", *(f.title for f in workload.figures), *(f"÷ {name}" for name in references)], rows)


def _section(results: Results, workload: Workload) -> str:
    charted = ", ".join(figure.title for figure in workload.figures if figure.charted)
    chart = f"![{workload.title}: {charted}](performance/{workload.name}.svg)"
    about = workload.about[0].upper() + workload.about[1:]
    parts = [f"## {workload.title}\n", _wrapped(about), f"{chart}\n", medians(results, workload)]
    return "\n".join([*parts, _repetitions(results, workload), *_failures(results, workload)])


def _repetitions(results: Results, workload: Workload) -> str:
    """Every figure of every repetition."""
    numbers = sorted({run.repetition for run in results.of(workload.name)})
    rows = []
    for figure in workload.figures:
        for target in targets(results, workload):
            values = results.values(workload.name, target, figure.key)
            if values:
                rows.append([figure.title, target, *(_number(values.get(number), figure) for number in numbers)])
    return _table(["all repetitions", "target", *(str(number) for number in numbers)], rows)


def _failures(results: Results, workload: Workload) -> list[str]:
    runs = [run for run in results.of(workload.name) if run.error]
    return [f"**Failed:** {run.target}, repetition {run.repetition}: {run.error}\n" for run in runs]


def _limit(verdict: Verdict) -> str:
    limit, unit = verdict.requirement.limit, verdict.requirement.unit
    return "–" if limit is None else f"{verdict.requirement.relation} {limit:,} {unit}".rstrip()


def _loud(verdict: str) -> str:
    return f"**{verdict}**" if verdict.isupper() else verdict


def _code(key: str, value: str) -> str:
    return f"`{value}`" if key == "command" else value


def _wrapped(paragraph: str) -> str:
    return textwrap.fill(paragraph, 120, break_long_words=False, break_on_hyphens=False) + "\n"


def _number(value: float | None, figure: Figure) -> str:
    return "–" if value is None else f"{value:,.{figure.decimals}f}"


def _table(head: list[str], rows: list[list[str]]) -> str:
    """A Markdown table whose columns also line up in a terminal."""
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    widths = [max(3, *(len(row[i]) for row in [head, *escaped])) for i in range(len(head))]
    lines = [
        " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in [head, ["-" * width for width in widths], *escaped]
    ]
    return "".join(f"| {line} |\n" for line in lines)
