-- A schema as applications have it that set the tenant themselves (SET myapp.tenant = 'acme'): a variable and a policy of
-- their own. With context_variables = myapp.tenant the proxy sets it, and the application's SET can go.

CREATE TABLE invoices (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text NOT NULL DEFAULT current_setting('myapp.tenant', true),
    number text NOT NULL
);
CREATE INDEX ON invoices (tenant);
ALTER TABLE invoices ENABLE ROW LEVEL SECURITY;
CREATE POLICY tenant ON invoices USING (tenant = current_setting('myapp.tenant', true));
GRANT SELECT, INSERT, UPDATE, DELETE ON invoices TO app_user;
