"""Orders and their lines. Nothing here knows of tenants but the column's default, which the database fills in."""

from sqlalchemy import ForeignKey, FetchedValue
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column, relationship


class Base(DeclarativeBase):
    """What belongs to a tenant."""

    tenant_id: Mapped[str] = mapped_column(server_default=FetchedValue())


class Order(Base):
    __tablename__ = "orders"

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    lines: Mapped[list["Line"]] = relationship()


class Line(Base):
    __tablename__ = "lines"

    id: Mapped[int] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(ForeignKey("orders.id"))
    item: Mapped[str]
    quantity: Mapped[int]
