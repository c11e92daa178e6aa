"""`assert_isolated` finds planted leaks, and refuses to prove nothing. What it tries is tested with the core."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from pgvpd import Error, Proxy
from pgvpd.pytest_plugin import AssertIsolated
from pgvpd.testing import IsolationError, Postgres
from pgvpd.testing import assert_isolated as check


def test_a_protected_table_is_isolated(assert_isolated: AssertIsolated) -> None:
    report = assert_isolated("orders")
    assert report.startswith("public.orders is isolated: ") and "LEAK" not in report
    assert assert_isolated("public.accounts", column="customer")


def test_what_was_added_for_the_check_is_gone(assert_isolated: AssertIsolated, pgvpd_admin_url: str) -> None:
    assert_isolated("orders")
    with psycopg.connect(pgvpd_admin_url) as admin:
        assert admin.execute("SELECT count(*) FROM orders").fetchone() == (0,)


@pytest.mark.parametrize(
    "table, leak",
    [
        ("unprotected", "reads rows of"),
        ("readable", "reads rows of"),
        ("writable", "inserts a row of"),
        ("open_without_context", "a session without context reads"),
    ],
)
def test_a_planted_leak_is_found(assert_isolated: AssertIsolated, table: str, leak: str) -> None:
    with pytest.raises(AssertionError) as raised:
        assert_isolated(table)
    leaks = [line for line in str(raised.value).splitlines() if line.lstrip().startswith("LEAK")]
    assert any(leak in line for line in leaks), raised.value


def test_tenants_that_have_rows_need_no_administrator(
    pgvpd_url: Callable[..., str], assert_isolated: AssertIsolated
) -> None:
    with pytest.raises(IsolationError, match="acme has no row in"):
        check("orders", login=pgvpd_url, tenants=("acme", "globex"))
    assert assert_isolated("orders", tenants=("acme", "globex"))
    for tenant in ("acme", "globex"):
        with psycopg.connect(pgvpd_url(tenant)) as session:
            session.execute("INSERT INTO orders (item) VALUES ('anvil')")
    try:
        assert check("orders", login=pgvpd_url, tenants=("acme", "globex"))
    finally:
        for tenant in ("acme", "globex"):
            with psycopg.connect(pgvpd_url(tenant)) as session:
                session.execute("DELETE FROM orders")


@pytest.mark.parametrize(
    "make, reason",
    [
        ("CREATE ROLE root SUPERUSER LOGIN PASSWORD 'x'", "is a superuser"),
        ("CREATE ROLE bypass BYPASSRLS LOGIN PASSWORD 'x'; GRANT ALL ON orders TO bypass", "has BYPASSRLS"),
        ("CREATE ROLE owner LOGIN PASSWORD 'x'; ALTER TABLE owned OWNER TO owner", "owns"),
    ],
)
def test_a_role_that_policies_do_not_bind_is_refused(
    pgvpd_postgres: Postgres, pgvpd_database: str, make: str, reason: str
) -> None:
    role = make.split()[2]
    table = "owned" if role == "owner" else "orders"
    pgvpd_postgres.execute(pgvpd_database, f"CREATE TABLE IF NOT EXISTS owned (tenant_id text); {make}")
    direct = pgvpd_postgres.url(pgvpd_database)
    host = direct[direct.index("@") :]
    with pytest.raises(IsolationError, match=reason):
        # Past the proxy, which would refuse a superuser.
        check(table, login=lambda tenant: f"postgresql://{role}:x{host}", tenants=("a", "b"), admin=direct)


def test_a_superuser_does_not_even_get_through_the_proxy(pgvpd_postgres: Postgres, pgvpd_database: str) -> None:
    pgvpd_postgres.execute("postgres", "CREATE ROLE chief SUPERUSER LOGIN PASSWORD 'x'")
    with Proxy(upstream_port=pgvpd_postgres.port, port=0, login_roles="chief") as proxy:
        with pytest.raises(IsolationError, match="superuser"):
            check("orders", login=lambda tenant: proxy.url(tenant, pgvpd_database, "x"), tenants=("a", "b"))


def test_what_is_no_table_is_an_error(assert_isolated: AssertIsolated) -> None:
    for table in ("nothing", "public.nothing"):
        with pytest.raises(IsolationError, match="is no table"):
            assert_isolated(table)
    with pytest.raises(IsolationError, match="no column"):
        assert_isolated("orders", column="customer")


@pytest.mark.parametrize("tenants", [None, ("a", "b")])
def test_what_login_raises_comes_back(pgvpd_admin_url: str, tenants: Any) -> None:
    def login(tenant: str) -> str:
        raise LookupError(f"no password for {tenant}")

    with pytest.raises(LookupError, match="no password for"):
        check("orders", login=login, tenants=tenants, admin=pgvpd_admin_url)
    with pytest.raises(TypeError):
        check("orders", login=lambda tenant: None, tenants=tenants, admin=pgvpd_admin_url)  # type: ignore[arg-type, return-value]


def test_one_tenant_is_too_few(pgvpd_url: Callable[..., str]) -> None:
    for tenants in [("a",), ("a", "a"), ("a", "b", "c")]:
        with pytest.raises(IsolationError, match="two tenants"):
            check("orders", login=pgvpd_url, tenants=tenants)  # type: ignore[arg-type]
    assert issubclass(IsolationError, Error)
