"""The shop through a real proxy, before a real PostgreSQL."""

import asyncio
import json
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import pytest
from asgiref.testing import ApplicationCommunicator
from django.core.exceptions import ImproperlyConfigured
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection, connections, transaction
from django.test import Client
from pgvpd import Proxy
from pgvpd.testing import Postgres
from pgvpd.testing import assert_isolated as try_isolation
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


def test_a_server_that_is_down_is_no_refusal(monkeypatch) -> None:
    connection.close()
    # A connection to port 1 of this machine is refused.
    with Proxy(port=0, upstream_port=1) as proxy, monkeypatch.context() as patch:
        patch.setitem(connection.settings_dict, "PORT", proxy.port)
        assert get("acme").status_code == 503


def served(application: WSGIHandler, tenant: str) -> str:
    """What a server does with a request. Django's test client leaves out what happens between two of them."""
    environ = {"PATH_INFO": "/orders", "HTTP_HOST": f"{tenant}.shop.example"}
    setup_testing_defaults(environ)
    statuses: list[str] = []
    response = application(environ, lambda status, headers: statuses.append(status))
    list(response)
    response.close()
    return statuses[0]


def test_a_thread_keeps_its_connection_between_requests_of_a_tenant() -> None:
    application = WSGIHandler()
    sessions = []
    for tenant in ["acme", "acme", "globex", "acme"]:
        assert served(application, tenant) == "200 OK"
        sessions.append(connection.connection)
    first, second, other, last = sessions
    assert first is second
    assert first.closed and other.closed and not last.closed


def test_between_requests_a_connection_that_is_too_old_is_closed() -> None:
    application = WSGIHandler()
    served(application, "acme")
    connection.close_at = 0
    assert served(application, "a" * 64) == "404 Not Found"  # no query, which would close it as well
    assert connection.connection is None


def test_an_asynchronous_server_serves_tenants_at_the_same_time(monkeypatch) -> None:
    # As Django asks of asynchronous servers.
    monkeypatch.setitem(connections.databases["default"], "CONN_MAX_AGE", 0)
    application = ASGIHandler()

    async def one(tenant: str) -> tuple[int, object]:
        headers = [(b"host", f"{tenant}.shop.example".encode())]
        scope = {"type": "http", "method": "GET", "path": "/orders", "query_string": b"", "headers": headers}
        communicator = ApplicationCommunicator(application, scope)
        await communicator.send_input({"type": "http.request"})
        start = await communicator.receive_output(timeout=30)
        body = await communicator.receive_output(timeout=30)
        await communicator.wait(timeout=30)
        return start["status"], json.loads(body["body"])

    async def all_of_them(tenants: list[str]) -> list[tuple[int, object]]:
        return await asyncio.gather(*map(one, tenants))

    tenants = [f"async-{n}" for n in range(5)]
    for tenant in tenants:
        assert post(tenant, f"customer of {tenant}", 1).status_code == 201
    expected = [(200, [{"customer": f"customer of {tenant}", "items": 1}]) for tenant in tenants * 2]
    assert asyncio.run(all_of_them(tenants * 2)) == expected


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


def test_it_cannot_change_in_a_transaction_without_atomic_either() -> None:
    with as_tenant("acme"):
        transaction.set_autocommit(False)
        assert whose() == "acme"
        with as_tenant("globex"), pytest.raises(TenantError, match="acme's"):
            whose()
        transaction.rollback()
        transaction.set_autocommit(True)


def test_to_ask_how_django_would_connect_does_not_change_whose_a_connection_is() -> None:
    with as_tenant("acme"):
        whose()
    with as_tenant("globex"):
        assert connection.get_connection_params()["user"] == "app_user.globex"
        assert whose() == "globex"


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
        with pytest.raises(ImproperlyConfigured, match="one pool for all tenants"):
            wrapper.connect()


@pytest.fixture
def database(pgvpd_postgres: Postgres):
    """Makes a database with this schema, before it a proxy with these context variables; its alias."""
    proxies, aliases = [], []

    def start(schema: str, context_variables: str) -> str:
        name = Path(schema).stem
        pgvpd_postgres.execute("postgres", f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")
        pgvpd_postgres.create_app_database(name)
        pgvpd_postgres.execute(name, (EXAMPLES / schema).read_text())
        proxies.append(Proxy(port=0, upstream_port=pgvpd_postgres.port, context_variables=context_variables).start())
        connections.databases[name] = {**connections.databases["default"], "NAME": name, "PORT": proxies[-1].port}
        aliases.append(name)
        return name

    yield start
    for alias in aliases:
        connections[alias].close()
        del connections[alias], connections.databases[alias]
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


@pytest.mark.parametrize("middleware", [True, False], ids=["with SET", "without SET"])
def test_an_application_that_used_set_moves_over(database, pgvpd_postgres: Postgres, middleware: bool) -> None:
    alias = database("legacy.sql", "myapp.tenant")
    for tenant in ["acme", "globex"]:
        if middleware:
            rows(alias, tenant, f"SELECT set_config('myapp.tenant', '{tenant}', false)")
        rows(alias, tenant, "INSERT INTO invoices (number) VALUES ('1') RETURNING id")
    assert rows(alias, "acme", "SELECT tenant FROM invoices") == ["acme"]
    settings = connections.databases[alias]
    try_isolation(
        "invoices",
        column="tenant",
        login=lambda tenant: f"postgresql://app_user.{tenant}:{settings['PASSWORD']}@127.0.0.1:{settings['PORT']}/{alias}",
        without_context=pgvpd_postgres.app_url(alias),
        admin=pgvpd_postgres.url(alias),
    )
