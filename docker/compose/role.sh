#!/bin/sh
# Run once by the image of Postgres, within its own shell: the role that pgveil uses,
# which may log in and nothing else; dataset.sql grants it what it reads.
psql -v ON_ERROR_STOP=1 --username "$POSTGRES_USER" --dbname "$POSTGRES_DB" <<'SQL'
\getenv password PGVEIL_UPSTREAM_PASSWORD
CREATE ROLE pgveil LOGIN NOINHERIT PASSWORD :'password';
REVOKE ALL ON DATABASE shop FROM PUBLIC;
GRANT CONNECT, TEMPORARY ON DATABASE shop TO pgveil;
SQL
