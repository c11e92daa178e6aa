CREATE TABLE table_of_one (tenant_id text);
SELECT pgvpd_protect('table_of_one');
GRANT SELECT, INSERT, UPDATE, DELETE ON table_of_one TO app_user;
