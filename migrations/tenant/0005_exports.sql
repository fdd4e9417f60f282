-- Why: events taken away as a file. A row says what was asked for and how far it is; a job writes the file, and each
-- try under an id of its own, so that of two that overlap only one can become the export.
SET ROLE audit_owner;

CREATE TABLE exports (
  tenant_id    uuid NOT NULL REFERENCES tenants (id),
  id           uuid NOT NULL,
  requested_by uuid NOT NULL,
  format       text NOT NULL CHECK (format IN ('csv', 'ndjson')),
  filter       jsonb NOT NULL DEFAULT '{}',
  state        text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed')),
  object_id    uuid,
  rows         bigint,
  size_bytes   bigint,
  sha256       bytea,
  created_at   timestamptz NOT NULL DEFAULT now(),
  finished_at  timestamptz,
  PRIMARY KEY (tenant_id, id)
);
ALTER TABLE exports ENABLE ROW LEVEL SECURITY;
ALTER TABLE exports FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON exports
  USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
  WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
GRANT SELECT, DELETE, INSERT (tenant_id, id, requested_by, format, filter) ON exports TO audit_app;
GRANT SELECT, UPDATE (state, object_id, rows, size_bytes, sha256, finished_at) ON exports TO audit_worker;

RESET ROLE;
