"""The application's routes. No query names a tenant."""

import re
from typing import Annotated

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel
from sqlalchemy import Engine, select
from sqlalchemy.exc import IntegrityError, OperationalError
from sqlalchemy.orm import Session, selectinload

from .models import Line, Order
from .tenants import Tenants, engine_of

TenantEngine = Annotated[Engine, Depends(engine_of)]


class NewLine(BaseModel):
    item: str
    quantity: int


class NewOrder(BaseModel):
    customer: str
    lines: list[NewLine]


def application(tenants: Tenants) -> FastAPI:
    app = FastAPI()
    app.state.tenants = tenants

    @app.get("/orders")
    def list_orders(engine: TenantEngine) -> list[dict[str, object]]:
        with Session(engine) as session:
            orders = session.scalars(select(Order).options(selectinload(Order.lines)).order_by(Order.id))
            return [{"customer": order.customer, "items": sum(line.quantity for line in order.lines)} for order in orders]

    @app.post("/orders", status_code=201)
    def create_order(new: NewOrder, engine: TenantEngine) -> int:
        # The order and its lines, or nothing.
        with Session(engine) as session, session.begin():
            order = Order(customer=new.customer, lines=[Line(**line.model_dump()) for line in new.lines])
            session.add(order)
            session.flush()
            return order.id

    @app.exception_handler(IntegrityError)
    def refuse_order(request: Request, error: IntegrityError) -> JSONResponse:
        return JSONResponse({"detail": "not a valid order"}, 422)

    @app.exception_handler(OperationalError)
    def refuse_login(request: Request, error: OperationalError) -> JSONResponse:
        # libpq gives no SQLSTATE of a login that failed, but the text. A server that is down is no refusal.
        refused = re.search(r'FATAL:  pgvpd: tenant ".*" is not ', str(error.orig))
        return JSONResponse({"detail": "forbidden" if refused else "unavailable"}, 403 if refused else 503)

    return app
