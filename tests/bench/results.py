"""The results of one run of the benchmark: what was measured, on what, and the arithmetic over it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median


@dataclass(frozen=True)
class Run:
    """One workload, once, against one target."""

    workload: str
    repetition: int
    target: str
    figures: dict[str, float] = field(default_factory=dict)
    error: str | None = None


@dataclass
class Results:
    """All runs, and where and how they were made."""

    about: dict[str, str]
    """Date, command, commit, machine, versions, in the page's order."""
    notes: list[str] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    def save(self, path: Path) -> None:
        """Writes the file that `load` reads."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(asdict(self), indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, path: Path) -> Results:
        """Reads what `save` wrote."""
        raw = json.loads(path.read_text())
        return cls(raw["about"], raw["notes"], [Run(**run) for run in raw["runs"]])

    def of(self, workload: str, target: str | None = None) -> list[Run]:
        """The runs of a workload, in order of repetition."""
        wanted = [run for run in self.runs if run.workload == workload and target in (None, run.target)]
        return sorted(wanted, key=lambda run: run.repetition)

    def values(self, workload: str, target: str, figure: str) -> dict[int, float]:
        """A figure by repetition; failed runs have none."""
        return {run.repetition: run.figures[figure] for run in self.of(workload, target) if figure in run.figures}

    def median(self, workload: str, target: str, figure: str) -> float | None:
        """Over the repetitions; None where there is no value."""
        values = self.values(workload, target, figure)
        return median(values.values()) if values else None

    def ratio(self, workload: str, target: str, figure: str, reference: str) -> float | None:
        """The median of the ratios within each repetition, so that a change of the machine's speed cancels out."""
        ours, theirs = (self.values(workload, name, figure) for name in (target, reference))
        ratios = [value / theirs[repetition] for repetition, value in ours.items() if theirs.get(repetition)]
        return median(ratios) if ratios else None

    def failures(self, workload: str, target: str) -> list[str]:
        """What went wrong."""
        return [run.error for run in self.of(workload, target) if run.error]
