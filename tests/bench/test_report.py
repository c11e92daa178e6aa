"""The page and the verdicts from a small sample: `cd tests && python3 -m unittest bench.test_report`."""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import tempfile
import unittest
from pathlib import Path

from . import report, scram
from .__main__ import _workloads as workloads
from .results import Results, Run
from .servers import DIRECT, FRAMED, HAPROXY, PGBOUNCER, POOL, RAW
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


def pool_sample() -> Results:
    """Three repetitions of the pool part, on another day."""
    results = Results({"date": "2026-01-03 03:04 UTC", "command": "tests/bench/run.sh --only pool"})
    for repetition, slowness in ((1, 1), (2, 2), (3, 4)):
        for target, micros, rate in ((PGBOUNCER, 100, 1000), (POOL, 121, 1000)):
            figures = {"per_second": rate / slowness, "cpu": micros * slowness}
            results.runs.append(Run("pool-churn", repetition, target, figures))
        for target, micros, rate in ((PGBOUNCER, 20, 1000), (POOL, 22, 999)):
            figures = {"per_second": rate / slowness, "cpu": micros * slowness, "p50": 300, "p99": 900}
            results.runs.append(Run("pool-extended", repetition, target, figures))
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

    def test_the_pool_is_held_against_pgbouncer(self) -> None:
        expected = {
            "pooled churn, logins/s ÷ pgbouncer": ("1.000", "met"),
            "pooled churn, CPU per login ÷ pgbouncer": ("1.210", "MISSED"),
            "pooled queries, extended, throughput ÷ pgbouncer": ("0.999", "MISSED"),
            "pooled queries, extended, CPU per query ÷ pgbouncer": ("1.100", "no limit"),
        }
        self.assertEqual(verdicts(pool_sample(), POOL), expected)


class Combined(unittest.TestCase):
    """Results of several benchmarks on one page."""

    def test_other_workloads_stay_when_one_part_is_measured_again(self) -> None:
        again = pool_sample()
        again.runs = [Run("pool-churn", 1, POOL, {"per_second": 7})]
        whole = report.combined([sample(), pool_sample(), again])
        self.assertEqual(whole.of("select-8"), sample().of("select-8"))
        self.assertEqual(whole.of("pool-extended"), pool_sample().of("pool-extended"))
        self.assertEqual(whole.of("pool-churn"), again.runs)

    def test_a_note_says_what_was_measured_apart_and_where_it_differs(self) -> None:
        note = (
            "“Pooled churn”, “Pooled queries, extended” were measured separately:"
            " date 2026-01-03 03:04 UTC, command `tests/bench/run.sh --only pool`."
        )
        first, second = sample(), pool_sample()
        first.about["PgBouncer"] = second.about["PgBouncer"] = "PgBouncer 1.18.0"
        self.assertEqual(report.combined([first, second]).notes, ["no framed relay", note])

    def test_results_of_which_nothing_is_left_are_not_mentioned(self) -> None:
        self.assertEqual(report.combined([pool_sample(), sample(), pool_sample()]), report.combined([sample(), pool_sample()]))

    def test_one_file_alone_is_what_it_was(self) -> None:
        self.assertEqual(report.combined([sample()]), sample())


class Only(unittest.TestCase):
    """--only."""

    def test_the_first_word_of_names_stands_for_all_of_them(self) -> None:
        self.assertEqual(workloads("pool"), ["pool-churn", "pool-simple", "pool-extended", "pool-prepared"])

    def test_a_full_name_stands_for_itself(self) -> None:
        self.assertEqual(workloads("idle,churn,select-1"), ["idle", "churn", "select-1"])

    def test_an_unknown_name_is_refused(self) -> None:
        for name in ("poo", "pool-", ""):
            with self.assertRaises(argparse.ArgumentTypeError):
                workloads(name)


class Page(unittest.TestCase):
    """docs/performance.md."""

    def test_it_has_the_verdict_before_the_workloads_and_says_what_is_missed(self) -> None:
        page = report.page(sample())
        self.assertLess(page.index("## Verdict"), page.index("## Select-only, 8 clients"))
        self.assertRegex(page, r"memory growth, COPY of 1 GB +\| pgvpd raw +\| < 2,048 KiB +\| 2,700 KiB +\| \*\*MISSED\*\*")

    def test_it_has_every_repetition(self) -> None:
        self.assertRegex(report.page(sample()), r"transactions/s +\| haproxy +\| 800 +\| 400 +\| 200 +\|")

    def test_pooled_workloads_show_the_ratio_to_pgbouncer_alone(self) -> None:
        page = report.page(pool_sample())
        self.assertRegex(page, r"median +\| logins/s +\| proxy CPU µs/login +\| ÷ pgbouncer +\|\n")
        self.assertRegex(page, r"pgvpd pool +\| 500 +\| 242 +\| 1\.000 +\|")

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
