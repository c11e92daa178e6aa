"""The current tenant, and Django's PostgreSQL backend with connections that log in as it (shop.tenancy.base)."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from django.db import OperationalError

_current: ContextVar[str | None] = ContextVar("tenant", default=None)


class TenantError(OperationalError):
    """A query without a tenant, or a change of the tenant within a transaction. `makemigrations` goes on after one."""


def current_tenant() -> str:
    """The tenant of the request that is served, or of the `with as_tenant(…)` around this."""
    tenant = _current.get()
    if tenant is None:
        raise TenantError("there is no tenant here: queries belong into a request, or into `with as_tenant(…)`")
    return tenant


@contextmanager
def as_tenant(tenant: str) -> Iterator[None]:
    """Makes this tenant current; also a combination of values, such as `list1:user7`."""
    token = _current.set(tenant)
    try:
        yield
    finally:
        _current.reset(token)
