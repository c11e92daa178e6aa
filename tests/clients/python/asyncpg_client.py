"""asyncpg through the proxy. Prints one line for each step."""

import asyncio
import io

import asyncpg
from steps import DATABASE, HOST, PASSWORD, PORT, SLEEP, TENANT, ok, same


def connect(user: str):
    return asyncpg.connect(host=HOST, port=PORT, database=DATABASE, user=user, password=PASSWORD, timeout=30)


async def sqlstate(awaitable) -> str | None:
    try:
        await awaitable
    except asyncpg.PostgresError as error:
        return error.sqlstate
    return None


async def main() -> None:
    print(f"client {asyncpg.__version__}")
    acme, globex = await connect("app_user.acme"), await connect("app_user.globex")
    own = await connect(f"app_user.{TENANT}")
    rows = "SELECT DISTINCT tenant_id, count(*) OVER () FROM notes"
    same([("acme", 3)], [tuple(row) for row in await acme.fetch(rows)])
    same([("globex", 2)], [tuple(row) for row in await globex.fetch(rows)])
    ok("isolation")

    foreign = "INSERT INTO notes (tenant_id, body) VALUES ('globex', 'x')"
    same("42501", await sqlstate(acme.execute(foreign)))
    same("UPDATE 0", await acme.execute("UPDATE notes SET body = 'x' WHERE tenant_id = 'globex'"))
    ok("foreign_write")

    same(("it's", 7), tuple(await acme.fetchrow("SELECT $1::text, $2::int", "it's", 7)))
    ok("parameters")

    statement = await acme.prepare("SELECT $1::int + 1")
    same([1, 2, 3, 4, 5], [await statement.fetchval(number) for number in range(5)])
    ok("prepared")

    # asyncpg sends the executions of executemany in batches, ahead of their answers.
    await own.executemany("INSERT INTO notes (body) VALUES ($1)", [(f"batch {number}",) for number in range(500)])
    same(500, await own.fetchval("WITH gone AS (DELETE FROM notes RETURNING 1) SELECT count(*) FROM gone"))
    ok("pipeline")

    async with own.transaction():
        await own.execute("INSERT INTO notes (body) VALUES ('kept')")
    transaction = own.transaction()
    await transaction.start()
    await own.execute("INSERT INTO notes (body) VALUES ('lost')")
    await transaction.rollback()
    same(["kept"], [row["body"] for row in await own.fetch("SELECT body FROM notes")])
    ok("transaction")

    source = io.BytesIO("".join(f"{TENANT} {number}\n" for number in range(1000)).encode())
    same("COPY 1000", await own.copy_to_table("uploads", source=source, format="text"))
    output = io.BytesIO()
    await own.copy_from_query("SELECT body FROM uploads WHERE body LIKE $1 || ' %'", TENANT, output=output)
    same(1000, len(output.getvalue().splitlines()))
    ok("copy")

    # Given up by the caller, asyncpg sends a cancel request, and the next query waits until the server has ended this one:
    # less than the minute that it would sleep. The error it keeps to itself. (A handler in PL/pgSQL that says it may be
    # cancelled itself: PostgreSQL signals a process and its group, two signals for one request.)
    # Not get_server_pid(): the key of a pool's client, and the number in it, are the proxy's own.
    backend = await own.fetchval("SELECT pg_backend_pid()")
    asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND pid = $1"
    for _ in range(2):
        sleeping = asyncio.create_task(own.execute(SLEEP))
        while await acme.fetchval(asleep, backend) != 1:
            pass
        sleeping.cancel()
        same(True, isinstance((await asyncio.gather(sleeping, return_exceptions=True))[0], asyncio.CancelledError))
        same(TENANT, await asyncio.wait_for(own.fetchval("SELECT current_tenant_id()"), 30))
    ok("cancel")

    await own.close()
    same(TENANT, await (await connect(f"app_user.{TENANT}")).fetchval("SELECT current_tenant_id()"))
    ok("reconnect")

    try:
        await connect("app_user")
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        same(("28000", True), (error.sqlstate, str(error).startswith("pgvpd: ")))
        ok("no_tenant")

    console = await asyncpg.connect(host=HOST, port=PORT, database="pgvpd", user="admin", password=PASSWORD, timeout=30)
    lists = {row["list"]: row["items"] for row in await console.fetch("SHOW LISTS")}
    same(True, lists["used_clients"] >= 2)
    same("DISCONNECT 0", await console.execute("DISCONNECT TENANT $1", "nobody"))
    ok("console")


asyncio.run(main())
