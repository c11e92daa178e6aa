"""The shop through a real proxy, before a real PostgreSQL."""

import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pgvpd import Proxy
from pgvpd.testing import Postgres
from pgvpd.testing import assert_isolated as try_isolation
from shop.app import application
from shop.migrate import migrate
from shop.tenants import Tenants
from sqlalchemy import event, make_url, text
from sqlalchemy.ext.asyncio import create_async_engine

EXAMPLES = Path(__file__).parent.parent


def role_url(proxy: Proxy, postgres: Postgres, database: str) -> str:
    """The proxy's URL for the role alone; the application adds the tenant."""
    return f"postgresql://{postgres.app_user}:{postgres.app_password}@127.0.0.1:{proxy.port}/{database}"


@pytest.fixture(scope="module")
def tenants(pgvpd_postgres: Postgres, pgvpd_proxy: Proxy, pgvpd_admin_url: str, pgvpd_database: str) -> Iterator[Tenants]:
    # `superuser_bypass` lets user postgres in, without a tenant, through the same port.
    administrator = make_url(pgvpd_admin_url).set(port=pgvpd_proxy.port)
    for _ in range(2):  # the second time there is nothing to do
        migrate(administrator.render_as_string(hide_password=False))
    tenants = Tenants(role_url(pgvpd_proxy, pgvpd_postgres, pgvpd_database), engines=3)
    yield tenants
    tenants.close()


@pytest.fixture
def shop(tenants: Tenants) -> Callable[[str], TestClient]:
    return lambda tenant: TestClient(application(tenants), base_url=f"http://{tenant}.shop.example")


def order(customer: str, *quantities: int) -> dict[str, object]:
    return {"customer": customer, "lines": [{"item": "anvil", "quantity": quantity} for quantity in quantities]}


def test_each_tenant_sees_its_own_orders(shop) -> None:
    acme, globex = shop("acme"), shop("globex")
    assert acme.post("/orders", json=order("Road Runner", 1, 2)).status_code == 201
    assert globex.post("/orders", json=order("Scorpio", 1)).status_code == 201
    assert acme.get("/orders").json() == [{"customer": "Road Runner", "items": 3}]
    assert globex.get("/orders").json() == [{"customer": "Scorpio", "items": 1}]


def test_an_order_with_a_bad_line_leaves_nothing(shop, tenant) -> None:
    client = shop(tenant.name.replace("_", "-"))
    assert client.post("/orders", json=order("x", 1, 0)).status_code == 422
    assert client.get("/orders").json() == []


def test_who_is_no_tenant_is_sent_away(shop) -> None:
    assert shop("mallory").get("/orders").status_code == 403
    for host in ["localhost", "acme:user7.example", "ACME.example"]:
        assert shop("acme").get("/orders", headers={"host": host}).status_code == 404


def test_a_server_that_is_down_is_no_refusal(pgvpd_postgres: Postgres, pgvpd_database: str) -> None:
    # A connection to port 1 of this machine is refused.
    with Proxy(port=0, upstream_port=1) as proxy:
        tenants = Tenants(role_url(proxy, pgvpd_postgres, pgvpd_database))
        client = TestClient(application(tenants), base_url="http://acme.shop.example")
        assert client.get("/orders").status_code == 503
        tenants.close()


def test_the_tables_are_isolated(tenants: Tenants, assert_isolated) -> None:
    assert_isolated("orders")
    assert_isolated("lines")


def test_more_tenants_than_engines(tenants: Tenants, pgvpd_proxy: Proxy) -> None:
    for name in [f"tenant-{n}" for n in range(10)] * 2:
        with tenants.engine(name).connect() as connection:
            assert connection.scalar(text("SELECT current_tenant_id()")) == name
    assert pgvpd_proxy.stats().sessions_active <= 4


def test_a_connection_in_use_is_closed_when_it_comes_back(tenants: Tenants) -> None:
    engine = tenants.engine("held")
    with engine.connect() as held:
        session = held.connection.dbapi_connection
        for n in range(3):  # as many as there are engines
            tenants.engine(f"tenant-{n}")
        assert tenants.engine("held") is not engine
        assert held.scalar(text("SELECT current_tenant_id()")) == "held"
    assert session.closed
    # A request that had the engine already.
    with engine.connect() as late:
        session = late.connection.dbapi_connection
        assert late.scalar(text("SELECT current_tenant_id()")) == "held"
    assert session.closed


