"""`pgvpd.Proxy`."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, Optional

from pgvpd import _pgvpd
from pgvpd._service import Service, Value, texts

if TYPE_CHECKING:
    from typing_extensions import Self


class Stats(NamedTuple):
    """What a proxy has done since its start, and does."""

    connections_total: int
    """Connections accepted, cancel requests included."""
    sessions_total: int
    """Logins that led to a session."""
    refused_total: int
    """Logins refused, by the proxy or the server."""
    sessions_active: int
    """Clients that are admitted now: relayed, or logging in."""


class Proxy(Service[_pgvpd.ProxyHandle]):
    """A proxy in this process: `Proxy(upstream_host="127.0.0.1", port=0)`.

    Takes every option of the configuration file by its name, as str, int, float, bool or a list of them, with the same
    defaults; `port=0` takes a free port. Environment variables are not read. Raises ConfigError with everything that is
    wrong.

    It runs from `start()` to `stop()`, or within `with` or `async with`, on threads of its own; a proxy that is
    garbage-collected, or still runs when the interpreter exits, is stopped. What it reports goes to the loggers below
    `logging.getLogger("pgvpd")`; their levels are read again whenever a proxy is used.

    Where it does not run, everything but `start`, `stop`, `closed` and `option` raises Error.
    """

    _name = "proxy"
    _stopped_last = False

    def __init__(self, **options: Value) -> None:
        super().__init__()
        self._options = texts(options)
        _pgvpd.check_options(self._options)

    def _start(self) -> _pgvpd.ProxyHandle:
        return _pgvpd.start_proxy(self._options)

    def start(self) -> Self:
        """Opens the listener and begins to serve. Returns the proxy itself.

        Raises StartError where the listener cannot be opened, and Error where it runs already.
        """
        return super().start()

    def stop(self, timeout: float = 0) -> int:
        """Accepts no more clients, lets sessions go on for `timeout` seconds, and closes those that are left.

        Returns how many had to be closed. Does nothing where the proxy does not run. It can be started again.
        """
        handle = self._handle
        if handle is None:
            return 0
        closed = handle.shutdown(timedelta(seconds=timeout))
        self._forget(handle)
        return closed

    def _stop(self) -> None:
        self.stop()

    def closed(self, timeout: Optional[float] = None) -> bool:
        """Waits until the proxy has stopped and every session is closed, for at most `timeout` seconds, and returns whether
        it has; at once where it does not run."""
        if self._handle is None:
            return True
        return self._handle.closed(timedelta.max if timeout is None else timedelta(seconds=timeout))

    @property
    def host(self) -> str:
        """The address it listens on."""
        return self._started.address()[0]

    @property
    def port(self) -> int:
        """The TCP port it listens on, also where 0 was asked for."""
        return self._started.address()[1]

    @property
    def tls_port(self) -> Optional[int]:
        """The TCP port of the TLS listener, the option `tls_port`; None where there is none."""
        return self._started.tls_port()

    @property
    def admin_port(self) -> Optional[int]:
        """The TCP port of the admin listener, the option `admin_port`; None where there is none."""
        return self._started.admin_port()

    def url(self, tenant: str, database: str, password: Optional[str] = None) -> str:
        """A connection URL for a tenant, percent-encoded: `postgresql://<role>.<tenant>@<host>:<port>/<database>`.

        The role is the first of the option login_roles, or app_user; `password` is that role's, and left out without it.
        Where the context has several variables, `tenant` is all their values, separated.
        """
        return self._started.url(tenant, database, password)

    def stats(self) -> Stats:
        """What it has done since its start, and does."""
        return Stats(**self._started.stats())

    def reload(self, **options: Value) -> list[str]:
        """Changes these options for new sessions. The other options stay, and sessions keep those they started with.

        Returns the options that take effect with the next `start()` only. Raises ConfigError, and changes nothing, where
        one is not valid.
        """
        changed = {**self._options, **texts(options)}
        needs_restart = self._started.reload(changed)
        self._options = changed
        return needs_restart

    def option(self, name: str) -> str:
        """An option's value as the configuration file would have it, or its default as the manual words it. Raises KeyError
        for a name that is no option."""
        default = _pgvpd.default_options()[name]
        return self._options.get(name, default)

    def __repr__(self) -> str:
        return "<pgvpd.Proxy, not running>" if self._handle is None else f"<pgvpd.Proxy on {self.host}:{self.port}>"
