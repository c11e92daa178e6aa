"""The charts: one SVG for each workload, every repetition a dot and the median a bar."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Drawing

from .report import measured, targets
from .results import Results
from .workloads import Figure, Workload

# Middle tones, which can be read on white and on black; the background is transparent.
INK = "#7d8590"
OURS, OTHERS = "#3b82c4", "#9aa4b0"
DOT = "#d97706"
# Text stays text, and the same results give the same file.
STYLE: dict[Any, Any] = {"svg.fonttype": "none", "svg.hashsalt": "pgvpd", "font.family": "sans-serif", "font.size": 9}


def draw(results: Results, directory: Path) -> None:
    """Writes the charts of all workloads that were measured."""
    directory.mkdir(parents=True, exist_ok=True)
    with rc_context(STYLE):
        for workload in measured(results):
            _chart(results, workload, directory / f"{workload.name}.svg")


def _chart(results: Results, workload: Workload, path: Path) -> None:
    figures = [figure for figure in workload.figures if figure.charted]
    names = targets(results, workload)
    size = (0.6 + 2.9 * len(figures), 0.75 + 0.3 * len(names))
    chart = Drawing(figsize=size, layout="constrained")
    FigureCanvasSVG(chart)
    for axes, figure in zip(chart.subplots(1, len(figures), squeeze=False, sharey=True)[0], figures, strict=True):
        _bars(axes, results, workload, figure, names)
    chart.savefig(path, format="svg", transparent=True, metadata={"Date": None})


def _bars(axes: Axes, results: Results, workload: Workload, figure: Figure, names: list[str]) -> None:
    for row, name in enumerate(names):
        median = results.median(workload.name, name, figure.key)
        if median is None:
            continue
        axes.barh(row, median, height=0.62, color=OURS if name.startswith("pgvpd") else OTHERS)
        values = list(results.values(workload.name, name, figure.key).values())
        axes.plot(values, [row] * len(values), "o", color=DOT, markersize=3.2, markeredgewidth=0, alpha=0.85, clip_on=False)
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.set_title(figure.title, color=INK, fontsize=9)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter("{x:,g}")
    axes.tick_params(colors=INK, length=0)
    axes.grid(axis="x", color=INK, alpha=0.3, linewidth=0.6)
    axes.set_axisbelow(True)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.axvline(0, color=INK, linewidth=0.8)
