"""The pytest plugin: fixtures, options, and what goes wrong."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import psycopg
import pytest

from pgvpd.testing import Postgres

Inner = Callable[..., pytest.RunResult]

# A run within this process drops the modules that it was the first to import, which an extension does not survive.
assert psycopg.__name__ in sys.modules

# What users of psycopg would write; `one` gives the first value of a query.
HEAD = """
import psycopg, pytest

def one(url, query):
    with psycopg.connect(url) as session:
        return session.execute(query).fetchone()[0]

"""


@pytest.fixture
def inner(pytester: pytest.Pytester, pgvpd_postgres: Postgres, pgvpd_database: str) -> Inner:
    """Runs a test file in a pytest of its own, which by default uses the database of this one."""

    def run(tests: str, *arguments: str, ini: Sequence[str] = (), existing: bool = True) -> pytest.RunResult:
        url = [f"pgvpd_upstream_url = {pgvpd_postgres.app_url(pgvpd_database)}"] if existing else []
        pytester.makeini("\n".join(["[pytest]", *url, *ini]))
        pytester.makepyfile(HEAD + tests)
        return pytester.runpytest_inprocess(*arguments, "-p", "no:cacheprovider")

    return run


def test_three_lines_are_a_test(pytester: pytest.Pytester, inner: Inner) -> None:
    pytester.path.joinpath("sql").mkdir()
    pytester.path.joinpath("sql/schema.sql").write_text(
        "CREATE TABLE notes (tenant_id text NOT NULL, note text NOT NULL); SELECT pgvpd_protect('notes');"
        "GRANT SELECT, INSERT ON notes TO app_user; CREATE TABLE leaks (tenant_id text); GRANT SELECT ON leaks TO app_user"
    )
    result = inner(
        """
def test_notes(assert_isolated):
    assert_isolated("notes")

def test_leaks(assert_isolated):
    assert_isolated("leaks")

def test_names(pgvpd_database, pgvpd_postgres, pgvpd_admin_url):
    assert pgvpd_database == "shop"
    assert one(pgvpd_admin_url, "SELECT current_database()::text || current_user") == "shoppostgres"
    assert pgvpd_admin_url == pgvpd_postgres.url("shop")
""",
        "--pgvpd-database=shop",
        ini=["pgvpd_schema = sql/schema.sql", "pgvpd_database = other"],
        existing=False,
    )
    result.assert_outcomes(passed=2, failed=1)
    result.stdout.fnmatch_lines(["E * AssertionError: public.leaks leaks: *", "E *LEAK *reads rows of *"])
    # The failure is shown where the user's line is, not inside the package.
    result.stdout.no_fnmatch_line("*testing.py:*")


def test_a_tenant_is_fresh_and_logs_in(inner: Inner) -> None:
    result = inner(
        """
seen = set()

@pytest.mark.parametrize("n", range(3))
def test_tenant(tenant, n):
    assert one(tenant.url, "SELECT current_tenant_id()") == tenant.name == str(tenant)
    assert tenant not in seen
    seen.add(tenant)

def test_url(pgvpd_url, pgvpd_proxy, tmp_path):
    assert one(pgvpd_url("acme"), "SELECT current_tenant_id()") == "acme"
    assert one(pgvpd_url(7), "SELECT current_tenant_id()") == "7"
    assert pgvpd_url("acme").split("@")[1].startswith(f"127.0.0.1:{pgvpd_proxy.port}/")
"""
    )
    result.assert_outcomes(passed=4)


@pytest.mark.parametrize("form, kind", [("uuid", "uuid.UUID"), ("integer", "int")])
def test_a_tenant_has_the_form_that_is_asked_for(inner: Inner, form: str, kind: str) -> None:
    result = inner(
        f"""
import uuid

def test_tenant(tenant):
    assert str({kind}(tenant.name)) == tenant.name
    assert one(tenant.url, "SELECT current_tenant_id()") == tenant.name
""",
        ini=["pgvpd_options =", f"    tenant_format = {form}"],
    )
    result.assert_outcomes(passed=1)


def test_a_context_of_several_values(inner: Inner) -> None:
    result = inner(
        """
