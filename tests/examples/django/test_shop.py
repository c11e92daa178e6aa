"""The shop through a real proxy, before a real PostgreSQL."""

import asyncio
import json
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections, transaction
from django.test import Client
from pgvpd import Proxy
from pgvpd.testing import Postgres
from shop.tenancy import TenantError, as_tenant, current_tenant

EXAMPLES = Path(__file__).parent.parent


def get(tenant: str) -> object:
    return Client().get("/orders", headers={"host": f"{tenant}.shop.example"})


def post(tenant: str, customer: str, *quantities: int) -> object:
    order = {"customer": customer, "lines": [{"item": "anvil", "quantity": quantity} for quantity in quantities]}
    return Client().post(
        "/orders", json.dumps(order), content_type="application/json", headers={"host": f"{tenant}.shop.example"}
    )


def whose() -> str:
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_tenant_id()")
        return cursor.fetchone()[0]


def test_each_tenant_sees_its_own_orders() -> None:
    assert post("acme", "Road Runner", 1, 2).status_code == 201
    assert post("globex", "Scorpio", 1).status_code == 201
    assert get("acme").json() == [{"customer": "Road Runner", "items": 3}]
    assert get("globex").json() == [{"customer": "Scorpio", "items": 1}]


def test_an_order_with_a_bad_line_leaves_nothing() -> None:
    assert post("careless", "x", 1, 0).status_code == 422
    assert get("careless").json() == []


def test_who_is_no_tenant_is_sent_away() -> None:
    assert get("mallory").status_code == 403
    assert get("a" * 64).status_code == 404
    assert get("acme@").status_code == 400


def test_the_tables_are_isolated(assert_isolated) -> None:
    assert_isolated("orders")
    assert_isolated("lines")


def test_a_connection_is_never_used_for_another_tenant() -> None:
    with as_tenant("acme"):
        assert whose() == "acme"
        kept = connection.connection
        assert whose() == "acme"
        assert connection.connection is kept, "for the same tenant it is used again"
        with as_tenant("globex"):
            assert whose() == "globex"
        assert kept.closed
        assert whose() == "acme"


def test_without_a_tenant_there_is_no_query() -> None:
    with as_tenant("acme"):
        whose()
    with pytest.raises(TenantError):
        whose()
    with pytest.raises(TenantError):
        current_tenant()


def test_the_tenant_cannot_change_within_a_transaction() -> None:
    with as_tenant("acme"), transaction.atomic():
        whose()
        with as_tenant("globex"), pytest.raises(TenantError, match="acme's"):
            whose()
        assert whose() == "acme"


def test_tasks_have_tenants_of_their_own() -> None:
    async def in_task(tenant: str) -> str:
        with as_tenant(tenant):
            await asyncio.sleep(0)  # the others come in between
            return current_tenant()

    async def all_of_them() -> list[str]:
        return await asyncio.gather(*(in_task(f"tenant-{n}") for n in range(10)))

    assert asyncio.run(all_of_them()) == [f"tenant-{n}" for n in range(10)]


def test_a_pool_for_all_tenants_is_refused() -> None:
    with as_tenant("acme"):
        wrapper = connection.copy()
        wrapper.settings_dict = {**wrapper.settings_dict, "OPTIONS": {"pool": True}}
        with pytest.raises(ImproperlyConfigured):
            wrapper.connect()


@pytest.fixture
def database(pgvpd_postgres: Postgres):
    """Makes a database with this schema, before it a proxy with these context variables; its alias."""
    proxies = []

    def start(schema: str, context_variables: str) -> str:
        name = Path(schema).stem
        pgvpd_postgres.create_app_database(name)
        pgvpd_postgres.execute(name, (EXAMPLES / schema).read_text())
        proxies.append(Proxy(port=0, upstream_port=pgvpd_postgres.port, context_variables=context_variables).start())
        connections.databases[name] = {**connections.databases["default"], "NAME": name, "PORT": proxies[-1].port}
        return name

    yield start
    for proxy in proxies:
        proxy.stop()


def rows(alias: str, tenant: str, sql: str) -> list[str]:
    with as_tenant(tenant), connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return [row[0] for row in cursor.fetchall()]


def test_a_login_may_carry_several_values(database) -> None:
    alias = database("lists.sql", "app.list_id,app.user_id")
    for user in ["user7", "user8"]:
        rows(alias, f"list1:{user}", f"INSERT INTO tasks (title) VALUES ('{user}') RETURNING id")
        rows(alias, f"list1:{user}", f"INSERT INTO drafts (body) VALUES ('{user}') RETURNING id")
    assert rows(alias, "list1:user7", "SELECT title FROM tasks ORDER BY id") == ["user7", "user8"]
    assert rows(alias, "list1:user7", "SELECT body FROM drafts") == ["user7"]
    assert rows(alias, "list2:user7", "SELECT title FROM tasks") == []


def test_an_application_that_used_set_moves_over_without_it(database) -> None:
    alias = database("legacy.sql", "myapp.tenant")
    for tenant in ["acme", "globex"]:
        # Before: a middleware with cursor.execute("SET myapp.tenant = %s", [tenant]).
        rows(alias, tenant, "INSERT INTO invoices (number) VALUES ('1') RETURNING id")
    assert rows(alias, "acme", "SELECT tenant FROM invoices") == ["acme"]
