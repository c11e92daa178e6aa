"""Which tenant a request is for, and the engine with that tenant's connections."""

import re
from threading import Lock

from cachetools import LRUCache
from fastapi import HTTPException, Request
from sqlalchemy import Engine, create_engine, make_url


class Engines(LRUCache[str, Engine]):
    """The engines that were used last. One that has to go closes its connections; those in use when they come back."""

    def popitem(self) -> tuple[str, Engine]:
        tenant, engine = super().popitem()
        engine.dispose()
        return tenant, engine


class Tenants:
    """An engine, and with it a pool, for each tenant. `url` is the proxy's, with the role and its password."""

    def __init__(self, url: str, engines: int = 100) -> None:
        self._url = make_url(url).set(drivername="postgresql+psycopg")
        self._engines = Engines(maxsize=engines)
        self._lock = Lock()

    def engine(self, tenant: str) -> Engine:
        """That of one tenant, or of one combination of values (`list1:user7`). Connects when it is first used."""
        with self._lock:
            engine = self._engines.get(tenant)
            if engine is None:
                url = self._url.set(username=f"{self._url.username}.{tenant}")
                engine = self._engines[tenant] = create_engine(url, pool_size=2, max_overflow=2)
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
