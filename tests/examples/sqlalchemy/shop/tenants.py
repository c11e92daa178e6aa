"""Which tenant a request is for, and the engine with that tenant's connections."""

import re
import time
from collections.abc import Callable
from threading import Lock

from cachetools import TTLCache
from fastapi import HTTPException, Request
from sqlalchemy import Engine, create_engine, event, make_url


def retire(engine: Engine) -> None:
    """Closes its connections: those in use, and any that a request in progress still makes, when they come back."""
    event.listen(engine, "checkin", lambda connection, record: record.close())
    engine.dispose()


class Engines(TTLCache[str, Engine]):
    """The engines that were used last, and lately."""

    def popitem(self) -> tuple[str, Engine]:
        tenant, engine = super().popitem()
        retire(engine)
        return tenant, engine

    def expire(self, time: float | None = None) -> list[tuple[str, Engine]]:
        expired = list(super().expire(time))
        for _, engine in expired:
            retire(engine)
        return expired


class Tenants:
    """An engine, and with it a pool, for each tenant. `url` is the proxy's, with the role and its password.

    At most `engines` tenants have one at one time; one that nobody has asked for in `idle` seconds goes.
    """

    def __init__(
        self, url: str, engines: int = 100, idle: float = 300, timer: Callable[[], float] = time.monotonic
    ) -> None:
        self._url = make_url(url).set(drivername="postgresql+psycopg")
        self._engines = Engines(engines, idle, timer)
        self._lock = Lock()

    def engine(self, tenant: str) -> Engine:
        """That of one tenant, or of one combination of values (`list1:user7`). Connects when it is first used."""
        with self._lock:
            engine = self._engines.get(tenant)
            if engine is None:
                url = self._url.set(username=f"{self._url.username}.{tenant}")
                engine = create_engine(url, pool_size=2, max_overflow=2)
            self._engines[tenant] = engine  # also where it is there already: its time begins anew
            return engine

    def close(self) -> None:
        """Closes the connections of all tenants, when the application stops."""
        with self._lock:
            while self._engines:
                self._engines.popitem()


def engine_of(request: Request) -> Engine:
    """The first label of `acme.shop.example`, if it is one that a tenant may have: a host name comes from the client."""
    tenant, dot, _ = request.headers.get("host", "").partition(".")
    if not dot or not re.fullmatch(r"[a-z0-9-]{1,63}", tenant):
        raise HTTPException(404)
    tenants: Tenants = request.app.state.tenants
    return tenants.engine(tenant)
