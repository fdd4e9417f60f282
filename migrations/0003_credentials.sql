-- Why: what opens a tenant's door besides a password. It is asked for before the tenant is known, so it stays with the
-- directory, wherever the tenant's other tables are; it is the tenant's all the same, and walled.
SET ROLE audit_owner;

CREATE TABLE api_keys (
  tenant_id   uuid NOT NULL REFERENCES tenants (id),
  id          uuid NOT NULL,
  name        text NOT NULL,
  secret_hash bytea NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  revoked_at  timestamptz,
  PRIMARY KEY (tenant_id, id)
);
-- Found by hash before the tenant is known, by the function of 0004 alone; 256 random bits cannot collide or be probed.
CREATE INDEX api_keys_by_hash ON api_keys (secret_hash);

CREATE TABLE viewer_tokens (
  tenant_id   uuid NOT NULL REFERENCES tenants (id),
  id          uuid NOT NULL,
  name        text NOT NULL,
  secret_hash bytea NOT NULL,
  actor_id    uuid,
  target_type text,
  target_id   text,
  expires_at  timestamptz NOT NULL DEFAULT now() + interval '30 days',
  created_at  timestamptz NOT NULL DEFAULT now(),
  revoked_at  timestamptz,
  PRIMARY KEY (tenant_id, id),
  CHECK (actor_id IS NOT NULL OR (target_type IS NOT NULL AND target_id IS NOT NULL))
);
CREATE INDEX viewer_tokens_by_hash ON viewer_tokens (secret_hash);

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['api_keys', 'viewer_tokens'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format($policy$CREATE POLICY own_tenant ON %I
      USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
      WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)$policy$, name);
  END LOOP;
END $$;

GRANT SELECT, INSERT ON api_keys TO audit_app;
GRANT UPDATE (revoked_at) ON api_keys TO audit_app;
-- A viewer token's secret is only ever compared, by the gate.
GRANT SELECT (tenant_id, id, name, actor_id, target_type, target_id, expires_at, created_at, revoked_at), INSERT
  ON viewer_tokens TO audit_app;
GRANT UPDATE (revoked_at) ON viewer_tokens TO audit_app;

RESET ROLE;
