"""A small shop for many tenants with FastAPI and SQLAlchemy, behind pgvpd. docs/sqlalchemy.md explains it."""
