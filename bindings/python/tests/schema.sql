-- A table as it should be.
CREATE TABLE orders (
    id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    tenant_id text NOT NULL DEFAULT current_tenant_id(),
    item text NOT NULL
);
SELECT pgvpd_protect('orders');

-- One that nobody has protected.
CREATE TABLE unprotected (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), tenant_id text NOT NULL, item text NOT NULL);

-- Protected by a policy that lets everybody read.
CREATE TABLE readable (LIKE unprotected INCLUDING ALL);
ALTER TABLE readable ENABLE ROW LEVEL SECURITY;
CREATE POLICY read_all ON readable FOR SELECT USING (true);
CREATE POLICY own ON readable USING (tenant_id = current_tenant_id());

-- Protected when rows are read, but not when they are written.
CREATE TABLE writable (LIKE unprotected INCLUDING ALL);
ALTER TABLE writable ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON writable USING (tenant_id = current_tenant_id()) WITH CHECK (true);

-- Sees everything as long as there is no context.
CREATE TABLE open_without_context (LIKE unprotected INCLUDING ALL);
ALTER TABLE open_without_context ENABLE ROW LEVEL SECURITY;
CREATE POLICY own ON open_without_context USING (current_tenant_id() IS NULL OR tenant_id = current_tenant_id());

-- With the tenant elsewhere.
CREATE TABLE accounts (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), customer uuid NOT NULL);
SELECT pgvpd_protect('accounts', 'customer');

GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO app_user;
