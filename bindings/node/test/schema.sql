CREATE TABLE notes (tenant_id text NOT NULL DEFAULT current_tenant_id(), body text);
SELECT pgvpd_protect('notes');
GRANT SELECT, INSERT, UPDATE, DELETE ON notes TO app_user;

-- What assertIsolated has to find.
CREATE TABLE unprotected (tenant_id text NOT NULL DEFAULT current_tenant_id(), body text);
GRANT SELECT, INSERT, UPDATE, DELETE ON unprotected TO app_user;

-- What assertIsolated has to refuse.
CREATE TABLE owned (tenant_id text NOT NULL DEFAULT current_tenant_id(), body text);
ALTER TABLE owned OWNER TO app_user;
