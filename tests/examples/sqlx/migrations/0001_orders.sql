CREATE TABLE orders (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL DEFAULT current_tenant_id(),
    customer  text NOT NULL
);
CREATE INDEX ON orders (tenant_id, id);

CREATE TABLE lines (
    id        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id text NOT NULL DEFAULT current_tenant_id(),
    order_id  bigint NOT NULL REFERENCES orders,
    item      text NOT NULL,
    quantity  integer NOT NULL CHECK (quantity > 0)
);
CREATE INDEX ON lines (tenant_id, order_id);

-- A migration that creates a table protects it, so that no table is ever there unprotected.
SELECT pgvpd_protect('orders'), pgvpd_protect('lines');
GRANT SELECT, INSERT, UPDATE, DELETE ON orders, lines TO app_user;