def test_an_engine_that_nobody_asks_for_is_closed(pgvpd_postgres: Postgres, pgvpd_proxy: Proxy, pgvpd_database: str) -> None:
    now = 0.0
    tenants = Tenants(role_url(pgvpd_proxy, pgvpd_postgres, pgvpd_database), idle=60, timer=lambda: now)
    with tenants.engine("acme").connect() as connection:
        session = connection.connection.dbapi_connection
    now = 59.0
    engine = tenants.engine("acme")
    now = 118.0
    tenants.engine("globex")
    assert not session.closed
    assert tenants.engine("acme") is engine
    now = 178.0
    tenants.engine("globex")
    assert session.closed
    assert tenants.engine("acme") is not engine
    tenants.close()


def test_the_same_with_an_asynchronous_engine(tenants: Tenants) -> None:
    async def whose() -> str:
        engine = create_async_engine(tenants.engine("acme").url)
        async with engine.connect() as connection:
            name = await connection.scalar(text("SELECT current_tenant_id()"))
        await engine.dispose()
        return name

    assert asyncio.run(whose()) == "acme"


@pytest.fixture
def tenants_of(pgvpd_postgres: Postgres) -> Iterator[Callable[[str, str], Tenants]]:
    """Makes a database with this schema, before it a proxy with these context variables."""
    started = []

    def start(schema: str, context_variables: str) -> Tenants:
        database = Path(schema).stem
        pgvpd_postgres.execute("postgres", f"DROP DATABASE IF EXISTS {database} WITH (FORCE)")
        pgvpd_postgres.create_app_database(database)
        pgvpd_postgres.execute(database, (EXAMPLES / schema).read_text())
        proxy = Proxy(port=0, upstream_port=pgvpd_postgres.port, context_variables=context_variables).start()
        tenants = Tenants(role_url(proxy, pgvpd_postgres, database))
        started.append((tenants, proxy))
        return tenants

    yield start
    for tenants, proxy in started:
        tenants.close()
        proxy.stop()


def test_a_login_may_carry_several_values(tenants_of) -> None:
    tenants = tenants_of("lists.sql", "app.list_id,app.user_id")
    for user in ["user7", "user8"]:
        with tenants.engine(f"list1:{user}").begin() as connection:
            connection.execute(text("INSERT INTO tasks (title) VALUES (:title)"), {"title": user})
            connection.execute(text("INSERT INTO drafts (body) VALUES (:body)"), {"body": user})
    with tenants.engine("list1:user7").connect() as connection:
        assert connection.scalars(text("SELECT title FROM tasks ORDER BY id")).all() == ["user7", "user8"]
        assert connection.scalars(text("SELECT body FROM drafts")).all() == ["user7"]
    with tenants.engine("list2:user7").connect() as connection:
        assert connection.scalars(text("SELECT title FROM tasks")).all() == []


@pytest.mark.parametrize("listener", [True, False], ids=["with SET", "without SET"])
def test_an_application_that_used_set_moves_over(tenants_of, pgvpd_postgres: Postgres, listener: bool) -> None:
    tenants = tenants_of("legacy.sql", "myapp.tenant")

    def set_tenant(tenant: str) -> None:
        @event.listens_for(tenants.engine(tenant), "begin")
        def set_it(connection) -> None:
            connection.execute(text("SELECT set_config('myapp.tenant', :tenant, true)"), {"tenant": tenant})

    for tenant in ["acme", "globex"]:
        if listener:
            set_tenant(tenant)
        with tenants.engine(tenant).begin() as connection:
            connection.execute(text("INSERT INTO invoices (number) VALUES ('1')"))
    with tenants.engine("acme").connect() as connection:
        assert connection.scalars(text("SELECT tenant FROM invoices")).all() == ["acme"]
    try_isolation(
        "invoices",
        column="tenant",
        login=lambda tenant: tenants.engine(tenant).url.set(drivername="postgresql").render_as_string(hide_password=False),
        without_context=pgvpd_postgres.app_url("legacy"),
        admin=pgvpd_postgres.url("legacy"),
    )
