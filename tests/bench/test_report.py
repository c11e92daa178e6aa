"""The page and the verdicts from a small sample: `cd tests && python3 -m unittest bench.test_report`."""

from __future__ import annotations

import base64
import hashlib
import hmac
import tempfile
import unittest
from pathlib import Path

from . import report, scram
from .results import Results, Run
from .servers import DIRECT, FRAMED, HAPROXY, RAW
from .verdicts import judge
from .workloads import WORKLOADS


def sample() -> Results:
    """Three repetitions on a machine that becomes slower; framed was not there."""
    results = Results({"date": "2026-01-02 03:04 UTC", "command": "tests/bench/run.sh"}, ["no framed relay"])
    for repetition, slowness in ((1, 1), (2, 2), (3, 4)):
        for target, micros, rate in ((DIRECT, 0, 1000), (HAPROXY, 7, 800), (RAW, 7.14, 810)):
            cpu = {"cpu": micros * slowness} if micros else {}
            query = {"per_second": rate / slowness, "p50": 300 * slowness, "p99": 900 * slowness} | cpu
            results.runs.append(Run("select-8", repetition, target, query))
        results.runs.append(Run("large", repetition, RAW, {"row": 60, "copy": 100 * repetition**3, "slow": 70}))
    return results


def verdicts(results: Results, target: str = RAW) -> dict[str, tuple[str, str]]:
    """Figure and verdict of each requirement of one target."""
    judged = (verdict for verdict in judge(results) if verdict.requirement.target == target)
    return {verdict.requirement.text: (verdict.figure, verdict.verdict) for verdict in judged}


class Verdicts(unittest.TestCase):
    """What is met, and what is not."""

    def test_ratios_are_formed_within_a_repetition(self) -> None:
        self.assertEqual(verdicts(sample())["CPU per query ÷ haproxy"], ("1.020", "met"))

    def test_a_repetition_that_only_one_target_has_gives_no_ratio(self) -> None:
        results = sample()
        results.runs = [run for run in results.runs if (run.target, run.repetition) != (HAPROXY, 1)]
        self.assertEqual(verdicts(results)["CPU per query ÷ haproxy"], ("1.020", "met"))
        self.assertEqual(results.ratio("select-8", HAPROXY, "cpu", RAW), 7 / 7.14)

    def test_a_bound_on_memory_holds_for_the_worst_repetition(self) -> None:
        self.assertEqual(verdicts(sample())["memory growth, COPY of 1 GB"], ("2,700 KiB", "MISSED"))

    def test_a_failed_run_misses_its_requirement_whatever_the_others_gave(self) -> None:
        results = sample()
        results.runs[-1] = Run("large", 3, RAW, error="5 of 10 bytes arrived")
        self.assertEqual(verdicts(results)["memory growth, row of 200 MB"], ("failed: 5 of 10 bytes arrived", "MISSED"))
        self.assertIn("**Failed:** pgvpd raw, repetition 3: 5 of 10 bytes arrived", report.page(results))

    def test_an_absent_target_is_not_measured(self) -> None:
        self.assertEqual(verdicts(sample(), FRAMED)["CPU per query ÷ haproxy"], ("–", "not measured"))

    def test_requirements_of_workloads_that_did_not_run_are_left_out(self) -> None:
        self.assertNotIn("concurrent sessions", verdicts(sample()))

    def test_every_requirement_reads_a_figure_that_its_workload_gives(self) -> None:
        everything = Results({})
        for workload in WORKLOADS:
            for target in workload.targets:
                figures = {figure.key: 1.0 for figure in workload.figures}
                everything.runs.append(Run(workload.name, 1, target, figures))
        self.assertNotIn("not measured", [verdict.verdict for verdict in judge(everything)])


class Page(unittest.TestCase):
    """docs/performance.md."""

    def test_it_has_the_verdict_before_the_workloads_and_says_what_is_missed(self) -> None:
        page = report.page(sample())
        self.assertLess(page.index("## Verdict"), page.index("## Select-only, 8 clients"))
        self.assertRegex(page, r"memory growth, COPY of 1 GB +\| pgvpd raw +\| < 2,048 KiB +\| 2,700 KiB +\| \*\*MISSED\*\*")

    def test_it_has_every_repetition(self) -> None:
        self.assertRegex(report.page(sample()), r"transactions/s +\| haproxy +\| 800 +\| 400 +\| 200 +\|")

    def test_it_is_the_same_from_the_saved_file(self) -> None:
        with tempfile.TemporaryDirectory() as directory:
            path = Path(directory) / "results.json"
            sample().save(path)
            self.assertEqual(report.page(Results.load(path)), report.page(sample()))

    def test_every_workload_has_a_chart(self) -> None:
        try:
            from . import charts
        except ImportError:
            self.skipTest("matplotlib is not there")
        with tempfile.TemporaryDirectory() as directory:
            charts.draw(sample(), Path(directory))
            names = {path.name for path in Path(directory).iterdir()}
        self.assertEqual(names, {"select-8.svg", "large.svg"})


class Verifier(unittest.TestCase):
    """The role's password."""

    def test_it_is_in_the_form_that_postgresql_keeps(self) -> None:
        kind, parameters, keys = scram.verifier("secret", 1).split("$")
        iterations, salt = parameters.split(":")
        salted = hashlib.pbkdf2_hmac("sha256", b"secret", base64.b64decode(salt), int(iterations))
        server_key = base64.b64encode(hmac.digest(salted, b"Server Key", "sha256")).decode()
        self.assertEqual((kind, iterations, keys.split(":")[1]), ("SCRAM-SHA-256", "1", server_key))


if __name__ == "__main__":
    unittest.main()