def test_values(pgvpd_url, tenant, assert_isolated):
    query = "SELECT concat_ws('|', pgvpd_context('app.list'), pgvpd_context('app.user'), pgvpd_context('app.current_tenant_id'))"
    assert one(pgvpd_url("list1", "user7", "acme"), query) == "list1|user7|acme"
    assert one(pgvpd_url("list1:user7"), query) == "list1|user7"
    assert one(tenant.url, query) == tenant.name
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(pgvpd_url("a", "b", "c", "d"))
""",
        "--pgvpd-options=context_variables = app.list, app.user, app.current_tenant_id",
        ini=["pgvpd_options = context_variables = app.other"],
    )
    result.assert_outcomes(passed=1)


def test_each_worker_of_xdist_has_its_own(pytester: pytest.Pytester, inner: Inner) -> None:
    pytester.makepyfile(
        test_more="""
import os
import pytest

@pytest.mark.parametrize("n", range(4))
def test_worker(pgvpd_postgres, pgvpd_proxy, tenant, n, record_property):
    record_property("ports", (os.environ["PYTEST_XDIST_WORKER"], pgvpd_postgres.port, pgvpd_proxy.port))
    pgvpd_postgres.execute("app", "CREATE TABLE IF NOT EXISTS mine (id int)")
"""
    )
    pytester.makeini("[pytest]")
    pytester.runpytest_subprocess("-n2", "-p", "no:cacheprovider").assert_outcomes(passed=4)


def test_nothing_is_started_unless_it_is_used(pytester: pytest.Pytester) -> None:
    pytester.makeini("[pytest]\npgvpd_schema = missing.sql\npgvpd_pg_bindir = /nonexistent")
    pytester.makepyfile(
        """
import os

def test_other():
    assert len(os.listdir("/proc/self/task")) == 1
"""
    )
    pytester.runpytest_subprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_an_existing_database_is_used_as_it_is(inner: Inner, pgvpd_postgres: Postgres, pgvpd_database: str) -> None:
    tests = """
def test_isolated(assert_isolated):
    assert_isolated("orders")

def test_tenant(tenant, pgvpd_database):
    assert one(tenant.url, "SELECT current_tenant_id()") == tenant.name

def test_admin(pgvpd_admin_url):
    assert one(pgvpd_admin_url, "SELECT 1") == 1

def test_postgres(pgvpd_postgres):
    pass
"""
    result = inner(tests)
    result.assert_outcomes(passed=1, failed=1, errors=2)
    result = inner(tests, f"--pgvpd-upstream-admin-url={pgvpd_postgres.url(pgvpd_database)}")
    result.assert_outcomes(passed=3, errors=1)


def test_the_roles_that_are_asked_for_log_in(pytester: pytest.Pytester, inner: Inner) -> None:
    pytester.path.joinpath("roles.sql").write_text(
        'CREATE ROLE "We""b"; CREATE ROLE worker; CREATE TABLE t (tenant_id text); SELECT pgvpd_protect(\'t\');'
        'GRANT SELECT, INSERT ON t TO "We""b"'
    )
    tests = """
def test_role(tenant, assert_isolated):
    assert one(tenant.url, "SELECT current_user::text") == 'We"b'
    assert 'as role We"b' in assert_isolated("t")
"""
    ini = ['pgvpd_options = login_roles = We"b, worker', "pgvpd_schema = roles.sql"]
    inner(tests, ini=ini, existing=False).assert_outcomes(passed=1)
    inner(tests, ini=["pgvpd_options = login_roles = nobody"], existing=False).stdout.fnmatch_lines(["*login_roles: *nobody*"])


def test_the_role_of_an_existing_database_logs_in(
    inner: Inner, pgvpd_postgres: Postgres, pgvpd_database: str
) -> None:
    pgvpd_postgres.execute(pgvpd_database, "CREATE ROLE web LOGIN PASSWORD 'p@ss/w:rd'")
    url = pgvpd_postgres.app_url(pgvpd_database)
    url = f"postgresql://web:p%40ss%2Fw%3Ard{url[url.index('@') :]}"
    tests = """
