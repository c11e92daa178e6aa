"""Fixtures for pytest: a private PostgreSQL, a proxy before it, tenants, and `assert_isolated`.

Nothing is started unless a test asks for it. With pytest-xdist each worker has a server and a proxy of its own.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn, Optional, Protocol
from urllib.parse import quote, unquote, urlsplit

import pytest

from pgvpd import Error, Proxy, _pgvpd, testing


@dataclass(frozen=True)
class Tenant:
    """A tenant that no other test uses; `str()` gives its name."""

    name: str
    """As it stands in the tenant column."""
    url: str
    """Logs in as this tenant through the proxy."""

    def __str__(self) -> str:
        return self.name


class AssertIsolated(Protocol):
    """What the fixture `assert_isolated` is."""

    def __call__(self, table: str, *, column: str = "tenant_id", tenants: Optional[tuple[str, str]] = None) -> str: ...


@dataclass(frozen=True)
class _Server:
    """Where the proxy connects to, and as whom applications log in."""

    host: str
    port: int
    database: str
    app_url: str
    role: str
    password: Optional[str]
    admin_url: Optional[str]


# Each has a line in the ini file and a flag: name, ini type, placeholder, help.
_OPTIONS = [
    ("pgvpd_schema", "paths", "FILE", "SQL file to run in the database, after pgvpd's own SQL; several are run in order"),
    ("pgvpd_database", "string", "NAME", "name of the database that is made [app]"),
    ("pgvpd_options", "linelist", "'OPTION = VALUE'", "option of the proxy, as in pgvpd.conf; several, one a line"),
    ("pgvpd_pg_bindir", "string", "DIR", "directory of PostgreSQL's programs [looked for, or fetched]"),
    ("pgvpd_upstream_url", "string", "URL", "existing database to use, as it is, instead of a private server: a URL of \
the application's role with its password"),
    ("pgvpd_upstream_admin_url", "string", "URL", "the same database as the owner of its tables or a superuser"),
]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declares each option for the ini file and for the command line."""
    group = parser.getgroup("pgvpd", "pgvpd: tenant isolation")
    for name, kind, placeholder, text in _OPTIONS:
        many = kind in ("paths", "linelist")
        parser.addini(name, text, type=kind, default=[] if many else None)  # type: ignore[arg-type]
        flag = "--" + name.replace("_", "-")
        if kind == "paths":
            group.addoption(flag, action="append", type=Path, metavar=placeholder, help=text)
        else:
            group.addoption(flag, action="append" if many else "store", metavar=placeholder, help=text)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_call() -> Iterator[None]:
    """Has the proxy's threads take notice of log levels that fixtures have set."""
    _pgvpd.refresh_log_levels()
    return (yield)


def _one(config: pytest.Config, name: str) -> Optional[str]:
    value: Optional[str] = config.getoption(name) or config.getini(name)
    return value


def _fail(message: object) -> NoReturn:
    # One line for the user, without where it came from.
    raise pytest.fail.Exception(f"pgvpd: {message}", pytrace=False) from None


def _schema(config: pytest.Config) -> list[Path]:
    named: list[Path] = [config.invocation_params.dir / path for path in config.getoption("pgvpd_schema") or []]
    return named or list(config.getini("pgvpd_schema"))


def _options(config: pytest.Config) -> dict[str, str]:
    options = {}
    for line in [*config.getini("pgvpd_options"), *(config.getoption("pgvpd_options") or [])]:
        name, separator, value = line.partition("=")
        if not separator:
            _fail(f"pgvpd_options: {line!r} is not of the form `option = value`")
        options[name.strip()] = value.strip()
    return options


def _existing_server(config: pytest.Config, url: str) -> _Server:
    try:
        parts = urlsplit(url)
        port = parts.port or 5432
        host, role, database = parts.hostname or "", unquote(parts.username or ""), unquote(parts.path[1:])
    except ValueError:
        host = ""
    if not host or not role or not database or parts.scheme not in ("postgresql", "postgres"):
        _fail("pgvpd_upstream_url is not of the form postgresql://role:password@host:port/database")
    password = None if parts.password is None else unquote(parts.password)
    return _Server(host, port, database, url, role, password, _one(config, "pgvpd_upstream_admin_url"))


@pytest.fixture(scope="session")
def pgvpd_postgres(pytestconfig: pytest.Config) -> Iterator[testing.Postgres]:
    """A private PostgreSQL server, a `pgvpd.testing.Postgres`; removed after the last test."""
    if _one(pytestconfig, "pgvpd_upstream_url"):
        _fail("there is no private server: pgvpd_upstream_url names another to use")
    try:
        server = testing.Postgres(bin_dir=_one(pytestconfig, "pgvpd_pg_bindir")).start()
    except Error as error:
        _fail(error)
    with server:
        yield server


