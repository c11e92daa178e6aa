-- A context of two values, for applications whose users share lists: the proxy runs with
-- context_variables = app.list_id,app.user_id and the application logs in as app_user.list1:user7.

CREATE TABLE tasks (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    list_id text NOT NULL DEFAULT pgvpd_context('app.list_id'),
    title   text NOT NULL
);
CREATE INDEX ON tasks (list_id);

-- Only its author sees a draft, in whatever list he is.
CREATE TABLE drafts (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    user_id text NOT NULL DEFAULT pgvpd_context('app.user_id'),
    body    text NOT NULL
);
CREATE INDEX ON drafts (user_id);

SELECT pgvpd_protect('tasks', 'list_id', 'app.list_id');
SELECT pgvpd_protect('drafts', 'user_id', 'app.user_id');
GRANT SELECT, INSERT, UPDATE, DELETE ON tasks, drafts TO app_user;
