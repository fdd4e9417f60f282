-- Why: files that belong to an event. Their bytes lie in the object store, under a key made of tenant, kind and id
-- alone; whether one may be had is decided here, by the row, which is walled as everything of a tenant.
SET ROLE audit_owner;

CREATE TABLE attachments (
  tenant_id    uuid NOT NULL REFERENCES tenants (id),
  id           uuid NOT NULL,
  event_id     uuid NOT NULL,
  author_id    uuid NOT NULL,
  name         text NOT NULL,
  content_type text NOT NULL,
  size_bytes   bigint NOT NULL,
  sha256       bytea NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX attachments_by_event ON attachments (tenant_id, event_id, id);
ALTER TABLE attachments ENABLE ROW LEVEL SECURITY;
ALTER TABLE attachments FORCE ROW LEVEL SECURITY;
CREATE POLICY own_tenant ON attachments
  USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
  WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid);
GRANT SELECT, INSERT, DELETE ON attachments TO audit_app;

RESET ROLE;
