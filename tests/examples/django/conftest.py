"""Django, set up against a private PostgreSQL and a proxy."""

import os
from collections.abc import Iterator
from urllib.parse import urlsplit

import django
import pytest
from pgvpd import Proxy
from pgvpd.testing import Postgres


@pytest.fixture(scope="session", autouse=True)
def shop(pgvpd_postgres: Postgres, pgvpd_proxy: Proxy, pgvpd_admin_url: str, pgvpd_database: str) -> Iterator[None]:
    os.environ |= {
        "DJANGO_SETTINGS_MODULE": "shop.settings",
        "PGHOST": pgvpd_proxy.host,
        "PGPORT": str(pgvpd_proxy.port),
        "SHOP_DATABASE": pgvpd_database,
        "SHOP_PASSWORD": pgvpd_postgres.app_password,
        "SHOP_ADMINISTRATOR_PASSWORD": urlsplit(pgvpd_admin_url).password or "",
        "SHOP_SECRET_KEY": "of no use",
    }
    django.setup()
    from django.core.management import call_command
    from django.db import connections

    for _ in range(2):  # the second time there is nothing to do
        call_command("migrate", database="administrator", verbosity=0)
    connections["administrator"].close()
    yield
    connections.close_all()
