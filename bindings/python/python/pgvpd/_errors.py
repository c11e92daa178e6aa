"""The exceptions of the package, named after where users find them."""

from __future__ import annotations

from collections.abc import Iterable


class Error(Exception):
    """Base of the exceptions of this package; itself raised where a proxy or server is used that does not run, or in a
    process that was forked from the one that uses pgvpd."""

    __module__ = "pgvpd"


class ConfigError(Error):
    """Options are not valid. The message lists everything that is wrong."""

    __module__ = "pgvpd"

    problems: list[str]
    """Each problem by itself: the option, what is wrong, and what would be valid."""

    def __init__(self, message: str, problems: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.problems = list(problems)


class StartError(Error):
    """A proxy did not start because its listener could not be opened."""

    __module__ = "pgvpd"


class PostgresError(Error):
    """A private PostgreSQL could not be found, started or used. The message says what to change."""

    __module__ = "pgvpd.testing"


class IsolationError(Error):
    """A check of isolation could not be made, or would have proved nothing: the role is a superuser, has BYPASSRLS or owns
    the table, a tenant has no row to be reached, a login failed."""

    __module__ = "pgvpd.testing"
