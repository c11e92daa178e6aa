CREATE TABLE table_of_two (tenant_id text);
SELECT pgvpd_protect('table_of_two');
GRANT SELECT, INSERT, UPDATE, DELETE ON table_of_two TO app_user;
