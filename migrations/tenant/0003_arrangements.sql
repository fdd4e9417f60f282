-- Why: what a tenant arranges for itself besides its events: what its events must look like, the searches its people
-- keep. Each is walled and keyed as everything of a tenant.
SET ROLE audit_owner;

CREATE TABLE event_types (
  tenant_id  uuid NOT NULL REFERENCES tenants (id),
  name       text NOT NULL,
  schema     jsonb NOT NULL,
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, name)
);

CREATE TABLE saved_searches (
  tenant_id  uuid NOT NULL REFERENCES tenants (id),
  id         uuid NOT NULL,
  owner_id   uuid NOT NULL,
  name       text NOT NULL,
  query      jsonb NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id)
);

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['event_types', 'saved_searches'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format($policy$CREATE POLICY own_tenant ON %I
      USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
      WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)$policy$, name);
  END LOOP;
END $$;

GRANT SELECT, INSERT ON event_types TO audit_app;
GRANT UPDATE (schema, updated_at) ON event_types TO audit_app;
GRANT SELECT, INSERT, DELETE ON saved_searches TO audit_app;
GRANT UPDATE (name, query, updated_at) ON saved_searches TO audit_app;
RESET ROLE;
