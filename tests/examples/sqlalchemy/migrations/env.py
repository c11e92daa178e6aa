"""Alembic's environment: one connection, one transaction for each migration."""

from alembic import context
from sqlalchemy import create_engine, make_url
from sqlalchemy.pool import NullPool

url = make_url(context.config.attributes["url"]).set(drivername="postgresql+psycopg")
with create_engine(url, poolclass=NullPool).connect() as connection:
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()
