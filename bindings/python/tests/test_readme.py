"""What the package's page shows is so."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from pgvpd import _pgvpd
from pgvpd.pytest_plugin import _OPTIONS

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def block(kind: str, part: str) -> str:
    (text,) = (text for found, text in BLOCKS if found == kind and part in text)
    return str(text)


@pytest.fixture(autouse=True)
def schema(pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("schema.sql").write_text(block("sql", "pgvpd_protect"))


def test_the_first_example_passes_and_tells_leaks(pytester: pytest.Pytester) -> None:
    pytester.makeini(block("ini", "pgvpd_schema"))
    pytester.makepyfile(block("python", "def test_orders_are_isolated(assert"))
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)
    (attempts,) = re.findall(r"# (\d+) attempts", README)
    unprotected = block("sql", "pgvpd_protect").replace("SELECT pgvpd_protect('orders');", "")
    pytester.path.joinpath("schema.sql").write_text(unprotected)
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E *AssertionError: public.orders leaks: * of {attempts} attempts as role app_user went through"])


def test_the_example_of_unittest_passes(pytester: pytest.Pytester) -> None:
    pytester.path.joinpath("test_tenants.py").write_text(block("python", "unittest.TestCase"))
    command = [sys.executable, "-W", "ignore::ResourceWarning", "-m", "unittest", "-v"]
    done = subprocess.run(command, cwd=pytester.path, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "Ran 1 test" in done.stderr, done.stderr


def test_every_option_and_fixture_is_named(pytester: pytest.Pytester) -> None:
    assert all(f"| `{name}` |" in README for name, *_ in _OPTIONS)
    fixtures = re.findall(r"^(\w+)(?: \[.*\])? -- .*pgvpd/pytest_plugin.py", pytester.runpytest_inprocess("--fixtures").stdout.str(), re.M)
    assert len(fixtures) == 7 and all(f"| `{name}` |" in README for name in fixtures)
    assert "tenant_format" in _pgvpd.default_options()
