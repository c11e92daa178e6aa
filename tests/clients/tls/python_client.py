"""Logs in once for each line `PORT USER WAY`, and prints one line each. The argument names the library."""

import asyncio
import os
import ssl
import sys

CA, DATABASE, PASSWORD = os.environ["PGVPD_CA"], os.environ["PGDATABASE"], os.environ["PGPASSWORD"]
SQL = "SELECT current_tenant_id()"


def psycopg(port: str, user: str, way: str) -> str:
    import psycopg

    where = {"host": "localhost", "hostaddr": "127.0.0.1", "port": port, "sslrootcert": CA, "sslmode": way}
    with psycopg.connect(**where, user=user, password=PASSWORD, dbname=DATABASE) as connection:
        return connection.execute(SQL).fetchone()[0]


def asyncpg(port: str, user: str, way: str) -> str:
    import asyncpg

    async def ask() -> str:
        context = False if way == "disable" else ssl.create_default_context(cafile=CA)
        where = {"host": "localhost", "port": int(port), "ssl": context}
        connection = await asyncpg.connect(**where, user=user, password=PASSWORD, database=DATABASE)
        try:
            return await connection.fetchval(SQL)
        finally:
            await connection.close()

    return asyncio.run(ask())


login = {"psycopg": psycopg, "asyncpg": asyncpg}[sys.argv[1]]
for line in sys.stdin:
    try:
        print("ok", login(*line.split()))
    except Exception as error:
        hint = getattr(error, "hint", None) or ""
        print("error", f"{error} {hint}".replace("\n", " "))
