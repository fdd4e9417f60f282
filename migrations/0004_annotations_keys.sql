-- Why: what hangs on events and what opens the tenant's door besides a password. All of it is the tenant's, so all of
-- it stands behind the same wall, its keys leading with the tenant.
SET ROLE audit_owner;

CREATE TABLE annotations (
  tenant_id  uuid NOT NULL REFERENCES tenants (id),
  id         uuid NOT NULL,
  event_id   uuid NOT NULL,
  author_id  uuid NOT NULL,
  body       text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(),
  updated_at timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, id)
);
CREATE INDEX annotations_by_event ON annotations (tenant_id, event_id, id);

CREATE TABLE api_keys (
  tenant_id   uuid NOT NULL REFERENCES tenants (id),
  id          uuid NOT NULL,
  name        text NOT NULL,
  secret_hash bytea NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  revoked_at  timestamptz,
  PRIMARY KEY (tenant_id, id)
);
-- Found by hash before the tenant is known, by the function of 0005 alone; 256 random bits cannot collide or be probed.
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

CREATE TABLE idempotency_keys (
  tenant_id    uuid NOT NULL REFERENCES tenants (id),
  principal_id uuid NOT NULL,
  key          text NOT NULL,
  request_hash bytea NOT NULL,
  status       int NOT NULL DEFAULT 201,
  response     jsonb NOT NULL,
  created_at   timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, principal_id, key)
);

DO $$
DECLARE name text;
BEGIN
  FOREACH name IN ARRAY ARRAY['annotations', 'api_keys', 'viewer_tokens', 'idempotency_keys'] LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', name);
    EXECUTE format('ALTER TABLE %I FORCE ROW LEVEL SECURITY', name);
    EXECUTE format($policy$CREATE POLICY own_tenant ON %I
      USING (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)
      WITH CHECK (tenant_id = nullif(current_setting('app.tenant_id', true), '')::uuid)$policy$, name);
  END LOOP;
END $$;

GRANT SELECT, INSERT, DELETE ON annotations TO audit_app;
GRANT UPDATE (body, updated_at) ON annotations TO audit_app;
GRANT SELECT, INSERT ON api_keys TO audit_app;
GRANT UPDATE (revoked_at) ON api_keys TO audit_app;
GRANT SELECT, INSERT ON idempotency_keys TO audit_app;

RESET ROLE;
