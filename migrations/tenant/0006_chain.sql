-- Why: whoever may change the database may change history. Each tenant's events are linked into a chain of hashes, so
-- that one who has kept a head can tell. Links are added later than the events they seal: writing events waits for nobody.
SET ROLE audit_owner;

-- No reference to `events`: a link outlives its event, and so still proves what an archive holds.
CREATE TABLE chain_links (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  position  bigint NOT NULL CHECK (position > 0),
  event_id  uuid NOT NULL,
  digest    bytea NOT NULL CHECK (length(digest) = 32),
  hash      bytea NOT NULL CHECK (length(hash) = 32),
  PRIMARY KEY (tenant_id, position),
  UNIQUE (tenant_id, event_id)
);

CREATE TABLE chain_heads (
  tenant_id uuid NOT NULL REFERENCES tenants (id),
  position  bigint NOT NULL,
  hash      bytea NOT NULL CHECK (length(hash) = 32),
  sealed_to timestamptz NOT NULL,
  PRIMARY KEY (tenant_id)
);

-- What is not sealed yet is found by when it was recorded.
CREATE INDEX events_by_recorded ON events (tenant_id, recorded_at, id);

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['chain_links', 'chain_heads'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format($policy$CREATE POLICY own_tenant ON %I
      USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
      WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)$policy$, name);
  END LOOP;
END $$;

-- Nobody who serves changes or removes a link.
GRANT SELECT, INSERT ON chain_links TO audit_app, audit_worker;
GRANT SELECT, INSERT ON chain_heads TO audit_app, audit_worker;
GRANT UPDATE (position, hash, sealed_to) ON chain_heads TO audit_app, audit_worker;

RESET ROLE;
