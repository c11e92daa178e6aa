"""What is required of pgvpd, and whether the results show it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from .results import Results
from .servers import DIRECT, FRAMED, HAPROXY, PGBOUNCER, POOL, RAW
from .workloads import PROTOCOLS

Value = Callable[[Results], float | None]


@dataclass(frozen=True)
class Requirement:
    """One line of the table of verdicts."""

    text: str
    workload: str
    target: str
    value: Value
    relation: str
    """`≤`, `<` or `≥`."""
    limit: float | None
    """None: a figure that nothing is required of, shown beside one that has a limit."""
    unit: str = ""
    decimals: int = 0


@dataclass(frozen=True)
class Verdict:
    """A requirement beside its figure."""

    requirement: Requirement
    figure: str
    verdict: str
    """`met`, `MISSED`, `not measured`, or `no limit`."""


def _ratio(workload: str, target: str, figure: str, reference: str) -> Value:
    return lambda results: results.ratio(workload, target, figure, reference)


def _worst(workload: str, target: str, figure: str) -> Value:
    """The highest of all repetitions: a bound on memory has to hold in each of them."""
    return lambda results: max(results.values(workload, target, figure).values(), default=None)


def _fewest(workload: str, target: str, figure: str) -> Value:
    return lambda results: min(results.values(workload, target, figure).values(), default=None)


def _requirements() -> tuple[Requirement, ...]:
    rows = []

    def ratio(text: str, workload: str, target: str, figure: str, reference: str, relation: str, limit: float | None) -> None:
        value = _ratio(workload, target, figure, reference)
        rows.append(Requirement(f"{text} ÷ {reference}", workload, target, value, relation, limit, decimals=3))

    def bound(text: str, workload: str, target: str, figure: str, relation: str, limit: float, unit: str = "KiB") -> None:
        value = _worst(workload, target, figure)
        rows.append(Requirement(text, workload, target, value, relation, limit, unit, 2 if figure == "each" else 0))

    # The limits for throughput are raw's; framed is shown beside it.
    for target, cpu, copy, churn in ((RAW, 1.05, 1.0, 0.85), (FRAMED, 1.15, None, None)):
        ratio("CPU per query", "select-8", target, "cpu", HAPROXY, "≤", cpu)
        ratio("COPY out, throughput", "copy-out", target, "per_second", HAPROXY, "≥", copy)
        ratio("connection churn, logins/s", "churn", target, "per_second", DIRECT, "≥", churn)
    for target in (RAW, FRAMED):
        rows.append(Requirement("concurrent sessions", "idle", target, _fewest("idle", target, "sessions"), "≥", 1000))
        bound("memory of an idle session", "idle", target, "each", "≤", 8)
        bound("memory left when 1,000 clients have gone", "idle", target, "left", "<", 1024)
        bound("descriptors left when 1,000 clients have gone", "idle", target, "files", "≤", 0, "")
        bound("memory growth from login 2,000 to 10,000", "logins", target, "growth", "<", 1024)
        bound("descriptors left after 10,000 logins", "logins", target, "files", "≤", 0, "")
        bound("memory growth, row of 200 MB", "large", target, "row", "<", 2048)
        bound("memory growth, COPY of 1 GB", "large", target, "copy", "<", 2048)
        bound("memory growth, slow reader", "large", target, "slow", "<", 2048)
    ratio("pooled churn, logins/s", "pool-churn", POOL, "per_second", PGBOUNCER, "≥", 1.0)
    ratio("pooled churn, CPU per login", "pool-churn", POOL, "cpu", PGBOUNCER, "≤", 1.2)
    for protocol in PROTOCOLS:
        ratio(f"pooled queries, {protocol}, throughput", f"pool-{protocol}", POOL, "per_second", PGBOUNCER, "≥", 1.0)
        ratio(f"pooled queries, {protocol}, CPU per query", f"pool-{protocol}", POOL, "cpu", PGBOUNCER, "≤", None)
    return tuple(rows)


REQUIREMENTS = _requirements()


def judge(results: Results) -> list[Verdict]:
    """Every requirement of which the results have the workload."""
    return [_judge(results, requirement) for requirement in REQUIREMENTS if results.of(requirement.workload)]


def _judge(results: Results, requirement: Requirement) -> Verdict:
    failures = results.failures(requirement.workload, requirement.target)
    if failures:
        return Verdict(requirement, f"failed: {failures[0]}", "MISSED")
    value = requirement.value(results)
    if value is None:
        return Verdict(requirement, "–", "not measured")
    figure = f"{value:,.{requirement.decimals}f} {requirement.unit}".strip()
    if requirement.limit is None:
        return Verdict(requirement, figure, "no limit")
    met = {"≤": value <= requirement.limit, "<": value < requirement.limit, "≥": value >= requirement.limit}
    return Verdict(requirement, figure, "met" if met[requirement.relation] else "MISSED")
