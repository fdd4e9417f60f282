-- Why: how long events are kept, and the runs that see to it. Age counts from when an event was recorded, which the
-- service alone decides: by when it occurred a sender could have what it sends deleted at once, or kept for ever.
SET ROLE audit_owner;

CREATE TABLE retention_policies (
  tenant_id          uuid NOT NULL REFERENCES tenants (id),
  archive_after_days integer NOT NULL CHECK (archive_after_days > 0),
  delete_after_days  integer NOT NULL,
  legal_hold         boolean NOT NULL,
  updated_at         timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id),
  CHECK (archive_after_days <= delete_after_days)
);

CREATE TABLE retention_runs (
  tenant_id      uuid NOT NULL REFERENCES tenants (id),
  id             uuid NOT NULL,
  requested_by   uuid NOT NULL,
  state          text NOT NULL DEFAULT 'queued' CHECK (state IN ('queued', 'running', 'done', 'failed')),
  -- The try that has the run: one that another has overtaken changes nothing any more.
  try_id         uuid,
  -- An object that may be there and has no row: written and not recorded yet, or given up.
  object_id      uuid,
  -- Fixed when the run begins, so that what was due then is what it must find.
  archive_before timestamptz,
  delete_before  timestamptz,
  archive_due    bigint,
  delete_due     bigint,
  archived       bigint NOT NULL DEFAULT 0,
  deleted        bigint NOT NULL DEFAULT 0,
  told           text,
  created_at     timestamptz NOT NULL DEFAULT now(),
  finished_at    timestamptz,
  PRIMARY KEY (tenant_id, id)
);
-- One at a time in each tenant.
CREATE UNIQUE INDEX retention_runs_open ON retention_runs (tenant_id) WHERE state IN ('queued', 'running');

-- An answer that is kept for a repeated request holds its event, and so goes when events of its age do.
CREATE INDEX idempotency_keys_by_age ON idempotency_keys (tenant_id, created_at);

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['retention_policies', 'retention_runs'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format($policy$CREATE POLICY own_tenant ON %I
      USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
      WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)$policy$, name);
  END LOOP;
END $$;

GRANT SELECT, INSERT ON retention_policies TO audit_app;
GRANT UPDATE (archive_after_days, delete_after_days, legal_hold, updated_at) ON retention_policies TO audit_app;
GRANT SELECT ON retention_policies TO audit_worker;
GRANT SELECT, INSERT (tenant_id, id, requested_by) ON retention_runs TO audit_app;
GRANT SELECT, UPDATE (state, try_id, object_id, archive_before, delete_before, archive_due, delete_due, archived,
  deleted, told, finished_at) ON retention_runs TO audit_worker;
-- Who serves deletes no event; who works may since events are there.
GRANT SELECT, DELETE ON annotations, attachments TO audit_worker;
GRANT SELECT (tenant_id, principal_id, key, created_at), DELETE ON idempotency_keys TO audit_worker;

RESET ROLE;