def _run_schema(postgres: testing.Postgres, database: str, path: Path) -> None:
    try:
        sql = path.read_text(encoding="utf-8")
        postgres.execute(database, sql)
    except OSError as error:
        _fail(f"pgvpd_schema: {error}")
    except Error as error:
        command = any(line.startswith("\\") for line in sql.splitlines())
        hint = "; it has commands of psql (lines that begin with a backslash), which only psql understands"
        _fail(f"pgvpd_schema: {path}: {error}{hint if command else ''}")


@pytest.fixture(scope="session")
def _pgvpd_server(pytestconfig: pytest.Config, request: pytest.FixtureRequest) -> _Server:
    url = _one(pytestconfig, "pgvpd_upstream_url")
    if url:
        return _existing_server(pytestconfig, url)
    postgres: testing.Postgres = request.getfixturevalue("pgvpd_postgres")
    database = _one(pytestconfig, "pgvpd_database") or "app"
    try:
        postgres.create_app_database(database)
    except Error as error:
        _fail(error)
    for path in _schema(pytestconfig):
        _run_schema(postgres, database, path)
    # Those that the schema has made, if others than app_user are to log in.
    password = postgres.app_password
    named = [role.strip() for role in _options(pytestconfig).get("login_roles", postgres.app_user).split(",")]
    for role in named:
        identifier = role.replace('"', '""')
        try:
            postgres.execute(database, f"ALTER ROLE \"{identifier}\" LOGIN PASSWORD '{password}'")
        except Error as error:
            _fail(f"login_roles: {error}")
    app_url = f"postgresql://{quote(named[0], safe='')}:{password}@{postgres.host}:{postgres.port}/{quote(database, safe='')}"
    admin_url = postgres.url(database)
    return _Server(postgres.host, postgres.port, database, app_url, named[0], password, admin_url)


@pytest.fixture(scope="session")
def pgvpd_database(_pgvpd_server: _Server) -> str:
    """The name of the database that the tests use, with pgvpd's SQL and the files of `pgvpd_schema` in it."""
    return _pgvpd_server.database


@pytest.fixture(scope="session")
def pgvpd_admin_url(_pgvpd_server: _Server) -> str:
    """A URL of the database as superuser, past the proxy and every policy: for migrations and test data."""
    if _pgvpd_server.admin_url is None:
        _fail("pgvpd_admin_url needs the option pgvpd_upstream_admin_url where pgvpd_upstream_url is set")
    return _pgvpd_server.admin_url


@pytest.fixture(scope="session")
def pgvpd_proxy(pytestconfig: pytest.Config, _pgvpd_server: _Server) -> Iterator[Proxy]:
    """A proxy before the database, a `pgvpd.Proxy`, on a free port of 127.0.0.1, with the options of `pgvpd_options`."""
    server = _pgvpd_server
    own = {"port": "0", "upstream_host": server.host, "upstream_port": str(server.port), "login_roles": server.role}
    try:
        proxy = Proxy(**{**own, **_options(pytestconfig)}).start()
    except Error as error:
        _fail(error)
    with proxy:
        yield proxy


@pytest.fixture(scope="session")
def pgvpd_url(pgvpd_proxy: Proxy, _pgvpd_server: _Server) -> Callable[..., str]:
    """A function that makes the URL of a tenant, with the password: `pgvpd_url("acme")`. Where the context has several
    variables, it takes their values in order; those that are left out are empty."""
    separator = pgvpd_proxy.option("value_separator")
    count = len(pgvpd_proxy.option("context_variables").split(","))

    def url(*values: object) -> str:
        payload = separator.join(map(str, values))
        payload += separator * (count - 1 - payload.count(separator)) if count > 1 else ""
        return pgvpd_proxy.url(payload, _pgvpd_server.database, password=_pgvpd_server.password)

    return url


@pytest.fixture
def tenant(pgvpd_proxy: Proxy, pgvpd_url: Callable[..., str]) -> Tenant:
    """A tenant that no other test uses: `tenant.name`, in the form of the option tenant_format, and `tenant.url`, which logs
    in as it through the proxy."""
    name = testing.fresh_tenant(pgvpd_proxy)
    return Tenant(name, pgvpd_url(name))


@pytest.fixture(scope="session")
def assert_isolated(pgvpd_proxy: Proxy, pgvpd_url: Callable[..., str], _pgvpd_server: _Server) -> AssertIsolated:
    """A function that fails where one tenant can read or change rows of another: `assert_isolated("orders")`, with
    `column="tenant_id"` and `tenants=("acme", "globex")`; without tenants there are two new ones with a row each."""

    def check(table: str, *, column: str = "tenant_id", tenants: Optional[tuple[str, str]] = None) -> str:
        __tracebackhide__ = True
        if tenants is None and pgvpd_proxy.option("tenant_format") != "text":
            tenants = (testing.fresh_tenant(pgvpd_proxy), testing.fresh_tenant(pgvpd_proxy))
        return testing.assert_isolated(
            table,
            login=pgvpd_url,
            tenants=tenants,
            column=column,
            without_context=_pgvpd_server.app_url,
            admin=_pgvpd_server.admin_url,
        )

    return check
