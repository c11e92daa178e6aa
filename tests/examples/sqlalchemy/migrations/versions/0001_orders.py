"""Orders and their lines."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def tenant_id() -> sa.Column[str]:
    """The database fills it in."""
    return sa.Column("tenant_id", sa.Text, nullable=False, server_default=sa.text("current_tenant_id()"))


def upgrade() -> None:
    op.create_table(
        "orders",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        tenant_id(),
        sa.Column("customer", sa.Text, nullable=False),
        sa.Index("orders_tenant", "tenant_id", "id"),
    )
    op.create_table(
        "lines",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True), primary_key=True),
        tenant_id(),
        sa.Column("order_id", sa.BigInteger, sa.ForeignKey("orders.id"), nullable=False),
        sa.Column("item", sa.Text, nullable=False),
        sa.Column("quantity", sa.Integer, sa.CheckConstraint("quantity > 0"), nullable=False),
        sa.Index("lines_tenant", "tenant_id", "order_id"),
    )
    # In the migration that creates a table, so that it is never there unprotected.
    for table in ["orders", "lines"]:
        op.execute(f"SELECT pgvpd_protect('{table}')")
        op.execute(f"GRANT SELECT, INSERT, UPDATE, DELETE ON {table} TO app_user")
