-- Why: events outside the database. A row says what an object holds; it is there only once the object is, and counts
-- only once the object was read again. An event is deleted only while what is known of it is what its archive holds.
SET ROLE audit_owner;

CREATE TABLE archives (
  tenant_id     uuid NOT NULL REFERENCES tenants (id),
  -- That of its object, too.
  id            uuid NOT NULL,
  run_id        uuid NOT NULL,
  rows          bigint NOT NULL,
  recorded_from timestamptz NOT NULL,
  recorded_to   timestamptz NOT NULL,
  size_bytes    bigint NOT NULL,
  sha256        bytea NOT NULL,
  verified_at   timestamptz,
  restore_state text CHECK (restore_state IN ('queued', 'running', 'done', 'failed')),
  restored      bigint,
  restore_told  text,
  -- Events that were restored are not deleted again before.
  kept_until    timestamptz,
  created_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id)
);

-- Which archive an event is in; it stays when the event is deleted. The digest is that of its line in the archive.
CREATE TABLE archived_events (
  tenant_id  uuid NOT NULL REFERENCES tenants (id),
  event_id   uuid NOT NULL,
  archive_id uuid NOT NULL,
  digest     bytea NOT NULL CHECK (length(digest) = 32),
  PRIMARY KEY (tenant_id, event_id)
);
CREATE INDEX archived_events_by_archive ON archived_events (tenant_id, archive_id);

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['archives', 'archived_events'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format($policy$CREATE POLICY own_tenant ON %I
      USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
      WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)$policy$, name);
  END LOOP;
END $$;

GRANT SELECT, UPDATE (restore_state, restored, restore_told, kept_until) ON archives TO audit_app;
GRANT SELECT, INSERT, DELETE, UPDATE (verified_at, restore_state, restored, restore_told) ON archives TO audit_worker;
GRANT SELECT, INSERT, DELETE ON archived_events TO audit_worker;
-- A restored event comes back under its own id, with what hung on it. The bytes of attachments have stayed where they are.
GRANT INSERT ON events, annotations, attachments TO audit_worker;

RESET ROLE;
