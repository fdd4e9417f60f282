CREATE ROLE telemetry_ddl NOLOGIN;
CREATE ROLE telemetry_app LOGIN NOSUPERUSER NOBYPASSRLS;
CREATE SCHEMA telemetry AUTHORIZATION telemetry_ddl;
GRANT USAGE ON SCHEMA telemetry TO telemetry_app;
SET ROLE telemetry_ddl;

CREATE FUNCTION telemetry.workspace() RETURNS integer LANGUAGE sql STABLE PARALLEL SAFE
    RETURN NULLIF(current_setting('telemetry.workspace', true), '')::integer;
CREATE TABLE telemetry.workspaces (id integer PRIMARY KEY, name text NOT NULL);
CREATE TABLE telemetry.events (
    workspace_id integer NOT NULL REFERENCES telemetry.workspaces (id),
    at timestamptz NOT NULL,
    id uuid NOT NULL DEFAULT gen_random_uuid(),
    body text NOT NULL,
    archived boolean NOT NULL DEFAULT false,
    PRIMARY KEY (workspace_id, at, id)
) PARTITION BY RANGE (at);
CREATE TABLE telemetry.events_2026_01 PARTITION OF telemetry.events FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE telemetry.events_2026_02 PARTITION OF telemetry.events FOR VALUES FROM ('2026-02-01') TO ('2026-03-01');

ALTER TABLE telemetry.workspaces ENABLE ROW LEVEL SECURITY;
ALTER TABLE telemetry.workspaces FORCE ROW LEVEL SECURITY;
ALTER TABLE telemetry.events ENABLE ROW LEVEL SECURITY;
ALTER TABLE telemetry.events FORCE ROW LEVEL SECURITY;
ALTER TABLE telemetry.events_2026_01 ENABLE ROW LEVEL SECURITY;
ALTER TABLE telemetry.events_2026_01 FORCE ROW LEVEL SECURITY;
ALTER TABLE telemetry.events_2026_02 ENABLE ROW LEVEL SECURITY;
ALTER TABLE telemetry.events_2026_02 FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON telemetry.workspaces FOR SELECT USING (id = telemetry.workspace());
CREATE POLICY own ON telemetry.events USING (workspace_id = telemetry.workspace());
CREATE POLICY own ON telemetry.events_2026_01 USING (workspace_id = telemetry.workspace());
CREATE POLICY own ON telemetry.events_2026_02 USING (workspace_id = telemetry.workspace());
GRANT SELECT ON telemetry.workspaces TO telemetry_app;
GRANT SELECT, INSERT, UPDATE, DELETE ON telemetry.events TO telemetry_app;
RESET ROLE;

INSERT INTO telemetry.workspaces VALUES (800100, 'acme'), (800200, 'globex');
INSERT INTO telemetry.events (workspace_id, at, body) VALUES
    (800100, '2026-01-05', 'acme january'), (800100, '2026-02-05', 'acme february'),
    (800200, '2026-01-06', 'globex january'), (800200, '2026-02-06', 'globex february');
UPDATE telemetry.events SET archived = true WHERE at < '2026-02-01';
