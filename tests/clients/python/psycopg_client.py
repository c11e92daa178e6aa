"""psycopg 3 through the proxy. Prints one line for each step."""

import threading

import psycopg
from steps import DATABASE, HOST, PASSWORD, PORT, RUNNING, SLEEP, TENANT, ok, same


def connect(user: str) -> psycopg.Connection:
    return psycopg.connect(
        host=HOST, port=PORT, dbname=DATABASE, user=user, password=PASSWORD, autocommit=True, connect_timeout=30
    )


def sqlstate(connection: psycopg.Connection, sql: str) -> str | None:
    try:
        connection.execute(sql)
    except psycopg.Error as error:
        return error.sqlstate
    return None


libpq = psycopg.pq.version()
print(f"client {psycopg.__version__}, libpq {libpq // 10000}.{libpq % 10000}")

acme, globex, own = connect("app_user.acme"), connect("app_user.globex"), connect(f"app_user.{TENANT}")
ROWS = "SELECT DISTINCT tenant_id, count(*) OVER () FROM notes"
same([("acme", 3)], acme.execute(ROWS).fetchall())
same([("globex", 2)], globex.execute(ROWS).fetchall())
ok("isolation")

same("42501", sqlstate(acme, "INSERT INTO notes (tenant_id, body) VALUES ('globex', 'x')"))
same(0, acme.execute("UPDATE notes SET body = 'x' WHERE tenant_id = 'globex'").rowcount)
ok("foreign_write")

same(("it's", 7), acme.execute("SELECT %s::text, %b::int", ("it's", 7)).fetchone())
ok("parameters")

for number in range(5):
    same((number + 1,), acme.execute("SELECT %s::int + 1", (number,), prepare=True).fetchone())
same(1, len(acme.execute("SELECT name FROM pg_prepared_statements").fetchall()))
ok("prepared")

with acme.pipeline() as pipeline:
    cursors = [acme.execute("SELECT %s::int, current_tenant_id()", (number,)) for number in range(200)]
    pipeline.sync()
    same([(number, "acme") for number in range(200)], [cursor.fetchone() for cursor in cursors])
ok("pipeline")

with own.transaction():
    own.execute("INSERT INTO notes (body) VALUES ('kept')")
with own.transaction(force_rollback=True):
    own.execute("INSERT INTO notes (body) VALUES ('lost')")
same([("kept",)], own.execute("SELECT body FROM notes").fetchall())
ok("transaction")

with own.cursor() as cursor:
    with cursor.copy("COPY uploads FROM STDIN") as copy:
        for number in range(1000):
            copy.write_row((f"{TENANT} {number}",))
    with cursor.copy(f"COPY (SELECT body FROM uploads WHERE body LIKE '{TENANT} %') TO STDOUT") as copy:
        same(1000, len(list(copy.rows())))
ok("copy")

states: list[str | None] = []
sleeping = threading.Thread(target=lambda: states.append(sqlstate(own, SLEEP)))
sleeping.start()
while acme.execute(RUNNING).fetchone() != (1,):
    pass
own.cancel_safe(timeout=30)
sleeping.join()
same(["57014"], states)
same((TENANT,), own.execute("SELECT current_tenant_id()").fetchone())
ok("cancel")

own.close()
same((TENANT,), connect(f"app_user.{TENANT}").execute("SELECT current_tenant_id()").fetchone())
ok("reconnect")

try:
    connect("app_user")
except psycopg.OperationalError as error:
    same(True, "FATAL:  pgvpd: " in str(error))
    ok("no_tenant")

# In a transaction, as psycopg begins one by itself, with values in text and in binary.
with psycopg.connect(host=HOST, port=PORT, dbname="pgvpd", user="admin", password=PASSWORD) as console:
    for binary in (False, True):
        lists = dict(console.cursor(binary=binary).execute("SHOW LISTS").fetchall())
        same(True, lists["used_clients"] >= 2)
    same("DISCONNECT 0", console.execute("DISCONNECT TENANT %s", ("nobody",)).statusmessage)
ok("console")