def test_role(tenant):
    assert one(tenant.url, "SELECT current_user::text") == "web"
"""
    inner(tests, f"--pgvpd-upstream-url={url}").assert_outcomes(passed=1)


def test_a_fixture_may_be_replaced(inner: Inner) -> None:
    result = inner(
        """
from pgvpd import Proxy

@pytest.fixture(scope="session")
def pgvpd_proxy(pgvpd_proxy):
    with Proxy(port=0, upstream_port=pgvpd_proxy.option("upstream_port"), tenant_format="integer") as proxy:
        yield proxy

def test_tenant(tenant, pgvpd_proxy):
    assert int(tenant.name) and f":{pgvpd_proxy.port}/" in tenant.url
"""
    )
    result.assert_outcomes(passed=1)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--pgvpd-options=relay"], "'relay' is not of the form `option = value`"),
        (["--pgvpd-options=rely=raw"], "rely: unknown option; did you mean relay?"),
        (["--pgvpd-upstream-url=mysql://a:b@c/d"], "is not of the form postgresql://"),
        (["--pgvpd-upstream-url=postgresql://c/d"], "is not of the form postgresql://"),
        (["--pgvpd-upstream-url=postgresql://a@c:port/d"], "is not of the form postgresql://"),
    ],
)
def test_a_bad_option_is_one_readable_line(inner: Inner, arguments: list[str], message: str) -> None:
    result = inner("def test_tenant(tenant):\n    pass\n", *arguments)
    result.assert_outcomes(errors=1)
    assert message in result.stdout.str()
    assert "Traceback" not in result.stdout.str() and "pytest_plugin.py" not in result.stdout.str()


@pytest.mark.parametrize(
    "ini, content, message",
    [
        ("pgvpd_schema = broken.sql", "CREATE TABEL x ()", '*broken.sql: *syntax error at or near "TABEL"*'),
        ("pgvpd_schema = broken.sql", "\\connect x", "*broken.sql: *commands of psql*"),
        ("pgvpd_schema = missing.sql", "", "*pgvpd_schema: *No such file*missing.sql*"),
        ("pgvpd_pg_bindir = /nonexistent", "", "*/nonexistent cannot be used as PostgreSQL's program directory*"),
    ],
)
def test_what_the_server_refuses_is_told(
    pytester: pytest.Pytester, inner: Inner, ini: str, content: str, message: str
) -> None:
    pytester.path.joinpath("broken.sql").write_text(content)
    result = inner("def test_tenant(tenant):\n    pass\n", ini=[ini], existing=False)
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines([message])
    assert "pytest_plugin.py" not in result.stdout.str()


def test_help_tells_options_and_fixtures(pytester: pytest.Pytester) -> None:
    text = pytester.runpytest_inprocess("--help").stdout.str()
    for name in ("schema", "database", "options", "pg-bindir", "upstream-url", "upstream-admin-url"):
        assert f"--pgvpd-{name}" in text and f"pgvpd_{name.replace('-', '_')} (" in text
    text = pytester.runpytest_inprocess("--fixtures").stdout.str()
    for name in ("assert_isolated", "pgvpd_admin_url", "pgvpd_database", "pgvpd_postgres", "pgvpd_proxy", "pgvpd_url", "tenant"):
        assert f"\n{name} " in text
    assert "no docstring" not in text
    assert "_pgvpd_server" not in text


def test_log_levels_set_by_a_test_hold_for_it(inner: Inner) -> None:
    result = inner(
        """
import time

@pytest.fixture(scope="session")
def url(pgvpd_url):
    return pgvpd_url("acme").replace("app_user.", "app_user")

@pytest.mark.parametrize("level", ["ERROR", "DEBUG", "ERROR"])
def test_level(caplog, url, level):
    caplog.set_level(level, logger="pgvpd")
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    # A thread of its own hands records over.
    deadline = time.monotonic() + 30
    while level == "DEBUG" and "pgvpd.session" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ("pgvpd.session" in caplog.text) == (level == "DEBUG")
"""
    )
    result.assert_outcomes(passed=3)
